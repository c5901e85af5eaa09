//! U-Boot's legacy image format (`include/image.h` of U-Boot): a header of 64 bytes, big-endian,
//! before a kernel, a ramdisk or several of them.

use crate::architecture::Architecture;
use crate::crc32::crc32;
use crate::packed::{Codec, Packed};
use crate::text;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;

/// The header of a uImage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UImage {
    /// The name that it was given.
    pub name: String,
    /// What it holds.
    pub kind: UImageKind,
    /// What it runs on.
    pub architecture: Architecture,
    /// Where U-Boot would load what is in it.
    pub load: u32,
    /// Where U-Boot would enter it.
    pub entry: u32,
    /// All that follows the header.
    pub data: Range<u64>,
    /// The checksum of that.
    pub data_crc: u32,
    /// How that is compressed; several images never are.
    pub codec: Codec,
    /// The images in a file of several: kernel, ramdisk, device tree.
    pub images: Vec<Range<u64>>,
}

/// What a uImage holds (`IH_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UImageKind {
    /// A program without a system.
    Standalone,
    /// A kernel.
    Kernel,
    /// An initial ramdisk.
    Ramdisk,
    /// A kernel and what goes with it.
    Multi,
    /// Firmware.
    Firmware,
    /// A script for U-Boot.
    Script,
    /// A file system.
    Filesystem,
    /// A device tree.
    DeviceTree,
    /// Something else; its number.
    Other(u8),
}

impl UImage {
    const MAGIC: u32 = 0x2705_1956;
    const HEADER: u64 = 64;
    /// More images than any file has; U-Boot itself uses three.
    const IMAGES_MAX: u64 = 64;

    /// Whether `file` begins as a uImage does.
    pub(crate) fn is(file: Reader<'_>) -> bool {
        file.u32_be(0) == Ok(Self::MAGIC)
    }

    /// Reads the header of `bytes`, which begin as a uImage does.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, UImageError> {
        let file = Reader::new(bytes);
        let len = bytes.len() as u64;
        let header: [u8; 64] = file.array(0).or(Err(UImageError::Truncated {
            needed: Self::HEADER,
            len,
        }))?;
        check_header(&header)?;
        let header = Reader::new(&header);
        let word = |at| header.u32_be(at).unwrap_or(0);
        let byte = |at| header.u8(at).unwrap_or(0);
        let data = Self::HEADER..Self::HEADER.saturating_add(word(12).into());
        let Ok(stream) = file.slice(data.start, word(12).into()) else {
            return Err(UImageError::Truncated {
                needed: data.end,
                len,
            });
        };
        let kind = UImageKind::of(byte(30));
        let images = match kind {
            UImageKind::Multi => images(file, &data)?,
            _ => Vec::new(),
        };
        let codec = match kind {
            UImageKind::Kernel => codec(byte(31), stream)?,
            _ => Codec::Stored,
        };
        Ok(Self {
            name: text::line(header.slice(32, 32).unwrap_or_default()),
            kind,
            architecture: architecture(byte(29)),
            load: word(16),
            entry: word(20),
            data_crc: word(24),
            data,
            codec,
            images,
        })
    }

    /// The kernel in it, where there is one.
    pub(crate) fn kernel(&self) -> Option<Packed> {
        let range = match self.kind {
            UImageKind::Kernel => self.data.clone(),
            UImageKind::Multi => self.images.first()?.clone(),
            _ => return None,
        };
        Some(Packed {
            codec: self.codec,
            range,
            unpacked_len: None,
        })
    }

    /// Sees that what follows the header has the checksum that it should have.
    pub(crate) fn check_data(&self, bytes: &[u8]) -> Result<(), UImageError> {
        let len = self.data.end.saturating_sub(self.data.start);
        let data = Reader::new(bytes)
            .slice(self.data.start, len)
            .unwrap_or_default();
        if crc32(data) == self.data_crc {
            Ok(())
        } else {
            Err(UImageError::DataCrc)
        }
    }
}

/// The header's checksum is made with a checksum of 0 in it.
fn check_header(header: &[u8; 64]) -> Result<(), UImageError> {
    let [m0, m1, m2, m3, c0, c1, c2, c3, rest @ ..] = header;
    let mut summed = [0; 64];
    let [s0, s1, s2, s3, _, _, _, _, summed_rest @ ..] = &mut summed;
    (*s0, *s1, *s2, *s3) = (*m0, *m1, *m2, *m3);
    summed_rest.copy_from_slice(rest);
    if crc32(&summed) == u32::from_be_bytes([*c0, *c1, *c2, *c3]) {
        Ok(())
    } else {
        Err(UImageError::HeaderCrc)
    }
}

/// Several images: their lengths up to a zero, then they themselves, each padded to four bytes.
fn images(file: Reader<'_>, data: &Range<u64>) -> Result<Vec<Range<u64>>, UImageError> {
    let mut lens = Vec::new();
    loop {
        let count = lens.len() as u64;
        let at = data.start.saturating_add(count.saturating_mul(4));
        let inside = at.saturating_add(4) <= data.end && count < UImage::IMAGES_MAX;
        let len = file.u32_be(at).ok().filter(|_| inside);
        match len.ok_or(UImageError::Images)? {
            0 => break,
            len => lens.push(len),
        }
    }
    let table = (lens.len() as u64).saturating_add(1).saturating_mul(4);
    let mut start = data.start.saturating_add(table);
    let mut images = Vec::new();
    for len in lens {
        let end = start.saturating_add(len.into());
        if end > data.end {
            return Err(UImageError::Images);
        }
        images.push(start..end);
        start = end.next_multiple_of(4);
    }
    Ok(images)
}

/// The codec that the header names (`IH_COMP_*`), which must be that of the stream.
fn codec(number: u8, stream: &[u8]) -> Result<Codec, UImageError> {
    let found = Codec::of(stream);
    let named: &[Codec] = match number {
        0 => return Ok(Codec::Stored),
        1 => &[Codec::Gzip],
        2 => &[Codec::Bzip2],
        3 => &[Codec::Lzma, Codec::Xz],
        4 => &[Codec::Lzo],
        5 => &[Codec::Lz4Frame, Codec::Lz4Legacy],
        6 => &[Codec::Zstd],
        _ => return Err(UImageError::Codec { number }),
    };
    if named.contains(&found) {
        Ok(found)
    } else {
        Err(UImageError::OtherCodec {
            named: named.first().copied().unwrap_or(found),
            found,
        })
    }
}

/// `IH_ARCH_*`.
const fn architecture(number: u8) -> Architecture {
    match number {
        2 => Architecture::Arm,
        3 => Architecture::I386,
        22 => Architecture::Arm64,
        24 => Architecture::X86_64,
        // U-Boot has one number for both widths; Linux on 32 bits is rare.
        26 => Architecture::Riscv64,
        _ => Architecture::Unknown,
    }
}

impl UImageKind {
    const fn of(number: u8) -> Self {
        match number {
            1 => Self::Standalone,
            // 14 is a kernel that is not moved to its load address.
            2 | 14 => Self::Kernel,
            3 => Self::Ramdisk,
            4 => Self::Multi,
            5 => Self::Firmware,
            6 => Self::Script,
            7 => Self::Filesystem,
            8 => Self::DeviceTree,
            other => Self::Other(other),
        }
    }

    /// Why that is no kernel; `None` where one may be in it.
    pub(crate) const fn why_not(self) -> Option<&'static str> {
        Some(match self {
            Self::Kernel | Self::Multi => return None,
            Self::Standalone => "what is in it is a program for U-Boot",
            Self::Ramdisk => "what is in it is an initial ramdisk, to be given to a kernel",
            Self::Firmware => "what is in it is firmware",
            Self::Script => "what is in it is a script for U-Boot",
            Self::Filesystem => "what is in it is a file system",
            Self::DeviceTree => "what is in it is a device tree",
            Self::Other(_) => "what is in it is no kernel",
        })
    }
}

impl fmt::Display for UImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("uImage")
    }
}

/// What is wrong with a file that begins as a uImage does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UImageError {
    /// The file is shorter than its header says.
    #[error(
        "the file is truncated: its header says {needed:#x} bytes ({needed}), but it has {len:#x} \
         ({len})"
    )]
    Truncated {
        /// Bytes that header and data need.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// The header has another checksum than it says.
    #[error("its header's checksum is another")]
    HeaderCrc,
    /// What follows the header has another checksum than the header says.
    #[error("its data's checksum is another")]
    DataCrc,
    /// The lengths of several images do not fit the file.
    #[error("the lengths of the images in it do not end, or go beyond its end")]
    Images,
    /// No such compression is defined.
    #[error("its header names compression {number}, which is none")]
    Codec {
        /// The number in the header.
        number: u8,
    },
    /// The header names one compression, and the data begin like another.
    #[error("its header says that it is packed with {named}, but it begins like {found}")]
    OtherCodec {
        /// What the header names.
        named: Codec,
        /// What the data are.
        found: Codec,
    },
}

#[cfg(test)]
mod tests;

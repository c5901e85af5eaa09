//! Android boot images (`include/bootimg/bootimg.h` of Android's mkbootimg): kernel, ramdisk,
//! command line and device tree, each on pages of its own.

use crate::packed::{Codec, Packed};
use crate::text;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;

/// The header of an Android boot image, and where its parts are. A part that is not there is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AndroidBoot {
    /// Version of the header: 0 to 4.
    pub version: u32,
    /// Bytes in a page, on which each part begins.
    pub page_size: u32,
    /// The board's name; none since version 3.
    pub name: String,
    /// The command line, both parts of it joined.
    pub cmdline: String,
    /// The kernel, compressed or not.
    pub kernel: Range<u64>,
    /// The initial ramdisk.
    pub ramdisk: Range<u64>,
    /// What an old boot loader starts instead of the kernel; none since version 3.
    pub second: Range<u64>,
    /// The device tree overlay of the recovery system: versions 1 and 2.
    pub recovery_dtbo: Range<u64>,
    /// The device tree: version 2.
    pub dtb: Range<u64>,
    /// The signature of kernel and ramdisk: version 4.
    pub signature: Range<u64>,
}

impl AndroidBoot {
    const MAGIC: &[u8] = b"ANDROID!";
    /// The page size since version 3.
    const PAGE: u32 = 4096;

    /// Whether `file` begins as an Android boot image does.
    pub(crate) fn is(file: Reader<'_>) -> bool {
        file.slice(0, 8) == Ok(Self::MAGIC)
    }

    /// Reads the header of `bytes`, which begin as an Android boot image does.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, AndroidBootError> {
        let file = Reader::new(bytes);
        let len = bytes.len() as u64;
        let truncated = |needed| AndroidBootError::Truncated { needed, len };
        let version = file.u32_le(40).or(Err(truncated(44)))?;
        let header_len = match version {
            0 => 1632,
            1 => 1648,
            2 => 1660,
            3 => 1580,
            4 => 1584,
            _ => return Err(AndroidBootError::Version { version }),
        };
        let header = file.slice(0, header_len);
        let header = Reader::new(header.or(Err(truncated(header_len)))?);
        let this = if version < 3 {
            Self::old(version, header)?
        } else {
            Self::new(version, header)?
        };
        let end = this.parts().map(|part| part.end).max().unwrap_or(0);
        if end > len {
            return Err(truncated(end));
        }
        if this.kernel.is_empty() {
            return Err(AndroidBootError::NoKernel);
        }
        Ok(this)
    }

    /// Versions 0 to 2, each of which adds fields to the one before.
    fn old(version: u32, header: Reader<'_>) -> Result<Self, AndroidBootError> {
        let word = |at| header.u32_le(at).unwrap_or(0);
        let since = |first, at| if version < first { 0 } else { word(at) };
        let page_size = word(36);
        // The header takes a page.
        if !page_size.is_power_of_two() || !(2048..=65_536).contains(&page_size) {
            return Err(AndroidBootError::PageSize { page_size });
        }
        let mut pages = Pages::new(page_size, page_size);
        Ok(Self {
            version,
            page_size,
            name: text::line(header.slice(48, 16).unwrap_or_default()),
            cmdline: cmdline(header, &[(64, 512), (608, 1024)])?,
            kernel: pages.take(word(8)),
            ramdisk: pages.take(word(16)),
            second: pages.take(word(24)),
            recovery_dtbo: pages.take(since(1, 1632)),
            dtb: pages.take(since(2, 1648)),
            signature: 0..0,
        })
    }

    /// Versions 3 and 4.
    fn new(version: u32, header: Reader<'_>) -> Result<Self, AndroidBootError> {
        let word = |at| header.u32_le(at).unwrap_or(0);
        let mut pages = Pages::new(Self::PAGE, Self::PAGE);
        Ok(Self {
            version,
            page_size: Self::PAGE,
            name: String::new(),
            cmdline: cmdline(header, &[(44, 1536)])?,
            kernel: pages.take(word(8)),
            ramdisk: pages.take(word(12)),
            second: 0..0,
            recovery_dtbo: 0..0,
            dtb: 0..0,
            signature: pages.take(if version < 4 { 0 } else { word(1580) }),
        })
    }

    fn parts(&self) -> impl Iterator<Item = &Range<u64>> {
        [
            &self.kernel,
            &self.ramdisk,
            &self.second,
            &self.recovery_dtbo,
            &self.dtb,
            &self.signature,
        ]
        .into_iter()
    }

    /// The kernel, as it lies in the file.
    pub(crate) fn packed_kernel(&self) -> Packed {
        Packed {
            codec: Codec::Stored,
            range: self.kernel.clone(),
            unpacked_len: None,
        }
    }
}

/// The command line in these fields of the header, offset and length, each of which goes on where
/// the one before is full.
fn cmdline(header: Reader<'_>, fields: &[(u64, u64)]) -> Result<String, AndroidBootError> {
    let mut joined = Vec::new();
    for &(offset, len) in fields {
        let bytes = header.slice(offset, len).unwrap_or_default();
        joined.extend(bytes.iter().take_while(|&&byte| byte != 0));
    }
    text::cmdline(&joined).ok_or(AndroidBootError::CmdlineNotText)
}

/// Hands out parts that follow each other, each beginning on a page.
struct Pages {
    next: u64,
    size: u64,
}

impl Pages {
    fn new(first: u32, size: u32) -> Self {
        Self {
            next: first.into(),
            size: size.into(),
        }
    }

    fn take(&mut self, len: u32) -> Range<u64> {
        let start = self.next;
        let end = start.saturating_add(len.into());
        self.next = end.checked_next_multiple_of(self.size).unwrap_or(end);
        start..end
    }
}

impl fmt::Display for AndroidBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Android boot image v{}", self.version)
    }
}

/// What is wrong with a file that begins as an Android boot image does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AndroidBootError {
    /// The file is shorter than its header says.
    #[error(
        "the file is truncated: its header says {needed:#x} bytes ({needed}), but it has {len:#x} \
         ({len})"
    )]
    Truncated {
        /// Bytes that header and parts need.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// No such version of the header is known.
    #[error("its header has version {version}, and 0 to 4 are known")]
    Version {
        /// The version it claims.
        version: u32,
    },
    /// A page must hold the header, and parts must begin on pages.
    #[error("its page size is {page_size}, which is no power of two from 2048 to 65536")]
    PageSize {
        /// What the header says.
        page_size: u32,
    },
    /// There is no kernel in it.
    #[error("there is no kernel in it: kernel_size is 0")]
    NoKernel,
    /// The command line is no text.
    #[error("its command line is not UTF-8 text")]
    CmdlineNotText,
}

#[cfg(test)]
mod tests;

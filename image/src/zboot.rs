//! EFI applications that unpack the kernel in them (`CONFIG_EFI_ZBOOT`,
//! `drivers/firmware/efi/libstub/zboot-header.S` of Linux).

use crate::architecture::Architecture;
use crate::packed::{Codec, Packed};
use crate::pe::Pe;
use crate::text;
use alloc::string::String;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;

/// The header of an EFI zboot image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zboot {
    /// What it runs on.
    pub architecture: Architecture,
    /// The compression's name in the header; `unnamed` where that is no name.
    pub codec_name: String,
    /// The compressed kernel.
    pub payload: Packed,
}

impl Zboot {
    /// Whether `file` carries the marks of a zboot image, of which other formats share some.
    pub(crate) fn is(file: Reader<'_>) -> bool {
        file.slice(0, 2) == Ok(b"MZ") && file.slice(4, 4) == Ok(b"zimg")
    }

    /// Reads the header of `bytes`, which carry the marks.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ZbootError> {
        let file = Reader::new(bytes);
        let len = bytes.len() as u64;
        let header = file
            .slice(0, 0x38)
            .or(Err(ZbootError::HeaderTruncated { len }))?;
        let header = Reader::new(header);
        let word = |at| header.u32_le(at).map_or(0, u64::from);
        let (offset, size) = (word(8), word(12));
        let payload = offset..offset.saturating_add(size);
        let stream = file.slice(offset, size).or(Err(ZbootError::Outside {
            payload: payload.clone(),
            len,
        }))?;
        let codec_name = text::name(header.slice(0x18, 32).unwrap_or_default());
        let codec = Codec::of(stream);
        if let Some(named) = codec_named(&codec_name)
            && !named.contains(&codec)
        {
            return Err(ZbootError::OtherCodec { codec_name, codec });
        }
        Ok(Self {
            architecture: Pe::read(bytes).map_or(Architecture::Unknown, Pe::architecture),
            codec_name,
            payload: Packed {
                codec,
                unpacked_len: unpacked_len(file, codec, &payload),
                range: payload,
            },
        })
    }
}

/// The build appends the unpacked length, and does not count it as part of the payload; but gzip
/// has it in its own trailer (`drivers/firmware/efi/libstub/Makefile.zboot`).
fn unpacked_len(file: Reader<'_>, codec: Codec, payload: &Range<u64>) -> Option<u64> {
    let at = match codec {
        Codec::Gzip => payload.end.checked_sub(4)?,
        _ => payload.end,
    };
    file.u32_le(at).map(u64::from).ok()
}

/// What may be in a payload of which the header says `name`; `None` for a name that is not known.
fn codec_named(name: &str) -> Option<&'static [Codec]> {
    Some(match name {
        "gzip" => &[Codec::Gzip],
        "zstd" | "zstd22" => &[Codec::Zstd],
        "xz" | "xzkern" => &[Codec::Xz],
        "lzma" => &[Codec::Lzma],
        "lz4" => &[Codec::Lz4Legacy, Codec::Lz4Frame],
        "lzo" => &[Codec::Lzo],
        "bzip2" => &[Codec::Bzip2],
        _ => return None,
    })
}

impl fmt::Display for Zboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EFI zboot {}", self.architecture)
    }
}

/// What is wrong with a file that carries the marks of an EFI zboot image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZbootError {
    /// The file ends inside the header.
    #[error("the file ends inside the header: it has {len:#x} bytes")]
    HeaderTruncated {
        /// Bytes in the file.
        len: u64,
    },
    /// The compressed kernel is not all there.
    #[error(
        "its payload is at {:#x}..{:#x}, but the file ends at {len:#x}",
        payload.start, payload.end
    )]
    Outside {
        /// Where the header says it is.
        payload: Range<u64>,
        /// Bytes in the file.
        len: u64,
    },
    /// The header names one compression, and the payload begins like another.
    #[error("its header says that the payload is {codec_name}, but it begins like {codec}")]
    OtherCodec {
        /// The name in the header.
        codec_name: String,
        /// What the payload is.
        codec: Codec,
    },
}

#[cfg(test)]
mod tests;

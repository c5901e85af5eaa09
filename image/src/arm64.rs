//! Linux' `Image` for 64-bit Arm (`Documentation/arch/arm64/booting.rst`, "Call the kernel image").

use crate::linux_image::{self, LinuxImageError};
use core::fmt;
use firstlight_base::Reader;

/// The header of an arm64 `Image`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm64Image {
    /// How far behind an address that is a multiple of 2 MiB the kernel is loaded. 0x8_0000 for
    /// kernels before 3.17, whatever their header says.
    pub text_offset: u64,
    /// How much memory the kernel takes from its first byte on, what it zeroes included. `None` for
    /// kernels before 3.17, which do not say.
    pub image_size: Option<u64>,
    /// Whether it is a big-endian kernel.
    pub is_big_endian: bool,
    /// The page size it is built for, in bytes, where it says one.
    pub page_size: Option<u32>,
    /// Whether it may be loaded anywhere in memory. Others want to be as close to its beginning as
    /// possible, and cannot use what is below them.
    pub may_lie_anywhere: bool,
    /// Whether it is an EFI application as well.
    pub has_efi_stub: bool,
}

impl Arm64Image {
    const MAGIC: &[u8] = b"ARM\x64";

    /// Whether `file` carries the mark of an arm64 kernel.
    pub(crate) fn is(file: Reader<'_>) -> bool {
        file.slice(0x38, 4) == Ok(Self::MAGIC)
    }

    /// The header of a kernel that is not in a file of its own, as a vmlinux has it: the first 64
    /// bytes of its memory. None where they are no such header, or one with numbers that cannot be.
    #[must_use]
    pub fn of_memory(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..linux_image::HEADER_LEN)?;
        Self::is(Reader::new(header)).then(|| Self::parse(header).ok())?
    }

    /// Reads the header of `bytes`, which carry the mark.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LinuxImageError> {
        const BIG_ENDIAN: u64 = 1 << 0;
        const ANYWHERE: u64 = 1 << 3;
        /// For headers without `image_size`.
        const OLD_TEXT_OFFSET: u64 = 0x8_0000;

        let header = linux_image::header(bytes)?;
        let number = |at| header.u64_le(at).unwrap_or(0);
        let (text_offset, image_size, flags) = (number(8), number(16), number(24));
        let is_old = image_size == 0;
        let text_offset = if is_old { OLD_TEXT_OFFSET } else { text_offset };
        linux_image::check_size(text_offset, image_size)?;
        Ok(Self {
            text_offset,
            image_size: (!is_old).then_some(image_size),
            is_big_endian: flags & BIG_ENDIAN != 0,
            page_size: match flags >> 1 & 3 {
                1 => Some(4 << 10),
                2 => Some(16 << 10),
                3 => Some(64 << 10),
                _ => None,
            },
            may_lie_anywhere: flags & ANYWHERE != 0,
            has_efi_stub: bytes.starts_with(b"MZ"),
        })
    }
}

impl fmt::Display for Arm64Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("arm64 Image")
    }
}

#[cfg(test)]
mod tests;

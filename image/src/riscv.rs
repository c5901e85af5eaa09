//! Linux' `Image` for RISC-V (`Documentation/arch/riscv/boot-image-header.rst`).

use crate::architecture::Architecture;
use crate::linux_image::{self, LinuxImageError};
use crate::pe::Pe;
use core::fmt;
use firstlight_base::Reader;

/// The header of a riscv `Image`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RiscvImage {
    /// Version of the header: major in the high half, minor in the low one.
    pub version: u32,
    /// How far behind the beginning of memory the kernel is loaded.
    pub text_offset: u64,
    /// How much memory the kernel takes from its first byte on, what it zeroes included.
    pub image_size: u64,
    /// Whether it is a big-endian kernel.
    pub is_big_endian: bool,
    /// Whether it is an EFI application as well.
    pub has_efi_stub: bool,
    /// Width of its registers. Only the header of the EFI application says 32 bits; without one, a
    /// kernel is taken for one of 64.
    pub architecture: Architecture,
}

impl RiscvImage {
    /// The magic of the first headers, "RISCV".
    const OLD_MAGIC: &[u8] = b"RISCV\0\0\0";
    /// The magic since version 0.2.
    const MAGIC: &[u8] = b"RSC\x05";

    /// Whether `file` carries a mark of a riscv kernel.
    pub(crate) fn is(file: Reader<'_>) -> bool {
        file.slice(0x38, 4) == Ok(Self::MAGIC) || file.slice(0x30, 8) == Ok(Self::OLD_MAGIC)
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

        let header = linux_image::header(bytes)?;
        let number = |at| header.u64_le(at).unwrap_or(0);
        let (text_offset, image_size, flags) = (number(8), number(16), number(24));
        if image_size == 0 {
            return Err(LinuxImageError::NoSize);
        }
        linux_image::check_size(text_offset, image_size)?;
        Ok(Self {
            version: header.u32_le(32).unwrap_or(0),
            text_offset,
            image_size,
            is_big_endian: flags & BIG_ENDIAN != 0,
            has_efi_stub: bytes.starts_with(b"MZ"),
            architecture: match Pe::read(bytes).map(Pe::architecture) {
                Some(Architecture::Riscv32) => Architecture::Riscv32,
                _ => Architecture::Riscv64,
            },
        })
    }
}

impl fmt::Display for RiscvImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Image", self.architecture)
    }
}

#[cfg(test)]
mod tests;

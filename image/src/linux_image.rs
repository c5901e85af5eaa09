//! What the `Image` formats of arm64 and riscv have in common: a header of 64 bytes, sometimes made
//! up as that of an EFI application, then the kernel as it lies in memory.

use crate::pe::Pe;
use firstlight_base::Reader;

/// Bytes of the header.
pub(crate) const HEADER: u64 = 64;
/// The same, of a slice.
pub(crate) const HEADER_LEN: usize = 64;

/// The header's first 64 bytes, and what the file must not be shorter than.
pub(crate) fn header(bytes: &[u8]) -> Result<Reader<'_>, LinuxImageError> {
    let len = bytes.len() as u64;
    let truncated = |needed| LinuxImageError::Truncated { needed, len };
    let header = Reader::new(bytes).slice(0, HEADER);
    let header = header.or(Err(truncated(HEADER)))?;
    // Only the EFI application's sections say how long the file is: the header says how much memory
    // it takes, which is more.
    match Pe::read(bytes).and_then(Pe::missing) {
        Some(needed) => Err(truncated(needed)),
        None => Ok(Reader::new(header)),
    }
}

/// Sees that offset and size are numbers that can be added to an address.
pub(crate) fn check_size(text_offset: u64, image_size: u64) -> Result<(), LinuxImageError> {
    /// No machine has so much memory; beyond it sums could wrap.
    const MOST: u64 = 1 << 48;
    if text_offset < MOST && image_size < MOST {
        return Ok(());
    }
    Err(LinuxImageError::Size {
        text_offset,
        image_size,
    })
}

/// What is wrong with an arm64 or riscv `Image`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinuxImageError {
    /// The file is shorter than its headers say.
    #[error(
        "the file is truncated: its headers say {needed:#x} bytes ({needed}), but it has {len:#x} \
         ({len})"
    )]
    Truncated {
        /// Bytes that headers and sections need.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// The header asks for more memory than there can be.
    #[error("text_offset {text_offset:#x} and image_size {image_size:#x} are beyond any memory")]
    Size {
        /// What the header says.
        text_offset: u64,
        /// What the header says.
        image_size: u64,
    },
    /// The header does not say how much memory the kernel takes, and must.
    #[error("image_size is 0")]
    NoSize,
}

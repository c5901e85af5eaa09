//! Guest memory as the rest of the house sees it.

use crate::{Gpa, GpaRange};
use core::fmt;

/// A guest's memory: bytes copied in and out by guest-physical address.
///
/// There is no way to get a reference into it, because the guest may change any byte at any time.
pub trait GuestMem {
    /// Whether every byte of `range` is guest memory, all in one piece of it.
    fn holds(&self, range: GpaRange) -> bool;

    /// Fills `into` with the bytes from `at`.
    ///
    /// # Errors
    ///
    /// [`OutsideRam`] where not every byte is guest memory; `into` is then unspecified.
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), OutsideRam>;

    /// Puts `from` at `at`.
    ///
    /// # Errors
    ///
    /// [`OutsideRam`] where not every byte is guest memory; nothing is written then.
    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), OutsideRam>;

    /// The little-endian number at `at`, read at once; what the guest wrote before it wrote this is
    /// seen by reads that come later.
    ///
    /// # Errors
    ///
    /// [`OutsideRam`] where it is not all guest memory, or `at` is odd.
    fn load_u16(&self, at: Gpa) -> Result<u16, OutsideRam>;

    /// Writes the little-endian number at `at` at once; a guest that sees it sees what was written
    /// before.
    ///
    /// # Errors
    ///
    /// [`OutsideRam`] where it is not all guest memory, or `at` is odd.
    fn store_u16(&self, at: Gpa, value: u16) -> Result<(), OutsideRam>;
}

/// An access to guest-physical addresses that are not all guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideRam {
    /// Where the access began.
    pub at: Gpa,
    /// How many bytes it was for.
    pub len: u64,
}

impl fmt::Display for OutsideRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match GpaRange::new(self.at, self.len) {
            Some(range) => write!(f, "{range} is not all guest memory"),
            None => write!(f, "{:#x} bytes at {} wrap", self.len, self.at),
        }
    }
}

impl core::error::Error for OutsideRam {}

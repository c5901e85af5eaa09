//! Guest memory as the configurators use it, whoever's it is.

use super::{BootParams, GuestPhysical};
use alloc::vec;
use firstlight_base::{Gpa, GuestMem};

/// A guest's memory.
pub(super) trait Target {
    /// How it is addressed.
    type Address: GuestPhysical;

    /// Whether each of the `len` bytes from `at` is RAM; where nothing is to lie, whether `at` is.
    fn holds(&self, at: Self::Address, len: usize) -> bool;

    /// Puts `bytes` at `at`; says whether all of them are there.
    fn put(&self, at: Self::Address, bytes: &[u8]) -> bool;
}

/// The [`GuestMem`] of this house.
pub(super) struct House<'a, M>(pub(super) &'a M);

impl<M: GuestMem> Target for House<'_, M> {
    type Address = Gpa;

    fn holds(&self, at: Gpa, len: usize) -> bool {
        self.0.read(at, &mut vec![0; len.max(1)]).is_ok()
    }

    fn put(&self, at: Gpa, bytes: &[u8]) -> bool {
        self.0.write(at, bytes).is_ok()
    }
}

/// Writes the header and nothing else.
pub(super) fn write_header<T: Target, E>(
    params: &BootParams<T::Address>,
    target: &T,
    past_ram_end: E,
    not_written: E,
) -> Result<(), E> {
    if !target.holds(params.header_start, params.header.len()) {
        return Err(past_ram_end);
    }
    if !target.put(params.header_start, &params.header) {
        return Err(not_written);
    }
    Ok(())
}

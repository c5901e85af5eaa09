//! Whether all of a range is guest memory.

use firstlight_base::{Gpa, GpaRange, GuestMem, OutsideRam};

/// The `len` bytes from `at`, if they are guest memory.
pub(super) fn range(memory: &impl GuestMem, at: Gpa, len: u64) -> Result<GpaRange, OutsideRam> {
    let range = GpaRange::new(at, len).filter(|&range| memory.holds(range));
    range.ok_or(OutsideRam { at, len })
}

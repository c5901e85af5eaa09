//! Whether all of a range is guest memory.

use firstlight_base::{Gpa, GpaRange, GuestMem, KIB, OutsideRam};

/// Guest memory begins and ends at pages.
const PAGE: u64 = 4 * KIB;

/// The `len` bytes from `at`, if they are guest memory: the first and the last byte are, and one of
/// each page between them.
pub(super) fn range(memory: &impl GuestMem, at: Gpa, len: u64) -> Result<GpaRange, OutsideRam> {
    let outside = OutsideRam { at, len };
    let range = GpaRange::new(at, len).ok_or(outside)?;
    let mut next = Some(range.start());
    while let Some(probed) = next.filter(|&probed| probed < range.last()) {
        memory.read(probed, &mut [0]).or(Err(outside))?;
        next = probed
            .checked_add(PAGE)
            .and_then(|behind| behind.align_down(PAGE));
    }
    memory.read(range.last(), &mut [0]).or(Err(outside))?;
    Ok(range)
}

//! Where memory that outlives the guest lies (virtio 1.2, section 5.19).

use crate::PlanError;
use crate::request::PMEM_ALIGN;
use alloc::format;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange};

/// What each begins at a multiple of, as QEMU's memory devices do: the guest and its hypervisor can map
/// it by pages of any size.
const ALIGN: u64 = GIB;
/// Behind all RAM that a machine can have, and so far below the end of 46 bits that the windows of a
/// PCI bus fit in between.
const END: Gpa = Gpa::new(3 << 44);

/// Gives memories of so many bytes each a place from `above` on, in order, and none where something is
/// `reserved`.
///
/// # Errors
///
/// [`PlanError::NoRoom`] for the first that does not fit, [`PlanError::PmemLength`] for one that is no
/// multiple of what Linux takes.
pub(super) fn place(
    lens: &[u64],
    above: Gpa,
    reserved: &[GpaRange],
) -> Result<Vec<GpaRange>, PlanError> {
    let within = GpaRange::between(above, END).expect("no machine has so much RAM");
    let mut placed = Vec::with_capacity(lens.len());
    let mut next = above;
    for (&len, number) in lens.iter().zip(0..) {
        if len == 0 || !len.is_multiple_of(PMEM_ALIGN) {
            return Err(PlanError::PmemLength { number, len });
        }
        let range = lowest(next, len, reserved);
        let range = range.filter(|range| range.end() <= END);
        let range = range.ok_or_else(|| PlanError::NoRoom {
            name: format!("pmem {number}"),
            len,
            align: ALIGN,
            within,
            largest: GpaRange::between(next, END),
        })?;
        next = range.end();
        placed.push(range);
    }
    Ok(placed)
}

/// The lowest place from `from` on; `reserved` ascends.
fn lowest(from: Gpa, len: u64, reserved: &[GpaRange]) -> Option<GpaRange> {
    let mut range = GpaRange::new(from.align_up(ALIGN)?, len)?;
    for hole in reserved {
        if hole.overlaps(range) {
            range = GpaRange::new(hole.end().align_up(ALIGN)?, len)?;
        }
    }
    Some(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft;
    use alloc::vec;
    use firstlight_base::MIB;

    fn starts(lens: &[u64], above: u64, reserved: &[GpaRange]) -> Vec<u64> {
        let placed = place(lens, Gpa::new(above), reserved).unwrap();
        assert!(
            placed
                .iter()
                .zip(lens)
                .all(|(range, &len)| range.len() == len)
        );
        placed.iter().map(|range| range.start().get()).collect()
    }

    #[test]
    fn they_lie_above_ram_each_at_a_gibibyte() {
        let lens = [2 * MIB, 3 * GIB, 4 * MIB];
        assert_eq!(
            starts(&lens, 4 * GIB + MIB, &[]),
            [5 * GIB, 6 * GIB, 9 * GIB]
        );
        assert!(starts(&[], 4 * GIB, &[]).is_empty());
    }

    #[test]
    fn what_is_reserved_is_left_out() {
        let holes = [
            draft::range(MIB, 2 * MIB),
            draft::range(4 * GIB + MIB, 5 * GIB + MIB),
            draft::range(6 * GIB + MIB, 6 * GIB + 2 * MIB),
        ];
        let lens = [2 * MIB, MIB * 2];
        assert_eq!(starts(&lens, 4 * GIB, &holes), [7 * GIB, 8 * GIB]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let refused = |lens: &[u64]| place(lens, Gpa::new(4 * GIB), &[]).unwrap_err();
        for len in [0, 1, MIB, 3 * MIB, u64::MAX] {
            let number = 1;
            let error = refused(&[2 * MIB, len]);
            assert_eq!(error, PlanError::PmemLength { number, len });
        }
        for lens in [vec![1 << 46], vec![1 << 45, 1 << 45], vec![!0 << 21]] {
            let last = lens.len() - 1;
            match refused(&lens) {
                PlanError::NoRoom { name, .. } => assert_eq!(name, format!("pmem {last}")),
                other => panic!("{other}"),
            }
        }
    }
}

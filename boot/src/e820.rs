//! The memory map that the guest is given (ACPI 6.5, section 15; the Linux/x86 boot protocol).

use crate::draft::range;
use crate::{E820Entry, E820Kind, Platform};
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::GpaRange;

/// Legacy video memory and option ROMs: never RAM to the guest.
pub(crate) const LEGACY_HOLE: GpaRange =
    range(Platform::LEGACY_HOLE.0.get(), Platform::LEGACY_HOLE.1.get());

/// The map of `platform` with its firmware tables at `tables`: ascending, disjoint.
pub(crate) fn map(platform: &Platform, tables: GpaRange) -> Vec<E820Entry> {
    let mut map = vec![
        E820Entry {
            range: tables,
            kind: E820Kind::AcpiTables,
        },
        E820Entry {
            range: LEGACY_HOLE,
            kind: E820Kind::Reserved,
        },
        E820Entry {
            range: Platform::KVM_PRIVATE,
            kind: E820Kind::Reserved,
        },
    ];
    map.extend(
        usable(&platform.ram)
            .into_iter()
            .flat_map(|ram| without(ram, tables))
            .map(|range| E820Entry {
                range,
                kind: E820Kind::Ram,
            }),
    );
    map.sort_by_key(|entry| entry.range.start());
    map
}

/// RAM that may be used: all but the legacy hole.
pub(crate) fn usable(ram: &[GpaRange]) -> Vec<GpaRange> {
    ram.iter()
        .flat_map(|&ram| without(ram, LEGACY_HOLE))
        .collect()
}

fn without(range: GpaRange, hole: GpaRange) -> impl Iterator<Item = GpaRange> {
    let below = GpaRange::between(range.start(), hole.start().min(range.end()));
    let above = GpaRange::between(hole.end().max(range.start()), range.end());
    below.into_iter().chain(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::{GIB, MIB};

    fn lines(memory: u64) -> Vec<(u64, u64, u32)> {
        map(&Platform::pc(memory, 1), range(0x9_f000, 0xa_0000))
            .iter()
            .map(|entry| {
                (
                    entry.range.start().get(),
                    entry.range.end().get(),
                    entry.kind as u32,
                )
            })
            .collect()
    }

    #[test]
    fn tables_and_the_legacy_hole_are_cut_out_of_ram() {
        assert_eq!(
            lines(512 * MIB),
            [
                (0, 0x9_f000, 1),
                (0x9_f000, 0xa_0000, 3),
                (0xa_0000, 0x10_0000, 2),
                (0x10_0000, 512 * MIB, 1),
                (0xfeff_c000, 0xff00_0000, 2),
            ]
        );
    }

    #[test]
    fn what_the_device_hole_takes_comes_back_at_4_gib() {
        let lines = lines(5 * GIB);
        assert_eq!(lines.last(), Some(&(4 * GIB, 6 * GIB, 1)));
        assert!(lines.contains(&(0x10_0000, 3 * GIB, 1)));
    }
}

//! The memory map that the guest is given (ACPI 6.5, section 15; the Linux/x86 boot protocol).

use crate::draft::range;
use crate::platform::Pc;
use crate::{E820Entry, E820Kind};
use alloc::vec::Vec;
use firstlight_base::GpaRange;

/// Legacy video memory and option ROMs: never RAM to the guest.
pub(crate) const LEGACY_HOLE: GpaRange = range(Pc::LEGACY_HOLE.0.get(), Pc::LEGACY_HOLE.1.get());

/// The map of `platform` with its firmware tables at `tables`, where they are in memory already:
/// ascending, disjoint.
pub(crate) fn map(platform: &Pc, tables: Option<GpaRange>) -> Vec<E820Entry> {
    let line = |kind| move |range| E820Entry { range, kind };
    let reserved = reserved(platform);
    let ram = usable(platform)
        .into_iter()
        .flat_map(|ram| without(ram, tables.as_slice()));
    let tables = tables.into_iter();
    let mut map: Vec<_> = tables.map(line(E820Kind::AcpiTables)).collect();
    map.extend(ram.map(line(E820Kind::Ram)));
    map.extend(reserved.into_iter().map(line(E820Kind::Reserved)));
    map.sort_unstable_by_key(|entry| entry.range.start());
    map
}

/// RAM that may be used, ascending: all but the legacy hole and what is reserved.
pub(crate) fn usable(platform: &Pc) -> Vec<GpaRange> {
    let reserved = reserved(platform);
    platform
        .ram
        .iter()
        .flat_map(|&ram| without(ram, &reserved))
        .collect()
}

fn reserved(platform: &Pc) -> Vec<GpaRange> {
    // Linux takes configuration space only where it is reserved (`pci_mmcfg_check_reserved`).
    let ecam = platform.pci.map(|windows| windows.ecam);
    let always = [LEGACY_HOLE].into_iter().chain(ecam);
    let always = always.chain([Pc::KVM_PRIVATE]);
    if platform.reserved.is_empty() {
        return always.collect();
    }
    merged(platform.reserved.iter().copied().chain(always).collect())
}

/// The same addresses in ranges of which no two meet, ascending.
pub(crate) fn merged(mut ranges: Vec<GpaRange>) -> Vec<GpaRange> {
    ranges.sort_unstable_by_key(|range| range.start());
    let mut merged: Vec<GpaRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start() <= last.end() => {
                let end = last.end().max(range.end());
                *last = GpaRange::between(last.start(), end).unwrap_or(*last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// What is left of `range` without `holes`, which are ascending and disjoint.
pub(crate) fn without(range: GpaRange, holes: &[GpaRange]) -> Vec<GpaRange> {
    let mut left = Vec::new();
    let mut next = range.start();
    let first = holes.partition_point(|hole| hole.end() <= range.start());
    for hole in holes.get(first..).unwrap_or_default() {
        if hole.start() >= range.end() {
            break;
        }
        left.extend(GpaRange::between(next, hole.start()));
        next = hole.end();
    }
    left.extend(GpaRange::between(next, range.end()));
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::{GIB, MIB};

    fn lines(memory: u64) -> Vec<(u64, u64, u32)> {
        map(&Pc::new(memory, 1), Some(range(0x9_f000, 0xa_0000)))
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

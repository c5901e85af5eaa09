//! An identity map for entering a kernel in long mode (Intel SDM volume 3A, section 4.5).

use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange};

const PAGE: u64 = 0x1000;
const LARGE_PAGE: u64 = 0x20_0000;
const ENTRIES: u64 = 512;
/// A table of entries takes a page.
const TABLE_LEN: usize = 0x1000;

const PRESENT_WRITABLE: u64 = 0x3;
/// One page of pointers reaches this far.
pub(crate) const LIMIT: Gpa = Gpa::new(ENTRIES * GIB);

/// Present, writable, and a 2 MiB page.
const LARGE: u64 = 0x83;

/// The GiBs below 512 GiB that have to be mapped to reach every byte of `ranges`, ascending.
pub(crate) fn gibs(ranges: impl IntoIterator<Item = GpaRange>) -> Vec<u64> {
    let mut gibs: Vec<u64> = ranges
        .into_iter()
        .flat_map(|range| range.start().get() / GIB..=range.last().get() / GIB)
        .collect();
    gibs.sort_unstable();
    gibs.dedup();
    gibs
}

/// How many bytes of tables [`identity_map`] makes for that many GiBs.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "there are at most 512 GiBs to map"
)]
pub(crate) fn tables_len(gibs: &[u64]) -> u64 {
    (2 + gibs.len() as u64) * PAGE
}

/// Tables to lie at `at`, the top one first: each of `gibs` mapped to itself by 2 MiB pages.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "addresses of pages below 512 GiB"
)]
pub(crate) fn identity_map(at: Gpa, gibs: &[u64]) -> Vec<u8> {
    let len = usize::try_from(tables_len(gibs)).expect("at most 514 pages");
    let mut tables = vec![0; len];
    let (pages, _) = tables.as_chunks_mut::<TABLE_LEN>();
    let table = |page: u64| (at.get() + page * PAGE) | PRESENT_WRITABLE;
    let mut pages = pages.iter_mut();
    if let Some(top) = pages.next() {
        put(top, 0, table(1));
    }
    if let Some(pointers) = pages.next() {
        for (&gib, page) in gibs.iter().zip(2..) {
            put(pointers, gib, table(page));
        }
    }
    for (gib, entries) in gibs.iter().zip(pages) {
        let (entries, _) = entries.as_chunks_mut::<8>();
        for (entry, index) in entries.iter_mut().zip(0..) {
            *entry = ((gib * GIB + index * LARGE_PAGE) | LARGE).to_le_bytes();
        }
    }
    tables
}

fn put(page: &mut [u8], index: u64, entry: u64) {
    let (entries, _) = page.as_chunks_mut::<8>();
    let place = usize::try_from(index)
        .ok()
        .and_then(|index| entries.get_mut(index));
    if let Some(place) = place {
        *place = entry.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::range;

    fn entry(tables: &[u8], page: usize, index: usize) -> u64 {
        let at = page * 0x1000 + index * 8;
        u64::from_le_bytes(tables[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn only_the_gibs_in_use_are_mapped() {
        let used = gibs([
            range(0, 1),
            range(GIB - 1, GIB + 1),
            range(3 * GIB, 3 * GIB + 5),
        ]);
        assert_eq!(used, [0, 1, 3]);
        assert_eq!(tables_len(&used), 5 * 0x1000);
    }

    #[test]
    fn every_address_maps_to_itself() {
        let tables = identity_map(Gpa::new(0x2000), &[0, 3]);
        assert_eq!(tables.len(), 4 * 0x1000);
        assert_eq!(entry(&tables, 0, 0), 0x3003);
        assert_eq!(entry(&tables, 1, 0), 0x4003);
        assert_eq!(entry(&tables, 1, 1), 0);
        assert_eq!(entry(&tables, 1, 3), 0x5003);
        assert_eq!(entry(&tables, 2, 8), 0x100_0083);
        assert_eq!(entry(&tables, 3, 0), 0xc000_0083);
    }
}

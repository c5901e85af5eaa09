use super::*;
use firstlight_base::{GIB, Gpa, GpaRange, MIB};
use firstlight_load::{Backing, GuestMemory};

const RAM: u64 = 2 * GIB;
const KERNEL: u64 = 0xffff_ffff_8000_0000;

fn memory() -> GuestMemory {
    let range = GpaRange::new(Gpa::new(RAM), 2 * MIB).unwrap();
    GuestMemory::allocate(&[range], Backing::Private).unwrap()
}

fn put(memory: &GuestMemory, at: u64, to: u64, flags: u64) {
    let entry = to >> 12 << 10 | flags;
    memory.write(Gpa::new(at), &entry.to_le_bytes()).unwrap();
}

/// `satp` of that mode, with the first table where RAM begins.
fn satp(mode: u64) -> u64 {
    mode << 60 | 7 << 44 | RAM >> 12
}

#[test]
fn three_levels_map_a_kernel_by_pages_and_by_larger_ones() {
    let memory = memory();
    put(&memory, RAM + 510 * 8, RAM + 0x1000, 1);
    put(&memory, RAM + 0x1000, RAM + 0x2000, 1);
    put(&memory, RAM + 0x2000 + 8, 0x8765_4000, 0xcf);
    put(&memory, RAM + 0x1000 + 8, 0x8060_0000, 0xcf);
    let at = |address| walk::translate(satp(8), address, &memory);
    assert_eq!(at(KERNEL + 0x1234), Some(Gpa::new(0x8765_4234)));
    assert_eq!(at(KERNEL + 0x20_1234), Some(Gpa::new(0x8060_1234)));
    assert_eq!(at(KERNEL + 0x2000), None);
    put(&memory, RAM + 8, 0x4000_0000, 0xcf);
    assert_eq!(at(GIB + 0x1234_5678), Some(Gpa::new(0x5234_5678)));
}

#[test]
fn four_and_five_levels_have_more_tables_in_front() {
    for (mode, more) in [(9, 1), (10, 2)] {
        let memory = memory();
        for table in 0..more {
            let at = RAM + table * 0x1000;
            put(&memory, at + 511 * 8, at + 0x1000, 1);
        }
        put(&memory, RAM + more * 0x1000 + 510 * 8, 0x8000_0000, 0xcf);
        let at = walk::translate(satp(mode), KERNEL + 0x20_0000, &memory);
        assert_eq!(at, Some(Gpa::new(0x8020_0000)), "mode {mode}");
    }
}

#[test]
fn sixteen_pages_may_be_mapped_together() {
    let memory = memory();
    put(&memory, RAM, RAM + 0x1000, 1);
    put(&memory, RAM + 0x1000, RAM + 0x2000, 1);
    put(&memory, RAM + 0x2000 + 5 * 8, 0x8041_8000, 1 << 63 | 0xcf);
    let at = walk::translate(satp(8), 0x5678, &memory);
    assert_eq!(at, Some(Gpa::new(0x8041_5678)));
}

#[test]
fn an_address_that_is_not_sign_extended_is_mapped_nowhere() {
    let memory = memory();
    put(&memory, RAM, 0x8000_0000, 0xcf);
    assert_eq!(walk::translate(satp(8), 1 << 39, &memory), None);
    assert_eq!(walk::translate(satp(15), 0, &memory), None);
}

#[test]
fn without_translation_virtual_is_physical() {
    let at = walk::translate(0, 0x8020_0000, &memory());
    assert_eq!(at, Some(Gpa::new(0x8020_0000)));
}

#[test]
fn instructions_of_either_length_are_told_apart() {
    let bytes = [0x41, 0x11, 0x73, 0x00, 0x50, 0x10, 0x82, 0x80, 0x73];
    let shown = split(&bytes, 0x100);
    let shown: Vec<_> = shown.iter().map(|one| (one.ip, &*one.text)).collect();
    assert_eq!(
        shown,
        [(0x100, "0x1141"), (0x102, "0x10500073"), (0x106, "0x8082")]
    );
}

#[test]
fn a_cause_is_told_in_words() {
    assert_eq!(cause(13), "load page fault");
    assert_eq!(cause(1 << 63 | 5), "timer interrupt");
    assert_eq!(cause(24), "exception 24");
}

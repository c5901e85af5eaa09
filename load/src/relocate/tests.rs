use super::*;
use crate::Backing;
use firstlight_base::{GpaRange, GuestMem};
use firstlight_image::Relocations;

const LINK: u64 = 0xffff_ffff_8100_0000;
const KERNEL: u64 = 0x20_0000;
const LEN: u64 = 0x4000;

/// A kernel of 16 KiB that was linked to `LINK` and lies at `KERNEL`, its table in one layer.
fn shift(shift: u64) -> Relocate {
    Relocate {
        layer: 0,
        places: Relocations {
            r64: 0..4,
            inverse32: 4..8,
            r32: 8..12,
        },
        to_physical: KERNEL.wrapping_sub(LINK),
        shift,
        within: GpaRange::new(Gpa::new(KERNEL), LEN).unwrap(),
    }
}

fn table(offsets: [u64; 3]) -> Vec<u8> {
    let entry = |offset: u64| u32::try_from((LINK + offset) & 0xffff_ffff).unwrap();
    offsets
        .iter()
        .flat_map(|offset| entry(*offset).to_le_bytes())
        .collect()
}

fn memory() -> GuestMemory {
    let ram = GpaRange::new(Gpa::new(0), 1 << 24).unwrap();
    GuestMemory::allocate(&[ram], Backing::Private).unwrap()
}

fn word(memory: &GuestMemory, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read(Gpa::new(KERNEL + offset), &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn every_kind_of_place_is_shifted_as_the_kernel_would() {
    let memory = memory();
    // The last place ends where the kernel does, and one lies across two pages.
    let places = [0xffc, 0x2001, LEN - 4];
    memory
        .write(Gpa::new(KERNEL + 0xffc), &LINK.to_le_bytes())
        .unwrap();
    memory
        .write(Gpa::new(KERNEL + 0x2001), &0x1000_u32.to_le_bytes())
        .unwrap();
    memory
        .write(Gpa::new(KERNEL + LEN - 4), &0x8100_0000_u32.to_le_bytes())
        .unwrap();
    relocate(&shift(0x1a00_0000), &[&table(places)], &memory).unwrap();
    assert_eq!(word(&memory, 0xffc), LINK + 0x1a00_0000);
    assert_eq!(word(&memory, 0x2001), 0xe600_1000);
    assert_eq!(word(&memory, LEN - 4), 0x9b00_0000);
}

#[test]
fn a_place_outside_the_kernel_is_refused_by_its_number() {
    let before = 0_u64.wrapping_sub(8);
    for (places, number) in [([LEN - 7, 0, 0], 0), ([0, LEN - 3, 0], 1), ([0, 0, LEN], 2)] {
        let result = relocate(&shift(1), &[&table(places)], &memory());
        let Err(PlaceError::PlaceOutside { entry, .. }) = result else {
            panic!("{places:x?}: {result:?}");
        };
        assert_eq!(entry, number);
    }
    let below = LINK.wrapping_add(before) & 0xffff_ffff;
    let below = u32::try_from(below).unwrap().to_le_bytes();
    let result = relocate(
        &shift(1),
        &[&[&below[..], &table([0; 3])[4..]].concat()],
        &memory(),
    );
    assert!(
        matches!(result, Err(PlaceError::PlaceOutside { entry: 0, .. })),
        "{result:?}"
    );
}

#[test]
fn a_table_that_is_not_there_is_another_source() {
    for layers in [&[][..], &[&[0; 8][..]]] {
        let result = relocate(&shift(1), layers, &memory());
        assert!(
            matches!(result, Err(PlaceError::OtherSource { .. })),
            "{result:?}"
        );
    }
}

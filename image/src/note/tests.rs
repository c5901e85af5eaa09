use super::*;
use crate::testing::elf64;
use crate::{Elf, testing::ElfBuilder};

fn pvh(builder: &ElfBuilder) -> Option<PvhEntry> {
    Elf::parse(&builder.build()).unwrap().pvh
}

fn entry_of(builder: &ElfBuilder) -> Option<u32> {
    pvh(builder).map(|pvh| pvh.entry)
}

#[test]
fn an_entry_may_have_four_or_eight_bytes_and_no_other_number() {
    let with = |description: &[u8]| entry_of(&elf64().note(b"Xen\0", 18, description));
    assert_eq!(with(&[1, 2, 3, 4]), Some(0x0403_0201));
    assert_eq!(with(&[1, 2, 3, 4, 0, 0, 0, 0]), Some(0x0403_0201));
    assert_eq!(with(&[1, 2, 3, 4, 5, 0, 0, 0]), None);
    for len in [0, 1, 3, 5, 7, 9, 12, 16] {
        assert_eq!(with(&[0; 16][..len]), None, "{len} bytes");
    }
}

#[test]
fn only_notes_of_xen_count() {
    for name in [
        &b""[..],
        b"Xe\0",
        b"Xen",
        b"Xen\0\0",
        b"xen\0",
        b"GNU\0",
        b"Linux\0",
    ] {
        assert_eq!(entry_of(&elf64().note(name, 18, &[0; 4])), None);
    }
    assert_eq!(entry_of(&elf64().note(b"Xen\0", 17, &[0; 4])), None);
}

/// Names and descriptions of odd lengths are padded to four bytes (linux-loader issues 71, 128).
#[test]
fn notes_before_the_entry_are_stepped_over_whatever_their_lengths() {
    for name in [&b""[..], b"Li\0", b"Linux", b"FreeBSD\0"] {
        for len in 0..9 {
            let builder = elf64().note(name, 18, &[0xff; 9][..len]).pvh(7);
            assert_eq!(entry_of(&builder), Some(7), "{name:?} and {len} bytes");
        }
    }
}

#[test]
fn notes_aligned_to_eight_bytes_are_padded_to_eight() {
    let property = elf64().notes_align(8).note(b"GNU\0", 5, &[1; 20]);
    assert_eq!(entry_of(&property.pvh(7)), Some(7));
}

#[test]
fn the_first_valid_note_of_each_kind_counts() {
    let builder = elf64()
        .note(b"Xen\0", 18, &[])
        .pvh(1)
        .pvh(2)
        .pvh_relocation(0x1000, 1, 2)
        .pvh_relocation(0x2000, 3, 4);
    let pvh = pvh(&builder).unwrap();
    assert_eq!(pvh.entry, 1);
    assert_eq!(
        pvh.relocation,
        Some(PvhRelocation {
            align: 0x1000,
            min: 1,
            max: 2
        })
    );
}

#[test]
fn what_a_relocation_note_leaves_out_has_a_default() {
    let with = |description: &[u8]| {
        let builder = elf64().segment(0x100_0000, b"code", 4).pvh(1);
        pvh(&builder.note(b"Xen\0", 19, description))
            .unwrap()
            .relocation
    };
    let default = PvhRelocation {
        align: 0x20_0000,
        min: 0,
        max: u32::MAX,
    };
    assert_eq!(with(&[]), Some(default));
    assert_eq!(
        with(&[0, 0x10, 0, 0]),
        Some(PvhRelocation {
            align: 0x1000,
            ..default
        })
    );
    assert_eq!(with(&[0; 16]), None);
    assert_eq!(with(&[0; 5]), None);
}

#[test]
fn an_alignment_that_is_no_power_of_two_means_nowhere_else() {
    for align in [0, 3, u32::MAX] {
        let builder = elf64().pvh(1).pvh_relocation(align, 0, u32::MAX);
        assert_eq!(pvh(&builder).unwrap().relocation, None);
    }
}

#[test]
fn a_relocation_without_an_entry_is_no_way_in() {
    assert_eq!(pvh(&elf64().pvh_relocation(0x1000, 0, 1)), None);
}

#[test]
fn lengths_that_lie_end_the_notes_without_a_loop() {
    for lens in [
        [u32::MAX, 0],
        [0, u32::MAX],
        [u32::MAX, u32::MAX],
        [0x7fff_ffff, 0x7fff_ffff],
        [4, 0x100],
    ] {
        let mut raw = lens.map(u32::to_le_bytes).concat();
        raw.extend_from_slice(&18_u32.to_le_bytes());
        raw.extend_from_slice(b"Xen\0");
        assert_eq!(entry_of(&elf64().raw_notes(&raw)), None);
        assert_eq!(entry_of(&elf64().pvh(3).raw_notes(&raw)), Some(3));
    }
}

#[test]
fn a_cut_at_any_byte_leaves_the_notes_before_it() {
    let mut bytes = alloc::vec::Vec::new();
    for (kind, value) in [(18_u32, 9_u32), (19, 0x1000)] {
        for word in [4, 4, kind, 0x006e_6558, value] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    for len in 0..=bytes.len() {
        let mut notes = Notes::default();
        notes.read(&bytes[..len], 4);
        let pvh = notes.pvh(0);
        assert_eq!(pvh.is_some(), len >= 20, "cut at {len}");
        assert_eq!(
            pvh.is_some_and(|pvh| pvh.relocation.is_some()),
            len >= 40,
            "cut at {len}"
        );
    }
}

use super::*;
use crate::testing::{elf32, elf64};
use alloc::vec;

fn parse(bytes: &[u8]) -> Result<Elf, ElfError> {
    assert!(Elf::is(bytes));
    Elf::parse(bytes)
}

#[test]
fn headers_of_both_classes_say_the_same() {
    for (builder, class, name) in [
        (elf32(), Class::Elf32, "ELF32 i386"),
        (elf64(), Class::Elf64, "ELF64 x86-64"),
    ] {
        let file = builder
            .entry(0x100_0010)
            .segment_at(0x100_0000, 0xc100_0000, b"code", 0x1000)
            .segment_at(0x200_0000, 0, b"", 0x20)
            .pvh(0x100_0020)
            .build();
        let elf = parse(&file).unwrap();
        assert_eq!(alloc::format!("{elf}"), name);
        assert_eq!(elf.class, class);
        assert_eq!(elf.kind, Kind::Executable);
        assert_eq!(elf.entry, 0x100_0010);
        assert_eq!(elf.segments.len(), 2);
        let first = elf.segments[0];
        assert_eq!(first.paddr, 0x100_0000);
        assert_eq!(first.vaddr, 0xc100_0000);
        assert_eq!((first.filesz, first.memsz), (4, 0x1000));
        assert_eq!(first.align, 0x20_0000);
        assert_eq!(
            first.flags,
            SegmentFlags::READ | SegmentFlags::WRITE | SegmentFlags::EXECUTE
        );
        let at = usize::try_from(first.offset).unwrap();
        assert_eq!(&file[at..at + 4], b"code");
        assert_eq!((elf.segments[1].filesz, elf.segments[1].memsz), (0, 0x20));
        assert_eq!(elf.span(), Some((0x100_0000, 0x200_0020)));
        assert_eq!(elf.pvh.unwrap().entry, 0x100_0020);
        assert_eq!(elf.end, file.len() as u64);
        assert_eq!(elf.behind, None);
        assert!(!elf.is_program);
    }
}

#[test]
fn segments_that_take_no_memory_are_left_out() {
    let file = elf64()
        .segment(0x100_0000, b"", 0)
        .program(0x6474_e551, b"")
        .build();
    assert_eq!(parse(&file).unwrap().segments, vec![]);
}

#[test]
fn a_section_table_and_what_it_names_belong_to_the_elf() {
    let elf = elf64().segment(0x100_0000, b"code", 4).pvh(0x100_0000);
    let file = elf.notes_in_section().behind(b"\0\0\0\0\0").build();
    assert_eq!(parse(&file).unwrap().end, file.len() as u64 - 5);
    assert!(parse(&file).unwrap().pvh.is_some());
}

#[test]
fn other_classes_byte_orders_and_tables_are_refused_by_name() {
    let with = |offset: usize, bytes: &[u8]| {
        parse(
            &elf64()
                .segment(0x100_0000, b"code", 4)
                .pvh(1)
                .notes_in_section()
                .patch(offset, bytes)
                .build(),
        )
    };
    assert_eq!(with(4, &[0]), Err(ElfError::Class { class: 0 }));
    assert_eq!(with(4, &[3]), Err(ElfError::Class { class: 3 }));
    assert_eq!(with(5, &[2]), Err(ElfError::BigEndian));
    assert_eq!(with(5, &[0]), Err(ElfError::ByteOrder { data: 0 }));
    assert_eq!(
        with(54, &[0, 0]),
        Err(ElfError::EntryLen {
            what: "program",
            len: 0,
            expected: 56
        })
    );
    assert_eq!(
        with(58, &[1, 0]),
        Err(ElfError::EntryLen {
            what: "section",
            len: 1,
            expected: 64
        })
    );
    assert_eq!(with(56, &[0xff, 0xff]), Err(ElfError::TooManySegments));
    assert!(matches!(
        with(56, &[0xfe, 0xff]),
        Err(ElfError::Truncated {
            what: "program headers",
            ..
        })
    ));
}

/// The class of CVE-2022-23523: offsets at, before and behind the end, and sums that wrap.
#[test]
fn offsets_behind_the_end_are_refused() {
    let file = elf64().segment(0x100_0000, b"code", 4).pvh(1).build();
    let len = file.len() as u64;
    let patched = |offset: usize, value: u64| {
        let mut file = file.clone();
        file[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        parse(&file)
    };
    const PHOFF: usize = 0x20;
    const SHOFF: usize = 0x28;
    const SEGMENT_OFFSET: usize = 0x48;
    const NOTE_OFFSET: usize = 0x48 + 56;
    let far = [
        len - 1,
        len,
        len + 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 63,
        u64::MAX - 3,
        u64::MAX,
    ];
    for value in far {
        for (field, what) in [
            (PHOFF, "program headers"),
            (SHOFF, "section headers"),
            (SEGMENT_OFFSET, "segment"),
            (NOTE_OFFSET, "segment"),
        ] {
            match patched(field, value) {
                Err(ElfError::Truncated { what: told, .. }) => assert_eq!(told, what),
                // A table's entry length is not set where there is no table.
                Err(ElfError::EntryLen { .. }) if field == SHOFF => {}
                other => panic!("{what} at {value:#x}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_segment_has_memory_for_its_bytes_and_addresses_for_its_memory() {
    let file = elf64().segment(0x100_0000, b"code", 3).build();
    assert_eq!(
        parse(&file),
        Err(ElfError::FileLargerThanMemory {
            filesz: 4,
            memsz: 3
        })
    );
    for (paddr, memsz) in [(u64::MAX, 4), (0x1000, u64::MAX), (u64::MAX - 3, 4)] {
        let file = elf64().segment_at(paddr, 0, b"code", memsz).build();
        assert_eq!(parse(&file), Err(ElfError::AddressWraps { paddr, memsz }));
    }
    let top = elf64().segment_at(u64::MAX - 4, 0, b"code", 4).build();
    assert!(parse(&top).is_ok());
}

/// With no count in its field the number of sections is the first one's size.
#[test]
fn a_count_of_sections_that_lies_is_refused() {
    let builder = elf64().pvh(1).notes_in_section();
    let file = builder.build();
    let table = parse(&file).unwrap().end - 128;
    let first_len = usize::try_from(table).unwrap() + 32;
    let counted = |count: u64| {
        parse(
            &builder
                .clone()
                .patch(60, &[0, 0])
                .patch(first_len, &count.to_le_bytes())
                .build(),
        )
    };
    assert!(counted(2).unwrap().pvh.is_some());
    assert_eq!(counted(0).unwrap().pvh, None);
    for count in [3, 1 << 32, u64::MAX / 64, u64::MAX] {
        assert!(matches!(
            counted(count),
            Err(ElfError::Truncated {
                what: "section headers",
                ..
            })
        ));
    }
}

#[test]
fn tens_of_thousands_of_notes_are_read_once_each() {
    let mut builder = elf64();
    for _ in 0..65_533 {
        builder = builder.program(4, b"");
    }
    let file = builder.pvh(0x100_0000).build();
    assert_eq!(parse(&file).unwrap().pvh.unwrap().entry, 0x100_0000);
}

/// The time for notes must not be that of the file times the headers that name it.
#[test]
fn notes_that_lie_over_each_other_are_not_read_for_ever() {
    let mut builder = elf64();
    for _ in 0..65_533 {
        builder = builder.program(4, b"");
    }
    let mut file = builder.behind(&[0; 4 << 20]).build();
    let len = file.len() as u64;
    let (start, size) = (len - (4 << 20), 4_u64 << 20);
    for entry in file[64..64 + 65_533 * 56].chunks_mut(56) {
        entry[8..16].copy_from_slice(&start.to_le_bytes());
        entry[32..40].copy_from_slice(&size.to_le_bytes());
    }
    // As they are, this would be a quarter of a terabyte of notes.
    assert_eq!(parse(&file).unwrap().pvh, None);
}

#[test]
fn kernels_of_other_architectures_are_kernels() {
    use crate::{Architecture, Image, Limits};
    for (machine, architecture) in [
        (183, Architecture::Arm64),
        (243, Architecture::Riscv64),
        (258, Architecture::Loongarch64),
    ] {
        let file = elf64().machine(machine).segment(0x8020_0000, b"code", 16);
        let file = file.build();
        let image = Image::open(&file, &Limits::default()).unwrap();
        assert_eq!(image.architecture(), architecture);
    }
    let file = elf32().machine(243).segment(0x8040_0000, b"code", 16);
    assert_eq!(
        parse(&file.build()).unwrap().architecture(),
        Architecture::Riscv32
    );
}

#[test]
fn programs_are_told_from_kernels() {
    let interpreted = elf64().segment(0, b"code", 4).program(3, b"/lib/ld.so\0");
    assert!(parse(&interpreted.build()).unwrap().is_program);
    let tagged = elf64().note(b"GNU\0", 1, &[0; 16]).build();
    assert!(parse(&tagged).unwrap().is_program);
    let build_id = elf64().note(b"GNU\0", 3, &[0; 20]).build();
    assert!(!parse(&build_id).unwrap().is_program);
}

#[test]
fn machines_and_types_have_their_names() {
    let machine = |number| parse(&elf64().machine(number).build()).unwrap().machine;
    assert_eq!(machine(183), Machine::Aarch64);
    assert_eq!(machine(243), Machine::Riscv);
    assert_eq!(machine(258), Machine::Other(258));
    let kind = |number| parse(&elf64().kind(number).build()).unwrap().kind;
    assert_eq!(kind(1), Kind::Relocatable);
    assert_eq!(kind(3), Kind::Dynamic);
    assert_eq!(kind(4), Kind::Core);
    assert_eq!(kind(0), Kind::Other(0));
}

#[test]
fn a_cut_at_any_byte_is_an_error_or_ends_behind_the_elf() {
    for builder in [
        elf64().segment(0x100_0000, b"code", 16).pvh(1),
        elf32().segment(0x100_0000, b"code", 16).pvh(1),
        elf64()
            .segment(0x100_0000, b"code", 16)
            .pvh(1)
            .notes_in_section(),
    ] {
        let file = builder.clone().relocations(&[&[1], &[2]]).build();
        let end = usize::try_from(parse(&file).unwrap().end).unwrap();
        for len in 4..file.len() {
            let result = parse(&file[..len]);
            assert_eq!(
                matches!(result, Err(ElfError::Truncated { .. })),
                len < end,
                "cut at {len:#x}"
            );
        }
    }
}

//! A plan made by hand is drawn: no kernel has to be planned for it.

use super::*;
use crate::{E820Entry, Pc, Platform, Protocol};
use alloc::string::{String, ToString};
use alloc::vec;
use firstlight_base::x86::{Cr0, Cr4, DescriptorTable, Efer, Gprs, Segment};
use firstlight_base::{GIB, KIB, MIB, VcpuState, x86};

fn range(start: u64, end: u64) -> GpaRange {
    GpaRange::between(Gpa::new(start), Gpa::new(end)).unwrap()
}

fn piece(name: &str, start: u64, end: u64, content: Content, why: &str) -> Piece {
    Piece {
        name: name.to_string().into(),
        range: range(start, end),
        content,
        why: why.to_string().into(),
    }
}

fn ram(start: u64, end: u64) -> E820Entry {
    E820Entry {
        range: range(start, end),
        kind: E820Kind::Ram,
    }
}

fn registers() -> x86::Registers {
    let data = Segment::data32(0x18);
    x86::Registers {
        gprs: Gprs {
            rip: 16 * MIB,
            rsi: 0x1000,
            rflags: 2,
            ..Gprs::default()
        },
        cs: Segment::code64(0x10),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: Segment::task(0x20),
        ldt: Segment::UNUSABLE,
        gdt: DescriptorTable {
            base: 0x2008,
            limit: 0x27,
        },
        idt: DescriptorTable::default(),
        cr0: Cr0::PE | Cr0::ET | Cr0::PG,
        cr2: 0,
        cr3: 0x3000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA,
    }
}

/// A plan with one piece of every sort, and `memory` bytes of RAM.
fn plan(memory: u64) -> BootPlan {
    let low_end = memory.min(3 * GIB);
    let (acpi, acpi_end) = (0x9_f000, 0xa_0000);
    let kernel = Content::Image {
        layer: 1,
        offset: 0x20_0000,
        len: 50 * MIB,
    };
    let mut platform = Pc::new(low_end, 2);
    let mut e820 = vec![
        ram(0, acpi),
        E820Entry {
            range: range(acpi, acpi_end),
            kind: E820Kind::AcpiTables,
        },
        ram(MIB, low_end),
    ];
    if memory > low_end {
        let high = range(4 * GIB, 4 * GIB + memory - low_end);
        platform.ram.push(high);
        e820.push(ram(4 * GIB, high.end().get()));
    }
    BootPlan {
        platform: Platform::Pc(platform),
        protocol: Protocol::Linux64,
        image: "bzImage 2.15 \u{2192} zstd \u{2192} ELF64 x86-64".into(),
        cmdline: "console=ttyS0 <&>".into(),
        pieces: vec![
            piece(
                "boot_params",
                0x1000,
                0x2000,
                bytes(),
                "the zero page, at rsi",
            ),
            piece("GDT", 0x2000, 0x3000, bytes(), "__BOOT_CS is 0x10"),
            piece("page tables", 0x3000, 0x9000, bytes(), ""),
            piece(
                "ACPI tables",
                acpi,
                acpi_end,
                bytes(),
                "found by their signature",
            ),
            piece(
                "kernel",
                16 * MIB,
                66 * MIB,
                kernel,
                "where it was linked to run",
            ),
            piece(
                "kernel window",
                66 * MIB,
                70 * MIB,
                Content::Window,
                "init_size from the preferred address",
            ),
            piece(
                "initrd",
                low_end - 20 * MIB,
                low_end,
                Content::Initrd,
                "as high as the kernel takes it",
            ),
        ],
        e820,
        moved: 0,
        relocate: None,
        boot_vcpu: VcpuState::X86(registers()),
    }
}

fn bytes() -> Content {
    Content::Bytes(vec![1; 16])
}

#[test]
fn rows_cover_every_address_once() {
    for memory in [128 * MIB, 512 * MIB, 8 * GIB] {
        let plan = plan(memory);
        let rows = rows(&plan);
        let mut at = Gpa::new(0);
        for row in &rows {
            assert_eq!(row.range.start(), at, "a gap or an overlap before {row:?}");
            at = row.range.end();
        }
        assert_eq!(at, plan.platform().ram().last().unwrap().end());
    }
}

#[test]
fn what_lies_between_pieces_is_what_the_guest_is_told() {
    let plan = plan(8 * GIB);
    let empty = rows(&plan)
        .into_iter()
        .filter(|row| row.piece.is_none())
        .map(|row| (row.range.start().get(), row.range.len(), row.class));
    let expected = [
        (0, 4 * KIB, Class::Free),
        (0x9000, 0x9_f000 - 0x9000, Class::Free),
        (0xa_0000, 0x6_0000, Class::LegacyHole),
        (MIB, 15 * MIB, Class::Free),
        (70 * MIB, 3 * GIB - 90 * MIB, Class::Free),
        (3 * GIB, GIB, Class::DeviceHole),
        (4 * GIB, 5 * GIB, Class::Free),
    ];
    assert_eq!(empty.collect::<Vec<_>>(), expected);
}

#[test]
fn what_pieces_leave_of_a_page_is_not_told() {
    let mut plan = plan(512 * MIB);
    plan.pieces.clear();
    for start in [0x1000, 0x1080] {
        plan.pieces
            .push(piece("small", start, start + 0x40, bytes(), ""));
    }
    let ranges = rows(&plan).into_iter().map(|row| row.range.start().get());
    assert_eq!(
        ranges.take(4).collect::<Vec<_>>(),
        [0, 0x1000, 0x1080, 0x10c0]
    );
}

#[test]
fn what_is_reserved_behind_ram_is_not_drawn_and_inside_a_hole_is_one_with_it() {
    let mut plan = plan(512 * MIB);
    let before = rows(&plan).len();
    plan.e820.push(E820Entry {
        range: Pc::KVM_PRIVATE,
        kind: E820Kind::Reserved,
    });
    assert_eq!(rows(&plan).len(), before);

    plan = tests::plan(8 * GIB);
    let before = rows(&plan).len();
    let high = plan.e820.pop().unwrap();
    plan.e820.push(E820Entry {
        range: Pc::KVM_PRIVATE,
        kind: E820Kind::Reserved,
    });
    plan.e820.push(high);
    assert_eq!(rows(&plan).len(), before);
}

#[test]
fn the_text_is_as_people_have_read_it_before() {
    let golden = include_str!("../../tests/golden/draw.txt");
    assert_eq!(text(&plan(512 * MIB), 100), golden);
}

#[test]
fn control_characters_of_a_command_line_do_not_reach_the_terminal() {
    let mut plan = plan(512 * MIB);
    plan.cmdline = "a\x1b[2Jb\nc".into();
    let text = text(&plan, 100);
    assert!(text.contains("command line  a\\u{1b}[2Jb\\nc\n"), "{text}");
}

#[test]
fn the_picture_is_well_formed() {
    let picture = svg(&plan(512 * MIB));
    assert!(picture.contains("console=ttyS0 &lt;&amp;&gt;"));
    let opened = picture.matches("<text").count();
    assert_eq!(opened, picture.matches("</text>").count());
    assert!(
        !picture.contains("NaN") && !picture.contains("inf"),
        "{picture}"
    );
}

/// The y of every row's first rectangle and its height, in the order they are drawn.
fn drawn_rows(picture: &str) -> Vec<(f64, f64)> {
    let attribute = |line: &str, name: &str| -> f64 {
        let (_, value) = line.split_once(name).unwrap();
        value.split('"').next().unwrap().parse().unwrap()
    };
    picture
        .lines()
        .filter(|line| line.starts_with("<rect x=\"252.0\""))
        .map(|line| (attribute(line, " y=\""), attribute(line, " height=\"")))
        .collect()
}

#[test]
fn rows_of_the_picture_touch_and_have_room_for_their_words() {
    for memory in [512 * MIB, 8 * GIB] {
        let plan = plan(memory);
        let drawn = drawn_rows(&svg(&plan));
        assert_eq!(drawn.len(), rows(&plan).len());
        for (upper, lower) in drawn.iter().zip(&drawn[1..]) {
            assert!(
                (upper.0 + upper.1 - lower.0).abs() < 0.2,
                "{upper:?} {lower:?}"
            );
        }
        assert!(drawn.iter().all(|&(_, height)| height >= 26.0));
    }
}

#[test]
fn words_are_parted_at_spaces_only() {
    let lines: Vec<String> = text::wrap("four words and averyverylongone", 10);
    assert_eq!(lines, ["four words", "and", "averyverylongone"]);
    assert!(text::wrap("  ", 10).is_empty());
}

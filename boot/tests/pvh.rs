//! What kernels that are entered by the x86/HVM direct boot ABI find, and where they go.

use firstlight_base::x86::{Registers, Segment};
use firstlight_base::{GIB, Gpa, GpaRange, MIB, Reader};
use firstlight_boot::{
    BootPlan, Content, Kaslr, Module, Piece, PlanError, Protocol, ProtocolChoice, Request,
    StartInfoVersion, plan,
};
use firstlight_image::testing::{elf32, elf64};
use firstlight_image::{Image, Limits};
use proptest::prelude::*;

const LINKED: u64 = 0x100_0000;
const ENTRY: u32 = 0x100_0040;

fn request() -> Request {
    Request {
        memory: 256 * MIB,
        cmdline: "console=ttyS0".into(),
        protocol: ProtocolChoice::Only(Protocol::Pvh),
        ..Request::default()
    }
}

/// A kernel of two segments with nothing between them.
fn fixed() -> Vec<u8> {
    elf64()
        .entry(LINKED)
        .pvh(ENTRY)
        .segment(LINKED, &[0x90; 0x100], 0x1000)
        .segment(LINKED + 0x1000, &[0x91; 0x100], 0x2000)
        .build()
}

/// The same, which may lie anywhere from 16 to 64 MiB.
fn movable() -> Vec<u8> {
    elf64()
        .entry(LINKED)
        .pvh(ENTRY)
        .pvh_relocation(0x20_0000, 0x100_0000, 0x3ff_ffff)
        .segment(LINKED, &[0x90; 0x100], 0x1000)
        .segment(LINKED + 0x1000, &[0x91; 0x100], 0x2000)
        .build()
}

fn planned(file: &[u8], request: &Request) -> Result<BootPlan, PlanError> {
    let image = Image::open(file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

fn registers(plan: &BootPlan) -> Registers {
    let registers = plan.boot_vcpu().x86().expect("an x86 guest");
    *registers
}

fn piece<'a>(plan: &'a BootPlan, name: &str) -> &'a Piece {
    let found = plan.pieces().iter().find(|piece| piece.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:#?}", plan.pieces()))
}

fn start_info(plan: &BootPlan) -> (u64, &[u8]) {
    let piece = piece(plan, "hvm_start_info");
    match &piece.content {
        Content::Bytes(bytes) => (piece.range.start().get(), bytes),
        other => panic!("no bytes of its own: {other:?}"),
    }
}

fn modules(sizes: &[u64]) -> Vec<Module> {
    let module = |&len| Module {
        len,
        cmdline: format!("module of {len}"),
    };
    sizes.iter().map(module).collect()
}

#[test]
fn the_registers_are_those_of_the_abi_and_everything_else_is_zero() {
    let plan = planned(&fixed(), &request()).expect("it fits");
    let registers = registers(&plan);
    let base = registers.gdt.base;
    let mut expected = Registers::default();
    expected.gprs.rip = ENTRY.into();
    expected.gprs.rbx = start_info(&plan).0;
    expected.gprs.rflags = 2;
    expected.cr0 = registers.cr0;
    expected.cs = Segment::code32(0x10);
    for data in [
        &mut expected.ds,
        &mut expected.es,
        &mut expected.fs,
        &mut expected.gs,
        &mut expected.ss,
    ] {
        *data = Segment::data32(0x18);
    }
    expected.tr = Segment::task(0x20);
    expected.gdt = registers.gdt;
    assert_eq!(registers, expected);
    assert_eq!(registers.cr0.bits(), 0x11, "PE and ET");
    assert_eq!((registers.tr.base, registers.tr.limit), (0, 0x67));
    assert_eq!(registers.tr.access & 0xff, 0x8b, "a busy 32-bit task");
    assert_eq!(base, piece(&plan, "GDT").range.start().get());
}

#[test]
fn kernels_of_32_bits_are_entered_in_the_same_way() {
    let file = elf32()
        .entry(0x10_0000)
        .pvh(0x10_0020)
        .segment(0x10_0000, &[0x90; 0x100], 0x1000)
        .build();
    let plan = planned(&file, &request()).expect("it fits");
    assert_eq!(registers(&plan).gprs.rip, 0x10_0020);
    assert_eq!(plan.protocol(), Protocol::Pvh);
}

#[test]
fn the_ramdisk_is_the_first_module_and_the_others_follow_with_their_command_lines() {
    let wanted = Request {
        initrd: Some(0x1001),
        modules: modules(&[5, 0x2000]),
        ..request()
    };
    let plan = planned(&fixed(), &wanted).expect("it fits");
    let (at, bytes) = start_info(&plan);
    let info = Reader::new(bytes);
    let number = |offset| info.u64_le(offset).expect("it is there");
    assert_eq!(info.u32_le(12), Ok(3));
    let list = number(16) - at;
    let named = ["initrd", "module 0", "module 1"];
    let texts = [None, Some("module of 5\0"), Some("module of 8192\0")];
    for ((line, name), text) in (0..).zip(named).zip(texts) {
        let entry = list + line * 32;
        let place = piece(&plan, name).range;
        assert_eq!(number(entry), place.start().get());
        assert_eq!(number(entry + 8), place.len());
        assert_eq!(number(entry + 24), 0, "reserved");
        let found = number(entry + 16).checked_sub(at).map(|offset| {
            let len = text.map_or(0, str::len) as u64;
            info.slice(offset, len).expect("it is in the piece")
        });
        assert_eq!(found, text.map(str::as_bytes));
    }
}

#[test]
fn version_0_has_no_memory_map() {
    let wanted = Request {
        start_info: StartInfoVersion::V0,
        ..request()
    };
    let plan = planned(&fixed(), &wanted).expect("it fits");
    let (_, bytes) = start_info(&plan);
    assert_eq!(bytes.len(), 40);
    assert_eq!(Reader::new(bytes).u32_le(4), Ok(0));
}

#[test]
fn all_segments_and_the_entry_move_together() {
    let wanted = Request {
        load_address: Some(Gpa::new(0x200_0000)),
        ..request()
    };
    let plan = planned(&movable(), &wanted).expect("the note allows it");
    assert_eq!(
        registers(&plan).gprs.rip,
        u64::from(ENTRY) + 0x200_0000 - LINKED
    );
    let start = |name| piece(&plan, name).range.start().get();
    assert_eq!(start("kernel segment 0"), 0x200_0000);
    assert_eq!(start("kernel segment 1"), 0x200_1000);
}

/// A misaligned PVH kernel resets without a word.
#[test]
fn a_place_that_the_note_does_not_allow_is_refused_with_the_rule() {
    for place in [0x210_0000, 0xe0_0000, 0x400_0000] {
        let wanted = Request {
            load_address: Some(Gpa::new(place)),
            ..request()
        };
        let refused = planned(&movable(), &wanted);
        assert!(
            matches!(
                refused,
                Err(PlanError::Misplaced {
                    align: 0x20_0000,
                    ..
                })
            ),
            "{place:#x}: {refused:?}"
        );
    }
    let wanted = Request {
        load_address: Some(Gpa::new(0x200_0000)),
        ..request()
    };
    let refused = planned(&fixed(), &wanted);
    assert!(
        matches!(refused, Err(PlanError::Immovable { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_kernel_whose_place_is_taken_moves_only_where_its_note_allows() {
    let taken = GpaRange::new(Gpa::new(LINKED), 0x1000).expect("a page");
    let wanted = Request {
        reserved: vec![taken],
        ..request()
    };
    let plan = planned(&movable(), &wanted).expect("there is room above");
    assert_eq!(
        piece(&plan, "kernel segment 0").range.start().get(),
        0x120_0000
    );
    let refused = planned(&fixed(), &wanted);
    assert!(
        matches!(refused, Err(PlanError::Overlap { .. })),
        "{refused:?}"
    );
}

/// Linux' count of the map's lines is a byte, and what is more runs over.
#[test]
fn a_memory_map_of_more_than_128_lines_is_refused() {
    let page = |number: u64| GpaRange::new(Gpa::new(0x200_0000 + number * 0x2000), 0x1000);
    let wanted = Request {
        reserved: (0..80).filter_map(page).collect(),
        ..request()
    };
    let refused = planned(&fixed(), &wanted);
    assert!(
        matches!(refused, Err(PlanError::MemoryMapTooLong { most: 128, .. })),
        "{refused:?}"
    );
}

proptest! {
    /// The limits of `arch/x86/platform/pvh`, which the ABI does not have.
    #[test]
    fn a_plan_keeps_linux_limits_or_there_is_none(
        memory in prop_oneof![Just(64 * MIB), Just(3 * GIB), Just(5 * GIB), Just(64 * GIB)],
        initrd in proptest::option::of(1..80 * MIB),
        sizes in proptest::collection::vec(1..40 * MIB, 0..4),
        seed in any::<u64>(),
    ) {
        let wanted = Request {
            memory,
            initrd,
            modules: modules(&sizes),
            kaslr: Kaslr::Seeded(seed),
            ..request()
        };
        let Ok(plan) = planned(&movable(), &wanted) else { return Ok(()) };
        let (at, bytes) = start_info(&plan);
        let info = Reader::new(bytes);
        let end = at + bytes.len() as u64;
        prop_assert!(end <= GIB, "map and list below 1 GiB");
        let ram = plan.e820().iter().find(|entry| entry.range.start().get() <= at
            && end <= entry.range.end().get());
        prop_assert_eq!(ram.map(|entry| entry.kind as u32), Some(1), "in RAM");
        prop_assert!(info.u32_le(48).is_ok_and(|lines| lines <= 128));
        let cmdline = piece(&plan, "command line").range;
        prop_assert!(cmdline.end().get() <= 4 * GIB);
        for piece in plan.pieces().iter().filter(|piece| {
            piece.name == "initrd" || piece.name.starts_with("module")
        }) {
            prop_assert!(piece.range.end().get() <= 4 * GIB, "{:?}", piece);
            prop_assert!(piece.range.start().is_aligned(0x1000));
        }
        let kernel = piece(&plan, "kernel segment 0").range;
        prop_assert!(kernel.start().is_aligned(0x20_0000));
        prop_assert!((0x100_0000..=0x3ff_ffff - 0x2fff).contains(&kernel.start().get()));
        prop_assert_eq!(
            registers(&plan).gprs.rip - kernel.start().get(),
            u64::from(ENTRY) - LINKED
        );
    }
}

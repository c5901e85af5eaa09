//! Where kernels go: asked for, driven out of their own place, or thrown by dice.

use firstlight_base::x86::Registers;
use firstlight_base::{GIB, Gpa, GpaRange, MIB, Reader};
use firstlight_boot::{
    BootPlan, Content, E820Kind, Kaslr, Piece, PlanError, Protocol, ProtocolChoice, Request,
    Unpack, plan,
};
use firstlight_image::testing::{BzImageBuilder, bzimage, elf64};
use firstlight_image::{Codec, Image, Limits};
use proptest::prelude::*;
use std::collections::BTreeSet;

const XLF_KERNEL_64: u16 = 1 << 0;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
const LINKED: u64 = 0x100_0000;
const LARGE_PAGE: u64 = 0x20_0000;
/// `__START_KERNEL_map`.
const MAPPED: u64 = 0xffff_ffff_8000_0000;

fn request() -> Request {
    Request {
        memory: 128 * MIB,
        cmdline: "console=ttyS0".into(),
        ..Request::default()
    }
}

fn by_the_guest() -> Request {
    Request {
        unpack: Unpack::Guest,
        ..request()
    }
}

fn seeded(seed: u64) -> Request {
    Request {
        kaslr: Kaslr::Seeded(seed),
        ..request()
    }
}

fn planned(file: &[u8], request: &Request) -> Result<BootPlan, PlanError> {
    let image = Image::open(file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

/// A kernel of 4 MiB as Linux' build makes them, with a relocation table of three places.
fn vmlinux() -> Vec<u8> {
    elf64()
        .entry(LINKED + 0x10)
        .segment_at(LINKED, MAPPED + LINKED, &[0x90; 64], 3 * MIB)
        .segment_at(LINKED + 3 * MIB, 0, &[1; 64], MIB)
        .relocations(&[&[0x8100_0000], &[0x8100_0008], &[0x8100_0010]])
        .build()
}

fn packed(file: &[u8]) -> BzImageBuilder {
    bzimage()
        .xloadflags(XLF_KERNEL_64)
        .payload(Codec::Lz4Legacy, file)
}

fn linux() -> Vec<u8> {
    packed(&vmlinux()).build()
}

fn registers(plan: &BootPlan) -> Registers {
    let registers = plan.boot_vcpu().x86().expect("an x86 guest");
    *registers
}

fn piece<'a>(plan: &'a BootPlan, name: &str) -> &'a Piece {
    let found = plan
        .pieces()
        .iter()
        .find(|piece| piece.name.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} among {:#?}", plan.pieces()))
}

fn start(plan: &BootPlan, name: &str) -> u64 {
    piece(plan, name).range.start().get()
}

fn zero_page(plan: &BootPlan) -> Reader<'_> {
    bytes(plan, "boot_params")
}

fn bytes<'a>(plan: &'a BootPlan, name: &str) -> Reader<'a> {
    match &piece(plan, name).content {
        Content::Bytes(bytes) => Reader::new(bytes),
        other => panic!("{name} has no bytes of its own: {other:?}"),
    }
}

fn range(start: u64, end: u64) -> GpaRange {
    GpaRange::between(Gpa::new(start), Gpa::new(end)).expect("start lies below end")
}

#[test]
fn a_kernel_goes_to_2_mib_because_1_mib_is_taken() {
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .pref_address(0x10_0000)
        .init_size(0x40_0000)
        .build();
    let free = planned(&file, &by_the_guest()).unwrap();
    assert_eq!(start(&free, "kernel, packed"), 0x10_0000);
    let firmware = Request {
        reserved: vec![range(0x10_0000, 0x14_0000)],
        ..by_the_guest()
    };
    let plan = planned(&file, &firmware).unwrap();
    assert_eq!(start(&plan, "kernel, packed"), 0x20_0000);
    assert_eq!(registers(&plan).gprs.rip, 0x20_0200);
    assert_eq!(
        zero_page(&plan).u32_le(0x214),
        Ok(0x20_0000),
        "who moves a kernel writes its code32_start"
    );
    let told = plan
        .e820()
        .iter()
        .find(|line| line.range == range(0xa_0000, 0x14_0000));
    assert_eq!(told.map(|line| line.kind), Some(E820Kind::Reserved));
}

#[test]
fn an_unpacked_kernel_moves_out_of_the_way_by_large_pages() {
    let taken = Request {
        reserved: vec![range(LINKED, LINKED + 1)],
        ..request()
    };
    let plan = planned(&linux(), &taken).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), LINKED + LARGE_PAGE);
    assert_eq!(
        start(&plan, "kernel segment 1"),
        LINKED + 3 * MIB + LARGE_PAGE
    );
    assert_eq!(registers(&plan).gprs.rip, LINKED + LARGE_PAGE + 0x10);
}

#[test]
fn where_nothing_larger_is_free_the_least_alignment_is_taken_and_written_down() {
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .pref_address(0x100_0000)
        .init_size(0x60_0000)
        .kernel_alignment(0x100_0000)
        .min_alignment_log2(21)
        .build();
    let wanted = Request {
        memory: 32 * MIB,
        reserved: vec![range(0x100_0000, 0x110_0000)],
        ..by_the_guest()
    };
    let plan = planned(&file, &wanted).unwrap();
    assert_eq!(start(&plan, "kernel, packed"), 0x120_0000);
    assert_eq!(
        zero_page(&plan).u32_le(0x230),
        Ok(0x20_0000),
        "the unpacking code reads there what to align itself to"
    );
}

#[test]
fn a_packed_kernel_below_its_preferred_address_still_runs_there() {
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .pref_address(0x100_0000)
        .init_size(0x380_0000)
        .build();
    let wanted = Request {
        load_address: Some(Gpa::new(0x10_0000)),
        initrd: Some(40 * MIB),
        ..by_the_guest()
    };
    let plan = planned(&file, &wanted).unwrap();
    assert_eq!(registers(&plan).gprs.rip, 0x10_0200);
    let window = range(0x100_0000, 0x480_0000);
    for other in plan.pieces() {
        assert!(
            other.name.contains("kernel")
                || other.name == "start-up window"
                || !other.range.overlaps(window),
            "{other:?}"
        );
    }
    assert!(start(&plan, "initrd") >= 0x480_0000);
}

#[test]
fn a_misaligned_packed_kernel_aligns_itself_and_has_the_room_for_it() {
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .pref_address(0x100_0000)
        .init_size(0x40_0000)
        .build();
    let wanted = Request {
        load_address: Some(Gpa::new(0x110_0000)),
        ..by_the_guest()
    };
    let plan = planned(&file, &wanted).unwrap();
    let end = plan
        .pieces()
        .iter()
        .filter(|piece| piece.name == "start-up window")
        .map(|piece| piece.range.end())
        .max();
    assert_eq!(end, Some(Gpa::new(0x160_0000)), "from 18 MiB on");
}

#[test]
fn what_is_appended_to_a_kernel_is_not_loaded() {
    let file = bzimage().xloadflags(XLF_KERNEL_64);
    let loaded = |file: &BzImageBuilder| {
        let plan = planned(&file.build(), &by_the_guest()).unwrap();
        piece(&plan, "kernel, packed").content.clone()
    };
    let signed = file.clone().behind(&[0x30; 1600]);
    assert_eq!(loaded(&signed), loaded(&file), "a signature is no code");
}

#[test]
fn what_the_kernel_is_told_lies_outside_of_its_window() {
    // QEMU appends a device tree to the kernel's file, where unpacking destroys it.
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .pref_address(0x100_0000)
        .init_size(0x380_0000)
        .build();
    let wanted = Request {
        dtb: Some([&[0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 8][..], &[0; 5000]].concat()),
        ..by_the_guest()
    };
    let plan = planned(&file, &wanted).unwrap();
    let tree = piece(&plan, "setup_data: device tree").range;
    assert!(tree.end() <= Gpa::new(0xa_0000), "{tree}");
}

#[test]
fn a_kernel_at_the_end_of_all_addresses_is_refused() {
    for init_size in [1, u32::MAX] {
        let file = bzimage()
            .xloadflags(XLF_KERNEL_64)
            .pref_address(u64::MAX)
            .init_size(init_size)
            .build();
        assert!(planned(&file, &by_the_guest()).is_err());
    }
    let file = bzimage().xloadflags(XLF_KERNEL_64).build();
    for address in [u64::MAX, u64::MAX - 0x1000, 1 << 46] {
        let wanted = Request {
            load_address: Some(Gpa::new(address)),
            ..by_the_guest()
        };
        assert!(planned(&file, &wanted).is_err(), "{address:#x}");
    }
}

#[test]
fn an_unpacked_kernel_goes_where_it_is_asked_for_or_the_rule_is_told() {
    let at = |address| {
        planned(
            &linux(),
            &Request {
                load_address: Some(Gpa::new(address)),
                ..request()
            },
        )
    };
    let plan = at(0x200_0000).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), 0x200_0000);
    assert_eq!(registers(&plan).gprs.rip, 0x200_0010);
    assert_eq!(plan.relocate(), None, "only its physical address moves");
    for address in [0x210_0000, LINKED - LARGE_PAGE, u64::MAX, 5 * GIB] {
        let refused = at(address).unwrap_err();
        assert!(
            matches!(
                refused,
                PlanError::Misplaced {
                    align: LARGE_PAGE,
                    ..
                }
            ),
            "{address:#x}: {refused}"
        );
    }
}

#[test]
fn the_lowest_segment_is_the_base_and_not_the_entry() {
    let file = elf64()
        .entry(0x130_0000)
        .segment_at(0x120_0000, 0, &[1; 16], 0x20_0000)
        .segment_at(LINKED, MAPPED + LINKED, &[2; 16], 0x1000)
        .build();
    let wanted = Request {
        load_address: Some(Gpa::new(0x300_0000)),
        ..request()
    };
    let plan = planned(&file, &wanted).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), 0x300_0000);
    assert_eq!(registers(&plan).gprs.rip, 0x330_0000);
}

#[test]
fn without_dice_a_kernel_lies_where_it_was_linked_to() {
    let plan = planned(&linux(), &request()).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), LINKED);
    assert_eq!(plan.relocate(), None);
    assert_eq!(zero_page(&plan).u8(0x211).map(|flags| flags & 2), Ok(0));
}

#[test]
fn with_dice_the_kernel_is_told_so_and_its_places_are_found_where_it_lies() {
    let plan = planned(&linux(), &seeded(3)).unwrap();
    let relocate = plan.relocate().expect("it has a table");
    assert_eq!(zero_page(&plan).u8(0x211).map(|flags| flags & 2), Ok(2));
    let load = start(&plan, "kernel segment 0");
    assert_eq!(relocate.within.start().get(), load);
    assert_eq!(relocate.within.len(), 4 * MIB);
    assert_eq!(
        (MAPPED + LINKED + 8).wrapping_add(relocate.to_physical),
        load + 8
    );
    assert_eq!(relocate.layer, 1);
    assert_eq!(relocate.places.counts(), (1, 1, 1));
    assert_eq!(registers(&plan).gprs.rip, load + 0x10);
}

#[test]
fn nokaslr_on_the_command_line_is_obeyed() {
    let wanted = Request {
        cmdline: "quiet nokaslr".into(),
        ..seeded(3)
    };
    let plan = planned(&linux(), &wanted).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), LINKED);
    assert_eq!(plan.relocate(), None);
}

#[test]
fn where_the_command_line_cuts_memory_only_virtual_addresses_are_random() {
    let wanted = Request {
        cmdline: "mem=64M".into(),
        ..seeded(3)
    };
    let plan = planned(&linux(), &wanted).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), LINKED);
    assert!(plan.relocate().is_some());
}

#[test]
fn a_kernel_without_a_table_keeps_its_virtual_addresses() {
    let bare = elf64()
        .entry(LINKED)
        .segment_at(LINKED, MAPPED + LINKED, &[0x90; 64], MIB)
        .build();
    let loads: BTreeSet<u64> = (0..40)
        .map(|seed| {
            let plan = planned(&packed(&bare).build(), &seeded(seed)).unwrap();
            assert_eq!(plan.relocate(), None);
            start(&plan, "kernel segment 0")
        })
        .collect();
    assert!(loads.len() > 10, "its header says that it can be moved");
    let plan = planned(&bare, &seeded(3)).unwrap();
    assert_eq!(
        start(&plan, "kernel segment 0"),
        LINKED,
        "nothing says so of an ELF file alone"
    );
}

#[test]
fn a_kernel_that_is_not_relocatable_has_no_dice_thrown_for_it() {
    let bare = elf64()
        .entry(LINKED)
        .segment_at(LINKED, MAPPED + LINKED, &[0x90; 64], MIB)
        .build();
    let fixed = packed(&bare).relocatable(false).build();
    let plan = planned(&fixed, &seeded(3)).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), LINKED);
}

#[test]
fn pvh_moves_a_kernel_by_its_note_and_shifts_nothing() {
    let file = elf64()
        .segment_at(LINKED, MAPPED + LINKED, &[0; 64], MIB)
        .pvh(0x100_0020)
        .pvh_relocation(0x20_0000, 0x100_0000, 0x3ff_ffff)
        .relocations(&[&[0x8100_0000], &[], &[]])
        .build();
    for seed in 0..40 {
        let wanted = Request {
            protocol: ProtocolChoice::Only(Protocol::Pvh),
            ..seeded(seed)
        };
        let plan = planned(&file, &wanted).unwrap();
        assert_eq!(plan.relocate(), None, "its page tables are built for one");
        let load = start(&plan, "kernel segment 0");
        assert!((0x100_0000..0x400_0000).contains(&load), "{load:#x}");
        assert_eq!(registers(&plan).gprs.rip, load + 0x20);
    }
}

/// Everything that the seeds of a range choose: physical and virtual.
fn chosen(file: &[u8], request: &Request, seeds: u64) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let image = Image::open(file, &Limits::default()).expect("the builders build images");
    (0..seeds)
        .map(|seed| {
            let request = Request {
                kaslr: Kaslr::Seeded(seed),
                ..request.clone()
            };
            let plan = plan(&image, &request).expect("there is room for it");
            let shift = plan.relocate().expect("it has a table").shift;
            (start(&plan, "kernel segment 0"), shift)
        })
        .unzip()
}

#[test]
fn every_slot_in_ram_and_in_the_kernels_mapping_is_reached() {
    let wanted = Request {
        initrd: Some(8 * MIB),
        memory: 64 * MIB,
        ..request()
    };
    let (loads, shifts) = chosen(&linux(), &wanted, 6000);
    // The ramdisk lies at the top: 16 MiB up to 56 MiB are left, less 4 MiB for the kernel.
    let expected: BTreeSet<u64> = (0..=18).map(|slot| LINKED + slot * LARGE_PAGE).collect();
    assert_eq!(loads, expected);
    // 1 GiB less the 16 MiB it is linked behind and its own 4 MiB.
    let expected: BTreeSet<u64> = (0..=502).map(|slot| slot * LARGE_PAGE).collect();
    assert_eq!(shifts, expected);
}

#[test]
fn physical_and_virtual_are_thrown_apart() {
    let image = linux();
    let pairs: BTreeSet<(u64, u64)> = (0..200)
        .map(|seed| {
            let plan = planned(&image, &seeded(seed)).unwrap();
            let shift = plan.relocate().unwrap().shift;
            (start(&plan, "kernel segment 0"), shift)
        })
        .collect();
    let together = pairs
        .iter()
        .filter(|(load, shift)| load - LINKED == *shift)
        .count();
    assert!(together < 20, "{together} of 200");
    assert!(pairs.len() > 190, "{} of 200 differ", pairs.len());
}

#[test]
fn above_4_gib_only_a_kernel_is_thrown_that_can_be_loaded_there() {
    let wanted = Request {
        memory: 8 * GIB,
        ..request()
    };
    let high = packed(&vmlinux())
        .xloadflags(XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G)
        .build();
    let (loads, _) = chosen(&high, &wanted, 60);
    assert!(loads.iter().any(|&load| load >= 4 * GIB));
    let (loads, _) = chosen(&linux(), &wanted, 60);
    assert!(loads.iter().all(|&load| load < 3 * GIB));
}

#[test]
fn a_ramdisk_that_leaves_no_slot_still_finds_its_place() {
    // 40 MiB: the kernel at 16 MiB takes 4; a ramdisk of 20 MiB fits above it only.
    let wanted = Request {
        memory: 40 * MIB,
        initrd: Some(20 * MIB),
        ..request()
    };
    let (loads, _) = chosen(&linux(), &wanted, 20);
    assert_eq!(loads, BTreeSet::from([LINKED]));
}

prop_compose! {
    fn any_request()(
        memory in prop_oneof![1u64..0x1000_0000, 0u64..0x3_0000_0000],
        initrd in proptest::option::of(1u64..0x800_0000),
        load_address in proptest::option::of(prop_oneof![
            (0u64..0x100).prop_map(|slot| slot * LARGE_PAGE),
            any::<u64>(),
        ]),
        reserved in prop::collection::vec((0u64..0x1000_0000, 1u64..0x200_0000), 0..6),
        seed in proptest::option::of(any::<u64>()),
        guest in any::<bool>(),
        protocol in prop_oneof![
            Just(ProtocolChoice::Auto),
            Just(ProtocolChoice::Only(Protocol::Linux32)),
            Just(ProtocolChoice::Only(Protocol::Linux16)),
            Just(ProtocolChoice::Only(Protocol::Pvh)),
        ],
    ) -> Request {
        Request {
            memory,
            initrd,
            load_address: load_address.map(Gpa::new),
            reserved: reserved
                .into_iter()
                .filter_map(|(start, len)| GpaRange::new(Gpa::new(start), len))
                .collect(),
            kaslr: seed.map_or(Kaslr::Off, Kaslr::Seeded),
            unpack: if guest { Unpack::Guest } else { Unpack::Host },
            protocol,
            ..request()
        }
    }
}

proptest! {
    #[test]
    fn no_plan_touches_reserved_memory_or_the_kernels_window(
        request in any_request(),
        relocatable in any::<bool>(),
        pref in prop_oneof![Just(0x10_0000u64), Just(LINKED), 0u64..0x400_0000],
        init_size in 1u32..0x300_0000,
        align in prop_oneof![Just(0x20_0000u32), Just(0x100_0000), Just(0x1000)],
    ) {
        let file = packed(&vmlinux())
            .relocatable(relocatable)
            .pref_address(pref)
            .init_size(init_size)
            .kernel_alignment(align)
            .build();
        let image = Image::open(&file, &Limits::default()).unwrap();
        let Ok(plan) = plan(&image, &request) else { return Ok(()) };
        let is_kernel = |piece: &Piece| {
            matches!(piece.content, Content::Image { .. } | Content::Window)
        };
        for piece in plan.pieces() {
            let firmware = ["reset vector", "BIOS", "MP table"].contains(&&*piece.name);
            for reserved in plan.platform().reserved() {
                prop_assert!(firmware || !piece.range.overlaps(*reserved), "{:?}", piece);
            }
            let ram = |line: &&firstlight_boot::E820Entry| {
                line.kind == E820Kind::Ram && line.range.contains(piece.range)
            };
            let tables = piece.name == "ACPI tables";
            prop_assert!(firmware || tables || plan.e820().iter().any(|line| ram(&line)));
        }
        for pair in plan.pieces().windows(2) {
            prop_assert!(pair[0].range.end() <= pair[1].range.start(), "{:?}", pair);
        }
        for pair in plan.e820().windows(2) {
            prop_assert!(pair[0].range.end() <= pair[1].range.start(), "{:?}", pair);
        }
        let packed = plan.pieces().iter().find(|piece| piece.name == "kernel, packed");
        if let Some(packed) = packed {
            let load = packed.range.start().get();
            let header = if plan.protocol() == Protocol::Linux16 {
                "setup code"
            } else {
                "boot_params"
            };
            let align = u64::from(bytes(&plan, header).u32_le(0x230).unwrap());
            let runs = if relocatable { load.next_multiple_of(align).max(pref) } else { pref };
            let window = GpaRange::new(Gpa::new(runs), init_size.into()).unwrap();
            for other in plan.pieces() {
                prop_assert!(is_kernel(other) || !other.range.overlaps(window), "{:?}", other);
            }
        }
        if let Some(relocate) = plan.relocate() {
            prop_assert_eq!(relocate.shift % LARGE_PAGE, 0);
            prop_assert!(LINKED + relocate.shift + relocate.within.len() <= GIB);
        }
        if let Some(asked) = request.load_address {
            let first = plan.pieces().iter().find(|piece| {
                matches!(piece.content, Content::Image { .. })
            });
            prop_assert_eq!(first.map(|piece| piece.range.start()), Some(asked));
        }
    }
}

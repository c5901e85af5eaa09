//! What every plan has to be, and how placement follows the boot documents.

use firstlight_base::x86::{Cr0, Efer, Mode, Registers};
use firstlight_base::{Gpa, GpaRange, MIB, Reader};
use firstlight_boot::{
    BootPlan, Content, E820Kind, FirmwareTables, Piece, PlanError, Protocol, ProtocolChoice,
    Request, Smbios, Unpack, plan, reset_rom,
};
use firstlight_image::testing::{bzimage, elf64};
use firstlight_image::{Codec, Image, Limits};
use proptest::prelude::*;

const XLF_KERNEL_64: u16 = 1 << 0;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;

fn request() -> Request {
    Request {
        memory: 128 * MIB,
        cmdline: "console=ttyS0".into(),
        rng_seed: [7; 32],
        ..Request::default()
    }
}

fn planned(file: &[u8], request: &Request) -> Result<BootPlan, PlanError> {
    let image = Image::open(file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

fn vmlinux() -> Vec<u8> {
    elf64()
        .entry(0x100_0010)
        .segment(0x100_0000, &[0x90; 64], 0x3000)
        .build()
}

fn packed(file: &[u8]) -> Vec<u8> {
    bzimage()
        .xloadflags(XLF_KERNEL_64)
        .payload(Codec::Lz4Legacy, file)
        .build()
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
fn an_unpacked_kernel_is_entered_in_long_mode_with_the_zero_page_in_rsi() {
    let plan = planned(&packed(&vmlinux()), &request()).unwrap();
    let registers = registers(&plan);
    assert_eq!(plan.protocol(), Protocol::Linux64);
    assert_eq!(registers.mode(), Mode::Bits64);
    assert_eq!(registers.gprs.rip, 0x100_0010);
    assert_eq!(
        registers.gprs.rsi,
        piece(&plan, "boot_params").range.start().get()
    );
    assert_eq!(registers.gprs.rflags, 0x2, "interrupts are off");
    assert_eq!((registers.cs.selector, registers.ds.selector), (0x10, 0x18));
    assert_eq!(
        registers.cr3,
        piece(&plan, "page tables").range.start().get()
    );
}

#[test]
fn a_segment_is_taken_from_the_unpacked_layer_and_the_rest_of_it_is_zero() {
    let plan = planned(&packed(&vmlinux()), &request()).unwrap();
    let segment = piece(&plan, "kernel segment 0");
    assert_eq!(segment.range, range(0x100_0000, 0x100_3000));
    let Content::Image {
        layer: 1, len: 64, ..
    } = segment.content
    else {
        panic!("{:?}", segment.content);
    };
}

#[test]
fn what_lies_between_segments_is_the_kernels_too() {
    let file = elf64()
        .entry(0x100_0000)
        .segment(0x100_0000, &[1; 16], 0x1000)
        .segment(0x120_0000, &[1; 16], 0x1000)
        .build();
    let plan = planned(&file, &request()).unwrap();
    assert_eq!(piece(&plan, "gap").range, range(0x100_1000, 0x120_0000));
}

#[test]
fn the_zero_page_points_at_what_the_plan_placed() {
    let wanted = Request {
        initrd: Some(0x12345),
        ..request()
    };
    let plan = planned(&packed(&vmlinux()), &wanted).unwrap();
    let page = bytes(&plan, "boot_params");
    let initrd = piece(&plan, "initrd").range;
    let at = |name: &str| piece(&plan, name).range.start().get();
    assert_eq!(page.u32_le(0x218).map(u64::from), Ok(initrd.start().get()));
    assert_eq!(page.u32_le(0x21c), Ok(0x12345));
    assert_eq!(page.u32_le(0x228).map(u64::from), Ok(at("command line")));
    assert_eq!(page.u64_le(0x070), Ok(at("ACPI tables")));
    assert_eq!(page.u64_le(0x250), Ok(at("setup_data")));
    assert_eq!(page.u8(0x1e8).map(usize::from), Ok(plan.e820().len()));
}

#[test]
fn a_kernel_that_unpacks_itself_is_loaded_where_it_will_run() {
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .pref_address(0x100_0000)
        .init_size(0x20_0000);
    let wanted = Request {
        unpack: Unpack::Guest,
        ..request()
    };
    let plan = planned(&file.build(), &wanted).unwrap();
    assert_eq!(
        piece(&plan, "kernel, packed").range.start(),
        Gpa::new(0x100_0000)
    );
    assert_eq!(
        piece(&plan, "start-up window").range.end(),
        Gpa::new(0x120_0000)
    );
    assert_eq!(registers(&plan).gprs.rip, 0x100_0200);
    let page = bytes(&plan, "boot_params");
    assert_eq!(
        page.u32_le(0x214),
        Ok(0x100_0000),
        "code32_start is the loader's to write"
    );
    assert_eq!(
        page.u32_le(0x260),
        Ok(0x20_0000),
        "init_size is read there by the guest"
    );
}

#[test]
fn the_ramdisk_stays_out_of_the_start_up_window() {
    // Peers place it "after the kernel's file", which is inside the window.
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .pref_address(0x100_0000)
        .init_size(0x380_0000);
    let wanted = |initrd| Request {
        memory: 80 * MIB,
        unpack: Unpack::Guest,
        initrd: Some(initrd),
        ..request()
    };
    let plan = planned(&file.build(), &wanted(8 * MIB)).unwrap();
    assert!(piece(&plan, "initrd").range.start() >= Gpa::new(0x480_0000));
    let Err(PlanError::NoRoom { name, largest, .. }) = planned(&file.build(), &wanted(16 * MIB))
    else {
        panic!("16 MiB do not fit behind the window, nor before it");
    };
    assert_eq!(name, "initrd");
    assert_eq!(largest, Some(range(0x10_0000, 0x100_0000)));
}

#[test]
fn a_fixed_kernel_is_never_moved() {
    let file = bzimage().xloadflags(XLF_KERNEL_64).relocatable(false);
    let wanted = Request {
        unpack: Unpack::Guest,
        ..request()
    };
    let at = |pref| file.clone().pref_address(pref).init_size(0x10_0000).build();
    let plan = planned(&at(0x100_0000), &wanted).unwrap();
    assert_eq!(
        piece(&plan, "kernel, packed").range.start(),
        Gpa::new(0x10_0000),
        "only a relocatable kernel may be loaded elsewhere"
    );
    let window = plan
        .pieces()
        .iter()
        .find(|piece| piece.range.start() == Gpa::new(0x100_0000));
    assert_eq!(
        window.map(|window| window.range),
        Some(range(0x100_0000, 0x110_0000)),
        "but it runs where it was built to"
    );
    let refused = planned(&at(0x800_0000), &wanted);
    assert!(
        matches!(refused, Err(PlanError::NotRam { .. })),
        "{refused:?}"
    );
    let taken = Request {
        reserved: vec![range(0x10_0000, 0x10_1000)],
        ..wanted.clone()
    };
    let refused = planned(&at(0x100_0000), &taken);
    assert!(
        matches!(refused, Err(PlanError::NoRoom { .. })),
        "{refused:?}"
    );
    let elsewhere = Request {
        load_address: Some(Gpa::new(0x20_0000)),
        ..wanted
    };
    let refused = planned(&at(0x100_0000), &elsewhere).unwrap_err();
    assert!(refused.to_string().contains("not relocatable"), "{refused}");
}

#[test]
fn the_highest_address_for_a_ramdisk_is_obeyed() {
    let file = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .initrd_addr_max(0x37f_ffff);
    let wanted = Request {
        initrd: Some(0x1000),
        unpack: Unpack::Guest,
        ..request()
    };
    let plan = planned(&file.pref_address(0x400_0000).build(), &wanted).unwrap();
    assert_eq!(piece(&plan, "initrd").range, range(0x360_0000, 0x360_1000));
}

#[test]
fn a_kernel_that_can_takes_a_ramdisk_above_4_gib() {
    let flags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
    let file = bzimage().xloadflags(flags).build();
    let wanted = Request {
        memory: 16 << 30,
        initrd: Some(5 << 30),
        unpack: Unpack::Guest,
        ..request()
    };
    let plan = planned(&file, &wanted).unwrap();
    let initrd = piece(&plan, "initrd").range;
    assert!(initrd.start() >= Gpa::new(4 << 30));
    let page = bytes(&plan, "boot_params");
    assert_eq!(
        page.u32_le(0x0c0).map(u64::from),
        Ok(initrd.start().get() >> 32)
    );
    assert_eq!(page.u32_le(0x0c4), Ok(1));
}

#[test]
fn pvh_enters_in_protected_mode_with_start_info_in_rbx() {
    let file = elf64()
        .segment(0x100_0000, &[0; 64], 64)
        .pvh(0x100_0020)
        .build();
    let wanted = Request {
        initrd: Some(4096),
        ..request()
    };
    let plan = planned(&file, &wanted).unwrap();
    let registers = registers(&plan);
    assert_eq!(
        plan.protocol(),
        Protocol::Pvh,
        "a bare ELF that declares a PVH entry gets it"
    );
    assert_eq!(registers.mode(), Mode::Bits32);
    assert_eq!(registers.cr0, Cr0::PE | Cr0::ET);
    assert_eq!(registers.efer, Efer::empty());
    assert_eq!(registers.gprs.rip, 0x100_0020);
    let info = piece(&plan, "hvm_start_info").range.start().get();
    assert_eq!(registers.gprs.rbx, info);
    let modlist = bytes(&plan, "hvm_start_info").u64_le(16).unwrap() - info;
    let initrd = piece(&plan, "initrd").range.start().get();
    assert_eq!(bytes(&plan, "hvm_start_info").u64_le(modlist), Ok(initrd));
}

#[test]
fn the_32_bit_entry_is_the_unpacking_codes() {
    let wanted = Request {
        protocol: ProtocolChoice::Only(Protocol::Linux32),
        ..request()
    };
    let plan = planned(&packed(&vmlinux()), &wanted).unwrap();
    let registers = registers(&plan);
    assert_eq!(registers.mode(), Mode::Bits32);
    assert_eq!(
        registers.gprs.rip,
        piece(&plan, "kernel, packed").range.start().get()
    );
}

#[test]
fn a_way_in_that_the_image_lacks_is_refused_with_what_it_lacks() {
    let asked = |protocol, unpack, file: &[u8]| {
        planned(
            file,
            &Request {
                protocol: ProtocolChoice::Only(protocol),
                unpack,
                ..request()
            },
        )
        .expect_err("there is no such way in")
        .to_string()
    };
    let no_note = asked(Protocol::Pvh, Unpack::Host, &vmlinux());
    assert!(no_note.contains("no PVH entry note"), "{no_note}");
    let unpacker = asked(Protocol::Linux32, Unpack::Host, &vmlinux());
    assert!(unpacker.contains("unpacking code"), "{unpacker}");
    let flags = asked(
        Protocol::Linux64,
        Unpack::Guest,
        &bzimage().xloadflags(0).build(),
    );
    assert!(flags.contains("XLF_KERNEL_64"), "{flags}");
}

#[test]
fn a_command_line_ends_where_the_kernel_stops_reading() {
    let file = bzimage().xloadflags(XLF_KERNEL_64).cmdline_size(5).build();
    let wanted = |cmdline: &str| Request {
        cmdline: cmdline.into(),
        unpack: Unpack::Guest,
        ..request()
    };
    let plan = planned(&file, &wanted("12345")).unwrap();
    assert_eq!(
        bytes(&plan, "command line").slice(0, 6),
        Ok(&b"12345\0"[..])
    );
    assert_eq!(
        planned(&file, &wanted("123456")).unwrap_err(),
        PlanError::CmdlineTooLong { len: 6, limit: 5 }
    );
    assert_eq!(
        planned(&file, &wanted("1\x002")).unwrap_err(),
        PlanError::CmdlineNul { at: 1 }
    );
}

#[test]
fn a_segment_may_end_where_ram_ends_and_no_byte_later() {
    let file = |memsz| {
        elf64()
            .entry(0x100_0000)
            .segment(0x100_0000, &[1], memsz)
            .build()
    };
    let room = 128 * MIB - 0x100_0000;
    assert!(planned(&file(room), &request()).is_ok());
    let beyond = planned(&file(room + 1), &request());
    assert!(
        matches!(beyond, Err(PlanError::NotRam { .. })),
        "{beyond:?}"
    );
}

#[test]
fn a_kernel_is_entered_inside_itself() {
    let file = |entry| {
        elf64()
            .entry(entry)
            .segment(0x100_0000, &[1], 0x1000)
            .build()
    };
    assert!(planned(&file(0x100_0fff), &request()).is_ok());
    let outside = planned(&file(0x100_1000), &request());
    assert!(
        matches!(outside, Err(PlanError::EntryOutside { .. })),
        "{outside:?}"
    );
}

#[test]
fn a_kernel_that_the_page_tables_do_not_reach_is_refused() {
    let high = 600 << 30;
    let file = elf64().entry(high).segment(high, &[1], 0x1000).build();
    let refused = planned(
        &file,
        &Request {
            memory: 700 << 30,
            ..request()
        },
    );
    assert!(
        matches!(refused, Err(PlanError::NotMapped { .. })),
        "{refused:?}"
    );
}

#[test]
fn machines_that_nobody_can_build_are_refused() {
    let of = |memory, cpus| {
        planned(
            &vmlinux(),
            &Request {
                memory,
                cpus,
                ..request()
            },
        )
    };
    assert!(matches!(
        of(128 * MIB, 0),
        Err(PlanError::Cpus { asked: 0, .. })
    ));
    assert!(matches!(
        of(128 * MIB, 256),
        Err(PlanError::Cpus { most: 255, .. })
    ));
    assert!(matches!(of(0, 1), Err(PlanError::Memory { asked: 0, .. })));
    assert!(matches!(of(u64::MAX, 1), Err(PlanError::Memory { .. })));
    assert!(matches!(
        of(MIB - 1, 1),
        Err(PlanError::Memory { least: MIB, .. })
    ));
    assert!(matches!(of(MIB, 1), Err(PlanError::NotRam { .. })));
    assert!(of(128 * MIB, 255).is_ok());
}

prop_compose! {
    fn any_file()(
        packed in any::<bool>(),
        paddr in prop_oneof![0u64..0x800_0000, any::<u64>()],
        memsz in prop_oneof![0u64..0x400_0000, any::<u64>()],
        second in 0u64..0x800_0000,
        pref in prop_oneof![0u64..0x800_0000, any::<u64>()],
        init_size in any::<u32>().prop_map(|size| size >> 4),
        align in prop_oneof![Just(0x20_0000u32), Just(0x1000), Just(0), Just(3), any::<u32>()],
        flags in 0u16..0x80,
        relocatable in any::<bool>(),
        initrd_max in any::<u32>(),
        pvh in proptest::option::of(any::<u32>()),
    ) -> Vec<u8> {
        let elf = elf64()
            .entry(paddr)
            .segment(paddr, &[1; 16], memsz.max(16))
            .segment(second, &[2; 8], 0x1000);
        let elf = pvh.map_or(elf.clone(), |entry| elf.clone().pvh(entry)).build();
        if !packed {
            return elf;
        }
        bzimage()
            .xloadflags(flags)
            .pref_address(pref)
            .init_size(init_size)
            .kernel_alignment(align)
            .relocatable(relocatable)
            .initrd_addr_max(initrd_max)
            .payload(Codec::Lz4Legacy, &elf)
            .build()
    }
}

prop_compose! {
    fn any_request()(
        memory in prop_oneof![0u64..0x1000_0000, 0u64..0x3_0000_0000, any::<u64>()],
        cpus in prop_oneof![1u32..8, any::<u32>()],
        cmdline in "[a-z =]{0,3000}",
        initrd in proptest::option::of(prop_oneof![0u64..0x400_0000, any::<u64>()]),
        protocol in prop_oneof![
            Just(ProtocolChoice::Auto),
            Just(ProtocolChoice::Only(Protocol::Linux64)),
            Just(ProtocolChoice::Only(Protocol::Linux32)),
            Just(ProtocolChoice::Only(Protocol::Linux16)),
            Just(ProtocolChoice::Only(Protocol::Pvh)),
        ],
        guest in any::<bool>(),
        debug_exit in any::<bool>(),
    ) -> Request {
        let unpack = if guest { Unpack::Guest } else { Unpack::Host };
        Request { memory, cpus, cmdline, initrd, protocol, unpack, debug_exit, ..Request::default() }
    }
}

#[test]
fn tables_that_the_reset_rom_hides_are_in_it_too() {
    let request = Request {
        cpus: 255,
        firmware: FirmwareTables {
            smbios: Some(Smbios::default()),
            ..FirmwareTables::default()
        },
        ..request()
    };
    let file = packed(&vmlinux());
    for protocol in [Protocol::Linux64, Protocol::Linux32, Protocol::Linux16] {
        let request = Request {
            protocol: ProtocolChoice::Only(protocol),
            ..request.clone()
        };
        let plan = planned(&file, &request).unwrap();
        let rom = reset_rom(&plan).unwrap();
        for (name, begins) in [("MP table", &b"_MP_"[..]), ("SMBIOS tables", b"_SM3_")] {
            let Piece { range, content, .. } = piece(&plan, name);
            let Content::Bytes(bytes) = content else {
                panic!("{name} is {content:?}");
            };
            assert!(bytes.starts_with(begins));
            let offset = usize::try_from(range.start().get() - 0xf_0000).unwrap();
            assert_eq!(
                (offset % 16, &rom[offset..][..bytes.len()]),
                (0, &bytes[..])
            );
        }
    }
}

/// Every promise that a plan makes by being there.
fn assert_sound(plan: &BootPlan) {
    let hole = range(0xa_0000, 0x10_0000);
    let ram = plan.platform().ram();
    for piece in plan.pieces() {
        assert!(
            ram.iter().any(|ram| ram.contains(piece.range)),
            "{piece:?} is not in RAM"
        );
        let is_firmware = ["reset vector", "BIOS", "MP table"].contains(&&*piece.name);
        assert_eq!(
            piece.range.overlaps(hole),
            is_firmware,
            "{piece:?} and the legacy hole"
        );
        let len = match &piece.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Image { len, .. } => *len,
            Content::Initrd | Content::Module(_) | Content::Window => 0,
        };
        assert!(len <= piece.range.len(), "{piece:?} overflows");
    }
    for pair in plan.pieces().windows(2) {
        assert!(pair[0].range.end() <= pair[1].range.start(), "{pair:?}");
    }
    for pair in plan.e820().windows(2) {
        assert!(pair[0].range.end() <= pair[1].range.start(), "{pair:?}");
    }
    let usable = plan
        .e820()
        .iter()
        .filter(|entry| entry.kind == E820Kind::Ram);
    for entry in usable {
        assert!(ram.iter().any(|ram| ram.contains(entry.range)), "{entry:?}");
        assert!(!entry.range.overlaps(hole), "{entry:?}");
    }
    let rip = registers(plan).cs.base + registers(plan).gprs.rip;
    let entered = plan.pieces().iter().find(|piece| {
        GpaRange::new(Gpa::new(rip), 1).is_some_and(|byte| piece.range.contains(byte))
    });
    assert!(entered.is_some_and(|piece| {
        ["kernel", "gap", "setup code"]
            .iter()
            .any(|name| piece.name.contains(name))
    }));
    assert_eq!(
        registers(plan).gprs.rflags,
        2,
        "interrupts are off at {rip:#x}"
    );
}

proptest! {
    #[test]
    fn a_plan_is_sound_or_there_is_none(file in any_file(), request in any_request()) {
        let Ok(image) = Image::open(&file, &Limits::default()) else { return Ok(()) };
        if let Ok(plan) = plan(&image, &request) {
            assert_sound(&plan);
        }
    }

    #[test]
    fn a_start_up_window_is_free_of_everything_else(
        init_size in 0x1000u32..0x400_0000,
        memory in 0x200_0000u64..0x1000_0000,
        initrd in 1u64..0x400_0000,
    ) {
        let file = bzimage().xloadflags(1).pref_address(0x100_0000).init_size(init_size).build();
        let image = Image::open(&file, &Limits::default()).unwrap();
        let request = Request {
            memory,
            initrd: Some(initrd),
            unpack: Unpack::Guest,
            ..request()
        };
        if let Ok(plan) = plan(&image, &request) {
            assert_sound(&plan);
            let load = piece(&plan, "kernel, packed").range.start();
            let window = GpaRange::new(load, u64::from(init_size)).unwrap();
            for other in plan.pieces().iter().filter(|piece| {
                !piece.name.starts_with("kernel") && !piece.name.starts_with("start-up")
            }) {
                assert!(!other.range.overlaps(window), "{other:?} is in {window}");
            }
        }
    }
}

#[test]
fn what_only_a_device_tree_could_tell_is_refused() {
    let mut request = request();
    request.topology.clusters = vec![vec![0]];
    let refused = planned(&vmlinux(), &request).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a kernel that is entered by linux64 cannot be given clusters, capacities or frequencies \
         of its vCPUs"
    );
}

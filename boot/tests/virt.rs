//! Plans of arm64 and riscv64 machines, and the places where other loaders put things that the
//! kernel then writes over.

use firstlight_base::arm64::Pstate;
use firstlight_base::riscv64::{A0, A1};
use firstlight_base::{GIB, Gpa, GpaRange, KIB, MIB, VcpuState};
use firstlight_boot::platform::Gic;
use firstlight_boot::{
    BootPlan, Content, E820Kind, EntryPoint, FdtPosition, Hardware, Kaslr, Piece, PlanError,
    Protocol, ProtocolChoice, Request, Smbios, Unpack, entries, plan,
};
use firstlight_image::testing::{arm64_image, elf64, pack, riscv_image, zboot};
use firstlight_image::{Codec, Image, Limits};
use proptest::prelude::*;

const ARM64_RAM: u64 = GIB;
const RISCV64_RAM: u64 = 2 * GIB;
const EM_AARCH64: u16 = 183;
const EM_RISCV: u16 = 243;
const PE_ARM64: u16 = 0xaa64;

fn request() -> Request {
    Request {
        memory: 256 * MIB,
        cmdline: "console=ttyAMA0".into(),
        ..Request::default()
    }
}

fn planned(file: &[u8], request: &Request) -> Result<BootPlan, PlanError> {
    let image = Image::open(file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

fn piece<'a>(plan: &'a BootPlan, name: &str) -> &'a Piece {
    let found = plan.pieces().iter().find(|piece| piece.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:#?}", plan.pieces()))
}

fn start(plan: &BootPlan, name: &str) -> u64 {
    piece(plan, name).range.start().get()
}

fn arm64(plan: &BootPlan) -> firstlight_base::arm64::Registers {
    match plan.boot_vcpu() {
        VcpuState::Arm64(registers) => *registers,
        other => panic!("{other:?}"),
    }
}

fn riscv64(plan: &BootPlan) -> firstlight_base::riscv64::Registers {
    match plan.boot_vcpu() {
        VcpuState::Riscv64(registers) => *registers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_arm64_kernel_is_entered_as_its_boot_document_says() {
    let file = arm64_image().text_offset(0).image_size(4 * MIB).build();
    let plan = planned(&file, &request()).unwrap();
    assert_eq!(plan.protocol(), Protocol::Arm64);
    let registers = arm64(&plan);
    assert_eq!(registers.pc, ARM64_RAM);
    assert_eq!(registers.x[0], start(&plan, "device tree"));
    assert_eq!(registers.x[1..], [0; 30]);
    assert_eq!(registers.pstate, Pstate::ENTRY_EL1, "all of DAIF is masked");
}

#[test]
fn an_arm64_hypervisor_is_entered_at_el2() {
    let file = arm64_image().image_size(4 * MIB).build();
    let hardware = Hardware {
        el2: true,
        ..Hardware::default()
    };
    let request = Request {
        hardware,
        ..request()
    };
    let plan = planned(&file, &request).unwrap();
    assert_eq!(arm64(&plan).pstate, Pstate::ENTRY_EL2);
}

#[test]
fn a_riscv64_kernel_is_entered_as_its_boot_document_says() {
    let file = riscv_image()
        .text_offset(2 * MIB)
        .image_size(4 * MIB)
        .build();
    let plan = planned(&file, &request()).unwrap();
    assert_eq!(plan.protocol(), Protocol::Riscv64);
    let registers = riscv64(&plan);
    assert_eq!(registers.pc, RISCV64_RAM + 2 * MIB);
    assert_eq!(registers.x[A0], 0, "the hart's id");
    assert_eq!(registers.x[A1], start(&plan, "device tree"));
    assert_eq!(
        (registers.satp, registers.sstatus, registers.sie),
        (0, 0, 0)
    );
}

/// QEMU, alioth, Xen and linux-loader go by the size of the file.
#[test]
fn nothing_lies_in_what_an_arm64_kernel_zeroes() {
    // Debian 6.12: 37,660,608 bytes of file, 38,731,776 of memory.
    let file = arm64_image().image_size(0x24f_0000).len(0x23e_a800).build();
    let request = Request {
        initrd: Some(3 * MIB),
        ..request()
    };
    let plan = planned(&file, &request).unwrap();
    let end = ARM64_RAM + 0x24f_0000;
    assert!(start(&plan, "initrd") >= end);
    assert!(start(&plan, "device tree") >= end);
    assert_eq!(piece(&plan, "start-up window").range.end().get(), end);
}

/// crosvm puts the initial ramdisk behind the file; QEMU does not look where the memory ends.
#[test]
fn an_initrd_lies_behind_the_large_pages_that_a_riscv_kernel_reserves() {
    // Debian 6.12.
    let file = riscv_image()
        .text_offset(0x20_0000)
        .image_size(0x1e6_b000)
        .len(0x1db_8e00)
        .build();
    let request = Request {
        initrd: Some(5 * MIB),
        ..request()
    };
    let plan = planned(&file, &request).unwrap();
    assert_eq!(start(&plan, "kernel"), 0x8020_0000);
    assert_eq!(start(&plan, "initrd"), 0x8220_0000);
}

/// cloud-hypervisor puts it at the end of all memory.
#[test]
fn kernel_and_initrd_share_a_window_of_32_gib_on_arm64() {
    let file = arm64_image().image_size(32 * MIB).build();
    let request = Request {
        memory: 300 * GIB,
        initrd: Some(100 * MIB),
        ..request()
    };
    let plan = planned(&file, &request).unwrap();
    let initrd = piece(&plan, "initrd").range;
    assert!(initrd.end().get() <= ARM64_RAM + 32 * GIB, "{initrd}");
    let tree = piece(&plan, "device tree").range;
    assert!(tree.end().get() <= ARM64_RAM + 512 * MIB, "{tree}");
}

/// linux-loader goes by the file, and does not know the rule for kernels that say no size.
#[test]
fn a_kernel_that_says_no_size_lies_at_the_offset_of_its_time_with_room_behind() {
    let file = arm64_image()
        .text_offset(0)
        .image_size(0)
        .len(100_000)
        .build();
    let request = Request {
        initrd: Some(MIB),
        ..request()
    };
    let plan = planned(&file, &request).unwrap();
    assert_eq!(start(&plan, "kernel"), ARM64_RAM + 0x8_0000);
    assert!(start(&plan, "initrd") >= ARM64_RAM + 0x8_0000 + 100_000 + 16 * MIB);
}

#[test]
fn a_kernel_in_an_efi_zboot_image_is_loaded_unpacked() {
    let inner = arm64_image().image_size(4 * MIB).build();
    let file = zboot(PE_ARM64, "gzip", Codec::Gzip, &inner);
    let plan = planned(&file, &request()).unwrap();
    let Content::Image { layer, offset, len } = piece(&plan, "kernel").content else {
        panic!("{:?}", piece(&plan, "kernel"));
    };
    assert_eq!((layer, offset, len), (1, 0, inner.len() as u64));
    let by_guest = Request {
        unpack: Unpack::Guest,
        ..request()
    };
    let refused = planned(&file, &by_guest).unwrap_err();
    assert!(refused.to_string().contains("UEFI"), "{refused}");
}

#[test]
fn a_vmlinux_lies_flat_from_its_header_on() {
    let head = arm64_image()
        .text_offset(0)
        .image_size(8 * MIB)
        .len(4096)
        .build();
    let base = 0xffff_8000_8000_0000;
    let file = elf64()
        .machine(EM_AARCH64)
        .entry(base)
        .segment_at(base, base, &head, 0x2000)
        .segment_at(base + 0x1_0000, base + 0x1_0000, b"data", 0x9000)
        .build();
    let request = Request {
        initrd: Some(4096),
        ..request()
    };
    let plan = planned(&file, &request).unwrap();
    assert_eq!(start(&plan, "kernel segment 0"), ARM64_RAM);
    assert_eq!(start(&plan, "kernel segment 1"), ARM64_RAM + 0x1_0000);
    assert!(start(&plan, "initrd") >= ARM64_RAM + 8 * MIB);
    assert_eq!(arm64(&plan).pc, ARM64_RAM);
}

#[test]
fn an_elf_file_without_the_header_of_an_image_is_refused() {
    for machine in [EM_AARCH64, EM_RISCV] {
        let file = elf64()
            .machine(machine)
            .entry(0x8000_0000)
            .segment(0x8000_0000, &[0; 100], 100)
            .build();
        let refused = planned(&file, &request()).unwrap_err();
        assert!(
            matches!(refused, PlanError::NotBootable { .. }),
            "{refused:?}"
        );
    }
}

#[test]
fn kernels_are_not_entered_by_another_processors_protocols() {
    let file = arm64_image().image_size(4 * MIB).build();
    for protocol in Protocol::ALL {
        let request = Request {
            protocol: ProtocolChoice::Only(protocol),
            ..request()
        };
        match planned(&file, &request) {
            Ok(plan) => assert_eq!(plan.protocol(), Protocol::Arm64),
            Err(refused) => assert!(
                matches!(refused, PlanError::NoEntry { .. }),
                "{protocol}: {refused}"
            ),
        }
    }
    let x86 = elf64().entry(MIB).segment(MIB, &[0x90; 16], 16).build();
    let request = Request {
        protocol: ProtocolChoice::Only(Protocol::Riscv64),
        ..request()
    };
    let refused = planned(&x86, &request).unwrap_err();
    assert!(matches!(refused, PlanError::NoEntry { .. }), "{refused}");
}

#[test]
fn the_way_in_is_told_without_a_machine() {
    let file = riscv_image()
        .text_offset(2 * MIB)
        .image_size(4 * MIB)
        .build();
    let image = Image::open(&file, &Limits::default()).unwrap();
    let entries = entries(&image);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].protocol, Protocol::Riscv64);
    assert_eq!(entries[0].at, EntryPoint::Offset(0));
    assert_eq!(entries[0].cmdline_limit, 1023);
}

#[test]
fn what_is_reserved_is_nobodys() {
    let reserved = GpaRange::new(Gpa::new(ARM64_RAM), 4096).unwrap();
    let file = arm64_image().image_size(4 * MIB).build();
    let request = Request {
        reserved: vec![reserved],
        ..request()
    };
    let plan = planned(&file, &request).unwrap();
    assert_eq!(start(&plan, "kernel"), ARM64_RAM + 2 * MIB);
    let line = plan.e820().iter().find(|line| line.range == reserved);
    assert_eq!(line.map(|line| line.kind), Some(E820Kind::Reserved));
}

#[test]
fn a_kernel_goes_where_it_is_asked_for_or_not_at_all() {
    let file = arm64_image().text_offset(0).image_size(4 * MIB).build();
    let at = |address| {
        let request = Request {
            load_address: Some(Gpa::new(address)),
            ..request()
        };
        planned(&file, &request).map(|plan| start(&plan, "kernel"))
    };
    assert_eq!(at(ARM64_RAM + 64 * MIB), Ok(ARM64_RAM + 64 * MIB));
    let odd = at(ARM64_RAM + 4096).unwrap_err();
    assert!(matches!(odd, PlanError::Misplaced { .. }), "{odd}");
    let outside = at(2 * MIB).unwrap_err();
    assert!(matches!(outside, PlanError::NotRam { .. }), "{outside}");
    let wrapping = at(u64::MAX - 2 * MIB + 1).unwrap_err();
    assert!(matches!(wrapping, PlanError::Wraps { .. }), "{wrapping}");
}

#[test]
fn the_device_tree_lies_where_it_is_asked_for() {
    let file = arm64_image().text_offset(0).image_size(4 * MIB).build();
    let at = |fdt_position| {
        let request = Request {
            fdt_position,
            ..request()
        };
        let plan = planned(&file, &request).unwrap();
        (start(&plan, "device tree"), start(&plan, "kernel"))
    };
    let end = ARM64_RAM + 256 * MIB;
    assert_eq!(at(FdtPosition::Start), (ARM64_RAM, ARM64_RAM + 2 * MIB));
    assert_eq!(at(FdtPosition::End), (end - 2 * MIB, ARM64_RAM));
    assert_eq!(at(FdtPosition::AfterPayload).0, ARM64_RAM + 4 * MIB);
}

#[test]
fn machines_that_cannot_be_are_refused() {
    let file = arm64_image().image_size(4 * MIB).build();
    let with = |memory, cpus, gic| {
        let hardware = Hardware {
            gic,
            ..Hardware::default()
        };
        let request = Request {
            memory,
            cpus,
            hardware,
            ..request()
        };
        planned(&file, &request)
    };
    assert!(with(64 * MIB, 8, Gic::V2).is_ok());
    let nine = with(64 * MIB, 9, Gic::V2).unwrap_err();
    assert_eq!(nine, PlanError::Cpus { asked: 9, most: 8 });
    assert!(with(64 * MIB, 123, Gic::V3 { its: false }).is_ok());
    let little = with(MIB, 1, Gic::V2).unwrap_err();
    assert!(matches!(little, PlanError::Memory { .. }), "{little}");
    let full = with(4 * MIB, 1, Gic::V2).unwrap_err();
    assert!(matches!(full, PlanError::NoRoom { .. }), "{full}");
}

#[test]
fn command_lines_longer_than_the_kernel_takes_are_refused() {
    let limits = [
        (arm64_image().image_size(4 * MIB).build(), 2047),
        (riscv_image().image_size(4 * MIB).build(), 1023),
    ];
    for (file, limit) in limits {
        let with = |len: usize| Request {
            cmdline: "x".repeat(len),
            ..request()
        };
        assert!(planned(&file, &with(limit)).is_ok());
        let refused = planned(&file, &with(limit + 1)).unwrap_err();
        let too_long = PlanError::CmdlineTooLong {
            len: limit as u64 + 1,
            limit: limit as u64,
        };
        assert_eq!(refused, too_long);
    }
}

#[test]
fn what_only_x86_kernels_are_told_is_refused() {
    let file = arm64_image().image_size(4 * MIB).build();
    let asked = Request {
        debug_exit: true,
        ..request()
    };
    let refused = planned(&file, &asked).unwrap_err();
    assert!(matches!(refused, PlanError::Untold { .. }), "{refused}");
    let mut asked = request();
    asked.firmware.smbios = Some(Smbios::default());
    let refused = planned(&file, &asked).unwrap_err().to_string();
    assert!(
        refused.contains("SMBIOS tables: a kernel finds"),
        "{refused}"
    );
    let mut asked = request();
    asked.hardware.debugcon = true;
    let refused = planned(&file, &asked).unwrap_err().to_string();
    assert!(refused.contains("a debug console"), "{refused}");
    let mut asked = request();
    asked.hardware.suspend_notice = true;
    let refused = planned(&file, &asked).unwrap_err().to_string();
    assert!(refused.contains("a notice of its sleep"), "{refused}");
}

#[test]
fn a_device_tree_of_ones_own_is_not_told_of_vcpus() {
    let file = arm64_image().image_size(4 * MIB).build();
    let mut asked = request();
    asked.topology.clusters = vec![vec![0]];
    let plan = planned(&file, &asked).unwrap();
    asked.dtb = plan.device_tree().map(<[u8]>::to_vec);
    let refused = planned(&file, &asked).unwrap_err();
    assert!(matches!(refused, PlanError::Untold { .. }), "{refused}");
}

/// Every promise that a plan makes by being there.
fn assert_sound(plan: &BootPlan) {
    let ram = plan.platform().ram();
    for piece in plan.pieces() {
        assert!(ram.iter().any(|ram| ram.contains(piece.range)), "{piece:?}");
        let reserved = plan.platform().reserved().iter();
        for reserved in reserved {
            assert!(
                !reserved.overlaps(piece.range),
                "{piece:?} is in {reserved}"
            );
        }
    }
    for pair in plan.pieces().windows(2) {
        assert!(pair[0].range.end() <= pair[1].range.start(), "{pair:?}");
    }
    for pair in plan.e820().windows(2) {
        assert!(pair[0].range.end() <= pair[1].range.start(), "{pair:?}");
    }
    let entry = GpaRange::new(Gpa::new(plan.boot_vcpu().pc()), 4).expect("RAM has an end");
    let entered = plan
        .pieces()
        .iter()
        .find(|piece| piece.range.contains(entry));
    assert!(
        entered.is_some_and(|piece| piece.name.starts_with("kernel")),
        "{entry}"
    );
    let tree = piece(plan, "device tree");
    assert!(tree.range.start().is_aligned(8));
    assert!(tree.range.len() <= 2 * MIB);
}

fn any_position() -> impl Strategy<Value = FdtPosition> {
    prop_oneof![
        Just(FdtPosition::Start),
        Just(FdtPosition::End),
        Just(FdtPosition::AfterPayload)
    ]
}

prop_compose! {
    fn any_request()(
        memory in prop_oneof![2 * MIB..64 * MIB, 64 * MIB..600 * GIB],
        cpus in 1u32..9,
        initrd in proptest::option::of(1u64..40 * MIB),
        fdt_position in any_position(),
        reserved in proptest::collection::vec((0u64..128 * MIB, 1u64..4 * MIB), 0..4),
        base in prop_oneof![Just(ARM64_RAM), Just(RISCV64_RAM)],
        seed in proptest::option::of(any::<u64>()),
    ) -> Request {
        let reserved = reserved
            .into_iter()
            .filter_map(|(at, len)| GpaRange::new(Gpa::new(base + at), len))
            .collect();
        let kaslr = seed.map_or(Kaslr::Off, Kaslr::Seeded);
        Request { memory, cpus, initrd, fdt_position, reserved, kaslr, ..request() }
    }
}

proptest! {
    #[test]
    fn a_plan_is_sound_or_there_is_none(
        is_arm64: bool,
        text_offset in prop_oneof![Just(0), Just(2 * MIB), Just(512 * KIB), 0u64..64 * MIB],
        image_size in prop_oneof![Just(0), 1u64..48 * MIB],
        len in 64usize..100_000,
        request in any_request(),
    ) {
        let builder = if is_arm64 { arm64_image() } else { riscv_image() };
        let file = builder.text_offset(text_offset).image_size(image_size).len(len).build();
        let Ok(image) = Image::open(&file, &Limits::default()) else { return Ok(()) };
        if let Ok(plan) = plan(&image, &request) {
            assert_sound(&plan);
            if let Some(initrd) = plan.pieces().iter().find(|piece| piece.name == "initrd") {
                let end = plan.boot_vcpu().pc() + image_size.max(len as u64);
                let kernel = GpaRange::between(Gpa::new(plan.boot_vcpu().pc()), Gpa::new(end)).unwrap();
                assert!(!initrd.range.overlaps(kernel), "{} in {kernel}", initrd.range);
            }
        }
    }
}

#[test]
fn a_packed_image_is_planned_as_the_one_in_it() {
    let inner = riscv_image()
        .text_offset(2 * MIB)
        .image_size(4 * MIB)
        .build();
    let pieces = |file: &[u8]| -> Vec<(String, GpaRange)> {
        let plan = planned(file, &request()).unwrap();
        let pieces = plan.pieces().iter();
        pieces
            .map(|piece| (piece.name.to_string(), piece.range))
            .collect()
    };
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Xz] {
        assert_eq!(pieces(&pack(codec, &inner)), pieces(&inner), "{codec}");
    }
}

//! Plans of machines that firmware in flash starts.

use firstlight_base::riscv64::{A0, A1};
use firstlight_base::x86::Registers;
use firstlight_base::{Gpa, MIB, VcpuState};
use firstlight_boot::platform::{VirtArm64, VirtRiscv64};
use firstlight_boot::{
    BootPlan, EntryPoint, FdtPosition, Pc, PlanError, Protocol, ProtocolChoice, Request, entries,
    plan,
};
use firstlight_image::testing::firmware;
use firstlight_image::{Image, Limits};

const ARM64: u16 = 0xaa64;
const RISCV64: u16 = 0x5064;

fn request() -> Request {
    Request {
        memory: 256 * MIB,
        ..Request::default()
    }
}

fn planned(file: &[u8], request: &Request) -> Result<BootPlan, PlanError> {
    let image = Image::open(file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

fn tree(plan: &BootPlan) -> Gpa {
    let [tree] = plan.pieces() else {
        panic!("only a device tree is in memory: {:#?}", plan.pieces());
    };
    tree.range.start()
}

#[test]
fn an_arm64_processor_begins_in_flash_and_the_tree_is_where_firmware_looks() {
    let file = firmware(ARM64).behind_a_page().build();
    let plan = planned(&file, &request()).unwrap();
    assert_eq!(plan.protocol(), Protocol::Firmware);
    assert_eq!(plan.platform().flash(), Some(VirtArm64::FLASH));
    assert_eq!(tree(&plan), VirtArm64::RAM_BASE);
    let VcpuState::Arm64(registers) = plan.boot_vcpu() else {
        panic!("{:?}", plan.boot_vcpu());
    };
    assert_eq!(registers.pc, 0);
}

#[test]
fn a_riscv64_hart_begins_in_flash_and_is_told_where_the_tree_is() {
    let plan = planned(&firmware(RISCV64).build(), &request()).unwrap();
    let VcpuState::Riscv64(registers) = plan.boot_vcpu() else {
        panic!("{:?}", plan.boot_vcpu());
    };
    assert_eq!(registers.pc, VirtRiscv64::FLASH.code.start().get());
    assert_eq!((registers.x[A0], registers.x[A1]), (0, tree(&plan).get()));
}

#[test]
fn the_tree_tells_of_the_flash_and_of_files_for_the_firmware() {
    for machine in [ARM64, RISCV64] {
        let plan = planned(&firmware(machine).build(), &request()).unwrap();
        let tree = plan.device_tree().unwrap();
        for words in [&b"cfi-flash"[..], b"bank-width", b"qemu,fw-cfg-mmio"] {
            assert!(tree.windows(words.len()).any(|window| window == words));
        }
    }
    let kernel = firstlight_image::testing::arm64_image().build();
    let plan = planned(&kernel, &request()).unwrap();
    let tree = plan.device_tree().unwrap();
    assert!(!tree.windows(9).any(|window| window == b"cfi-flash"));
}

#[test]
fn the_one_way_in_is_where_the_flash_begins() {
    let file = firmware(RISCV64).build();
    let image = Image::open(&file, &Limits::default()).unwrap();
    let [entry] = entries(&image)[..] else {
        panic!("{:?}", entries(&image));
    };
    assert_eq!(entry.protocol, Protocol::Firmware);
    let at = VirtRiscv64::FLASH.code.start();
    assert_eq!(entry.at, EntryPoint::Address(at));
}

#[test]
fn what_firmware_cannot_be_told_is_refused() {
    let file = firmware(ARM64).build();
    let untold = |request: Request, what: &str| {
        let refusal = planned(&file, &request).unwrap_err().to_string();
        assert!(
            refusal.ends_with(&format!("cannot be given {what}")),
            "{refusal}"
        );
    };
    untold(
        Request {
            cmdline: "quiet".into(),
            ..request()
        },
        "a command line",
    );
    untold(
        Request {
            initrd: Some(1),
            ..request()
        },
        "an initial ramdisk",
    );
    untold(
        Request {
            load_address: Some(Gpa::new(MIB)),
            ..request()
        },
        "an address to lie at",
    );
    untold(
        Request {
            fdt_position: FdtPosition::End,
            ..request()
        },
        "a place for its device tree",
    );
    let as_kernel = Request {
        protocol: ProtocolChoice::Only(Protocol::Arm64),
        ..request()
    };
    let refusal = planned(&file, &as_kernel);
    assert!(
        matches!(refusal, Err(PlanError::NoEntry { .. })),
        "{refusal:?}"
    );
}

#[test]
fn firmware_has_to_fit_into_its_bank_and_to_be_for_a_machine_with_one() {
    let len = usize::try_from(VirtArm64::FLASH.code.len()).unwrap();
    let mut file = firmware(ARM64).build();
    file.resize(len, 0);
    planned(&file, &request()).unwrap();
    file.push(0);
    let refusal = planned(&file, &request()).unwrap_err().to_string();
    assert!(
        refusal.starts_with("the firmware has 0x4000001 bytes"),
        "{refusal}"
    );
    // Arm's of 32 bits.
    let of_none = planned(&firmware(0x01c4).build(), &request()).unwrap_err();
    assert!(
        matches!(of_none, PlanError::NotBootable { .. }),
        "{of_none:?}"
    );
}

/// A PC's, as long as OVMF's code.
fn pcs() -> Vec<u8> {
    let mut file = firmware(0x8664).build();
    file.resize(0x37_c000, 0);
    file
}

#[test]
fn a_pcs_processor_begins_in_flash_as_after_a_reset_and_ram_is_empty() {
    let plan = planned(&pcs(), &request()).unwrap();
    assert_eq!(plan.protocol(), Protocol::Firmware);
    assert_eq!(plan.platform().flash(), Pc::flash(0x37_c000));
    assert_eq!(plan.boot_vcpu(), &VcpuState::X86(Registers::RESET));
    assert_eq!(plan.boot_vcpu().pc(), 0xffff_fff0);
    assert!(plan.pieces().is_empty());
    assert_eq!(plan.platform().pci().unwrap().buses(), 1);
    assert_eq!(plan.platform().new_variables().len(), 0x8_4000);
}

#[test]
fn a_pcs_flash_needs_room_for_variables() {
    let refusal = planned(&firmware(0x8664).build(), &request()).unwrap_err();
    assert!(
        matches!(refusal, PlanError::FirmwareLength { .. }),
        "{refusal:?}"
    );
}

#[test]
fn nothing_that_a_pcs_firmware_is_not_told_is_left_out_silently() {
    let mut in_memory = request();
    in_memory.hardware.virtio = 1;
    let with_tree = Request {
        dtb: Some(vec![0]),
        ..request()
    };
    let with_initrd = Request {
        initrd: Some(1),
        ..request()
    };
    for request in [in_memory, with_tree, with_initrd] {
        let refusal = planned(&pcs(), &request).unwrap_err();
        assert!(matches!(refusal, PlanError::Untold { .. }), "{refusal:?}");
    }
}

//! riscv64 guests.

use crate::{carry_out, nothing_typed, typed, within};
use firstlight_base::VcpuState;
use firstlight_base::riscv64::Registers;
use firstlight_boot::{BootPlan, Request, plan};
use firstlight_image::testing::riscv_image;
use firstlight_image::{Architecture, Image, Limits as ImageLimits};
use firstlight_load::Sources;
use firstlight_vmm::{Ending, Engine, IrqchipMode, Limits};
use std::fs::File;

/// A jump to itself.
const HANG: [u32; 1] = [0x0000_006f];
/// Sends back what it gets from the serial port, up to and with a byte 4; then turns itself off
/// through the SBI's system reset extension.
const ECHO: [u32; 18] = [
    0x1000_02b7, // lui t0, 0x10000
    0x0052_c303, // next: lbu t1, 5(t0) (line status)
    0x0013_7393, // andi t2, t1, 1 (data ready)
    0xfe03_8ce3, // beqz t2, next
    0x0002_ce03, // lbu t3, 0(t0) (data)
    0x0052_c303, // full: lbu t1, 5(t0)
    0x0203_7393, // andi t2, t1, 0x20 (transmitter empty)
    0xfe03_8ce3, // beqz t2, full
    0x01c2_8023, // sb t3, 0(t0)
    0x0040_0393, // li t2, 4
    0xfc7e_1ee3, // bne t3, t2, next
    0x5352_58b7, // lui a7, 0x53525
    0x3548_8893, // addi a7, a7, 0x354 (SRST)
    0x0000_0813, // li a6, 0 (sbi_system_reset)
    0x0000_0513, // li a0, 0 (shutdown)
    0x0000_0593, // li a1, 0 (no reason)
    0x0000_0073, // ecall
    0x0000_006f, // j .
];
/// Asks for a cold reset.
const RESET: [u32; 7] = [
    0x5352_58b7, // lui a7, 0x53525
    0x3548_8893, // addi a7, a7, 0x354 (SRST)
    0x0000_0813, // li a6, 0 (sbi_system_reset)
    0x0010_0513, // li a0, 1 (cold reboot)
    0x0000_0593, // li a1, 0 (no reason)
    0x0000_0073, // ecall
    0x0000_006f, // j .
];

fn there_is_a_qemu(test: &str) -> bool {
    crate::there_is_a_qemu(Architecture::Riscv64, test)
}

/// Runs `code` with `input` typed at its console; how it ends, and what it prints.
fn run(code: &[u32], limits: &Limits, input: File) -> (BootPlan, Ending, Vec<u8>) {
    /// The first instruction of the header: a jump over it.
    const OVER_THE_HEADER: u32 = 0x0400_006f;
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let kernel = riscv_image()
        .patch(0, &OVER_THE_HEADER.to_le_bytes())
        .patch(0x40, &code)
        .build();
    let image = Image::open(&kernel, &ImageLimits::default()).expect("it is an Image");
    let request = Request {
        memory: 64 << 20,
        cpus: 4,
        rng_seed: [7; 32],
        hardware: Engine::Qemu.hardware(Architecture::Riscv64, IrqchipMode::Kernel),
        ..Request::default()
    };
    let plan = plan(&image, &request).expect("there is room for it");
    let sources = Sources {
        layers: &[&kernel],
        ..Sources::default()
    };
    let (ending, printed) = carry_out(&plan, &sources, limits, input);
    (plan, ending, printed)
}

fn registers(state: Option<&VcpuState>) -> Registers {
    match state {
        Some(VcpuState::Riscv64(registers)) => *registers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_that_hangs_is_found_where_it_hangs_with_the_plans_arguments() {
    if !there_is_a_qemu("a_guest_that_hangs_is_found_where_it_hangs_with_the_plans_arguments") {
        return;
    }
    let (plan, ending, printed) = run(&HANG, &within(2), nothing_typed());
    let Ending::TimedOut(Some(report)) = ending else {
        panic!("{ending:?}");
    };
    let found = registers(report.registers.as_ref());
    let planned = registers(Some(plan.boot_vcpu()));
    assert_eq!(found.pc, planned.pc + 0x40);
    assert_eq!(found.x, planned.x);
    assert_eq!((found.satp, found.mode), (planned.satp, planned.mode));
    assert!(report.to_string().contains("kernel + 0x40"), "{report}");
    assert!(printed.is_empty());
}

#[test]
fn not_a_byte_that_is_typed_is_lost_or_doubled() {
    if !there_is_a_qemu("input") {
        return;
    }
    let (to_type, input) = typed();
    let (_, ending, printed) = run(&ECHO, &within(100), input);
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    assert!(
        printed == to_type,
        "{} of {} bytes",
        printed.len(),
        to_type.len()
    );
}

#[test]
fn a_reset_that_is_asked_for_is_one() {
    if !there_is_a_qemu("a_reset_that_is_asked_for_is_one") {
        return;
    }
    let (_, ending, _) = run(&RESET, &within(50), nothing_typed());
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
}

//! arm64 guests.

use crate::{carry_out, nothing_typed, typed, within};
use firstlight_base::VcpuState;
use firstlight_base::arm64::{Pstate, Registers, System};
use firstlight_boot::platform::Gic;
use firstlight_boot::{BootPlan, Hardware, Request, plan};
use firstlight_image::testing::arm64_image;
use firstlight_image::{Architecture, Image, Limits as ImageLimits};
use firstlight_load::Sources;
use firstlight_vmm::{Ending, Limits};
use std::fs::File;

/// A branch to itself.
const HANG: [u32; 1] = [0x1400_0000];
/// An instruction that is undefined for ever.
const CRASH: [u32; 1] = [0x0000_0000];
/// A branch to address 0.
const JUMP: [u32; 1] = [
    0xd61f_03e0, // br xzr
];
/// Sends back what it gets from the PL011, up to and with a byte 4; then turns itself off.
const ECHO: [u32; 13] = [
    0xd2a1_2001, // mov x1, 0x0900_0000
    0xb940_1822, // next: ldr w2, [x1, #0x18] (flags)
    0x3727_ffe2, // tbnz w2, #4, next (receiver empty)
    0xb940_0023, // ldr w3, [x1] (data)
    0xb940_1822, // full: ldr w2, [x1, #0x18]
    0x372f_ffe2, // tbnz w2, #5, full (transmitter full)
    0xb900_0023, // str w3, [x1]
    0x1200_1c63, // and w3, w3, #0xff
    0x7100_107f, // cmp w3, #4
    0x54ff_ff01, // b.ne next
    0x5280_0100, // mov w0, 8
    0x72b0_8000, // movk w0, 0x8400, lsl #16 (SYSTEM_OFF)
    0xd400_0002, // hvc #0
];
/// Every vCPU prints its number and starts the next; the fourth turns the machine off.
const RELAY: [u32; 16] = [
    0xd280_0000, // mov x0, 0
    0xd2a1_2001, // turned on: mov x1, 0x0900_0000
    0x1100_c002, // add w2, w0, '0'
    0xb900_0022, // str w2, [x1] (data)
    0x9100_0403, // add x3, x0, 1
    0xf100_107f, // cmp x3, 4
    0x5400_00e0, // b.eq off
    0x5280_0060, // mov w0, 3
    0x72b8_8000, // movk w0, 0xc400, lsl #16 (CPU_ON)
    0xaa03_03e1, // mov x1, x3 (which)
    0x10ff_fee2, // adr x2, turned on
    0xd400_0002, // hvc #0 (its x0 is x3)
    0x1400_0000, // b .
    0x5280_0100, // off: mov w0, 8
    0x72b0_8000, // movk w0, 0x8400, lsl #16 (SYSTEM_OFF)
    0xd400_0002, // hvc #0
];
/// Asks for a reset.
const RESET: [u32; 3] = [
    0x5280_0120, // mov w0, 9
    0x72b0_8000, // movk w0, 0x8400, lsl #16 (SYSTEM_RESET)
    0xd400_0002, // hvc #0
];

fn there_is_a_qemu(test: &str) -> bool {
    crate::there_is_a_qemu(Architecture::Arm64, test)
}

/// A kernel of this code, and the plan to boot it.
fn planned(code: &[u32], hardware: Hardware) -> (Vec<u8>, BootPlan) {
    /// The first instruction of the header: a branch over it.
    const OVER_THE_HEADER: u32 = 0x1400_0010;
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let kernel = arm64_image()
        .patch(0, &OVER_THE_HEADER.to_le_bytes())
        .patch(0x40, &code)
        .build();
    let image = Image::open(&kernel, &ImageLimits::default()).expect("it is an Image");
    let request = Request {
        memory: 64 << 20,
        cpus: 4,
        rng_seed: [7; 32],
        hardware,
        ..Request::default()
    };
    let plan = plan(&image, &request).expect("there is room for it");
    (kernel, plan)
}

/// Runs `code` with `input` typed at its console; how it ends, and what it prints.
fn run(code: &[u32], limits: &Limits, input: File) -> (BootPlan, Ending, Vec<u8>) {
    run_on(Hardware::default(), code, limits, input)
}

fn run_on(
    hardware: Hardware,
    code: &[u32],
    limits: &Limits,
    input: File,
) -> (BootPlan, Ending, Vec<u8>) {
    let (kernel, plan) = planned(code, hardware);
    let sources = Sources {
        layers: &[&kernel],
        ..Sources::default()
    };
    let (ending, printed) = carry_out(&plan, &sources, limits, input);
    (plan, ending, printed)
}

/// The registers of a report, and beside them what a plan does not set.
fn registers(state: Option<&VcpuState>) -> (Registers, System) {
    let Some(VcpuState::Arm64(registers)) = state else {
        panic!("{state:?}");
    };
    let planned = Registers {
        system: System::default(),
        ..*registers
    };
    (planned, registers.system)
}

#[test]
fn an_exception_without_vectors_is_told_with_the_registers_from_before() {
    if !there_is_a_qemu("an_exception_without_vectors_is_told_with_the_registers_from_before") {
        return;
    }
    let (plan, ending, _) = run(&CRASH, &within(50), nothing_typed());
    let Ending::Crashed(report) = ending else {
        panic!("{ending:?}");
    };
    let (found, system) = registers(report.registers.as_ref());
    let (planned, _) = registers(Some(plan.boot_vcpu()));
    let behind_the_header = Registers {
        pc: planned.pc + 0x40,
        ..planned
    };
    assert_eq!(found, behind_the_header);
    assert_eq!(system.elr, found.pc);
    let text = report.to_string();
    assert!(text.contains("no vectors for yet"), "{text}");
    assert!(text.contains("undefined instruction"), "{text}");
    assert!(text.contains("kernel + 0x40"), "{text}");
    assert!(text.contains("udf"), "{text}");
}

#[test]
fn a_jump_to_nowhere_is_no_reset() {
    if !there_is_a_qemu("a_jump_to_nowhere_is_no_reset") {
        return;
    }
    let (_, ending, _) = run(&JUMP, &within(50), nothing_typed());
    let Ending::Crashed(report) = ending else {
        panic!("{ending:?}");
    };
    assert!(report.to_string().contains("jump to address 0"), "{report}");
}

#[test]
fn a_guest_that_hangs_is_found_where_it_hangs_with_the_plans_registers() {
    if !there_is_a_qemu("a_guest_that_hangs_is_found_where_it_hangs_with_the_plans_registers") {
        return;
    }
    for (gic, el2) in [(Gic::V3 { its: true }, false), (Gic::V2, true)] {
        let hardware = Hardware {
            gic,
            el2,
            ..Hardware::default()
        };
        let (plan, ending, printed) = run_on(hardware, &HANG, &within(2), nothing_typed());
        let Ending::TimedOut(Some(report)) = ending else {
            panic!("{ending:?}");
        };
        let (found, _) = registers(report.registers.as_ref());
        let (planned, _) = registers(Some(plan.boot_vcpu()));
        let behind_the_header = Registers {
            pc: planned.pc + 0x40,
            ..planned
        };
        assert_eq!(found, behind_the_header);
        assert_eq!(found.pstate.contains(Pstate::EL2), el2);
        assert!(printed.is_empty());
    }
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
fn vcpus_stay_off_until_they_are_turned_on() {
    if !there_is_a_qemu("vcpus_stay_off_until_they_are_turned_on") {
        return;
    }
    let (_, ending, printed) = run(&RELAY, &within(50), nothing_typed());
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    assert_eq!(printed, b"0123");
}

#[test]
fn a_reset_that_is_asked_for_is_one() {
    if !there_is_a_qemu("a_reset_that_is_asked_for_is_one") {
        return;
    }
    let (_, ending, _) = run(&RESET, &within(50), nothing_typed());
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
}

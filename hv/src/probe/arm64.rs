//! The probe on 64-bit Arm: exceptions, pages, exclusive accesses, the counter and PSCI, at EL1.

use super::{Guest, Piece, Progress, Step};
use firstlight_base::arm64::{Pstate, Registers};
use firstlight_base::{Gpa, VcpuState};

/// The guest, with the steps that it announces.
pub(super) fn guest() -> Guest {
    Guest {
        steps: &STEPS,
        progress: Progress::Mmio(DEVICE),
        entry: VcpuState::Arm64(Registers {
            pc: CODE,
            pstate: Pstate::ENTRY_EL1,
            ..Registers::default()
        }),
        pieces: vec![
            Piece::words(TABLE, &[RAM_BLOCK, DEVICE.get() | DEVICE_BLOCK]),
            Piece::instructions(VECTORS + SYNCHRONOUS, &HANDLER),
            Piece::instructions(CODE, &PROGRAM),
            Piece::words(WORD, &[0]),
        ],
    }
}

const STEPS: [Step; 5] = [
    // Through an exception table, as kernels report their own faults.
    Step("brk"),
    Step("the MMU"),
    // With which kernels without the large system extensions lock.
    Step("stlxr"),
    Step("cntvct_el0"),
    // With which kernels start processors and turn machines off.
    Step("hvc"),
];

/// Where everything is in the guest's memory.
const TABLE: u64 = 0x1000;
const VECTORS: u64 = 0x5000;
const CODE: u64 = 0x6000;
const WORD: u64 = 0x7000;
/// Where the guest announces its steps: no memory is there.
const DEVICE: Gpa = Gpa::new(0x4000_0000);

/// Where the table of exceptions has synchronous ones of the level itself (DDI 0487, table D1-5).
const SYNCHRONOUS: u64 = 0x200;
/// A block of 1 GiB that has been accessed, inner shareable, of attribute 0: memory (DDI 0487,
/// section D8.3).
const RAM_BLOCK: u64 = 1 << 10 | 0b11 << 8 | 1;
/// One of attribute 1: a device.
const DEVICE_BLOCK: u64 = 1 << 10 | 1 << 2 | 1;

/// The guest. It knows the addresses above.
#[rustfmt::skip]
const PROGRAM: [u32; 60] = [
    0xd2a8_0014, // mov x20, #1073741824
    0xd28a_0000, // mov x0, #20480
    0xd518_c000, // msr vbar_el1, x0
    0xd503_3fdf, // isb
    0x5280_0020, // mov w0, #1
    0x3900_0280, // strb w0, [x20]
    0xd280_0013, // mov x19, #0
    0xd420_0000, // brk #0
    0xb400_0633, // cbz x19, wrong
    0x5280_0040, // mov w0, #2
    0x3900_0280, // strb w0, [x20]
    0xd280_1fe0, // mov x0, #255
    0xd518_a200, // msr mair_el1, x0
    0xd286_a320, // mov x0, #13593
    0xf2a0_1000, // movk x0, #128, lsl #16
    0xd518_2040, // msr tcr_el1, x0
    0xd282_0000, // mov x0, #4096
    0xd518_2000, // msr ttbr0_el1, x0
    0xd503_3fdf, // isb
    0xd538_1000, // mrs x0, sctlr_el1
    0xd280_00a1, // mov x1, #5
    0xaa01_0000, // orr x0, x0, x1
    0xd518_1000, // msr sctlr_el1, x0
    0xd503_3fdf, // isb
    0x5280_0060, // mov w0, #3
    0x3900_0280, // strb w0, [x20]
    0xd28e_0001, // mov x1, #28672
    0xd280_0442, // mov x2, #34
    0x5280_0c84, // mov w4, #100
    0xc85f_fc23, // retry: ldaxr x3, [x1]
    0xc805_fc22, // stlxr w5, x2, [x1]
    0x3400_0085, // cbz w5, stored
    0x7100_0484, // subs w4, w4, #1
    0x54ff_ff81, // b.ne retry
    0x1400_0017, // b wrong
    0xf940_0023, // stored: ldr x3, [x1]
    0xeb02_007f, // cmp x3, x2
    0x5400_0281, // b.ne wrong
    0x5280_0080, // mov w0, #4
    0x3900_0280, // strb w0, [x20]
    0xd503_3fdf, // isb
    0xd53b_e041, // mrs x1, cntvct_el0
    0xd53b_e002, // mrs x2, cntfrq_el0
    0xb400_01c2, // cbz x2, wrong
    0xd503_3fdf, // tick: isb
    0xd53b_e042, // mrs x2, cntvct_el0
    0xeb01_005f, // cmp x2, x1
    0x54ff_ffa0, // b.eq tick
    0x5280_00a0, // mov w0, #5
    0x3900_0280, // strb w0, [x20]
    0x52b0_8000, // mov w0, #-2080374784
    0xd400_0002, // hvc #0
    0x7100_081f, // cmp w0, #2
    0x5400_008b, // b.lt wrong
    0x5280_00c0, // mov w0, #6
    0x3900_0280, // strb w0, [x20]
    0x1400_0000, // b .
    0x5280_00e0, // wrong: mov w0, #7
    0x3900_0280, // strb w0, [x20]
    0x1400_0000, // b .
];

/// What it does at an exception: go on behind the instruction.
#[rustfmt::skip]
const HANDLER: [u32; 5] = [
    0xd538_4020, // mrs x0, elr_el1
    0x9100_1000, // add x0, x0, #4
    0xd518_4020, // msr elr_el1, x0
    0xd280_0033, // mov x19, #1
    0xd69f_03e0, // eret
];

//! The probe on 64-bit RISC-V: traps, pages, reservations, the time and SBI, in supervisor mode.

use super::{Guest, Piece, Progress, Step};
use firstlight_base::riscv64::Registers;
use firstlight_base::{Gpa, VcpuState};

/// The guest, with the steps that it announces.
pub(super) fn guest() -> Guest {
    Guest {
        steps: &STEPS,
        progress: Progress::Mmio(DEVICE),
        entry: VcpuState::Riscv64(Registers {
            pc: CODE,
            ..Registers::default()
        }),
        pieces: vec![
            Piece::words(TABLE, &[LEAF, DEVICE.get() >> 2 | LEAF]),
            Piece::instructions(HANDLER_AT, &HANDLER),
            Piece::instructions(CODE, &PROGRAM),
            Piece::words(WORD, &[0]),
        ],
    }
}

const STEPS: [Step; 5] = [
    // Through the trap vector, as kernels report their own faults.
    Step("ebreak"),
    Step("satp"),
    // With which kernels lock.
    Step("sc.d"),
    Step("rdtime"),
    // With which kernels find out what they run on.
    Step("ecall"),
];

/// Where everything is in the guest's memory.
const TABLE: u64 = 0x1000;
const HANDLER_AT: u64 = 0x5000;
const CODE: u64 = 0x6000;
const WORD: u64 = 0x7000;
/// Where the guest announces its steps: no memory is there.
const DEVICE: Gpa = Gpa::new(0x4000_0000);

/// A page of 1 GiB that is valid, has been accessed and written, and may be read, written and
/// executed (The RISC-V Instruction Set Manual, volume II, section 12.4.1).
const LEAF: u64 = 0b1100_1111;

/// The guest. It knows the addresses above.
#[rustfmt::skip]
const PROGRAM: [u32; 46] = [
    0x4000_0437, // lui s0, 262144
    0x0000_52b7, // lui t0, 5
    0x1052_9073, // csrw stvec, t0
    0x0010_0293, // li t0, 1
    0x0054_0023, // sb t0, 0(s0)
    0x0000_0493, // li s1, 0
    0x0010_0073, // ebreak
    0x0804_8863, // beqz s1, wrong
    0x0020_0293, // li t0, 2
    0x0054_0023, // sb t0, 0(s0)
    0x0080_0293, // li t0, 8
    0x03c2_9293, // slli t0, t0, 60
    0x0012_e293, // ori t0, t0, 1
    0x1802_9073, // csrw satp, t0
    0x1200_0073, // sfence.vma
    0x0030_0293, // li t0, 3
    0x0054_0023, // sb t0, 0(s0)
    0x0000_7337, // lui t1, 7
    0x0220_0393, // li t2, 34
    0x0640_0e93, // li t4, 100
    0x1403_3e2f, // retry: lr.d.aq t3, (t1)
    0x1a73_3f2f, // sc.d.rl t5, t2, (t1)
    0x000f_0863, // beqz t5, stored
    0xfffe_8e93, // addi t4, t4, -1
    0xfe0e_98e3, // bnez t4, retry
    0x0480_006f, // j wrong
    0x0003_3e03, // stored: ld t3, 0(t1)
    0x047e_1063, // bne t3, t2, wrong
    0x0040_0293, // li t0, 4
    0x0054_0023, // sb t0, 0(s0)
    0xc010_2373, // rdtime t1
    0xc010_23f3, // tick: rdtime t2
    0xfe73_0ee3, // beq t1, t2, tick
    0x0050_0293, // li t0, 5
    0x0054_0023, // sb t0, 0(s0)
    0x0100_0893, // li a7, 16
    0x0000_0813, // li a6, 0
    0x0000_0073, // ecall
    0x0005_1a63, // bnez a0, wrong
    0x0005_8863, // beqz a1, wrong
    0x0060_0293, // li t0, 6
    0x0054_0023, // sb t0, 0(s0)
    0x0000_006f, // j .
    0x0070_0293, // wrong: li t0, 7
    0x0054_0023, // sb t0, 0(s0)
    0x0000_006f, // j .
];

/// What it does at a trap: go on behind the instruction.
#[rustfmt::skip]
const HANDLER: [u32; 5] = [
    0x1410_22f3, // csrr t0, sepc
    0x0042_8293, // addi t0, t0, 4
    0x1412_9073, // csrw sepc, t0
    0x0010_0493, // li s1, 1
    0x1020_0073, // sret
];

//! The ROM that takes a 64-bit Arm processor from address 0 to a plan's registers, and hears of
//! exceptions that the kernel has no vectors for.
//!
//! The processor comes out of reset at its highest exception level, MMU off, at the address that
//! the machine has for it, which is 0 on the machine [`VirtArm64`](crate::platform::VirtArm64)
//! without firmware. An exception return then sets program counter and processor state at once,
//! so that no general register is needed for the way. Encodings are those of the Arm Architecture
//! Reference Manual (DDI 0487), part C6.
//!
//! `VBAR_ELx` is 0 too until a kernel sets it, on every vCPU. So the ROM begins with a table of
//! vectors (section D1.3.1.5). They end the run: `TPIDR_ELx` keeps x0, and PSCI is called for a
//! reset, with the program counter in the ROM, which no kernel does. `ELR_ELx` and `ESR_ELx` tell
//! the rest. Reset itself comes through the first vector, and is told from an exception or a jump
//! to 0 by `ELR_ELx`: 0 on QEMU after reset, never after the ROM's own exception return.

use super::{ResetRomError, need};
use alloc::vec::Vec;
use firstlight_base::arm64::{Pstate, Registers};

/// How many instructions a vector has room for, and how many vectors there are.
const VECTOR: u32 = 0x80 / 4;
const VECTORS: u32 = 16;
/// Where what the vectors lead to begins, in instructions.
const FAULT: u32 = VECTORS * VECTOR;
/// How many instructions that is; the way to the kernel is behind it.
const FAULT_LEN: u32 = 6;
const START: u32 = FAULT + FAULT_LEN;
/// How many bytes the ROM has.
const LEN: usize = 0x1000;

pub(super) fn rom(registers: &Registers) -> Result<Vec<u8>, ResetRomError> {
    let level = Level::of(registers.pstate)?;
    let mut words = vectors(&level);
    words.extend(fault(&level));
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.extend(enter(registers, &level));
    bytes.resize(LEN, 0);
    Ok(bytes)
}

/// The system registers of an exception level, as MSR names them, and its way to PSCI.
struct Level {
    elr: System,
    spsr: System,
    tpidr: System,
    call: u32,
}

/// `op1`, `CRn`, `CRm` and `op2` of a system register whose `op0` is 3.
struct System(u32, u32, u32, u32);

impl System {
    /// `mrs` to the general register of that number.
    const fn read(&self, number: u32) -> u32 {
        self.write(number) | 1 << 21
    }

    /// `msr` from it.
    const fn write(&self, number: u32) -> u32 {
        let Self(op1, crn, crm, op2) = *self;
        0xd518_0000 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | number
    }
}

impl Level {
    fn of(pstate: Pstate) -> Result<Self, ResetRomError> {
        /// `M[4:0]`: the execution state, the level and its stack pointer.
        const MODE: u64 = 0x1f;
        const EL1H: u64 = 0x5;
        const EL2H: u64 = 0x9;
        const HVC: u32 = 0xd400_0002;
        const SMC: u32 = 0xd400_0003;
        let mode = pstate.bits() & MODE;
        need(
            mode == EL1H || mode == EL2H,
            "pstate",
            pstate.bits(),
            "a kernel is entered at EL1 or EL2 with the stack pointer of that level",
        )?;
        Ok(if mode == EL1H {
            Self {
                elr: System(0, 4, 0, 1),
                spsr: System(0, 4, 0, 0),
                tpidr: System(0, 13, 0, 4),
                call: HVC,
            }
        } else {
            Self {
                elr: System(4, 4, 0, 1),
                spsr: System(4, 4, 0, 0),
                tpidr: System(4, 13, 0, 2),
                call: SMC,
            }
        })
    }
}

/// The table: every vector leads to the fault, and the first one also from reset to the kernel.
fn vectors(level: &Level) -> Vec<u32> {
    let mut words = Vec::new();
    for vector in (0..FAULT).step_by(VECTOR as usize) {
        words.push(branch(vector, FAULT));
        words.resize(words.len().next_multiple_of(VECTOR as usize), 0);
    }
    let first = [
        level.tpidr.write(0),
        level.elr.read(0),
        branch_if_zero(2, START),
        branch(3, FAULT + 1),
    ];
    words.splice(..first.len(), first);
    words
}

/// Keeps x0, asks PSCI for a reset, and waits for it.
fn fault(level: &Level) -> [u32; FAULT_LEN as usize] {
    /// PSCI's `SYSTEM_RESET` (DEN0022, section 5.1.10): 0x8400_0009.
    const MOVE_LOW_TO_W0: u32 = 0x5280_0000 | 0x0009 << 5;
    const MOVE_HIGH_TO_W0: u32 = 0x72a0_0000 | 0x8400 << 5;
    const WFI: u32 = 0xd503_207f;
    [
        level.tpidr.write(0),
        MOVE_LOW_TO_W0,
        MOVE_HIGH_TO_W0,
        level.call,
        WFI,
        branch(1, 0),
    ]
}

/// Loads every register from the values that follow the instructions, and goes to the kernel.
fn enter(registers: &Registers, level: &Level) -> Vec<u8> {
    const MOVE_X0_TO_SP: u32 = 0x9100_001f;
    const ERET: u32 = 0xd69f_03e0;
    let special = [
        (registers.pc, level.elr.write(0)),
        (registers.pstate.bits(), level.spsr.write(0)),
        (registers.sp, MOVE_X0_TO_SP),
    ];
    let mut code = Code::default();
    for (value, take) in special {
        code.load(0, value);
        code.words.push(take);
    }
    for (&value, number) in registers.x.iter().zip(0..) {
        code.load(number, value);
    }
    code.words.push(ERET);
    code.finish()
}

/// Instructions, and the values behind them.
#[derive(Default)]
struct Code {
    words: Vec<u32>,
    values: Vec<u64>,
}

impl Code {
    /// How many instructions [`enter`] makes. The values are aligned to their size, as data has to
    /// be while the MMU is off.
    const LEN: u32 = 2 * 3 + 31 + 1;
    const _ALIGNED: () = assert!((START + Self::LEN).is_multiple_of(2));

    /// `ldr` of `value` to the general register of that number.
    fn load(&mut self, number: u32, value: u64) {
        const LDR: u32 = 0x5800_0000;
        let words_before = |len: usize| u32::try_from(len).unwrap_or(Self::LEN);
        let here = words_before(self.words.len());
        let there = Self::LEN.saturating_add(words_before(self.values.len()).saturating_mul(2));
        self.words
            .push(LDR | there.saturating_sub(here) << 5 | number);
        self.values.push(value);
    }

    fn finish(self) -> Vec<u8> {
        let words = self.words.into_iter().flat_map(u32::to_le_bytes);
        words
            .chain(self.values.into_iter().flat_map(u64::to_le_bytes))
            .collect()
    }
}

/// `b` from the instruction number `from` to the instruction number `to`.
const fn branch(from: u32, to: u32) -> u32 {
    const B: u32 = 0x1400_0000;
    B | to.wrapping_sub(from) & 0x03ff_ffff
}

/// `cbz x0` from the instruction number `from` to the instruction number `to`.
const fn branch_if_zero(from: u32, to: u32) -> u32 {
    const CBZ_X0: u32 = 0xb400_0000;
    CBZ_X0 | (to.wrapping_sub(from) & 0x7_ffff) << 5
}

#[cfg(test)]
mod tests;

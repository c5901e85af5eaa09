//! A hart: what the firmware keeps of it, how it begins, waits, and goes to its supervisor.
//!
//! Each hart has an area of its own, which `mscratch` points to while the supervisor runs, and SP
//! while the firmware does. There is no stack.

use super::assembler::{
    A0, A1, Accesses, Assembler, Condition, Csr, Register, SP, T0, T1, Width, ZERO,
};
use super::routine::Routines;
use super::{AREAS, Machine};
use crate::platform::VirtRiscv64;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::VcpuId;
use firstlight_base::riscv64::{Mode, Registers};

/// What lies where in a hart's area, in bytes.
pub(super) mod area {
    /// The registers that the firmware uses, while it does.
    pub(in super::super) const SAVED: i64 = 0;
    /// What the hart does: a word, one of [`super::state`].
    pub(in super::super) const STATE: i64 = 0x80;
    /// How many fences other harts have ever asked for: a word that wraps round.
    pub(in super::super) const ASKED: i64 = 0x84;
    /// How many of them are done: a word that wraps round.
    pub(in super::super) const ANSWERED: i64 = 0x88;
    /// Not 0 where an interrupt is asked for: a word.
    pub(in super::super) const INTERRUPT: i64 = 0x8c;
    /// Where to begin, or 0 to wait: 8 bytes.
    pub(in super::super) const BEGIN: i64 = 0x90;
    /// What A1 is to hold then: 8 bytes.
    pub(in super::super) const OPAQUE: i64 = 0x98;
    /// How long an area is, as a power of two.
    pub(in super::super) const LEN_LOG2: u32 = 8;
}

/// What a hart does (SBI 2.0, section 9, "HSM Hart States").
pub(super) mod state {
    pub(in super::super) const STARTED: u32 = 0;
    pub(in super::super) const STOPPED: u32 = 1;
    pub(in super::super) const START_PENDING: u32 = 2;
}

/// Bit 3 of `mie` and `mip` (volume II, section 3.1.9): another hart rings.
const MACHINE_SOFTWARE: u64 = 1 << 3;

/// The area of the hart of that number, as the firmware's file has it.
pub(super) fn first_area(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; 1 << area::LEN_LOG2];
    let state = if number == VcpuId::BOOT.0 {
        state::STARTED
    } else {
        state::STOPPED
    };
    let offset = usize::try_from(area::STATE).expect("an offset in an area");
    let place = bytes.iter_mut().skip(offset);
    for (to, from) in place.zip(state.to_le_bytes()) {
        *to = from;
    }
    bytes
}

/// Puts the address of the area of the hart whose number is in `number` into `to`. Uses T0.
pub(super) fn area_of(code: &mut Assembler, to: Register, number: Register) {
    let areas = VirtRiscv64::FIRMWARE.start().get().wrapping_add(AREAS);
    code.li(T0, areas);
    code.slli(to, number, area::LEN_LOG2);
    code.add(to, to, T0);
}

/// Every hart's first instructions: the first one goes on to the kernel, the others are parked.
pub(super) fn begin(
    code: &mut Assembler,
    routines: &Routines,
    machine: &Machine,
    registers: &Registers,
) {
    const { assert!(VcpuId::BOOT.0 == 0, "the hart with number 0 boots") };
    code.la(T0, routines.trap);
    code.csr_write(Csr::Mtvec, T0);
    code.csr_read(A0, Csr::Mhartid);
    code.li(T0, machine.harts.into());
    code.branch(Condition::NotBelow, A0, T0, routines.die);
    area_of(code, SP, A0);
    protect(code);
    delegate(code);
    code.li(T0, MACHINE_SOFTWARE);
    code.csr_write(Csr::Mie, T0);
    code.branch(Condition::NotEqual, A0, ZERO, routines.park);
    code.call(routines.quieten);
    boot(code, registers);
}

/// Closes the firmware's own memory to supervisors and users, and opens everything else to them
/// (volume II, section 3.7). The first entry that matches decides.
fn protect(code: &mut Assembler) {
    const NAPOT: u64 = 3 << 3;
    const READ_WRITE_EXECUTE: u64 = 7;
    let firmware = VirtRiscv64::FIRMWARE;
    let closed = (firmware.start().get() | (firmware.len() >> 1).wrapping_sub(1)) >> 2;
    code.li(T0, closed);
    code.csr_write(Csr::Pmpaddr0, T0);
    code.li(T0, u64::MAX);
    code.csr_write(Csr::Pmpaddr1, T0);
    code.li(T0, (NAPOT | READ_WRITE_EXECUTE) << 8 | NAPOT);
    code.csr_write(Csr::Pmpcfg0, T0);
}

/// Gives the supervisor its traps, its timer and its counters. `menvcfg` keeps what else it has.
fn delegate(code: &mut Assembler) {
    /// Everything but calls by supervisors (9) and by the firmware (11), and what is reserved
    /// (volume II, table "Supervisor cause register values after trap").
    const EXCEPTIONS: u64 = 0xb1ff;
    /// Supervisor software (1), timer (5) and external (9) interrupts.
    const INTERRUPTS: u64 = 1 << 1 | 1 << 5 | 1 << 9;
    /// The cycle, time and instruction counters.
    const COUNTERS: u64 = 0b111;
    /// STCE: `stimecmp` (the extension Sstc, section 2.2).
    const TIMER: u64 = 1 << 63;
    code.li(T0, EXCEPTIONS);
    code.csr_write(Csr::Medeleg, T0);
    code.li(T0, INTERRUPTS);
    code.csr_write(Csr::Mideleg, T0);
    code.li(T0, COUNTERS);
    code.csr_write(Csr::Mcounteren, T0);
    // Programs read the time by themselves, and Linux takes it that they may.
    code.csr_write(Csr::Scounteren, T0);
    code.li(T0, TIMER);
    code.csr_set(Csr::Menvcfg, T0);
}

/// To the plan's registers.
fn boot(code: &mut Assembler, registers: &Registers) {
    /// MPP, which `quieten` has made supervisor (volume II, section 3.1.6.1).
    const PREVIOUS_MODE: u64 = 3 << 11;
    code.csr_write(Csr::Mscratch, SP);
    for (csr, value) in [
        (Csr::Sstatus, registers.sstatus),
        (Csr::Sie, registers.sie),
        (Csr::Satp, registers.satp),
    ] {
        code.li(T0, value);
        code.csr_set(csr, T0);
    }
    if registers.mode == Mode::User {
        code.li(T0, PREVIOUS_MODE);
        code.csr_clear(Csr::Mstatus, T0);
    }
    code.li(T0, registers.pc);
    code.csr_write(Csr::Mepc, T0);
    for (number, &value) in (0..).zip(&registers.x).skip(1) {
        code.li(Register::new(number), value);
    }
    code.mret();
}

/// Waits for [`super::hsm`] to say where to begin, and begins there as it demands: A0 the hart's
/// id, A1 what the caller gave, no translation, no interrupts.
pub(super) fn park(code: &mut Assembler, routines: &Routines) {
    let begin = code.label();
    code.bind(routines.park);
    code.csr_write(Csr::Mscratch, SP);
    let again = code.here();
    code.call(routines.answer);
    code.load(Width::Double, T1, SP, area::BEGIN);
    code.branch(Condition::NotEqual, T1, ZERO, begin);
    code.wfi();
    code.jump(again);

    code.bind(begin);
    code.fence(Accesses::READS, Accesses::MEMORY);
    code.load(Width::Double, A1, SP, area::OPAQUE);
    code.csr_write(Csr::Mepc, T1);
    code.store(Width::Double, ZERO, SP, area::BEGIN);
    code.store(Width::Word, ZERO, SP, area::INTERRUPT);
    code.call(routines.quieten);
    code.fence(Accesses::MEMORY, Accesses::WRITES);
    code.li(T0, state::STARTED.into());
    code.store(Width::Word, T0, SP, area::STATE);
    code.csr_read(A0, Csr::Mhartid);
    let kept = [ZERO, A0, A1];
    for register in (0..32).map(Register::new).filter(|one| !kept.contains(one)) {
        code.li(register, 0);
    }
    code.mret();
    quieten(code, routines);
}

fn quieten(code: &mut Assembler, routines: &Routines) {
    /// SIE, SPIE, MPIE, SPP, VS, FS, MPRV, SUM, MXR, TVM, TW and TSR, and both bits of MPP.
    const STATUS: u64 = 0x7e_7fa2;
    const SUPERVISOR: u64 = 1 << 11;
    const SUPERVISOR_SOFTWARE: u64 = 1 << 1;
    code.bind(routines.quieten);
    code.csr_write(Csr::Satp, ZERO);
    code.li(T0, MACHINE_SOFTWARE);
    code.csr_write(Csr::Mie, T0);
    code.li(T0, SUPERVISOR_SOFTWARE);
    code.csr_clear(Csr::Mip, T0);
    code.li(T0, u64::MAX);
    code.csr_write(Csr::Stimecmp, T0);
    code.li(T0, STATUS);
    code.csr_clear(Csr::Mstatus, T0);
    code.li(T0, SUPERVISOR);
    code.csr_set(Csr::Mstatus, T0);
    code.fence_i();
    code.sfence_vma();
    code.ret();
}

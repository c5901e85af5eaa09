//! Traps into machine mode: calls by the supervisor, and other harts' bells.

use super::assembler::{
    A0, A1, A2, A3, Assembler, Condition, Csr, RA, Register, SP, T0, T1, T2, T3, T4, T5, T6, Width,
    ZERO,
};
use super::hart::area;
use super::reset;
use super::routine::Routines;

/// What the firmware uses while it handles a trap; A0 and A1 are results. SP is in `mscratch`.
const SAVED: [Register; 10] = [RA, T0, T1, T2, T3, T4, T5, T6, A2, A3];

/// The trap handler, and the ways out of it.
pub(super) fn handle(code: &mut Assembler, routines: &Routines) {
    /// Causes (volume II, section 3.1.15): that of interrupts has the top bit set, too.
    const CALL_BY_SUPERVISOR: u64 = 9;
    const MACHINE_SOFTWARE: u64 = 3;
    let interrupt = code.label();
    code.bind(routines.trap);
    code.csr_swap(SP, Csr::Mscratch, SP);
    for (register, offset) in saved() {
        code.store(Width::Double, register, SP, offset);
    }
    code.csr_read(T0, Csr::Mcause);
    code.branch(Condition::Less, T0, ZERO, interrupt);
    code.li(T1, CALL_BY_SUPERVISOR);
    code.branch(Condition::Equal, T0, T1, routines.call);
    code.bind(routines.die);
    reset::fail(code, reset::FIRMWARE_FAILED);

    code.bind(interrupt);
    code.slli(T0, T0, 1);
    code.li(T1, MACHINE_SOFTWARE << 1);
    code.branch(Condition::NotEqual, T0, T1, routines.die);
    rung(code, routines);
    leave(code, routines);
}

/// Another hart has rung: for a fence, for an interrupt, or in vain, because this one has seen what
/// it wanted already.
fn rung(code: &mut Assembler, routines: &Routines) {
    const SUPERVISOR_SOFTWARE: u64 = 1 << 1;
    code.call(routines.answer);
    code.addi(T0, SP, area::INTERRUPT);
    code.amo_swap(T0, ZERO, T0);
    code.branch(Condition::Equal, T0, ZERO, routines.leave);
    code.li(T0, SUPERVISOR_SOFTWARE);
    code.csr_set(Csr::Mip, T0);
    code.jump(routines.leave);
}

/// The ways back to the supervisor.
fn leave(code: &mut Assembler, routines: &Routines) {
    let failed = code.label();
    for (label, number) in routines.failures.numbered() {
        code.bind(label);
        code.addi(A0, ZERO, number);
        code.jump(failed);
    }
    code.bind(failed);
    code.li(A1, 0);
    code.jump(routines.leave);

    code.bind(routines.success);
    code.li(A1, 0);
    code.bind(routines.value);
    code.li(A0, 0);
    code.bind(routines.leave);
    for (register, offset) in saved() {
        code.load(Width::Double, register, SP, offset);
    }
    code.csr_swap(SP, Csr::Mscratch, SP);
    code.mret();
}

fn saved() -> impl Iterator<Item = (Register, i64)> {
    SAVED.into_iter().zip((area::SAVED..area::STATE).step_by(8))
}

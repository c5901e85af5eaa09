//! What harts ask of each other: fences and interrupts.
//!
//! A hart that wants a fence elsewhere counts `ASKED` of the other one's area up and rings its bell,
//! the CLINT's `msip`. The other one reads `ASKED`, does every fence there is, and lets `ANSWERED`
//! follow. The first one waits until `ANSWERED` has come to what it read in `ASKED`; it answers its
//! own requests while it waits, so that harts that ask each other both go on. No request can be
//! lost: a bell is silenced before `ASKED` is read. Parked harts answer, too.
//!
//! A fence is always for all addresses, which is never wrong.

use super::Machine;
use super::assembler::{
    A0, A1, A2, A3, Accesses, Assembler, Condition, Csr, SP, T0, T1, T2, T3, T4, T5, T6, Width,
    ZERO,
};
use super::hart::{area, area_of};
use super::routine::Routines;
use crate::platform::VirtRiscv64;

/// `answer` and `answer_fences`.
pub(super) fn answer(code: &mut Assembler, routines: &Routines) {
    let done = code.label();
    code.bind(routines.answer);
    code.csr_read(A2, Csr::Mhartid);
    code.slli(A2, A2, 2);
    code.li(A3, VirtRiscv64::CLINT.start().get());
    code.add(A2, A2, A3);
    code.store(Width::Word, ZERO, A2, 0);
    code.fence(Accesses::ALL, Accesses::ALL);

    code.bind(routines.answer_fences);
    code.load(Width::Word, A2, SP, area::ASKED);
    code.load(Width::Word, A3, SP, area::ANSWERED);
    code.branch(Condition::Equal, A2, A3, done);
    code.fence(Accesses::MEMORY, Accesses::MEMORY);
    code.fence_i();
    code.sfence_vma();
    code.fence(Accesses::MEMORY, Accesses::MEMORY);
    code.store(Width::Word, A2, SP, area::ANSWERED);
    code.bind(done);
    code.ret();
}

/// Which harts a mask means (SBI 2.0, section 3.2): bit 0 of A0 is the hart whose number is in A1,
/// and where that is -1, all are meant. T5 becomes the first number, T6 the mask from there on, and
/// T4 what follows the mask's top bit.
pub(super) fn choose(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    const BITS: u64 = 64;
    let (some, far) = (code.label(), code.label());
    code.bind(routines.choose);
    code.li(T0, u64::MAX);
    code.branch(Condition::NotEqual, A1, T0, some);
    code.li(T5, 0);
    code.li(T6, u64::MAX);
    code.li(T4, 1 << (BITS - 1));
    code.ret();

    code.bind(some);
    let invalid = routines.failures.invalid_parameter;
    code.li(T0, machine.harts.into());
    code.branch(Condition::NotBelow, A1, T0, invalid);
    code.sub(T0, T0, A1);
    code.li(T1, BITS);
    code.branch(Condition::NotBelow, T0, T1, far);
    code.srl(T0, A0, T0);
    code.branch(Condition::NotEqual, T0, ZERO, invalid);
    code.bind(far);
    code.addi(T5, A1, 0);
    code.addi(T6, A0, 0);
    code.li(T4, 0);
    code.ret();
}

/// Does `each` with every chosen hart: T5 is its number, T3 its area. `each` may use T0 to T2, and
/// what `answer` uses.
fn for_each(
    code: &mut Assembler,
    routines: &Routines,
    machine: &Machine,
    each: impl FnOnce(&mut Assembler),
) {
    let (next, end) = (code.label(), code.label());
    code.call(routines.choose);
    let again = code.here();
    code.li(T0, machine.harts.into());
    code.branch(Condition::NotBelow, T5, T0, end);
    code.branch(Condition::Equal, T6, ZERO, end);
    code.andi(T0, T6, 1);
    code.branch(Condition::Equal, T0, ZERO, next);
    area_of(code, T3, T5);
    each(code);
    code.bind(next);
    code.addi(T5, T5, 1);
    code.srli(T6, T6, 1);
    code.or(T6, T6, T4);
    code.jump(again);
    code.bind(end);
}

/// Rings the bell of the hart whose number is in T5, once all that was written before can be seen.
/// Uses T0, T1.
pub(super) fn ring(code: &mut Assembler) {
    code.fence(Accesses::MEMORY, Accesses::ALL_WRITES);
    code.li(T0, VirtRiscv64::CLINT.start().get());
    code.slli(T1, T5, 2);
    code.add(T0, T0, T1);
    code.li(T1, 1);
    code.store(Width::Word, T1, T0, 0);
}

/// Asks the harts that A0 and A1 mean for an interrupt.
pub(super) fn interrupt(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    for_each(code, routines, machine, |code| {
        code.li(T0, 1);
        code.store(Width::Word, T0, T3, area::INTERRUPT);
        ring(code);
    });
}

/// Has the harts that A0 and A1 mean do a fence, and waits until they have.
pub(super) fn fence(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    for_each(code, routines, machine, |code| {
        code.addi(T0, T3, area::ASKED);
        code.li(T1, 1);
        code.amo_add(ZERO, T1, T0);
        ring(code);
    });
    for_each(code, routines, machine, |code| {
        let done = code.label();
        code.load(Width::Word, T1, T3, area::ASKED);
        let again = code.here();
        code.load(Width::Word, T2, T3, area::ANSWERED);
        code.subw(T2, T2, T1);
        code.branch(Condition::NotLess, T2, ZERO, done);
        code.call(routines.answer_fences);
        code.pause();
        code.jump(again);
        code.bind(done);
    });
    code.fence(Accesses::READS, Accesses::MEMORY);
}

//! Starts and stops harts (SBI 2.0, chapter 9). Suspending them is not supported: `wfi` does as
//! well on this machine.

use super::Machine;
use super::assembler::{
    A0, A1, A2, Accesses, Assembler, Condition, SP, T0, T1, T2, T3, T5, Width, ZERO,
};
use super::call::choose_function;
use super::hart::{area, area_of, state};
use super::request;
use super::routine::Routines;
use crate::platform::VirtRiscv64;

pub(super) fn call(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    let (start, stop, status) = (code.label(), code.label(), code.label());
    choose_function(code, routines, &[start, stop, status]);
    code.bind(start);
    self::start(code, routines, machine);
    code.bind(stop);
    self::stop(code, routines);
    code.bind(status);
    self::status(code, routines, machine);
}

/// A0 the hart's id, A1 where it is to begin, A2 what it is to find in A1. Only one of two harts
/// that start a third can change its state.
fn start(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    let failures = &routines.failures;
    find(code, routines, machine);
    code.li(T0, VirtRiscv64::FIRMWARE.end().get());
    code.branch(Condition::Below, A1, T0, failures.invalid_address);
    code.li(T0, machine.ram_end.get());
    code.branch(Condition::NotBelow, A1, T0, failures.invalid_address);
    code.addi(T1, T3, area::STATE);
    let again = code.here();
    code.load_reserved(T0, T1);
    code.li(T2, state::STOPPED.into());
    code.branch(Condition::NotEqual, T0, T2, failures.already_available);
    code.li(T2, state::START_PENDING.into());
    code.store_conditional(T0, T2, T1);
    code.branch(Condition::NotEqual, T0, ZERO, again);
    code.store(Width::Double, A2, T3, area::OPAQUE);
    code.fence(Accesses::WRITES, Accesses::WRITES);
    code.store(Width::Double, A1, T3, area::BEGIN);
    code.addi(T5, A0, 0);
    request::ring(code);
    code.jump(routines.success);
}

/// Interrupts of the supervisor would wake a hart that waits.
fn stop(code: &mut Assembler, routines: &Routines) {
    code.call(routines.quieten);
    code.fence(Accesses::MEMORY, Accesses::WRITES);
    code.li(T0, state::STOPPED.into());
    code.store(Width::Word, T0, SP, area::STATE);
    code.jump(routines.park);
}

fn status(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    find(code, routines, machine);
    code.load(Width::Word, A1, T3, area::STATE);
    code.jump(routines.value);
}

/// Puts the area of the hart whose id is in A0 into T3.
fn find(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    code.li(T0, machine.harts.into());
    let invalid = routines.failures.invalid_parameter;
    code.branch(Condition::NotBelow, A0, T0, invalid);
    area_of(code, T3, A0);
}

//! Ends and resets the machine (SBI 2.0, chapter 10), by its finisher (`hw/misc/sifive_test.c` of
//! QEMU).

use super::assembler::{A0, A1, Assembler, Condition, T0, T1, Width, ZERO};
use super::routine::Routines;
use crate::platform::VirtRiscv64;

/// What the finisher understands in the lower half of a word; a failure's status is in the upper.
const FAIL: u64 = 0x3333;
const PASS: u64 = 0x5555;
const RESET: u64 = 0x7777;

/// The status of a guest that says that its system has failed.
const SYSTEM_FAILED: u64 = 1;
/// The status of a firmware that has taken a trap that it cannot have.
pub(super) const FIRMWARE_FAILED: u64 = 2;

/// A0 is 0 to shut down, 1 for a cold and 2 for a warm reboot; A1 is 0, or 1 where the system has
/// failed.
pub(super) fn call(code: &mut Assembler, routines: &Routines) {
    let (reboot, failed) = (code.label(), code.label());
    let invalid = routines.failures.invalid_parameter;
    super::call::only_function(code, routines);
    code.li(T0, 1);
    code.branch(Condition::Below, T0, A1, invalid);
    code.li(T0, 2);
    code.branch(Condition::Below, T0, A0, invalid);
    code.branch(Condition::NotEqual, A0, ZERO, reboot);
    code.branch(Condition::NotEqual, A1, ZERO, failed);
    shut_down(code);
    code.bind(reboot);
    finish(code, RESET);
    code.bind(failed);
    fail(code, SYSTEM_FAILED);
}

/// Ends the machine.
pub(super) fn shut_down(code: &mut Assembler) {
    finish(code, PASS);
}

/// Ends the machine as one that has failed, with that status.
pub(super) fn fail(code: &mut Assembler, status: u64) {
    finish(code, status << 16 | FAIL);
}

fn finish(code: &mut Assembler, how: u64) {
    code.li(T0, VirtRiscv64::FINISHER.start().get());
    code.li(T1, how);
    code.store(Width::Word, T1, T0, 0);
    let wait = code.here();
    code.wfi();
    code.jump(wait);
}

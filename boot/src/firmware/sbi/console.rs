//! The debug console (SBI 2.0, chapter 12): the machine's serial port, a 16550, as it is set up.

use super::Machine;
use super::assembler::{A0, A1, A2, Assembler, Condition, Register, T0, T1, T2, T3, Width, ZERO};
use super::call::choose_function;
use super::routine::Routines;
use crate::platform::VirtRiscv64;

/// Registers of a 16550 (National Semiconductor PC16550D, section 8.0).
const DATA: i64 = 0;
const LINE_STATUS: i64 = 5;
const DATA_READY: i64 = 1 << 0;
const TRANSMITTER_EMPTY: i64 = 1 << 5;

pub(super) fn call(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    let (write, read, write_byte) = (code.label(), code.label(), code.label());
    choose_function(code, routines, &[write, read, write_byte]);
    code.bind(write);
    self::write(code, routines, machine);
    code.bind(read);
    self::read(code, routines, machine);
    code.bind(write_byte);
    put(code, routines, A0);
    code.jump(routines.success);
}

/// Leaves A1 alone, as legacy calls do.
pub(super) fn legacy_putchar(code: &mut Assembler, routines: &Routines) {
    put(code, routines, A0);
    code.jump(routines.value);
}

/// Writes A0 bytes from A1 on.
fn write(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    let end = code.label();
    buffer(code, routines, machine);
    let again = code.here();
    code.branch(Condition::Equal, T1, T2, end);
    code.load(Width::Byte, T3, T1, 0);
    put(code, routines, T3);
    code.addi(T1, T1, 1);
    code.jump(again);
    code.bind(end);
    count(code, routines);
}

/// Reads what is there, but at most A0 bytes, to A1 and on.
fn read(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    let end = code.label();
    buffer(code, routines, machine);
    code.li(T0, VirtRiscv64::UART.start().get());
    let again = code.here();
    code.branch(Condition::Equal, T1, T2, end);
    code.load(Width::Byte, T3, T0, LINE_STATUS);
    code.andi(T3, T3, DATA_READY);
    code.branch(Condition::Equal, T3, ZERO, end);
    code.load(Width::Byte, T3, T0, DATA);
    code.store(Width::Byte, T3, T1, 0);
    code.addi(T1, T1, 1);
    code.jump(again);
    code.bind(end);
    count(code, routines);
}

/// Refuses a buffer that is not RAM of the supervisor's: A0 bytes from A1 on, A2 being the upper
/// half of its address. T1 becomes its first byte, T2 its end.
fn buffer(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    let invalid = routines.failures.invalid_parameter;
    code.branch(Condition::NotEqual, A2, ZERO, invalid);
    code.li(T0, VirtRiscv64::FIRMWARE.end().get());
    code.branch(Condition::Below, A1, T0, invalid);
    code.add(T2, A1, A0);
    code.branch(Condition::Below, T2, A1, invalid);
    code.li(T0, machine.ram_end.get());
    code.branch(Condition::Below, T0, T2, invalid);
    code.addi(T1, A1, 0);
}

/// How many bytes of the buffer are done is the call's value.
fn count(code: &mut Assembler, routines: &Routines) {
    code.sub(A1, T1, A1);
    code.jump(routines.value);
}

/// Writes the lowest byte of `from`, which is not T0, as soon as the port takes it. Fences of other
/// harts do not wait for that.
fn put(code: &mut Assembler, routines: &Routines, from: Register) {
    let ready = code.label();
    let wait = code.here();
    code.li(T0, VirtRiscv64::UART.start().get());
    code.load(Width::Byte, T0, T0, LINE_STATUS);
    code.andi(T0, T0, TRANSMITTER_EMPTY);
    code.branch(Condition::NotEqual, T0, ZERO, ready);
    code.call(routines.answer_fences);
    code.pause();
    code.jump(wait);
    code.bind(ready);
    code.li(T0, VirtRiscv64::UART.start().get());
    code.store(Width::Byte, from, T0, DATA);
}

//! A 64-bit RISC-V hart's state in a report.

mod walk;

use super::memory::read_virtual;
use super::{Code, Decoded, SHOWN, fmt_rows};
use firstlight_base::GuestMem;
use firstlight_base::riscv64::{Mode, Registers, Trap};
use std::fmt;

/// The length of a full instruction in bytes. The compressed ones have half of that.
const INSTRUCTION: usize = 4;

/// What the hart would fetch next.
pub(super) fn code(registers: &Registers, memory: &impl GuestMem) -> Code {
    let translate = |address| walk::translate(registers.satp, address, memory);
    let bytes = read_virtual(translate, registers.pc, SHOWN * INSTRUCTION, memory);
    Code {
        at: translate(registers.pc),
        instructions: split(&bytes, registers.pc),
    }
}

/// The instructions in `bytes`, undecoded. The lowest two bits tell the length (volume I, section
/// 1.5, "Base Instruction-Length Encoding").
fn split(mut bytes: &[u8], mut ip: u64) -> Vec<Decoded> {
    let mut instructions = Vec::with_capacity(SHOWN);
    while instructions.len() < SHOWN
        && let Some(first) = bytes.first()
    {
        let len = if first & 3 == 3 {
            INSTRUCTION
        } else {
            INSTRUCTION / 2
        };
        let Some((instruction, rest)) = bytes.split_at_checked(len) else {
            break;
        };
        let digits = instruction.iter().rev().map(|byte| format!("{byte:02x}"));
        instructions.push(Decoded {
            ip,
            bytes: instruction.to_vec(),
            text: format!("0x{}", digits.collect::<String>()),
        });
        bytes = rest;
        ip = ip.wrapping_add(len as u64);
    }
    instructions
}

/// The privilege mode, to be read after the address.
pub(super) fn mode(registers: &Registers) -> &'static str {
    match registers.mode {
        Mode::User => "user mode",
        Mode::Supervisor => "supervisor mode",
    }
}

pub(super) fn fmt_registers(registers: &Registers, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let trap = &registers.trap;
    if *trap != Trap::default() {
        let Trap {
            sepc,
            scause,
            stval,
            ..
        } = trap;
        let cause = cause(*scause);
        writeln!(
            f,
            "  trap      {cause}, taken at {sepc:#x}, about {stval:#x}"
        )?;
    }
    let mut rows = vec![
        ("pc", registers.pc),
        ("satp", registers.satp),
        ("status", registers.sstatus),
    ];
    rows.extend(X_NAMES.into_iter().zip(registers.x).skip(1));
    rows.extend([
        ("sie", registers.sie),
        ("stvec", trap.stvec),
        ("sepc", trap.sepc),
        ("scause", trap.scause),
        ("stval", trap.stval),
    ]);
    fmt_rows(&rows, f)
}

/// What `scause` says in words (volume II, table 43).
fn cause(scause: u64) -> String {
    const INTERRUPT: u64 = 1 << 63;
    let number = scause & !INTERRUPT;
    let name = match (scause & INTERRUPT != 0, number) {
        (false, 0) => "instruction address that is not aligned",
        (false, 1) => "nothing to fetch at the address",
        (false, 2) => "illegal instruction",
        (false, 3) => "breakpoint",
        (false, 4) => "load address that is not aligned",
        (false, 5) => "nothing to load at the address",
        (false, 6) => "store address that is not aligned",
        (false, 7) => "nowhere to store at the address",
        (false, 8) => "system call",
        (false, 9) => "call to the firmware",
        (false, 12) => "instruction page fault",
        (false, 13) => "load page fault",
        (false, 15) => "store page fault",
        (true, 1) => "software interrupt",
        (true, 5) => "timer interrupt",
        (true, 9) => "external interrupt",
        (false, _) => return format!("exception {number}"),
        (true, _) => return format!("interrupt {number}"),
    };
    name.to_owned()
}

const X_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6",
];

#[cfg(test)]
mod tests;

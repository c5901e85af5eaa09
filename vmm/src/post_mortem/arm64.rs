//! A 64-bit Arm processor's state in a report.

mod exception;
mod walk;

use super::memory::read_virtual;
use super::{Code, Decoded, SHOWN, fmt_rows};
use disarm64::decoder;
use firstlight_base::GuestMem;
use firstlight_base::arm64::{Pstate, Registers};
use std::fmt;

/// Every instruction has as many bytes.
const INSTRUCTION: usize = 4;

/// What the processor would fetch next.
pub(super) fn code(registers: &Registers, memory: &impl GuestMem) -> Code {
    let translate = |address| walk::translate(&registers.system, address, memory);
    let bytes = read_virtual(translate, registers.pc, SHOWN * INSTRUCTION, memory);
    let addresses = (0..).map(|index| registers.pc.wrapping_add(index * INSTRUCTION as u64));
    let instructions = bytes.chunks_exact(INSTRUCTION).zip(addresses);
    Code {
        at: translate(registers.pc),
        instructions: instructions.map(|(bytes, ip)| decode(bytes, ip)).collect(),
    }
}

fn decode(bytes: &[u8], ip: u64) -> Decoded {
    let word = bytes.try_into().map_or(0, u32::from_le_bytes);
    let text = decoder::decode(word).map_or_else(
        || "(no instruction)".to_owned(),
        // Name and operands are set apart by tabs.
        |instruction| {
            let text = instruction.to_string();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        },
    );
    Decoded {
        ip,
        bytes: bytes.to_vec(),
        text,
    }
}

/// The exception level, to be read after the address.
pub(super) fn level(registers: &Registers) -> &'static str {
    if registers.pstate.contains(Pstate::EL2) {
        "EL2"
    } else if registers.pstate.contains(Pstate::EL1) {
        "EL1"
    } else {
        "EL0"
    }
}

pub(super) fn fmt_registers(registers: &Registers, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let system = &registers.system;
    if system.esr != 0 {
        let esr = exception::Syndrome(system.esr);
        writeln!(
            f,
            "  exception {esr}, taken at {:#x}, about {:#x}",
            system.elr, system.far
        )?;
    }
    let mut rows = vec![
        ("pc", registers.pc),
        ("sp", registers.sp),
        ("pstate", registers.pstate.bits()),
    ];
    rows.extend(X_NAMES.into_iter().zip(registers.x));
    rows.extend([
        ("sctlr", system.sctlr),
        ("tcr", system.tcr),
        ("ttbr0", system.ttbr0),
        ("ttbr1", system.ttbr1),
        ("vbar", system.vbar),
        ("esr", system.esr),
        ("far", system.far),
        ("elr", system.elr),
    ]);
    fmt_rows(&rows, f)
}

const X_NAMES: [&str; 31] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "x29", "x30",
];

#[cfg(test)]
mod tests;

//! An x86 processor's state in a report.

pub(super) mod walk;

use super::memory::read_virtual;
use super::{Code, Decoded, SHOWN, fmt_rows};
use firstlight_base::GuestMem;
use firstlight_base::x86::{Mode, Registers, Segment};
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};
use std::fmt;

/// The longest instruction (SDM volume 2, section 2.3.11).
const LONGEST_INSTRUCTION: usize = 15;

/// What the processor would fetch next, or what the engine saw in `instruction`.
pub(super) fn code(registers: &Registers, instruction: &[u8], memory: &impl GuestMem) -> Code {
    let mode = registers.mode();
    let ip = match mode {
        Mode::Bits64 => registers.gprs.rip,
        Mode::Bits16 | Mode::Bits32 => {
            registers.cs.base.wrapping_add(registers.gprs.rip) & 0xffff_ffff
        }
    };
    let translate = |linear| walk::translate(registers, linear, memory);
    let bytes = if instruction.is_empty() {
        read_virtual(translate, ip, SHOWN * LONGEST_INSTRUCTION, memory)
    } else {
        instruction.to_vec()
    };
    Code {
        at: translate(ip),
        instructions: decode(&bytes, ip, mode),
    }
}

fn decode(bytes: &[u8], ip: u64, mode: Mode) -> Vec<Decoded> {
    let bitness = match mode {
        Mode::Bits16 => 16,
        Mode::Bits32 => 32,
        Mode::Bits64 => 64,
    };
    let mut decoder = Decoder::with_ip(bitness, bytes, ip, DecoderOptions::NONE);
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_uppercase_hex(false);
    let mut shown = Vec::with_capacity(SHOWN);
    while shown.len() < SHOWN && decoder.can_decode() {
        let from = decoder.position();
        let instruction: Instruction = decoder.decode();
        let mut text = String::new();
        if instruction.is_invalid() {
            text.push_str("(no instruction)");
        } else {
            formatter.format(&instruction, &mut text);
        }
        let decoded = bytes.get(from..decoder.position()).unwrap_or(&[]);
        shown.push(Decoded {
            ip: instruction.ip(),
            bytes: decoded.to_vec(),
            text,
        });
        if instruction.is_invalid() {
            break;
        }
    }
    shown
}

/// What the processor runs, to be read after the address.
pub(super) fn mode(registers: &Registers) -> &'static str {
    match registers.mode() {
        Mode::Bits16 => "16-bit code",
        Mode::Bits32 => "32-bit code",
        Mode::Bits64 => "64-bit code",
    }
}

pub(super) fn fmt_registers(registers: &Registers, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let g = &registers.gprs;
    let rows = [
        [("rip", g.rip), ("rsp", g.rsp), ("rflags", g.rflags)],
        [("rax", g.rax), ("rbx", g.rbx), ("rcx", g.rcx)],
        [("rdx", g.rdx), ("rsi", g.rsi), ("rdi", g.rdi)],
        [("rbp", g.rbp), ("r8", g.r8), ("r9", g.r9)],
        [("r10", g.r10), ("r11", g.r11), ("r12", g.r12)],
        [("r13", g.r13), ("r14", g.r14), ("r15", g.r15)],
        [
            ("cr0", registers.cr0.bits()),
            ("cr2", registers.cr2),
            ("cr3", registers.cr3),
        ],
        [
            ("cr4", registers.cr4.bits()),
            ("efer", registers.efer.bits()),
            ("gdt", registers.gdt.base),
        ],
    ];
    fmt_rows(rows.as_flattened(), f)?;
    let segment = |Segment { selector, base, .. }: Segment| format!("{selector:04x}:{base:x}");
    writeln!(
        f,
        "            cs {} ss {} ds {} es {} fs {} gs {} idt {:x}+{:x}",
        segment(registers.cs),
        segment(registers.ss),
        segment(registers.ds),
        segment(registers.es),
        segment(registers.fs),
        segment(registers.gs),
        registers.idt.base,
        registers.idt.limit,
    )
}

#[cfg(test)]
mod tests;

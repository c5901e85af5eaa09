//! The report about a guest that does not boot: where it is, what it was doing, how far it got,
//! and what its command line says about its console.

mod console_words;
mod walk;

use crate::CrashKind;
use firstlight_base::x86::{Mode, Registers, Segment};
use firstlight_base::{Gpa, GuestMem, VcpuId, VcpuState};
use firstlight_boot::BootPlan;
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};
use std::fmt;
use std::time::Duration;

/// The longest instruction (SDM volume 2, section 2.3.11).
const LONGEST_INSTRUCTION: usize = 15;
/// How many instructions are shown: the one at RIP and a few that follow.
const SHOWN: usize = 4;

/// Why there is a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A vCPU cannot go on.
    Crashed(VcpuId, CrashKind),
    /// The console has been silent for this long; the guest goes on.
    Silent(Duration),
    /// The time limit ran out before the console's first byte.
    TimedOut,
}

/// What could be found out about a guest that does not boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostMortem {
    /// Why there is a report.
    pub reason: Reason,
    /// The registers, where they could be read.
    pub registers: Option<VcpuState>,
    /// The instructions from RIP on, where they could be read.
    pub instructions: Vec<Decoded>,
    /// Where the instruction pointer is in guest-physical memory, where the page tables say so.
    pub at: Option<Gpa>,
    /// The plan's name for the piece that the instruction pointer is in, and how far in.
    pub piece: Option<(String, u64)>,
    /// How far the boot got.
    pub progress: Progress,
    /// The console's last line, if it has printed anything.
    pub last_line: Option<String>,
    /// What the command line tells the kernel about its console, a sentence each.
    pub console: Vec<String>,
}

/// An instruction with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its linear address.
    pub ip: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its text in GNU syntax.
    pub text: String,
}

/// How far a boot got, as the registers and the console show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is known.
    Unknown,
    /// The boot vCPU still stands at the entry point.
    AtEntry,
    /// Start-up code runs, at the addresses it was put at.
    StartUp,
    /// The kernel runs at its own virtual addresses, but has printed nothing.
    KernelSilent,
    /// The console has printed.
    Printing,
}

impl PostMortem {
    /// The report, made from what an engine can read of a guest.
    ///
    /// `instruction` is what the engine says it could not carry out, empty where it does not say.
    #[must_use]
    pub(crate) fn new(
        reason: Reason,
        registers: Option<VcpuState>,
        instruction: Vec<u8>,
        memory: &impl GuestMem,
        plan: &BootPlan,
        last_line: Option<String>,
    ) -> Self {
        let x86 = registers.as_ref().and_then(VcpuState::x86);
        let code = x86.map(|registers| Code::read(registers, instruction, memory));
        let at = code.as_ref().and_then(|code| code.at);
        Self {
            progress: progress(registers.as_ref(), plan, last_line.is_some()),
            instructions: code.as_ref().map(Code::decode).unwrap_or_default(),
            piece: at.and_then(|at| piece(at, plan)),
            console: console_words::explain(plan.cmdline()),
            reason,
            registers,
            at,
            last_line,
        }
    }
}

/// The bytes that the processor would fetch next.
struct Code {
    bytes: Vec<u8>,
    ip: u64,
    at: Option<Gpa>,
    mode: Mode,
}

impl Code {
    fn read(registers: &Registers, instruction: Vec<u8>, memory: &impl GuestMem) -> Self {
        let mode = registers.mode();
        let ip = match mode {
            Mode::Bits64 => registers.gprs.rip,
            Mode::Bits16 | Mode::Bits32 => {
                registers.cs.base.wrapping_add(registers.gprs.rip) & 0xffff_ffff
            }
        };
        let at = walk::translate(registers, ip, memory);
        let bytes = if instruction.is_empty() {
            walk::read_linear(registers, ip, SHOWN * LONGEST_INSTRUCTION, memory)
        } else {
            instruction
        };
        Self {
            bytes,
            ip,
            at,
            mode,
        }
    }

    fn decode(&self) -> Vec<Decoded> {
        let bitness = match self.mode {
            Mode::Bits16 => 16,
            Mode::Bits32 => 32,
            Mode::Bits64 => 64,
        };
        let mut decoder = Decoder::with_ip(bitness, &self.bytes, self.ip, DecoderOptions::NONE);
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
            let bytes = self.bytes.get(from..decoder.position()).unwrap_or(&[]);
            shown.push(Decoded {
                ip: instruction.ip(),
                bytes: bytes.to_vec(),
                text,
            });
            if instruction.is_invalid() {
                break;
            }
        }
        shown
    }
}

fn piece(at: Gpa, plan: &BootPlan) -> Option<(String, u64)> {
    let piece = plan
        .pieces()
        .iter()
        .filter(|piece| piece.range.start() <= at && at < piece.range.end())
        .min_by_key(|piece| piece.range.len())?;
    Some((piece.name.to_string(), at.get() - piece.range.start().get()))
}

fn progress(registers: Option<&VcpuState>, plan: &BootPlan, printed: bool) -> Progress {
    /// Where the upper half of a 48-bit address space begins; Linux is linked to run there.
    const UPPER_HALF: u64 = 0xffff_8000_0000_0000;
    match registers {
        _ if printed => Progress::Printing,
        None => Progress::Unknown,
        Some(now) if now.pc() == plan.boot_vcpu().pc() => Progress::AtEntry,
        Some(now) if now.pc() >= UPPER_HALF => Progress::KernelSilent,
        Some(_) => Progress::StartUp,
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "nothing on the console",
            Self::AtEntry => "still at the entry point, nothing on the console",
            Self::StartUp => "in start-up code, nothing on the console",
            Self::KernelSilent => {
                "the kernel runs at its own virtual addresses, nothing on the console"
            }
            Self::Printing => "the console has printed",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed(vcpu, CrashKind::TripleFault) => {
                write!(f, "triple fault on vcpu {vcpu}")
            }
            Self::Crashed(vcpu, CrashKind::Other(what)) => write!(f, "{what} on vcpu {vcpu}"),
            Self::Silent(time) => write!(
                f,
                "nothing on the console for {} s; the guest goes on",
                time.as_secs_f64()
            ),
            Self::TimedOut => f.write_str("the time ran out before anything was on the console"),
        }
    }
}

impl fmt::Display for PostMortem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        writeln!(f, "  boot      {}", self.progress)?;
        if let Some(line) = &self.last_line {
            writeln!(f, "  last line {line}")?;
        }
        match &self.registers {
            Some(VcpuState::X86(registers)) => self.fmt_place(registers, f)?,
            Some(state) => writeln!(f, "  at        {:#x}", state.pc())?,
            None => writeln!(f, "  at        {}", self.why_no_registers())?,
        }
        for (index, sentence) in self.console.iter().enumerate() {
            let label = if index == 0 { "console" } else { "" };
            writeln!(f, "  {label:9} {sentence}")?;
        }
        Ok(())
    }
}

impl PostMortem {
    fn why_no_registers(&self) -> &'static str {
        match self.reason {
            Reason::Crashed(_, CrashKind::TripleFault) => {
                "unknown: this host's processor resets itself in a triple fault and forgets"
            }
            Reason::Crashed(_, CrashKind::Other(_)) | Reason::Silent(_) | Reason::TimedOut => {
                "unknown: the registers cannot be read"
            }
        }
    }

    fn fmt_place(&self, registers: &Registers, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match registers.mode() {
            Mode::Bits16 => "16-bit",
            Mode::Bits32 => "32-bit",
            Mode::Bits64 => "64-bit",
        };
        let rip = registers.gprs.rip;
        write!(f, "  at        {rip:#x}, {mode} code")?;
        match (&self.at, &self.piece) {
            (Some(at), Some((piece, offset))) => {
                writeln!(f, ", guest-physical {at}: {piece} + {offset:#x}")?;
            }
            (Some(at), None) => writeln!(f, ", guest-physical {at}: no piece of the plan")?,
            (None, _) => writeln!(f, ", an address that no page table maps")?,
        }
        for (index, instruction) in self.instructions.iter().enumerate() {
            let label = if index == 0 { "code" } else { "" };
            let bytes = Hex(&instruction.bytes);
            writeln!(f, "  {label:9} {bytes:32} {}", instruction.text)?;
        }
        fmt_registers(registers, f)
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&text.join(" "))
    }
}

fn fmt_registers(registers: &Registers, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    for (index, row) in rows.iter().enumerate() {
        let label = if index == 0 { "registers" } else { "" };
        write!(f, "  {label:9}")?;
        for (name, value) in row {
            write!(f, " {name:>6} {value:016x}")?;
        }
        writeln!(f)?;
    }
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

//! The report about a guest that does not boot: where it is, what it was doing, how far it got,
//! and what its command line says about its console.

mod arm64;
mod console_words;
mod memory;
mod riscv64;
mod x86;

use crate::CrashKind;
use firstlight_base::{Gpa, GuestMem, VcpuId, VcpuState};
use firstlight_boot::BootPlan;
use std::fmt;
use std::time::Duration;

/// How many instructions are shown: the one that the processor is at and a few that follow.
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
    /// The instructions from the program counter on, where they could be read.
    pub instructions: Vec<Decoded>,
    /// Where the program counter is in guest-physical memory, where the page tables say so.
    pub at: Option<Gpa>,
    /// The plan's name for the piece that the program counter is in, and how far in.
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
    /// Its virtual address.
    pub ip: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its text: on x86 in GNU syntax, on riscv64 its bytes as one number.
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
        instruction: &[u8],
        memory: &impl GuestMem,
        plan: &BootPlan,
        last_line: Option<String>,
    ) -> Self {
        let code = registers
            .as_ref()
            .map(|registers| Code::of(registers, instruction, memory))
            .unwrap_or_default();
        let at = code.at;
        Self {
            progress: progress(registers.as_ref(), plan, last_line.is_some()),
            instructions: code.instructions,
            piece: at.and_then(|at| piece(at, plan)),
            console: console_words::explain(plan.cmdline(), plan.platform()),
            reason,
            registers,
            at,
            last_line,
        }
    }
}

/// Where the processor is, and what it would do next.
#[derive(Default)]
struct Code {
    at: Option<Gpa>,
    instructions: Vec<Decoded>,
}

impl Code {
    fn of(registers: &VcpuState, instruction: &[u8], memory: &impl GuestMem) -> Self {
        match registers {
            VcpuState::X86(registers) => x86::code(registers, instruction, memory),
            VcpuState::Arm64(registers) => arm64::code(registers, memory),
            VcpuState::Riscv64(registers) => riscv64::code(registers, memory),
        }
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
            Some(registers) => self.fmt_place(registers, f)?,
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

    fn fmt_place(&self, registers: &VcpuState, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pc, mode) = match registers {
            VcpuState::X86(registers) => (registers.gprs.rip, x86::mode(registers)),
            VcpuState::Arm64(registers) => (registers.pc, arm64::level(registers)),
            VcpuState::Riscv64(registers) => (registers.pc, riscv64::mode(registers)),
        };
        write!(f, "  at        {pc:#x}, {mode}")?;
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
        match registers {
            VcpuState::X86(registers) => x86::fmt_registers(registers, f),
            VcpuState::Arm64(registers) => arm64::fmt_registers(registers, f),
            VcpuState::Riscv64(registers) => riscv64::fmt_registers(registers, f),
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&text.join(" "))
    }
}

/// Registers with their names, three to a line.
fn fmt_rows(registers: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, row) in registers.chunks(3).enumerate() {
        let label = if index == 0 { "registers" } else { "" };
        write!(f, "  {label:9}")?;
        for (name, value) in row {
            write!(f, " {name:>6} {value:016x}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

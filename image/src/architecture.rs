//! What a kernel runs on.

use crate::elf::{Class, Machine};
use core::fmt;

/// What a kernel runs on, whichever format says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 32-bit x86.
    I386,
    /// x86-64.
    X86_64,
    /// 32-bit Arm.
    Arm,
    /// 64-bit Arm.
    Arm64,
    /// 32-bit RISC-V.
    Riscv32,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    Loongarch64,
    /// None that is known here.
    Unknown,
}

impl Architecture {
    /// What an ELF file says.
    pub(crate) const fn of_elf(class: Class, machine: Machine) -> Self {
        match (machine, class) {
            (Machine::I386, _) => Self::I386,
            (Machine::X86_64, _) => Self::X86_64,
            (Machine::Aarch64, _) => Self::Arm64,
            (Machine::Riscv, Class::Elf32) => Self::Riscv32,
            (Machine::Riscv, Class::Elf64) => Self::Riscv64,
            (Machine::Other(40), _) => Self::Arm,
            (Machine::Other(258), Class::Elf64) => Self::Loongarch64,
            (Machine::Other(_), _) => Self::Unknown,
        }
    }

    /// What the machine number of a PE file says (Microsoft's "PE Format", "Machine Types").
    pub(crate) const fn of_pe(machine: u16) -> Self {
        match machine {
            0x014c => Self::I386,
            0x8664 => Self::X86_64,
            0x01c0 | 0x01c2 | 0x01c4 => Self::Arm,
            0xaa64 => Self::Arm64,
            0x5032 => Self::Riscv32,
            0x5064 => Self::Riscv64,
            0x6264 => Self::Loongarch64,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::I386 => "i386",
            Self::X86_64 => "x86-64",
            Self::Arm => "arm",
            Self::Arm64 => "arm64",
            Self::Riscv32 => "riscv32",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
            Self::Unknown => "unknown machine",
        })
    }
}

//! Virtual CPUs: their names, and the state one starts in.

use crate::{arm64, riscv64, x86};
use core::fmt;

/// The number of a virtual CPU, counted from 0; on x86 also its APIC id, on RISC-V its hart id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(pub u32);

impl VcpuId {
    /// The vCPU that boots.
    pub const BOOT: Self = Self(0);
}

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vcpu {self}")
    }
}

/// What a virtual CPU's registers hold, as a value of the guest's architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VcpuState {
    /// An x86 or x86-64 processor.
    X86(x86::Registers),
    /// A 64-bit Arm processor.
    Arm64(arm64::Registers),
    /// A 64-bit RISC-V hart.
    Riscv64(riscv64::Registers),
}

impl VcpuState {
    /// The address of the next instruction, before any translation of pages.
    #[must_use]
    pub const fn pc(&self) -> u64 {
        match self {
            Self::X86(x86::Registers { gprs, cs, .. }) => cs.base.wrapping_add(gprs.rip),
            Self::Arm64(registers) => registers.pc,
            Self::Riscv64(registers) => registers.pc,
        }
    }

    /// The registers of an x86 processor, where it is one.
    #[must_use]
    pub const fn x86(&self) -> Option<&x86::Registers> {
        match self {
            Self::X86(registers) => Some(registers),
            Self::Arm64(_) | Self::Riscv64(_) => None,
        }
    }
}

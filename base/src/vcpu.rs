//! Virtual CPUs: their names, and the state one starts in.

use crate::x86;
use core::fmt;

/// The number of a virtual CPU, counted from 0; on x86 also its APIC id.
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
}

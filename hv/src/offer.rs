//! What a host can give its guests, where that differs from host to host.

/// What the host's hypervisor offers to guests of its own architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// On x86: a PC.
    X86,
    /// On 64-bit Arm.
    Arm64(Arm64Offer),
    /// On 64-bit RISC-V.
    Riscv64(Riscv64Offer),
}

/// What a 64-bit Arm host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm64Offer {
    /// An interrupt controller of version 2.
    pub gic_v2: bool,
    /// One of version 3.
    pub gic_v3: bool,
    /// An interrupt translation service with that.
    pub its: bool,
    /// A performance monitoring unit.
    pub pmu: bool,
    /// Exception level 2, for guests that are hypervisors.
    pub el2: bool,
}

/// What a 64-bit RISC-V host offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Riscv64Offer {
    /// The advanced interrupt architecture; without it there are no interrupt controllers.
    pub aia: bool,
    /// The extensions that a hart has, in the names of `riscv,isa-extensions`.
    pub extensions: Vec<&'static str>,
    /// The deepest address translation: 8 for Sv39, 9 for Sv48, 10 for Sv57 (The RISC-V Instruction
    /// Set Manual, volume II, section 12.1.11).
    pub satp_mode: u64,
    /// How often a hart's time counter ticks, in Hz.
    pub timebase: u64,
    /// Bytes of a block that `cbo.inval`, `cbo.clean` and `cbo.flush` work on; 0 without Zicbom.
    pub cbom_block: u64,
    /// Bytes of a block that `cbo.zero` works on; 0 without Zicboz.
    pub cboz_block: u64,
}

/// What a machine's vCPUs are to have, where an architecture leaves the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// On arm64, a performance monitoring unit; its interrupt is the private peripheral one that
    /// the Arm Base System Architecture (DEN0094) gives it.
    pub pmu: bool,
    /// On arm64, exception level 2.
    pub el2: bool,
}

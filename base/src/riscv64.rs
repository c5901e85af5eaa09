//! The registers of a 64-bit RISC-V hart (The RISC-V Instruction Set Manual, volumes I and II).

/// What a boot protocol sets, and what tells where a stopped guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Registers {
    /// The integer registers x0 to x31; x0 always reads 0.
    pub x: [u64; 32],
    /// The program counter.
    pub pc: u64,
    /// The privilege mode.
    pub mode: Mode,
    /// `satp`: mode and root of address translation; 0 is none (volume II, section 12.1.11).
    pub satp: u64,
    /// `sstatus`: bit 1 (SIE) lets interrupts in (volume II, section 12.1.1).
    pub sstatus: u64,
    /// `sie`: which interrupts are enabled (volume II, section 12.1.3).
    pub sie: u64,
    /// What the last trap left: read from a stopped vCPU, and not put into one.
    pub trap: Trap,
}

/// A privilege mode (volume II, section 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// User.
    User,
    /// Supervisor: what a kernel runs in.
    #[default]
    Supervisor,
}

/// What a supervisor's trap leaves behind (volume II, sections 12.1.2 and 12.1.7 to 12.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Trap {
    /// `stvec`: where traps are taken.
    pub stvec: u64,
    /// `sepc`: where the last one came from.
    pub sepc: u64,
    /// `scause`: why it was taken.
    pub scause: u64,
    /// `stval`: the address or instruction that it was about.
    pub stval: u64,
}

/// The index of the first argument register in [`Registers::x`] (volume I, chapter 25).
pub const A0: usize = 10;
/// The index of the second.
pub const A1: usize = 11;

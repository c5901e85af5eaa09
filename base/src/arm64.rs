//! The registers of a 64-bit Arm processor (Arm Architecture Reference Manual, DDI 0487, parts C5
//! and D19).

use bitflags::bitflags;

bitflags! {
    /// Processor state as `SPSR_ELx` holds it (DDI 0487, section C5.2.18).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Pstate: u64 {
        /// The stack pointer is that of the exception level, not that of EL0.
        const SP = 1 << 0;
        /// Exception level 1.
        const EL1 = 1 << 2;
        /// Exception level 2.
        const EL2 = 1 << 3;
        /// FIQs are masked.
        const F = 1 << 6;
        /// IRQs are masked.
        const I = 1 << 7;
        /// SErrors are masked.
        const A = 1 << 8;
        /// Debug exceptions are masked.
        const D = 1 << 9;
        const _ = !0;
    }
}

impl Pstate {
    /// All exceptions masked, at EL1 with its own stack pointer: what a kernel is entered with.
    pub const ENTRY_EL1: Self = Self::all_masked(Self::EL1);
    /// The same at EL2, for a guest that is a hypervisor itself.
    pub const ENTRY_EL2: Self = Self::all_masked(Self::EL2);

    const fn all_masked(level: Self) -> Self {
        Self::from_bits_retain(
            Self::D.bits()
                | Self::A.bits()
                | Self::I.bits()
                | Self::F.bits()
                | Self::SP.bits()
                | level.bits(),
        )
    }
}

/// What a boot protocol sets, and what tells where a stopped guest is. The rest is as after reset:
/// MMU and caches are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Registers {
    /// The general registers x0 to x30.
    pub x: [u64; 31],
    /// The stack pointer of the current exception level.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// Processor state.
    pub pstate: Pstate,
    /// What the guest has set up by now: read from a stopped vCPU, and not put into one.
    pub system: System,
}

/// System registers of EL1 (DDI 0487, part D19.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct System {
    /// `SCTLR_EL1`: bit 0 is the MMU's switch.
    pub sctlr: u64,
    /// `TCR_EL1`: sizes of the address spaces that the two tables translate.
    pub tcr: u64,
    /// `TTBR0_EL1`: the translation table for low addresses.
    pub ttbr0: u64,
    /// `TTBR1_EL1`: the translation table for high addresses.
    pub ttbr1: u64,
    /// `VBAR_EL1`: where exceptions are taken.
    pub vbar: u64,
    /// `ESR_EL1`: why the last exception was taken.
    pub esr: u64,
    /// `FAR_EL1`: the address that it was about.
    pub far: u64,
    /// `ELR_EL1`: where it came from.
    pub elr: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_entered_with_all_of_daif_masked() {
        assert_eq!(Pstate::ENTRY_EL1.bits(), 0x3c5);
        assert_eq!(Pstate::ENTRY_EL2.bits(), 0x3c9);
    }
}

//! Interrupt controllers that a hypervisor can put into a machine.

use firstlight_base::{Gpa, GpaRange};

/// A machine's interrupt controllers, and where they are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Irqchip {
    /// Two 8259s, an I/O APIC and a local APIC in every vCPU, all where a PC has them; and an 8254,
    /// the timer.
    Pc,
    /// A local APIC in every vCPU. The rest of a PC's is outside the hypervisor: its I/O APIC sends messages, and
    /// [announces](crate::Interconnect::announce) them; its 8259s [interrupt](crate::Vcpu::interrupt) a vCPU.
    LocalApics,
    /// An Arm generic interrupt controller of version 2 (IHI 0048). An
    /// [`Irq`](firstlight_base::Irq) is a shared peripheral interrupt, from 0 on.
    GicV2 {
        /// The distributor: 4 KiB.
        distributor: Gpa,
        /// The CPU interface: 8 KiB.
        cpu_interface: Gpa,
    },
    /// An Arm generic interrupt controller of version 3 (IHI 0069), with interrupts as in version 2.
    GicV3 {
        /// The distributor: 64 KiB, at a multiple of that.
        distributor: Gpa,
        /// The redistributors: 128 KiB for each vCPU, at a multiple of 64 KiB.
        redistributors: Gpa,
        /// The interrupt translation service: 128 KiB, at a multiple of 64 KiB.
        its: Option<Gpa>,
    },
    /// The advanced interrupt architecture of RISC-V. An [`Irq`](firstlight_base::Irq) is a source of
    /// the APLIC, from 1 on.
    Aia(Aia),
}

/// What a vCPU's parts inside the hypervisor ask for, on arm64: the levels of their lines into an interrupt controller
/// outside of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnInterrupts {
    /// The virtual timer.
    pub virtual_timer: bool,
    /// The physical timer of EL1.
    pub physical_timer: bool,
    /// The performance monitoring unit.
    pub pmu: bool,
}

/// RISC-V's advanced interrupt architecture (RISC-V AIA 1.0): an APLIC that turns lines into
/// messages, and an IMSIC for each hart that takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aia {
    /// The supervisor's APLIC.
    pub aplic: GpaRange,
    /// The supervisor's IMSICs: 4 KiB for each hart, one after the other.
    pub imsics: Gpa,
    /// How many sources the APLIC has; they count from 1.
    pub sources: u32,
    /// The highest identity that a message can have: one less than a multiple of 64.
    pub identities: u32,
}

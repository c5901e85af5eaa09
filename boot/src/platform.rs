//! The one truth about the machine: where its memory and devices are.
//!
//! Memory map, firmware tables, device tree and the wiring of devices are all made from one
//! [`Platform`] value. The platforms have the addresses of QEMU's machines (`microvm` and the two
//! `virt`) for what both have, so that one plan runs on either engine.

mod expansion;
mod flash;
mod pc;
mod topology;
mod virt_arm64;
mod virt_riscv64;

pub use expansion::{PciWindows, VirtioMmio};
pub use flash::Flash;
pub use pc::{Pc, SerialPort};
pub use topology::{Cpu, OperatingPoint, Topology};
pub use virt_arm64::{Gic, VirtArm64};
pub use virt_riscv64::{Hart, Isa, Mmu, RiscvIrqchip, VirtRiscv64};

use crate::firmware::variables::new_store;
use alloc::vec::Vec;
use firstlight_base::GpaRange;
use firstlight_image::Architecture;

/// A machine, as its guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platform {
    /// An x86 machine.
    Pc(Pc),
    /// A 64-bit Arm machine.
    VirtArm64(VirtArm64),
    /// A 64-bit RISC-V machine.
    VirtRiscv64(VirtRiscv64),
}

impl Platform {
    /// What its guests are built for.
    #[must_use]
    pub const fn architecture(&self) -> Architecture {
        match self {
            Self::Pc(_) => Architecture::X86_64,
            Self::VirtArm64(_) => Architecture::Arm64,
            Self::VirtRiscv64(_) => Architecture::Riscv64,
        }
    }

    /// Guest RAM as the hypervisor maps it, ascending.
    #[must_use]
    pub fn ram(&self) -> &[GpaRange] {
        match self {
            Self::Pc(pc) => &pc.ram,
            Self::VirtArm64(virt) => &virt.ram,
            Self::VirtRiscv64(virt) => &virt.ram,
        }
    }

    /// What is not the guest's to use, beside what no such machine has as RAM: ascending, and no
    /// two meet.
    #[must_use]
    pub fn reserved(&self) -> &[GpaRange] {
        match self {
            Self::Pc(pc) => &pc.reserved,
            Self::VirtArm64(virt) => &virt.reserved,
            Self::VirtRiscv64(virt) => &virt.reserved,
        }
    }

    /// Memory that outlives the guest (virtio-pmem), above RAM: ascending, and no two meet.
    #[must_use]
    pub fn pmem(&self) -> &[GpaRange] {
        match self {
            Self::Pc(pc) => &pc.pmem,
            Self::VirtArm64(virt) => &virt.pmem,
            Self::VirtRiscv64(virt) => &virt.pmem,
        }
    }

    /// The virtio transports.
    #[must_use]
    pub const fn virtio(&self) -> Option<&VirtioMmio> {
        match self {
            Self::Pc(pc) => pc.virtio.as_ref(),
            Self::VirtArm64(virt) => virt.virtio.as_ref(),
            Self::VirtRiscv64(virt) => virt.virtio.as_ref(),
        }
    }

    /// The PCI Express host bridge.
    #[must_use]
    pub const fn pci(&self) -> Option<&PciWindows> {
        match self {
            Self::Pc(pc) => pc.pci.as_ref(),
            Self::VirtArm64(virt) => virt.pci.as_ref(),
            Self::VirtRiscv64(virt) => virt.pci.as_ref(),
        }
    }

    /// The flash that firmware lies in; there is none where a kernel is booted without firmware.
    #[must_use]
    pub const fn flash(&self) -> Option<Flash> {
        match self {
            Self::Pc(pc) => pc.flash,
            Self::VirtArm64(virt) => virt.flash,
            Self::VirtRiscv64(virt) => virt.flash,
        }
    }

    /// What the variables' bank of its flash begins with before the firmware has kept anything; behind that, and
    /// mostly at once, are zeros: other firmware than a PC's formats them itself.
    #[must_use]
    pub fn new_variables(&self) -> Vec<u8> {
        let store = match self {
            Self::Pc(pc) => pc.flash.and_then(|flash| new_store(flash.variables.len())),
            Self::VirtArm64(_) | Self::VirtRiscv64(_) => None,
        };
        store.unwrap_or_default()
    }

    /// How many vCPUs.
    #[must_use]
    pub const fn cpus(&self) -> u32 {
        match self {
            Self::Pc(pc) => pc.cpus,
            Self::VirtArm64(virt) => virt.cpus,
            Self::VirtRiscv64(virt) => virt.cpus,
        }
    }
}

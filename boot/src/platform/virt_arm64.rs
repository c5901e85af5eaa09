//! The 64-bit Arm machine, at the addresses of QEMU's `virt` (`hw/arm/virt.c`, `base_memmap` and
//! `extended_memmap`).

use super::expansion::{PciWindows, VirtioMmio};
use super::flash::Flash;
use super::topology::Topology;
use crate::draft::range;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange, Irq, MIB};

/// A 64-bit Arm machine: a generic interrupt controller, a PL011 serial port, a PL031 clock, and
/// PSCI to start, stop and reset.
///
/// An [`Irq`] is the number of a shared peripheral interrupt: 0 is interrupt 32 of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtArm64 {
    /// Guest RAM: one range, from [`RAM_BASE`](Self::RAM_BASE).
    pub ram: Vec<GpaRange>,
    /// What is not the guest's to use: ascending, and no two meet.
    pub reserved: Vec<GpaRange>,
    /// How many vCPUs.
    pub cpus: u32,
    /// What the guest is told of them.
    pub topology: Topology,
    /// The interrupt controller.
    pub gic: Gic,
    /// Whether the vCPUs have a performance monitoring unit.
    pub pmu: bool,
    /// Whether the kernel is entered at EL2, to be a hypervisor itself; it calls PSCI by `smc` then,
    /// since `hvc` is its own.
    pub el2: bool,
    /// Whether there is a firmware configuration device.
    pub fw_cfg: bool,
    /// Whether there is a battery.
    pub battery: bool,
    /// The flash that firmware lies in, where it starts the machine.
    pub flash: Option<Flash>,
    /// Memory that outlives the guest (virtio-pmem), above RAM: ascending, and no two meet.
    pub pmem: Vec<GpaRange>,
    /// The virtio transports.
    pub virtio: Option<VirtioMmio>,
    /// The PCI Express host bridge.
    pub pci: Option<PciWindows>,
}

/// A generic interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// Version 2 (IHI 0048): up to 8 vCPUs.
    V2,
    /// Version 3 (IHI 0069).
    V3 {
        /// With an interrupt translation service, which turns message-signalled interrupts into
        /// the controller's own.
        its: bool,
    },
}

impl Gic {
    /// The most vCPUs it serves: 8 CPU interfaces, or as many redistributors as fit where they are.
    #[must_use]
    pub const fn max_cpus(self) -> u32 {
        match self {
            Self::V2 => 8,
            Self::V3 { .. } => 123,
        }
    }
}

impl VirtArm64 {
    /// A machine with `memory` bytes of RAM and that many vCPUs, and no virtio or PCI.
    #[must_use]
    pub fn new(memory: u64, cpus: u32) -> Self {
        Self {
            ram: GpaRange::new(Self::RAM_BASE, memory).into_iter().collect(),
            reserved: vec![],
            cpus,
            topology: Topology::default(),
            gic: Gic::V3 { its: true },
            pmu: true,
            el2: false,
            fw_cfg: false,
            battery: false,
            flash: None,
            pmem: vec![],
            virtio: None,
            pci: None,
        }
    }

    /// Where RAM begins.
    pub const RAM_BASE: Gpa = Gpa::new(GIB);
    /// The least RAM: what a kernel is placed by.
    pub const MIN_MEMORY: u64 = 2 * MIB;
    /// The most RAM: with what lies above it, an address has 46 bits.
    pub const MAX_MEMORY: u64 = 1 << 45;

    /// The flash, two chips of 64 MiB.
    pub const FLASH: Flash = Flash {
        code: range(0, 0x0400_0000),
        variables: range(0x0400_0000, 0x0800_0000),
    };
    /// The controller's distributor.
    pub const GIC_DISTRIBUTOR: GpaRange = range(0x0800_0000, 0x0801_0000);
    /// The CPU interface of a controller of version 2.
    pub const GICV2_CPU: GpaRange = range(0x0801_0000, 0x0802_0000);
    /// The interrupt translation service of a controller of version 3.
    pub const GICV3_ITS: GpaRange = range(0x0808_0000, 0x080a_0000);
    /// The redistributors of a controller of version 3, 128 KiB for each vCPU.
    pub const GICV3_REDISTRIBUTORS: GpaRange = range(0x080a_0000, 0x0900_0000);
    /// How much of them a vCPU has.
    pub const GICV3_REDISTRIBUTOR_LEN: u64 = 0x2_0000;
    /// The PL011 serial port, the console.
    pub const UART: GpaRange = range(0x0900_0000, 0x0900_1000);
    /// Its interrupt.
    pub const UART_IRQ: Irq = Irq(1);
    /// The frequency of the clock that the peripherals run by, in Hz.
    pub const PERIPHERAL_CLOCK: u32 = 24_000_000;
    /// The PL031 clock.
    pub const RTC: GpaRange = range(0x0901_0000, 0x0901_1000);
    /// Its interrupt.
    pub const RTC_IRQ: Irq = Irq(2);
    /// The battery, of which QEMU has none.
    pub const BATTERY: GpaRange = range(0x0910_0000, 0x0910_1000);
    /// Its interrupt.
    pub const BATTERY_IRQ: Irq = Irq(10);
    /// The firmware configuration device.
    pub const FW_CFG: GpaRange = range(0x0902_0000, 0x0902_0018);

    /// Private peripheral interrupts of a vCPU (Arm Base System Architecture, DEN0094, section 3.6):
    /// the secure physical timer.
    pub const PPI_TIMER_SECURE: u32 = 13;
    /// The non-secure physical timer.
    pub const PPI_TIMER: u32 = 14;
    /// The virtual timer.
    pub const PPI_TIMER_VIRTUAL: u32 = 11;
    /// The hypervisor's timer.
    pub const PPI_TIMER_EL2: u32 = 10;
    /// The performance monitoring unit.
    pub const PPI_PMU: u32 = 7;
    /// The interrupt controller, to a hypervisor.
    pub const PPI_GIC_MAINTENANCE: u32 = 9;

    /// All of QEMU's virtio transports.
    pub const VIRTIO: VirtioMmio = VirtioMmio {
        base: Gpa::new(0x0a00_0000),
        stride: 0x200,
        count: 32,
        irq: Irq(16),
    };

    /// The PCI Express windows of a machine with that much memory: the high ones lie above it, from 256
    /// GiB on, each at a multiple of its size.
    #[must_use]
    pub fn pci_windows(&self) -> PciWindows {
        const HIGH: Gpa = Gpa::new(256 * GIB);
        const ECAM_LEN: u64 = 256 * MIB;
        const MEMORY_LEN: u64 = 512 * GIB;
        let last = self.pmem.last().or(self.ram.last());
        let end = last.map_or(Self::RAM_BASE, |memory| memory.end());
        let aligned = |at: Gpa, align| at.align_up(align).unwrap_or(at);
        let high = aligned(end, GIB).max(HIGH);
        // QEMU keeps more redistributors first, in 64 MiB.
        let ecam = aligned(Gpa::new(high.get().saturating_add(64 * MIB)), ECAM_LEN);
        let memory = aligned(Gpa::new(ecam.get().saturating_add(ECAM_LEN)), MEMORY_LEN);
        PciWindows {
            ecam: GpaRange::new(ecam, ECAM_LEN).unwrap_or(Self::LOW_PCI_PORTS),
            ports: Some(Self::LOW_PCI_PORTS),
            memory32: Self::LOW_PCI_MEMORY,
            memory64: GpaRange::new(memory, MEMORY_LEN),
            irq: Irq(3),
        }
    }

    const LOW_PCI_MEMORY: GpaRange = range(0x1000_0000, 0x3eff_0000);
    const LOW_PCI_PORTS: GpaRange = range(0x3eff_0000, 0x3f00_0000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_windows_lie_where_qemu_has_them() {
        let windows = VirtArm64::new(512 * MIB, 1).pci_windows();
        assert_eq!(windows.ecam.start(), Gpa::new(0x40_1000_0000));
        assert_eq!(windows.memory64.unwrap().start(), Gpa::new(0x80_0000_0000));
    }

    #[test]
    fn high_windows_make_way_for_memory() {
        let machine = VirtArm64::new(600 * GIB, 1);
        let windows = machine.pci_windows();
        assert_eq!(windows.ecam.start(), Gpa::new(601 * GIB + 256 * MIB));
        assert_eq!(windows.memory64.unwrap().start(), Gpa::new(1024 * GIB));
        assert!(!machine.ram.iter().any(|ram| ram.overlaps(windows.ecam)));
        let pmem = range(602 * GIB, 700 * GIB);
        let pmem = vec![pmem];
        let windows = VirtArm64 { pmem, ..machine }.pci_windows();
        assert_eq!(windows.ecam.start(), Gpa::new(700 * GIB + 256 * MIB));
    }
}

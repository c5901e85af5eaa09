//! The 64-bit RISC-V machine, at the addresses of QEMU's `virt` (`hw/riscv/virt.c`,
//! `virt_memmap`).

use super::expansion::{PciWindows, VirtioMmio};
use super::flash::Flash;
use super::topology::Topology;
use crate::draft::range;
use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange, Irq, MIB};

/// A 64-bit RISC-V machine: a PLIC or an AIA, a 16550 serial port, a Goldfish clock, and SBI to
/// start, stop and reset.
///
/// An [`Irq`] is a source of the PLIC or APLIC; they count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtRiscv64 {
    /// Guest RAM: one range, from [`RAM_BASE`](Self::RAM_BASE).
    pub ram: Vec<GpaRange>,
    /// What is not the guest's to use: ascending, and no two meet.
    pub reserved: Vec<GpaRange>,
    /// How many vCPUs; their hart ids count from 0.
    pub cpus: u32,
    /// What the guest is told of them.
    pub topology: Topology,
    /// What each of them is.
    pub hart: Hart,
    /// The interrupt controllers.
    pub irqchip: RiscvIrqchip,
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

/// The interrupt controllers of a RISC-V machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiscvIrqchip {
    /// A platform-level interrupt controller (RISC-V PLIC Specification 1.0).
    Plic,
    /// The advanced interrupt architecture (RISC-V AIA 1.0): an IMSIC for each hart, and an APLIC
    /// that turns lines into messages.
    Aia,
}

/// What a hart is, as far as a kernel has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hart {
    /// Its instructions.
    pub isa: Isa,
    /// The deepest address translation it has.
    pub mmu: Mmu,
    /// How often its time counter ticks, in Hz.
    pub timebase: u32,
    /// Bytes of a block that `cbo.inval`, `cbo.clean` and `cbo.flush` work on, where it has Zicbom.
    pub cbom_block: Option<u32>,
    /// Bytes of a block that `cbo.zero` works on, where it has Zicboz.
    pub cboz_block: Option<u32>,
}

/// The extensions of a 64-bit base instruction set, in the names of `riscv,isa-extensions`
/// (`Documentation/devicetree/bindings/riscv/extensions.yaml`): `i`, `m`, `zicsr`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isa(pub Vec<Cow<'static, str>>);

/// A mode of address translation (The RISC-V Instruction Set Manual, volume II, chapter 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmu {
    /// 39 bits in three levels.
    Sv39,
    /// 48 bits in four.
    Sv48,
    /// 57 bits in five.
    Sv57,
}

impl Mmu {
    /// The name in a device tree's `mmu-type`, behind `riscv,`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sv39 => "sv39",
            Self::Sv48 => "sv48",
            Self::Sv57 => "sv57",
        }
    }
}

impl Isa {
    /// What general-purpose distributions are built for (RV64GC), in single extensions.
    #[must_use]
    pub fn rv64gc() -> Self {
        Self(
            ["i", "m", "a", "f", "d", "c", "zicsr", "zifencei"]
                .map(Cow::Borrowed)
                .into(),
        )
    }
}

impl Default for Hart {
    /// What every 64-bit processor that runs distributions has, with the time base of QEMU's
    /// (`hw/intc/riscv_aclint.c`).
    fn default() -> Self {
        Self {
            isa: Isa::rv64gc(),
            mmu: Mmu::Sv48,
            timebase: 10_000_000,
            cbom_block: None,
            cboz_block: None,
        }
    }
}

impl VirtRiscv64 {
    /// A machine with `memory` bytes of RAM and that many vCPUs, and no virtio or PCI.
    #[must_use]
    pub fn new(memory: u64, cpus: u32) -> Self {
        Self {
            ram: GpaRange::new(Self::RAM_BASE, memory).into_iter().collect(),
            reserved: vec![Self::FIRMWARE],
            cpus,
            topology: Topology::default(),
            hart: Hart::default(),
            irqchip: RiscvIrqchip::Plic,
            fw_cfg: false,
            battery: false,
            flash: None,
            pmem: vec![],
            virtio: None,
            pci: None,
        }
    }

    /// Where RAM begins.
    pub const RAM_BASE: Gpa = Gpa::new(2 * GIB);
    /// RAM that belongs to the firmware below the kernel, where there is one: in machine mode, on a
    /// processor that is not virtual.
    pub const FIRMWARE: GpaRange = range(0x8000_0000, 0x8004_0000);
    /// The least RAM: what a kernel is placed by.
    pub const MIN_MEMORY: u64 = 4 * MIB;
    /// The most RAM: with what lies above it, an address has 46 bits.
    pub const MAX_MEMORY: u64 = 1 << 45;
    /// The most vCPUs (`VIRT_CPUS_MAX`).
    pub const MAX_CPUS: u32 = 512;

    /// The finisher, which ends or resets the machine (`sifive,test0`).
    pub const FINISHER: GpaRange = range(0x0010_0000, 0x0010_1000);
    /// The Goldfish clock.
    pub const RTC: GpaRange = range(0x0010_1000, 0x0010_2000);
    /// Its interrupt.
    pub const RTC_IRQ: Irq = Irq(11);
    /// The battery, of which QEMU has none.
    pub const BATTERY: GpaRange = range(0x0010_2000, 0x0010_3000);
    /// Its interrupt.
    pub const BATTERY_IRQ: Irq = Irq(12);
    /// The machine mode's timers and software interrupts, which its firmware keeps to itself.
    pub const CLINT: GpaRange = range(0x0200_0000, 0x0201_0000);
    /// The PLIC.
    pub const PLIC: GpaRange = range(0x0c00_0000, 0x0c60_0000);
    /// The supervisor's APLIC.
    pub const APLIC: GpaRange = range(0x0d00_0000, 0x0d00_8000);
    /// How many sources the PLIC and the APLIC have, number 0 (PLIC) not counted.
    pub const SOURCES: u32 = 96;
    /// The identities of messages that an IMSIC tells apart.
    pub const IMSIC_IDENTITIES: u32 = 255;
    /// The supervisor's IMSICs, a page for each hart.
    pub const IMSICS: Gpa = Gpa::new(0x2800_0000);
    /// The 16550 serial port, the console.
    pub const UART: GpaRange = range(0x1000_0000, 0x1000_0100);
    /// Its interrupt.
    pub const UART_IRQ: Irq = Irq(10);
    /// The frequency that its divisor divides, in Hz.
    pub const UART_CLOCK: u32 = 3_686_400;
    /// The firmware configuration device.
    pub const FW_CFG: GpaRange = range(0x1010_0000, 0x1010_0018);
    /// The flash, two chips of 32 MiB.
    pub const FLASH: Flash = Flash {
        code: range(0x2000_0000, 0x2200_0000),
        variables: range(0x2200_0000, 0x2400_0000),
    };

    /// All of QEMU's virtio transports.
    pub const VIRTIO: VirtioMmio = VirtioMmio {
        base: Gpa::new(0x1000_1000),
        stride: 0x1000,
        count: 8,
        irq: Irq(1),
    };

    /// The PCI Express windows of a machine with that much memory: the one for BARs of 64 bits lies
    /// above it, at a multiple of its size.
    #[must_use]
    pub fn pci_windows(&self) -> PciWindows {
        const MEMORY_LEN: u64 = 16 * GIB;
        let last = self.pmem.last().or(self.ram.last());
        let end = last.map_or(Self::RAM_BASE, |memory| memory.end());
        let memory = end.align_up(MEMORY_LEN).unwrap_or(end);
        PciWindows {
            ecam: range(0x3000_0000, 0x4000_0000),
            ports: Some(range(0x0300_0000, 0x0301_0000)),
            memory32: Self::LOW_PCI_MEMORY,
            memory64: GpaRange::new(memory, MEMORY_LEN),
            irq: Irq(0x20),
        }
    }

    const LOW_PCI_MEMORY: GpaRange = range(0x4000_0000, 0x8000_0000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_window_lies_where_qemu_has_it() {
        let windows = VirtRiscv64::new(512 * MIB, 1).pci_windows();
        assert_eq!(windows.memory64.unwrap().start(), Gpa::new(0x4_0000_0000));
        let windows = VirtRiscv64::new(20 * GIB, 1).pci_windows();
        assert_eq!(windows.memory64.unwrap().start(), Gpa::new(0x8_0000_0000));
    }
}

//! The x86 machine, at the addresses of QEMU's `microvm`; what firmware in flash starts has those parts
//! of QEMU's `q35` besides that such firmware looks for.

use super::expansion::{PciWindows, VirtioMmio};
use super::flash::Flash;
use crate::FirmwareTables;
use crate::draft::range;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange, Irq, MIB, Port};

/// An x86 machine: interrupt controllers, legacy timer, serial ports, clock, and the
/// ACPI register block that turns it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pc {
    /// Guest RAM as the hypervisor maps it, ascending: from 0, and from 4 GiB what does not fit
    /// below the hole for devices.
    pub ram: Vec<GpaRange>,
    /// What is not the guest's to use, beside what no such machine has as RAM: ascending, and no two
    /// meet.
    pub reserved: Vec<GpaRange>,
    /// How many vCPUs; their APIC ids count from 0.
    pub cpus: u32,
    /// The 16550 serial ports, console first.
    pub serial: Vec<SerialPort>,
    /// The port through which the guest ends its machine with a status of its own choice.
    pub debug_exit: Option<Port>,
    /// Whether there is a debug console.
    pub debugcon: bool,
    /// Whether there is a firmware configuration device.
    pub fw_cfg: bool,
    /// Whether there is a battery.
    pub battery: bool,
    /// Whether there is a port by which its firmware says when the system goes to sleep.
    pub suspend_notice: bool,
    /// Memory that outlives the guest (virtio-pmem), above RAM: ascending, and no two meet.
    pub pmem: Vec<GpaRange>,
    /// What its firmware tells beside what it has to.
    pub firmware: FirmwareTables,
    /// The virtio transports.
    pub virtio: Option<VirtioMmio>,
    /// The PCI Express host bridge.
    pub pci: Option<PciWindows>,
    /// The flash that firmware lies in. A machine with flash has a chipset, too: the host bridge is that
    /// of Intel's Q35, and there are an ICH9's LPC bridge and its power management block. There is no
    /// keyboard controller then, whose keyboard firmware would wait for.
    pub flash: Option<Flash>,
}

/// A 16550 UART: eight ports from `base`, one edge-triggered interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// The first of its eight ports.
    pub base: Port,
    /// Its interrupt line.
    pub irq: Irq,
}

impl Pc {
    /// A machine with `memory` bytes of RAM and that many vCPUs, and no virtio or PCI.
    #[must_use]
    pub fn new(memory: u64, cpus: u32) -> Self {
        Self::with_hole(memory, cpus, Self::DEVICE_HOLE)
    }

    /// The same with `flash`, whose firmware wants a larger hole for devices, and gives them their
    /// addresses itself.
    #[must_use]
    pub fn with_flash(memory: u64, cpus: u32, flash: Flash) -> Self {
        Self {
            fw_cfg: true,
            flash: Some(flash),
            ..Self::with_hole(memory, cpus, Self::FIRMWARE_DEVICE_HOLE)
        }
    }

    fn with_hole(memory: u64, cpus: u32, hole: Gpa) -> Self {
        let low = memory.min(hole.get());
        let ram = [
            GpaRange::new(Gpa::new(0), low),
            GpaRange::new(Self::HIGH_RAM, memory.saturating_sub(low)),
        ];
        Self {
            ram: ram.into_iter().flatten().collect(),
            reserved: vec![],
            cpus,
            serial: vec![Self::COM1],
            debug_exit: None,
            debugcon: false,
            fw_cfg: false,
            battery: false,
            suspend_notice: false,
            pmem: vec![],
            firmware: FirmwareTables::default(),
            virtio: None,
            pci: None,
            flash: None,
        }
    }

    /// Where `len` bytes of firmware lie: the processor begins 16 bytes before their end, which is that
    /// of the first 4 GiB. Variables are below, in what is left of the next power of two, as OVMF's are
    /// (`OvmfPkg/Include/Fdf/OvmfPkgDefines.fdf.inc`); `None` where nothing is left, and for more than
    /// there is room for.
    #[must_use]
    pub fn flash(len: u64) -> Option<Flash> {
        let total = len.checked_next_power_of_two()?;
        let end = Self::HIGH_RAM.get();
        if len == 0 || !len.is_multiple_of(Self::FLASH_BLOCK) || total > Self::MOST_FLASH {
            return None;
        }
        let code = end.saturating_sub(len);
        Some(Flash {
            code: GpaRange::new(Gpa::new(code), len)?,
            variables: GpaRange::between(Gpa::new(end.saturating_sub(total)), Gpa::new(code))?,
        })
    }

    /// Where the hole for devices begins; RAM that does not fit below continues at 4 GiB.
    pub const DEVICE_HOLE: Gpa = Gpa::new(3 * GIB);
    /// The same on a machine with flash. OVMF places devices from here on, and of Debian 12 it has
    /// configuration space at 0xb0000000, where there must be no RAM.
    pub const FIRMWARE_DEVICE_HOLE: Gpa = Gpa::new(2 * GIB);
    /// Where RAM continues behind the hole for devices.
    pub const HIGH_RAM: Gpa = Gpa::new(4 * GIB);
    /// The most vCPUs an 8-bit APIC id can name; 255 is the broadcast.
    pub const MAX_CPUS: u32 = 255;
    /// The least RAM: what a PC has at fixed addresses lies below 1 MiB.
    pub const MIN_MEMORY: u64 = MIB;
    /// The most RAM: the hole above it is where a guest-physical address has 46 bits.
    pub const MAX_MEMORY: u64 = 1 << 45;

    /// Where guest-physical addresses of 46 bits end.
    pub const END: Gpa = Gpa::new(1 << 46);

    /// The legacy video and option ROM area: never RAM to the guest.
    pub const LEGACY_HOLE: (Gpa, Gpa) = (Gpa::new(0xa_0000), Gpa::new(0x10_0000));
    /// The I/O APIC's registers.
    pub const IOAPIC: Gpa = Gpa::new(0xfec0_0000);
    /// The local APIC's registers.
    pub const LAPIC: Gpa = Gpa::new(0xfee0_0000);
    /// The first of the 8254's ports, of which the last is 0x61.
    pub const PIT: Port = Port(0x40);
    /// Its interrupt.
    pub const PIT_IRQ: Irq = Irq(0);
    /// ACPI sleep control, sleep status and reset registers, one byte each, in this order
    /// (QEMU's generic event device; ACPI 6.5, sections 4.8.3.6 to 4.8.3.7).
    pub const ACPI_REGS: Gpa = Gpa::new(0xfea0_0200);
    /// The battery, of which QEMU has none.
    pub const BATTERY: GpaRange = range(0xfea0_1000, 0xfea0_2000);
    /// Its interrupt, which is level-triggered.
    pub const BATTERY_IRQ: Irq = Irq(10);
    /// All of QEMU's virtio transports, as it has them with one I/O APIC.
    pub const VIRTIO: VirtioMmio = VirtioMmio {
        base: Gpa::new(0xfeb0_0000),
        stride: 0x200,
        count: 8,
        irq: Irq(16),
    };
    /// The PCI Express windows. BARs of 64 bits share that of 32; there are no ports.
    pub const PCI: PciWindows = PciWindows {
        ecam: range(0xe000_0000, 0xf000_0000),
        ports: None,
        memory32: range(0xc000_0000, 0xe000_0000),
        memory64: None,
        irq: Irq(12),
    };
    /// The same on a machine with flash, but for BARs of 64 bits, for which all above RAM is.
    pub const FIRMWARE_PCI: PciWindows = PciWindows {
        memory32: range(Self::FIRMWARE_DEVICE_HOLE.get(), 0xe000_0000),
        ..Self::PCI
    };
    /// The device number of the LPC bridge.
    pub const LPC_BRIDGE: u8 = 31;
    /// The power management block, at which OVMF has an ICH9 put it.
    pub const POWER_MANAGEMENT: Port = Port(0x600);
    /// Flash is a multiple of this long, and no longer than that: below are other devices.
    pub const FLASH_BLOCK: u64 = 0x1000;
    /// The most flash.
    pub const MOST_FLASH: u64 = 8 * MIB;
    /// The ports of PCI's configuration mechanism 1, for guests that know no other (PCI Local Bus
    /// Specification 3.0, section 3.2.2.3.2).
    pub const PCI_CONFIG: Port = Port(0xcf8);
    /// What KVM on Intel processors keeps for itself: an identity map and a task state segment.
    pub const KVM_PRIVATE: GpaRange = range(0xfeff_c000, 0xff00_0000);
    /// What the guest writes to the reset register to be reset.
    pub const ACPI_RESET_VALUE: u8 = 0x42;
    /// The sleep type (`SLP_TYP`) of the soft-off state S5.
    pub const ACPI_S5: u8 = 5;
    /// The keyboard controller's command and status port; only its reset line is there.
    pub const I8042_COMMAND: Port = Port(0x64);
    /// The CMOS clock's index and data ports.
    pub const CMOS: Port = Port(0x70);
    /// The CMOS clock's interrupt.
    pub const CMOS_IRQ: Irq = Irq(8);
    /// The panic notification port (QEMU's `docs/specs/pvpanic.rst`).
    pub const PVPANIC: Port = Port(0x505);
    /// The port of what the system tells its firmware when it goes to sleep, of which QEMU has none.
    pub const SUSPEND_NOTICE: Port = Port(0x506);
    /// The debug console's port, where Bochs' BIOS and firmware for QEMU expect it.
    pub const DEBUGCON: Port = Port(0x402);
    /// The first of the firmware configuration device's twelve ports.
    pub const FW_CFG: Port = Port(0x510);
    /// Where the guest's own exit status goes, where it is asked for (QEMU's `isa-debug-exit`).
    pub const DEBUG_EXIT: Port = Port(0xf4);

    /// The first serial port of a PC.
    pub const COM1: SerialPort = SerialPort {
        base: Port(0x3f8),
        irq: Irq(4),
    };
}

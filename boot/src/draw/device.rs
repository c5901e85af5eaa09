//! The devices of a platform, as a list that a person reads.

use crate::platform::{
    Flash, Gic, Pc, PciWindows, Platform, RiscvIrqchip, VirtArm64, VirtRiscv64, VirtioMmio,
};
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::{Gpa, GpaRange, Irq, Port};

/// A device of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub name: &'static str,
    /// Where its registers are.
    pub place: Place,
    /// Its interrupt line.
    pub irq: Option<Irq>,
}

/// Where a device's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At so many I/O ports from this one.
    Ports(Port, u16),
    /// In the guest-physical address space.
    Memory(GpaRange),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports(base, 1) => write!(f, "port {base}"),
            Self::Ports(base, count) => {
                let end = Port(base.0.saturating_add(*count));
                write!(f, "ports {base}..{end}")
            }
            Self::Memory(range) => write!(f, "{range}"),
        }
    }
}

/// The devices of `platform` that a plan speaks of, ports first, each group ascending.
#[must_use]
pub fn devices(platform: &Platform) -> Vec<Device> {
    match platform {
        Platform::Pc(pc) => of_pc(pc),
        Platform::VirtArm64(virt) => of_arm64(virt),
        Platform::VirtRiscv64(virt) => of_riscv64(virt),
    }
}

/// What QEMU calls fw_cfg.
const FIRMWARE_FILES: &str = "files for the firmware (fw_cfg)";
const BATTERY: &str = "battery (Goldfish)";
/// What virtio calls pmem.
const PMEM: &str = "persistent memory (virtio-pmem)";

fn of_pc(platform: &Pc) -> Vec<Device> {
    let mut ports = Vec::from([
        port("CMOS clock", Pc::CMOS, 2, Some(Pc::CMOS_IRQ)),
        port("panic notification (pvpanic)", Pc::PVPANIC, 1, None),
    ]);
    ports.extend(
        platform
            .debug_exit
            .map(|at| port("the guest's exit status", at, 1, None)),
    );
    let debug = || port("debug console", Pc::DEBUGCON, 1, None);
    ports.extend(platform.debugcon.then(debug));
    let firmware = || port(FIRMWARE_FILES, Pc::FW_CFG, 12, None);
    ports.extend(platform.fw_cfg.then(firmware));
    let sleep = || port("word of the system's sleep", Pc::SUSPEND_NOTICE, 1, None);
    ports.extend(platform.suspend_notice.then(sleep));
    ports.extend(platform.serial.iter().enumerate().map(|(index, serial)| {
        let name = match index {
            0 => "serial port (16550), the console",
            _ => "serial port (16550)",
        };
        port(name, serial.base, 8, Some(serial.irq))
    }));
    ports.push(match platform.flash {
        Some(_) => port(
            "power management, with a timer",
            Pc::POWER_MANAGEMENT,
            12,
            None,
        ),
        None => port(
            "keyboard controller, only its reset line",
            Pc::I8042_COMMAND,
            1,
            None,
        ),
    });
    ports.sort_by_key(|device| match device.place {
        Place::Ports(base, _) => base.0,
        Place::Memory(_) => u16::MAX,
    });
    let pci_ports = platform
        .pci
        .map(|_| port("PCI configuration", Pc::PCI_CONFIG, 8, None));
    ports.extend(pci_ports);
    let memory = [
        memory("ACPI sleep control, sleep status, reset", Pc::ACPI_REGS, 3),
        memory("I/O APIC", Pc::IOAPIC, 0x1000),
        memory("local APICs", Pc::LAPIC, 0x1000),
        Some(at("kept for KVM's own use", Pc::KVM_PRIVATE, None)),
    ];
    let mut in_memory: Vec<_> = memory.into_iter().flatten().collect();
    let battery = || at(BATTERY, Pc::BATTERY, Some(Pc::BATTERY_IRQ));
    in_memory.extend(platform.battery.then(battery));
    in_memory.extend(platform.flash.iter().flat_map(flash));
    in_memory.extend(platform.virtio.iter().filter_map(virtio));
    in_memory.extend(platform.pci.iter().flat_map(pci));
    in_memory.extend(pmem(&platform.pmem));
    ports.extend(ascending(in_memory));
    ports
}

fn of_arm64(virt: &VirtArm64) -> Vec<Device> {
    let mut devices = match virt.gic {
        Gic::V2 => Vec::from([
            at(
                "interrupt distributor (GICv2)",
                VirtArm64::GIC_DISTRIBUTOR,
                None,
            ),
            at("interrupt CPU interface", VirtArm64::GICV2_CPU, None),
        ]),
        Gic::V3 { its } => {
            let len = VirtArm64::GICV3_REDISTRIBUTOR_LEN.saturating_mul(virt.cpus.into());
            let redistributors = VirtArm64::GICV3_REDISTRIBUTORS.start();
            let mut gic = Vec::from([at(
                "interrupt distributor (GICv3)",
                VirtArm64::GIC_DISTRIBUTOR,
                None,
            )]);
            gic.extend(its.then(|| {
                let range = VirtArm64::GICV3_ITS;
                at("interrupt translation service", range, None)
            }));
            gic.extend(memory("interrupt redistributors", redistributors, len));
            gic
        }
    };
    devices.push(at(
        "serial port (PL011), the console",
        VirtArm64::UART,
        Some(VirtArm64::UART_IRQ),
    ));
    devices.push(at(
        "clock (PL031)",
        VirtArm64::RTC,
        Some(VirtArm64::RTC_IRQ),
    ));
    let firmware = || at(FIRMWARE_FILES, VirtArm64::FW_CFG, None);
    devices.extend(virt.fw_cfg.then(firmware));
    let battery = || at(BATTERY, VirtArm64::BATTERY, Some(VirtArm64::BATTERY_IRQ));
    devices.extend(virt.battery.then(battery));
    devices.extend(virt.flash.iter().flat_map(flash));
    devices.extend(virt.virtio.iter().filter_map(virtio));
    devices.extend(virt.pci.iter().flat_map(pci));
    devices.extend(pmem(&virt.pmem));
    ascending(devices)
}

fn of_riscv64(virt: &VirtRiscv64) -> Vec<Device> {
    let mut devices = Vec::from([
        at(
            "power-off and reset (test finisher)",
            VirtRiscv64::FINISHER,
            None,
        ),
        at(
            "clock (Goldfish)",
            VirtRiscv64::RTC,
            Some(VirtRiscv64::RTC_IRQ),
        ),
        at(
            "serial port (16550), the console",
            VirtRiscv64::UART,
            Some(VirtRiscv64::UART_IRQ),
        ),
    ]);
    match virt.irqchip {
        RiscvIrqchip::Plic => {
            devices.push(at("interrupt controller (PLIC)", VirtRiscv64::PLIC, None));
        }
        RiscvIrqchip::Aia => {
            let len = u64::from(virt.cpus).saturating_mul(0x1000);
            devices.push(at(
                "interrupt lines to messages (APLIC)",
                VirtRiscv64::APLIC,
                None,
            ));
            devices.extend(memory(
                "interrupt messages (IMSICs)",
                VirtRiscv64::IMSICS,
                len,
            ));
        }
    }
    let firmware = || at(FIRMWARE_FILES, VirtRiscv64::FW_CFG, None);
    devices.extend(virt.fw_cfg.then(firmware));
    let battery = || {
        at(
            BATTERY,
            VirtRiscv64::BATTERY,
            Some(VirtRiscv64::BATTERY_IRQ),
        )
    };
    devices.extend(virt.battery.then(battery));
    devices.extend(virt.flash.iter().flat_map(flash));
    devices.extend(virt.virtio.iter().filter_map(virtio));
    devices.extend(virt.pci.iter().flat_map(pci));
    devices.extend(pmem(&virt.pmem));
    ascending(devices)
}

fn flash(flash: &Flash) -> [Device; 2] {
    [
        at("flash with the firmware", flash.code, None),
        at("flash for the firmware's variables", flash.variables, None),
    ]
}

fn pmem(ranges: &[GpaRange]) -> impl Iterator<Item = Device> {
    ranges.iter().map(|range| at(PMEM, *range, None))
}

fn virtio(virtio: &VirtioMmio) -> Option<Device> {
    Some(at("virtio transports", virtio.whole()?, Some(virtio.irq)))
}

fn pci(windows: &PciWindows) -> impl Iterator<Item = Device> {
    let bridge = [
        at("PCI configuration space", windows.ecam, Some(windows.irq)),
        at("PCI memory, 32-bit", windows.memory32, None),
    ];
    let ports = windows.ports.map(|range| at("PCI I/O ports", range, None));
    let memory64 = windows
        .memory64
        .map(|range| at("PCI memory, 64-bit", range, None));
    bridge.into_iter().chain(ports).chain(memory64)
}

/// By where their registers in memory begin.
fn ascending(mut devices: Vec<Device>) -> Vec<Device> {
    devices.sort_by_key(|device| match device.place {
        Place::Ports(..) => Gpa::new(0),
        Place::Memory(range) => range.start(),
    });
    devices
}

fn port(name: &'static str, base: Port, count: u16, irq: Option<Irq>) -> Device {
    Device {
        name,
        place: Place::Ports(base, count),
        irq,
    }
}

fn memory(name: &'static str, base: Gpa, len: u64) -> Option<Device> {
    Some(at(name, GpaRange::new(base, len)?, None))
}

fn at(name: &'static str, range: GpaRange, irq: Option<Irq>) -> Device {
    Device {
        name,
        place: Place::Memory(range),
        irq,
    }
}

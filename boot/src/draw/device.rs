//! The devices of a platform, as a list that a person reads.

use crate::Platform;
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
    let mut ports = Vec::from([
        port(
            "keyboard controller, only its reset line",
            Platform::I8042_COMMAND,
            1,
            None,
        ),
        port("CMOS clock", Platform::CMOS, 2, Some(Platform::CMOS_IRQ)),
        port("panic notification (pvpanic)", Platform::PVPANIC, 1, None),
    ]);
    ports.extend(
        platform
            .debug_exit
            .map(|at| port("the guest's exit status", at, 1, None)),
    );
    ports.extend(platform.serial.iter().enumerate().map(|(index, serial)| {
        let name = match index {
            0 => "serial port (16550), the console",
            _ => "serial port (16550)",
        };
        port(name, serial.base, 8, Some(serial.irq))
    }));
    ports.sort_by_key(|device| match device.place {
        Place::Ports(base, _) => base.0,
        Place::Memory(_) => u16::MAX,
    });
    let memory = [
        memory(
            "ACPI sleep control, sleep status, reset",
            Platform::ACPI_REGS,
            3,
        ),
        memory("I/O APIC", Platform::IOAPIC, 0x1000),
        memory("local APICs", Platform::LAPIC, 0x1000),
        Some(Device {
            name: "kept for KVM's own use",
            place: Place::Memory(Platform::KVM_PRIVATE),
            irq: None,
        }),
    ];
    ports.extend(memory.into_iter().flatten());
    ports
}

fn port(name: &'static str, base: Port, count: u16, irq: Option<Irq>) -> Device {
    Device {
        name,
        place: Place::Ports(base, count),
        irq,
    }
}

fn memory(name: &'static str, at: Gpa, len: u64) -> Option<Device> {
    let place = Place::Memory(GpaRange::new(at, len)?);
    Some(Device {
        name,
        place,
        irq: None,
    })
}

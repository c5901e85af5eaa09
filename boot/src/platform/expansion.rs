//! Where a machine can be given further devices: what all machines have in the same form.

use firstlight_base::{Gpa, GpaRange, Irq, MIB};

/// A row of virtio transports that are registers in memory (virtio 1.2, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioMmio {
    /// The registers of the first.
    pub base: Gpa,
    /// How far the next one's are from one's, in bytes.
    pub stride: u64,
    /// How many there are.
    pub count: u32,
    /// The line of the first; each has the next.
    pub irq: Irq,
}

impl VirtioMmio {
    /// The first `count` of the row; `None` for none, and for more than there are.
    #[must_use]
    pub const fn first(self, count: u32) -> Option<Self> {
        if count == 0 || count > self.count {
            return None;
        }
        Some(Self { count, ..self })
    }

    /// The registers of all.
    #[must_use]
    pub fn whole(&self) -> Option<GpaRange> {
        GpaRange::new(self.base, self.stride.checked_mul(self.count.into())?)
    }

    /// The registers of transport `number`, and its line; `None` beyond the last.
    #[must_use]
    pub fn transport(&self, number: u32) -> Option<(GpaRange, Irq)> {
        if number >= self.count {
            return None;
        }
        let offset = self.stride.checked_mul(number.into())?;
        let registers = GpaRange::new(self.base.checked_add(offset)?, self.stride)?;
        Some((registers, Irq(self.irq.0.checked_add(number)?)))
    }
}

/// Where a PCI Express host bridge is seen: on x86 by ACPI's `MCFG`, elsewhere as
/// `pci-host-ecam-generic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciWindows {
    /// Configuration space, 1 MiB for each bus.
    pub ecam: GpaRange,
    /// Where I/O ports from 0 on are seen in memory.
    pub ports: Option<GpaRange>,
    /// Memory for BARs of 32 bits, at the same address on the bus.
    pub memory32: GpaRange,
    /// Memory for BARs of 64 bits, at the same address on the bus.
    pub memory64: Option<GpaRange>,
    /// Four lines, level-triggered. This is that of INTA of device 0; INTB to INTD have the next three, and every device begins one
    /// further on (PCI-to-PCI Bridge Architecture Specification 1.2, section 9.1).
    pub irq: Irq,
}

impl PciWindows {
    /// How many lines the pins of all devices end at.
    pub const LINES: u32 = 4;

    /// The line at which a pin of a device on the root bus ends; INTA is pin 0.
    #[must_use]
    pub const fn line(&self, device: u32, pin: u32) -> Irq {
        let further = device.wrapping_add(pin) % Self::LINES;
        Irq(self.irq.0.saturating_add(further))
    }

    /// The same with no more than that many buses; `None` for none.
    ///
    /// Linux looks for devices on every bus that configuration space has room for, if need be
    /// (`pcibios_fixup_peer_bridges`), which takes two exits for each of 32 devices.
    #[must_use]
    pub fn with_buses(self, count: u32) -> Option<Self> {
        let len = self.ecam.len().min(MIB.saturating_mul(count.into()));
        let ecam = GpaRange::new(self.ecam.start(), len)?;
        Some(Self { ecam, ..self })
    }

    /// How many buses configuration space has room for.
    #[must_use]
    pub fn buses(&self) -> u32 {
        u32::try_from(self.ecam.len() / MIB).unwrap_or(Self::MOST_BUSES)
    }

    const MOST_BUSES: u32 = 256;
}

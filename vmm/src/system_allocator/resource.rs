//! What can be given, and how it is named.

use super::MmioWindow;
use firstlight_base::{GpaRange, Irq, Port};
use firstlight_devices::pci::Address;
use std::fmt;

/// Neighbouring I/O ports, at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: Port,
    count: u32,
}

impl PortRange {
    /// The `count` ports from `first`; `None` where that is none, or more than there are.
    #[must_use]
    pub const fn new(first: Port, count: u32) -> Option<Self> {
        const PORTS: u32 = 1 << 16;
        // Lossless; `From` is not const.
        if count == 0 || count > PORTS - first.0 as u32 {
            return None;
        }
        Some(Self { first, count })
    }

    /// The first of them.
    #[must_use]
    pub const fn first(self) -> Port {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub const fn last(self) -> Port {
        let [low, high, ..] = (self.count - 1).to_le_bytes();
        Port(self.first.0 + u16::from_le_bytes([low, high]))
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last())
    }
}

impl fmt::Debug for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ports {self}")
    }
}

/// Interrupts with neighbouring numbers, at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IrqRange {
    first: Irq,
    count: u32,
}

impl IrqRange {
    /// The `count` interrupts from `first`; `None` where that is none, or where the last has no
    /// 32-bit number.
    #[must_use]
    pub const fn new(first: Irq, count: u32) -> Option<Self> {
        if count == 0 || first.0.checked_add(count - 1).is_none() {
            return None;
        }
        Some(Self { first, count })
    }

    /// The first of them.
    #[must_use]
    pub const fn first(self) -> Irq {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub const fn last(self) -> Irq {
        Irq(self.first.0 + (self.count - 1))
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }
}

impl fmt::Display for IrqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last())
    }
}

impl fmt::Debug for IrqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "irqs {self}")
    }
}

/// How many addresses or ports somebody wants, and the power of two that the first is to be a
/// multiple of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// How many.
    pub len: u64,
    /// What the first is a multiple of.
    pub align: u64,
}

impl Room {
    /// Room for a base address register of PCI, which lies at a multiple of its size (PCI Local
    /// Bus Specification 3.0, section 6.2.5.1).
    #[must_use]
    pub const fn bar(len: u64) -> Self {
        Self { len, align: len }
    }
}

/// Where something is given from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// A window of addresses.
    Mmio(MmioWindow),
    /// I/O ports.
    Ports,
    /// Interrupts.
    Irqs,
    /// Devices on this PCI bus.
    Pci {
        /// Its number.
        bus: u8,
    },
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mmio(MmioWindow::Low) => f.write_str("low MMIO"),
            Self::Mmio(MmioWindow::High) => f.write_str("high MMIO"),
            Self::Mmio(MmioWindow::Platform) => f.write_str("platform MMIO"),
            Self::Ports => f.write_str("I/O ports"),
            Self::Irqs => f.write_str("interrupts"),
            Self::Pci { bus } => write!(f, "PCI bus {bus:02x}"),
        }
    }
}

/// Something that is given, or could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Guest-physical addresses.
    Mmio(GpaRange),
    /// I/O ports.
    Ports(PortRange),
    /// An interrupt.
    Irq(Irq),
    /// Several interrupts.
    Irqs(IrqRange),
    /// A function on PCI.
    Pci(Address),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mmio(range) => range.fmt(f),
            Self::Ports(range) => write!(f, "ports {range}"),
            Self::Irq(irq) => write!(f, "interrupt {irq}"),
            Self::Irqs(range) => write!(f, "interrupts {range}"),
            Self::Pci(address) => write!(f, "PCI {address}"),
        }
    }
}

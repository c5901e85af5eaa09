//! What both `virt` machines have in the same form.

use firstlight_base::{Gpa, GpaRange, Irq};

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

/// Where a PCI Express host bridge is seen (`pci-host-ecam-generic`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciWindows {
    /// Configuration space, 1 MiB for each bus.
    pub ecam: GpaRange,
    /// Where I/O ports from 0 on are seen.
    pub ports: GpaRange,
    /// Memory for BARs of 32 bits, at the same address on the bus.
    pub memory32: GpaRange,
    /// Memory for BARs of 64 bits, at the same address on the bus.
    pub memory64: GpaRange,
    /// The line of INTA of device 0; INTB to INTD have the next three, and every device begins one
    /// further on (PCI-to-PCI Bridge Architecture Specification 1.2, section 9.1).
    pub irq: Irq,
}

//! The numbers by which nodes of a machine's own tree refer to each other.

pub(super) const CONTROLLER: u32 = 1;
pub(super) const MESSAGES: u32 = 2;
pub(super) const CLOCK: u32 = 3;
pub(super) const FINISHER: u32 = 4;
pub(super) const UART: u32 = 5;
pub(super) const RTC: u32 = 6;
pub(super) const PCI: u32 = 7;

/// Of each kind there are fewer than this many.
const MANY: u32 = 0x1000;

pub(super) const fn cpu(number: u32) -> u32 {
    MANY.saturating_add(number)
}

/// The controller within a hart.
pub(super) const fn hart(number: u32) -> u32 {
    cpu(number).saturating_add(MANY)
}

/// A table of operating points.
pub(super) const fn operating_points(number: u32) -> u32 {
    hart(number).saturating_add(MANY)
}

/// A virtio transport.
pub(super) const fn virtio(number: u32) -> u32 {
    operating_points(number).saturating_add(MANY)
}

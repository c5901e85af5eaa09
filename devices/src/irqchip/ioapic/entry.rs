//! The redirection table's entries (82093AA data sheet, section 3.2.4).

use crate::irqchip::apic_message::{ApicMessage, DeliveryMode, Destination};

/// What becomes of an interrupt of one pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

/// One of an entry's halves, as the registers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Low,
    High,
}

const MODE_SHIFT: u32 = 8;
const LOGICAL: u64 = 1 << 11;
const POLARITY: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Where the manual has reserved bits, the next seven of the destination's, where a hypervisor
/// says so (`KVM_FEATURE_MSI_EXT_DEST_ID`).
const EXTENDED_SHIFT: u32 = 49;
const EXTENDED: u64 = 0x7f << EXTENDED_SHIFT;
const DESTINATION: u64 = 0xff << 56;
/// The vector and the mode. Delivery status (bit 12) is always idle.
const VECTOR_AND_MODE: u64 = 0x7ff;

const WRITABLE: u64 =
    VECTOR_AND_MODE | LOGICAL | POLARITY | LEVEL | MASKED | EXTENDED | DESTINATION;

impl Entry {
    /// After reset.
    pub(super) const MASKED: Self = Self(MASKED);

    pub(super) const fn half(self, half: Half) -> u32 {
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        match half {
            Half::Low => u32::from_le_bytes([a, b, c, d]),
            Half::High => u32::from_le_bytes([e, f, g, h]),
        }
    }

    /// With a half written. An entry that is no longer one of a level has no remote IRR: by that
    /// Linux ends the interrupts of I/O APICs that have no EOI register.
    pub(super) fn with(self, half: Half, value: u32) -> Self {
        let value = u64::from(value);
        let written = match half {
            Half::Low => self.0 & u64::from(u32::MAX) << 32 | value,
            Half::High => self.0 & u64::from(u32::MAX) | value << 32,
        };
        let entry = Self(written & WRITABLE | self.0 & REMOTE_IRR);
        if entry.is_level() {
            entry
        } else {
            entry.with_remote_irr(false)
        }
    }

    pub(super) const fn is_masked(self) -> bool {
        self.0 & MASKED != 0
    }

    /// Whether the pin is one of a level. Only modes with an end of interrupt have such.
    pub(super) fn is_level(self) -> bool {
        self.0 & LEVEL != 0 && self.mode().is_none_or(DeliveryMode::has_end)
    }

    /// Whether a local APIC has an interrupt of the level and did not end it.
    pub(super) const fn remote_irr(self) -> bool {
        self.0 & REMOTE_IRR != 0
    }

    pub(super) const fn with_remote_irr(self, set: bool) -> Self {
        Self(if set {
            self.0 | REMOTE_IRR
        } else {
            self.0 & !REMOTE_IRR
        })
    }

    pub(super) const fn vector(self) -> u8 {
        let [vector, ..] = self.0.to_le_bytes();
        vector
    }

    fn mode(self) -> Option<DeliveryMode> {
        DeliveryMode::of_device(self.half(Half::Low) >> MODE_SHIFT)
    }

    /// What is sent; nothing in a mode that is reserved.
    pub(super) fn message(self) -> Option<ApicMessage> {
        let [.., low] = self.0.to_le_bytes();
        let [extended, ..] = ((self.0 & EXTENDED) >> EXTENDED_SHIFT).to_le_bytes();
        let number = u32::from(extended) << 8 | u32::from(low);
        Some(ApicMessage {
            vector: self.vector(),
            mode: self.mode()?,
            level: self.is_level(),
            destination: Destination::new(number, self.0 & LOGICAL != 0),
        })
    }
}

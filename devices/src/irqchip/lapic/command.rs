//! The interrupt command register (Intel SDM volume 3, section "Issuing Interprocessor
//! Interrupts").

use crate::irqchip::apic_message::{ApicMessage, DeliveryMode, Destination};

/// An interrupt that a processor sends to processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// What is sent, and where there is no shorthand, to whom.
    pub message: ApicMessage,
    /// Whom it is for, whatever the message says.
    pub shorthand: Option<Shorthand>,
}

/// Processors as seen from the one that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shorthand {
    /// The one that sends.
    Itself,
    /// All.
    All,
    /// All but the one that sends.
    Others,
}

/// What a write to the register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Ipi(Ipi),
    /// A vector below 16.
    IllegalVector,
    /// What nobody receives.
    Nothing,
}

/// How destinations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// In the upper eight bits, of which all ones are everybody.
    XApic,
    /// In the upper 32 bits.
    X2Apic,
}

const LOGICAL: u64 = 1 << 11;
const DELIVERY_STATUS: u64 = 1 << 12;
const ASSERT: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const SHORTHAND_SHIFT: u32 = 18;
const DEFINED: u64 = 0xfff | ASSERT | LEVEL | 0b11 << SHORTHAND_SHIFT;
const XAPIC_DESTINATION: u64 = 0xff << 56;
const X2APIC_DESTINATION: u64 = 0xffff_ffff << 32;

impl Format {
    /// The bits that the register keeps.
    pub(super) const fn kept(self) -> u64 {
        DEFINED
            | match self {
                Self::XApic => XAPIC_DESTINATION,
                Self::X2Apic => X2APIC_DESTINATION,
            }
    }

    /// The bits that may not be set.
    pub(super) const fn reserved(self) -> u64 {
        !(self.kept() | DELIVERY_STATUS)
    }

    fn destination(self, register: u64) -> Destination {
        let is_logical = register & LOGICAL != 0;
        let [.., high] = register.to_le_bytes();
        let number = match self {
            Self::XApic if high == u8::MAX && !is_logical => u32::MAX,
            Self::XApic => high.into(),
            Self::X2Apic => u32::try_from(register >> 32).unwrap_or(u32::MAX),
        };
        Destination::new(number, is_logical)
    }

    /// What is sent by a write of `register`.
    pub(super) fn sent(self, register: u64) -> Sent {
        let [vector, mode, ..] = register.to_le_bytes();
        let mode = match DeliveryMode::of_bits(mode.into()) {
            None | Some(DeliveryMode::ExtInt) => return Sent::Nothing,
            Some(mode) => mode,
        };
        // "INIT Level De-assert" set arbitration ids once, and does nothing since.
        if mode == DeliveryMode::Init && register & (LEVEL | ASSERT) == LEVEL {
            return Sent::Nothing;
        }
        if mode.has_end() && vector < super::LOWEST_VECTOR {
            return Sent::IllegalVector;
        }
        let shorthand = match register >> SHORTHAND_SHIFT & 0b11 {
            0 => None,
            1 => Some(Shorthand::Itself),
            2 => Some(Shorthand::All),
            _ => Some(Shorthand::Others),
        };
        // Table "Valid Combinations": nobody resets or starts itself.
        let starts = matches!(mode, DeliveryMode::Init | DeliveryMode::StartUp);
        if starts && matches!(shorthand, Some(Shorthand::Itself | Shorthand::All)) {
            return Sent::Nothing;
        }
        Sent::Ipi(Ipi {
            message: ApicMessage {
                vector,
                mode,
                level: false,
                destination: self.destination(register),
            },
            shorthand,
        })
    }
}

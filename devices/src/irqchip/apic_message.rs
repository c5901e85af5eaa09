//! What is sent to local APICs by I/O APICs and by functions with message-signalled interrupts
//! (Intel SDM volume 3, section "Message Signalled Interrupts"), and by one another.

#[cfg(test)]
mod tests;

use crate::pci::Message;

/// An interrupt on its way to local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApicMessage {
    /// The vector; of no meaning for some modes.
    pub vector: u8,
    /// What it does to the processor.
    pub mode: DeliveryMode,
    /// Whether its end is to be told to the I/O APICs: it comes of a level and not of an edge.
    pub level: bool,
    /// Which local APICs it is for.
    pub destination: Destination,
}

/// What a message does to a processor (Intel SDM volume 3, section "Interrupt Command Register").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryMode {
    /// Interrupts all processors that it is for.
    Fixed,
    /// Interrupts one of them.
    LowestPriority,
    /// A system management interrupt.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// Resets the processor, which then waits to be started.
    Init,
    /// Starts it, at the vector's page.
    StartUp,
    /// An interrupt whose vector the processor gets from 8259A controllers.
    ExtInt,
}

/// Which local APICs a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The one with this id.
    Physical(u32),
    /// Those whose logical ids match this one.
    Logical(u32),
}

/// Address bits (figure "Layout of the MSI Message Address Register").
const PLACE: u64 = 0xfee0_0000;
const PLACE_MASK: u64 = 0xfff0_0000;
const LOGICAL: u64 = 1 << 2;
const REDIRECTION_HINT: u64 = 1 << 3;
/// Bits 5 to 11 have the next seven bits of the destination where a hypervisor says so
/// (`KVM_FEATURE_MSI_EXT_DEST_ID`), and are reserved otherwise.
const EXTENDED_SHIFT: u32 = 5;
const EXTENDED_MASK: u64 = 0x7f;
const DESTINATION_SHIFT: u32 = 12;
/// The upper half has bits 8 to 31 of the destination in its own, as KVM takes them
/// (`KVM_X2APIC_API_USE_32BIT_IDS`).
const HIGH_DESTINATION: u64 = 0xffff_ff00;

/// Data bits (figure "Layout of the MSI Message Data Register").
const MODE_SHIFT: u32 = 8;
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;

impl DeliveryMode {
    /// The mode of a register's three bits; nothing for the one that there is not.
    pub(super) const fn of_bits(bits: u32) -> Option<Self> {
        match bits % 8 {
            0 => Some(Self::Fixed),
            1 => Some(Self::LowestPriority),
            2 => Some(Self::Smi),
            4 => Some(Self::Nmi),
            5 => Some(Self::Init),
            6 => Some(Self::StartUp),
            7 => Some(Self::ExtInt),
            _ => None,
        }
    }

    /// One that a device may send: none of them starts a processor.
    pub(super) fn of_device(bits: u32) -> Option<Self> {
        Self::of_bits(bits).filter(|&mode| mode != Self::StartUp)
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Fixed => 0,
            Self::LowestPriority => 1,
            Self::Smi => 2,
            Self::Nmi => 4,
            Self::Init => 5,
            Self::StartUp => 6,
            Self::ExtInt => 7,
        }
    }

    /// Whether it brings a vector that the local APIC keeps, and whose service has an end. All
    /// others are edges, whatever is said of them (82093AA data sheet, section 3.2.4).
    pub(super) const fn has_end(self) -> bool {
        matches!(self, Self::Fixed | Self::LowestPriority)
    }
}

impl Destination {
    /// The one with this number, in logical or in physical mode.
    pub(super) const fn new(number: u32, is_logical: bool) -> Self {
        if is_logical {
            Self::Logical(number)
        } else {
            Self::Physical(number)
        }
    }
}

impl ApicMessage {
    /// What a device's message is; nothing where it is not written to the local APICs or is of a
    /// mode that is reserved.
    ///
    /// A fixed message with the redirection hint is one to the lowest priority. A level is always
    /// taken for asserted.
    #[must_use]
    pub fn from_msi(message: Message) -> Option<Self> {
        let Message { address, data } = message;
        if address & PLACE_MASK & u64::from(u32::MAX) != PLACE {
            return None;
        }
        let mode = match DeliveryMode::of_device(data >> MODE_SHIFT)? {
            DeliveryMode::Fixed if address & REDIRECTION_HINT != 0 => DeliveryMode::LowestPriority,
            mode => mode,
        };
        let [vector, ..] = data.to_le_bytes();
        let [_, low, ..] = (address >> (DESTINATION_SHIFT - 8)).to_le_bytes();
        let extended = (address >> EXTENDED_SHIFT & EXTENDED_MASK) << 8;
        let high = address >> 32 & HIGH_DESTINATION | extended;
        let high = u32::try_from(high).unwrap_or(0);
        Some(Self {
            vector,
            mode,
            level: data & LEVEL != 0 && mode.has_end(),
            destination: Destination::new(high | u32::from(low), address & LOGICAL != 0),
        })
    }

    /// As the message of a device. Destinations above 255 have their upper bits in the upper half
    /// of the address.
    #[must_use]
    pub fn to_msi(self) -> Message {
        let (number, logical) = match self.destination {
            Destination::Physical(number) => (u64::from(number), 0),
            Destination::Logical(number) => (u64::from(number), LOGICAL),
        };
        let hint = match self.mode {
            DeliveryMode::LowestPriority => REDIRECTION_HINT,
            _ => 0,
        };
        let high = (number & HIGH_DESTINATION) << 32;
        let low = (number & !HIGH_DESTINATION) << DESTINATION_SHIFT;
        let level = if self.level { LEVEL | ASSERT } else { 0 };
        Message {
            address: high | PLACE | low | hint | logical,
            data: level | self.mode.bits() << MODE_SHIFT | u32::from(self.vector),
        }
    }
}

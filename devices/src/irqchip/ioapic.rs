//! The I/O APIC of a PC (Intel 82093AA data sheet, order number 290566), with the EOI register of
//! later ones (Intel I/O Controller Hub 10 data sheet, section 13.5.1).
//!
//! Lines are logical levels: high means that an interrupt is asked for. The polarity of a pin is
//! kept for the guest to read, and has no other meaning.
//!
//! An edge is kept until it is sent, also where the pin is masked. A level is an interrupt as long
//! as it lasts, and again at the end of the one before, or when the pin is unmasked. A pulse is
//! one interrupt, also on a pin that is one of a level.
//!
//! Nothing is allocated, and nothing is queued: what is to be sent is what the pins say when it is
//! asked for.

mod entry;
#[cfg(test)]
mod tests;

use super::apic_message::ApicMessage;
use crate::words::Words;
use crate::{Chip, Effect};
use entry::{Entry, Half};
use firstlight_base::Irq;

/// An I/O APIC of 24 pins.
#[derive(Clone, Debug)]
pub struct IoApic {
    id: u8,
    arbitration_id: u8,
    selected: u8,
    entries: [Entry; IoApic::PINS as usize],
    /// Pins that are high, and those with an edge or a pulse that was not sent.
    high: u32,
    latched: u32,
    changed: bool,
}

/// A pin of an I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoApicPin(pub u32);

impl IoApicPin {
    /// The pin that a PC's line is wired to: its timer's reaches pin 2, as ACPI tables say, and the cascade of its 8259A
    /// pair none.
    #[must_use]
    pub const fn of_line(line: Irq) -> Option<Self> {
        const TIMER: u32 = 0;
        const CASCADE: u32 = 2;
        match line.0 {
            TIMER => Some(Self(2)),
            CASCADE => None,
            number => Some(Self(number)),
        }
    }
}

/// The registers that memory shows (section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    /// IOREGSEL.
    Select,
    /// IOWIN.
    Window,
    /// Ends the interrupts of a vector.
    Eoi,
}

impl Register {
    const fn at(offset: u64) -> Option<Self> {
        match offset {
            0x00 => Some(Self::Select),
            0x10 => Some(Self::Window),
            0x40 => Some(Self::Eoi),
            _ => None,
        }
    }
}

/// The registers behind the window (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    Id,
    Version,
    ArbitrationId,
    Entry(IoApicPin, Half),
}

impl Selected {
    fn at(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Id),
            1 => Some(Self::Version),
            2 => Some(Self::ArbitrationId),
            0x10.. => {
                let pin = IoApicPin(u32::from(index - 0x10) / 2);
                let half = if index.is_multiple_of(2) {
                    Half::Low
                } else {
                    Half::High
                };
                (pin.0 < IoApic::PINS).then_some(Self::Entry(pin, half))
            }
            _ => None,
        }
    }
}

/// With an EOI register.
const VERSION: u32 = 0x20;
const MAXIMUM_ENTRY_SHIFT: u32 = 16;
const ID_SHIFT: u32 = 24;
const ID_MASK: u8 = 0xf;

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// How many pins there are.
    pub const PINS: u32 = 24;
    /// How many bytes of addresses it takes.
    pub const EXTENT: u64 = 0x1000;

    /// One after reset: every pin is masked.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            id: 0,
            arbitration_id: 0,
            selected: 0,
            entries: [Entry::MASKED; Self::PINS as usize],
            high: 0,
            latched: 0,
            changed: false,
        }
    }

    /// Raises or lowers a pin. One that is not there has none.
    pub fn set(&mut self, pin: IoApicPin, high: bool) {
        let Some(entry) = self.entry(pin) else {
            return;
        };
        let bit = bit(pin);
        if high && self.high & bit == 0 && !entry.is_level() {
            self.latched |= bit;
        }
        self.high = if high {
            self.high | bit
        } else {
            self.high & !bit
        };
    }

    /// Raises and lowers a pin: one interrupt, also where it is one of a level and an earlier
    /// interrupt has not ended.
    pub fn pulse(&mut self, pin: IoApicPin) {
        if self.entry(pin).is_some() {
            self.latched |= bit(pin);
            self.high &= !bit(pin);
        }
    }

    /// What is now to be sent; to be asked, until there is nothing, after everything that was done
    /// to the I/O APIC.
    pub fn next_message(&mut self) -> Option<ApicMessage> {
        loop {
            let pin = self.ready()?;
            let bit = bit(pin);
            self.latched &= !bit;
            let entry = self.entry_mut(pin)?;
            let message = entry.message();
            if entry.is_level() {
                *entry = entry.with_remote_irr(true);
            }
            // A reserved mode reaches nobody.
            if message.is_some() {
                return message;
            }
        }
    }

    /// The first pin with an interrupt to send.
    fn ready(&self) -> Option<IoApicPin> {
        let pins = (0..).zip(&self.entries);
        pins.filter(|(_, entry)| !entry.is_masked() && !entry.remote_irr())
            .map(|(number, entry)| (IoApicPin(number), entry))
            .find(|&(pin, entry)| {
                let asked = if entry.is_level() {
                    self.latched | self.high
                } else {
                    self.latched
                };
                asked & bit(pin) != 0
            })
            .map(|(pin, _)| pin)
    }

    /// A local APIC ended an interrupt of this vector that came of a level.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in &mut self.entries {
            if entry.is_level() && entry.vector() == vector {
                *entry = entry.with_remote_irr(false);
            }
        }
    }

    /// What an interrupt of the pin is sent as; nothing where the pin is masked or of a reserved
    /// mode.
    ///
    /// Who hands pins to a hypervisor as routes keeps the one that was, since an interrupt of a
    /// masked pin may still have to end.
    #[must_use]
    pub fn route(&self, pin: IoApicPin) -> Option<ApicMessage> {
        let entry = self.entry(pin).filter(|entry| !entry.is_masked())?;
        entry.message()
    }

    /// Whether any [`route`](Self::route) changed since this was asked.
    #[must_use]
    pub const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }

    fn entry(&self, pin: IoApicPin) -> Option<Entry> {
        self.entries.get(slot(pin)?).copied()
    }

    fn entry_mut(&mut self, pin: IoApicPin) -> Option<&mut Entry> {
        self.entries.get_mut(slot(pin)?)
    }

    fn read_word(&self, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::Select) => self.selected.into(),
            Some(Register::Window) => self.read_selected(),
            Some(Register::Eoi) | None => 0,
        }
    }

    fn read_selected(&self) -> u32 {
        match Selected::at(self.selected) {
            Some(Selected::Id) => u32::from(self.id) << ID_SHIFT,
            Some(Selected::Version) => (Self::PINS - 1) << MAXIMUM_ENTRY_SHIFT | VERSION,
            Some(Selected::ArbitrationId) => u32::from(self.arbitration_id) << ID_SHIFT,
            Some(Selected::Entry(pin, half)) => self.entry(pin).map_or(0, |entry| entry.half(half)),
            None => 0,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        let [low, .., high] = value.to_le_bytes();
        match Register::at(offset) {
            Some(Register::Select) => self.selected = low,
            Some(Register::Window) => match Selected::at(self.selected) {
                Some(Selected::Id) => {
                    self.id = high & ID_MASK;
                    // It is loaded whenever the id is (section 3.2.3).
                    self.arbitration_id = self.id;
                }
                Some(Selected::Entry(pin, half)) => {
                    self.write_entry(pin, |entry| entry.with(half, value));
                }
                Some(Selected::Version | Selected::ArbitrationId) | None => {}
            },
            Some(Register::Eoi) => self.end_of_interrupt(low),
            None => {}
        }
    }

    fn write_entry(&mut self, pin: IoApicPin, write: impl FnOnce(Entry) -> Entry) {
        let before = self.route(pin);
        let Some(entry) = self.entry_mut(pin) else {
            return;
        };
        let was_level = entry.is_level();
        *entry = write(*entry);
        // An edge of before is not one of the level, which says for itself what it wants.
        if entry.is_level() && !was_level {
            self.latched &= !bit(pin);
        }
        self.changed |= self.route(pin) != before;
    }
}

const WORDS: Words = Words {
    len: IoApic::EXTENT,
};

impl Chip for IoApic {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        WORDS.read(offset, data, |at| self.read_word(at));
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        WORDS.write(offset, data, |at, value| {
            self.write_word(at, value);
            None
        })
    }
}

fn slot(IoApicPin(number): IoApicPin) -> Option<usize> {
    usize::try_from(number).ok()
}

/// The bit of a pin that is there.
const fn bit(IoApicPin(number): IoApicPin) -> u32 {
    1 << (number % 32)
}

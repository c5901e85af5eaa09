//! The local vector table (Intel SDM volume 3, section "Local Vector Table").

use super::timer::TimerMode;
use crate::irqchip::apic_message::DeliveryMode;

/// What becomes of the local APIC's own interrupts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lvt([Entry; 6]);

/// Whose interrupts an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u32);

const VECTOR: u32 = 0xff;
const MODE_SHIFT: u32 = 8;
const MODE: u32 = 0b111 << MODE_SHIFT;
/// Always clear: nothing is ever under way.
const DELIVERY_STATUS: u32 = 1 << 12;
const POLARITY: u32 = 1 << 13;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const TIMER_MODE_SHIFT: u32 = 17;
const TIMER_MODE: u32 = 0b11 << TIMER_MODE_SHIFT;

impl Source {
    const fn writable(self) -> u32 {
        MASKED
            | VECTOR
            | match self {
                Self::Timer => TIMER_MODE,
                Self::Thermal | Self::Performance => MODE,
                Self::Lint0 | Self::Lint1 => MODE | POLARITY | LEVEL,
                Self::Error => 0,
            }
    }

    const fn read_only(self) -> u32 {
        match self {
            Self::Lint0 | Self::Lint1 => DELIVERY_STATUS | REMOTE_IRR,
            Self::Timer | Self::Thermal | Self::Performance | Self::Error => DELIVERY_STATUS,
        }
    }

    /// The bits that may not be set.
    pub(super) const fn reserved(self) -> u32 {
        !(self.writable() | self.read_only())
    }
}

impl Lvt {
    /// After reset.
    pub(super) const MASKED: Self = Self([Entry(MASKED); 6]);

    pub(super) const fn entry(&self, source: Source) -> Entry {
        let [timer, thermal, performance, lint0, lint1, error] = self.0;
        match source {
            Source::Timer => timer,
            Source::Thermal => thermal,
            Source::Performance => performance,
            Source::Lint0 => lint0,
            Source::Lint1 => lint1,
            Source::Error => error,
        }
    }

    const fn entry_mut(&mut self, source: Source) -> &mut Entry {
        let [timer, thermal, performance, lint0, lint1, error] = &mut self.0;
        match source {
            Source::Timer => timer,
            Source::Thermal => thermal,
            Source::Performance => performance,
            Source::Lint0 => lint0,
            Source::Lint1 => lint1,
            Source::Error => error,
        }
    }

    /// Writes an entry. One that is no longer one of a level has no remote IRR.
    pub(super) fn write(&mut self, source: Source, value: u32) {
        let entry = self.entry_mut(source);
        let kept = entry.0 & REMOTE_IRR;
        *entry = Entry(value & source.writable() | kept);
        if !entry.is_level() {
            entry.0 &= !REMOTE_IRR;
        }
    }

    /// Masks all entries.
    pub(super) fn mask(&mut self) {
        for entry in &mut self.0 {
            entry.0 |= MASKED;
        }
    }

    pub(super) const fn set_remote_irr(&mut self, source: Source, set: bool) {
        let entry = self.entry_mut(source);
        if set {
            entry.0 |= REMOTE_IRR;
        } else {
            entry.0 &= !REMOTE_IRR;
        }
    }
}

impl Entry {
    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    pub(super) const fn vector(self) -> u8 {
        let [vector, ..] = self.0.to_le_bytes();
        vector
    }

    pub(super) const fn is_masked(self) -> bool {
        self.0 & MASKED != 0
    }

    pub(super) const fn mode(self) -> Option<DeliveryMode> {
        DeliveryMode::of_bits(self.0 >> MODE_SHIFT)
    }

    /// Whether the pin is one of a level with an end of interrupt: the trigger mode is of meaning
    /// for fixed interrupts only.
    pub(super) fn is_level(self) -> bool {
        self.0 & LEVEL != 0 && self.mode() == Some(DeliveryMode::Fixed)
    }

    pub(super) const fn remote_irr(self) -> bool {
        self.0 & REMOTE_IRR != 0
    }

    /// The timer's mode. The one that is reserved counts once.
    pub(super) const fn timer_mode(self) -> TimerMode {
        match (self.0 & TIMER_MODE) >> TIMER_MODE_SHIFT {
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            _ => TimerMode::OneShot,
        }
    }
}

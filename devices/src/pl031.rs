//! The PL031 clock (Arm PrimeCell Real Time Clock PL031 Technical Reference Manual, DDI 0224,
//! revision r1p3): seconds, and an alarm when they match.
//!
//! It runs from the first, as a clock with a battery does. A time that the guest sets holds until
//! the machine is reset: it is kept as what it is ahead of the host's. No thread waits for the
//! alarm: whoever drives the interrupt line asks when that will be ([`Interrupting::irq_in`]).

#[cfg(test)]
mod tests;

use crate::primecell::{self, PrimeCell};
use crate::words::Words;
use crate::{Chip, Effect, Interrupting, UnixTime};
use core::time::Duration;

/// A PL031 that tells the time it is given by `now`.
#[derive(Debug)]
pub struct Pl031<N> {
    now: N,
    /// How far the guest's time is ahead of the host's, in seconds.
    ahead: u32,
    load_value: u32,
    match_value: u32,
    /// When the seconds will be those of the match register, in the host's time.
    matches_at: Option<UnixTime>,
    matched: bool,
    unmasked: bool,
}

/// The registers (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Data,
    Match,
    Load,
    Control,
    Mask,
    Raw,
    Masked,
    Clear,
    Id(u8),
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x00 => Self::Data,
            0x04 => Self::Match,
            0x08 => Self::Load,
            0x0c => Self::Control,
            0x10 => Self::Mask,
            0x14 => Self::Raw,
            0x18 => Self::Masked,
            0x1c => Self::Clear,
            other => Self::Id(PRIMECELL.id(other)?),
        })
    }
}

const PRIMECELL: PrimeCell = PrimeCell {
    part: 0x031,
    revision: 0,
};

/// The one bit of the control register, and of those for the interrupt.
const BIT: u32 = 1;

impl<N: FnMut() -> UnixTime> Pl031<N> {
    const WORDS: Words = Words {
        len: primecell::LEN,
    };

    /// A clock that asks `now` for the time whenever that matters.
    pub const fn new(now: N) -> Self {
        Self {
            now,
            ahead: 0,
            load_value: 0,
            match_value: 0,
            matches_at: None,
            matched: false,
            unmasked: false,
        }
    }

    fn read_word(&mut self, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::Data) => self.seconds(),
            Some(Register::Match) => self.match_value,
            Some(Register::Load) => self.load_value,
            // It has been started.
            Some(Register::Control) => BIT,
            Some(Register::Mask) => self.unmasked.into(),
            Some(Register::Raw) => self.has_matched().into(),
            Some(Register::Masked) => self.irq().into(),
            Some(Register::Id(byte)) => byte.into(),
            Some(Register::Clear) | None => 0,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        // What was due before the write was before it.
        self.has_matched();
        match Register::at(offset) {
            Some(Register::Match) => {
                self.match_value = value;
                self.set_alarm();
            }
            Some(Register::Load) => {
                self.load_value = value;
                self.ahead = value.wrapping_sub(low_word((self.now)().secs()));
                self.set_alarm();
            }
            Some(Register::Mask) => self.unmasked = value & BIT != 0,
            Some(Register::Clear) => self.matched &= value & BIT == 0,
            // Once started it cannot be stopped (section 3.3.4).
            Some(
                Register::Control
                | Register::Data
                | Register::Raw
                | Register::Masked
                | Register::Id(_),
            )
            | None => {}
        }
    }

    /// The guest's seconds.
    fn seconds(&mut self) -> u32 {
        low_word((self.now)().secs()).wrapping_add(self.ahead)
    }

    /// Finds out when the seconds will match: at once, or up to 136 years later.
    fn set_alarm(&mut self) {
        let now = (self.now)().secs();
        let seconds = low_word(now).wrapping_add(self.ahead);
        let wait = self.match_value.wrapping_sub(seconds);
        self.matches_at = Some(UnixTime::from_secs(now.saturating_add(wait.into())));
    }

    /// Whether the seconds have matched since that was last cleared.
    fn has_matched(&mut self) -> bool {
        let now = (self.now)();
        if self.matches_at.is_some_and(|at| at <= now) {
            self.matches_at = None;
            self.matched = true;
        }
        self.matched
    }
}

/// The seconds that 32 bits tell, until they begin again in 2106.
fn low_word(seconds: u64) -> u32 {
    let [a, b, c, d, ..] = seconds.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl<N: FnMut() -> UnixTime> Chip for Pl031<N> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        Self::WORDS.read(offset, data, |at| self.read_word(at));
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        Self::WORDS.write(offset, data, |at, value| {
            self.write_word(at, value);
            None
        })
    }
}

impl<N: FnMut() -> UnixTime> Interrupting for Pl031<N> {
    fn irq(&mut self) -> bool {
        self.has_matched() && self.unmasked
    }

    fn irq_in(&mut self) -> Option<Duration> {
        let at = self.matches_at.filter(|_| self.unmasked)?;
        Some(at.0.saturating_sub((self.now)().0))
    }
}

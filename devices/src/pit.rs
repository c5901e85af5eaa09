//! The interval timer of PCs: an 8254 with three counters, and the port by which its third one is controlled and
//! heard (Intel 8254 data sheet, order number 231164; for the port, Intel ICH9 Family Datasheet, section 13.7.1).

mod counter;
#[cfg(test)]
mod tests;

use crate::ByteWide;
use crate::Effect;
use core::time::Duration;
use counter::{Clocks, Counter};

/// The timer; `N` says for how long the machine has been there.
#[derive(Debug)]
pub struct Pit<N> {
    now: N,
    counters: [Counter; 3],
    /// Whether counter 2 is heard. Nothing here makes a sound.
    is_heard: bool,
}

/// The control word's port.
const CONTROL: u64 = 3;
/// The port of the third counter's gate and output, as an offset here.
const SPEAKER: u64 = 0x21;

/// Port 0x61.
const GATE: u8 = 1 << 0;
const HEARD: u8 = 1 << 1;
/// Changes with every refresh of memory, of which there is one in 15 microseconds.
const REFRESH: u8 = 1 << 4;
const OUTPUT: u8 = 1 << 5;
const REFRESH_NANOS: u128 = 15_085;

impl<N: FnMut() -> Duration> Pit<N> {
    /// How many ports it is on, from 0x40: the last one is 0x61.
    pub const PORTS: u64 = SPEAKER + 1;

    /// A timer after reset: no counter counts.
    pub fn new(now: N) -> Self {
        Self {
            now,
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            is_heard: false,
        }
    }

    /// How often counter 0, which interrupts, has ticked since this was last asked.
    pub fn take_ticks(&mut self) -> u64 {
        let now = self.clocks();
        let [first, ..] = &mut self.counters;
        first.take_ticks(now)
    }

    /// How long until it ticks again, if it will.
    pub fn tick_in(&mut self) -> Option<Duration> {
        let now = (self.now)();
        let [first, ..] = &mut self.counters;
        let next = first.next_tick(clocks_in(now))?;
        Some(time_of(next).saturating_sub(now))
    }

    fn clocks(&mut self) -> Clocks {
        clocks_in((self.now)())
    }

    fn counter(&mut self, number: u8) -> Option<&mut Counter> {
        self.counters.get_mut(usize::from(number))
    }

    fn control(&mut self, word: u8) {
        const READ_BACK: u8 = 3;
        let now = self.clocks();
        match word >> 6 {
            READ_BACK => self.read_back(word, now),
            number => {
                let latches = word & 0x30 == 0;
                if let Some(counter) = self.counter(number) {
                    match latches {
                        true => counter.latch(now),
                        false => counter.control(word),
                    }
                }
            }
        }
    }

    /// Latches of each counter that is named what is asked for: a bit that is clear asks.
    fn read_back(&mut self, word: u8, now: Clocks) {
        const NO_COUNT: u8 = 1 << 5;
        const NO_STATUS: u8 = 1 << 4;
        for (number, counter) in (1..).zip(&mut self.counters) {
            if word & 1 << number == 0 {
                continue;
            }
            if word & NO_COUNT == 0 {
                counter.latch(now);
            }
            if word & NO_STATUS == 0 {
                counter.latch_status(now);
            }
        }
    }

    fn speaker(&mut self) -> u8 {
        let time = (self.now)();
        let now = clocks_in(time);
        let [_, _, third] = &mut self.counters;
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        bit(third.gate(), GATE)
            | bit(self.is_heard, HEARD)
            | bit(time.as_nanos() / REFRESH_NANOS % 2 == 1, REFRESH)
            | bit(third.output(now), OUTPUT)
    }
}

impl<N: FnMut() -> Duration> ByteWide for Pit<N> {
    fn read_byte(&mut self, offset: u64) -> u8 {
        let now = self.clocks();
        match offset {
            0..CONTROL => {
                let number = u8::try_from(offset).expect("one of three");
                self.counter(number)
                    .map_or(0xff, |counter| counter.read(now))
            }
            SPEAKER => self.speaker(),
            _ => 0xff,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        let now = self.clocks();
        match offset {
            0..CONTROL => {
                let number = u8::try_from(offset).expect("one of three");
                if let Some(counter) = self.counter(number) {
                    counter.write(value, now);
                }
            }
            CONTROL => self.control(value),
            SPEAKER => {
                self.is_heard = value & HEARD != 0;
                let [_, _, third] = &mut self.counters;
                third.set_gate(value & GATE != 0, now);
            }
            _ => {}
        }
        None
    }
}

/// So many clocks there are in a second: a third of the colour subcarrier of NTSC, in Hz.
const FREQUENCY: u128 = 1_193_182;
const NANOS: u128 = 1_000_000_000;

fn clocks_in(time: Duration) -> Clocks {
    time.as_nanos() * FREQUENCY / NANOS
}

/// The first moment at which so many clocks have passed.
fn time_of(clocks: Clocks) -> Duration {
    let nanos = (clocks * NANOS).div_ceil(FREQUENCY);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

//! The Goldfish clock: nanoseconds, and an alarm (Goldfish Virtual Hardware, "Goldfish timer";
//! QEMU, `hw/rtc/goldfish_rtc.c`).
//!
//! A time that the guest sets holds until the machine is reset: it is kept as what it is ahead of
//! the host's. No thread waits for the alarm: whoever drives the interrupt line asks when that will
//! be ([`Interrupting::irq_in`]).

#[cfg(test)]
mod tests;

use crate::words::Words;
use crate::{Chip, Effect, Interrupting, UnixTime};
use core::time::Duration;

/// A Goldfish clock that tells the time it is given by `now`.
#[derive(Debug)]
pub struct GoldfishRtc<N> {
    now: N,
    /// How far the guest's time is ahead of the host's, in nanoseconds.
    ahead: u64,
    /// The high half of the time whose low half was read last.
    latched_high: u32,
    /// When the alarm is, in the guest's time.
    alarm: u64,
    alarm_set: bool,
    pending: bool,
    enabled: bool,
}

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    TimeLow,
    TimeHigh,
    AlarmLow,
    AlarmHigh,
    IrqEnabled,
    ClearAlarm,
    AlarmStatus,
    ClearInterrupt,
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x00 => Self::TimeLow,
            0x04 => Self::TimeHigh,
            0x08 => Self::AlarmLow,
            0x0c => Self::AlarmHigh,
            0x10 => Self::IrqEnabled,
            0x14 => Self::ClearAlarm,
            0x18 => Self::AlarmStatus,
            0x1c => Self::ClearInterrupt,
            _ => return None,
        })
    }
}

impl<N: FnMut() -> UnixTime> GoldfishRtc<N> {
    const WORDS: Words = Words { len: 0x20 };

    /// A clock that asks `now` for the time whenever that matters.
    pub const fn new(now: N) -> Self {
        Self {
            now,
            ahead: 0,
            latched_high: 0,
            alarm: 0,
            alarm_set: false,
            pending: false,
            enabled: false,
        }
    }

    fn read_word(&mut self, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::TimeLow) => {
                let (low, high) = halves(self.time());
                self.latched_high = high;
                low
            }
            Some(Register::TimeHigh) => self.latched_high,
            Some(Register::AlarmLow) => halves(self.alarm).0,
            Some(Register::AlarmHigh) => halves(self.alarm).1,
            Some(Register::IrqEnabled) => self.enabled.into(),
            Some(Register::AlarmStatus) => {
                self.ring_if_due();
                self.alarm_set.into()
            }
            Some(Register::ClearAlarm | Register::ClearInterrupt) | None => 0,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        // What was due before the write was before it.
        self.ring_if_due();
        match Register::at(offset) {
            Some(Register::TimeLow) => {
                let (_, high) = halves(self.time());
                self.set_time(joined(value, high));
            }
            Some(Register::TimeHigh) => {
                let (low, _) = halves(self.time());
                self.set_time(joined(low, value));
            }
            Some(Register::AlarmLow) => {
                self.alarm = joined(value, halves(self.alarm).1);
                self.alarm_set = true;
            }
            Some(Register::AlarmHigh) => self.alarm = joined(halves(self.alarm).0, value),
            Some(Register::IrqEnabled) => self.enabled = value & 1 != 0,
            Some(Register::ClearAlarm) => self.alarm_set = false,
            Some(Register::ClearInterrupt) => self.pending = false,
            Some(Register::AlarmStatus) | None => {}
        }
    }

    /// The guest's time, in nanoseconds since 1970; they begin again in 2554.
    fn time(&mut self) -> u64 {
        nanoseconds((self.now)()).wrapping_add(self.ahead)
    }

    fn set_time(&mut self, time: u64) {
        self.ahead = time.wrapping_sub(nanoseconds((self.now)()));
    }

    /// An alarm whose time has come, or had come when it was set, is an interrupt and set no more.
    fn ring_if_due(&mut self) {
        if self.alarm_set && self.alarm <= self.time() {
            self.alarm_set = false;
            self.pending = true;
        }
    }
}

fn nanoseconds(time: UnixTime) -> u64 {
    time.secs()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.0.subsec_nanos().into())
}

/// The low and the high half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    let word = u32::from_le_bytes;
    (word([a, b, c, d]), word([e, f, g, h]))
}

fn joined(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl<N: FnMut() -> UnixTime> Chip for GoldfishRtc<N> {
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

impl<N: FnMut() -> UnixTime> Interrupting for GoldfishRtc<N> {
    fn irq(&mut self) -> bool {
        self.ring_if_due();
        self.pending && self.enabled
    }

    fn irq_in(&mut self) -> Option<Duration> {
        let waits = self.alarm_set && self.enabled && !self.pending;
        let wait = self.alarm.saturating_sub(self.time());
        waits.then(|| Duration::from_nanos(wait))
    }
}

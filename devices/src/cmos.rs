//! The CMOS clock of a PC: Motorola MC146818 and the century byte that ACPI speaks of
//! (MC146818 data sheet; ACPI 6.5, table 5.9, `CENTURY`).
//!
//! It tells the time and nothing else: it raises no interrupt, and a time that the guest sets is
//! forgotten, because the time is the host's.

mod calendar;
#[cfg(test)]
mod tests;

use crate::{ByteWide, Effect, UnixTime};
use calendar::DateTime;

/// A CMOS clock on two ports, index and data, that tells the time it is given by `now`.
#[derive(Debug)]
pub struct Cmos<N> {
    now: N,
    index: u8,
    status_b: StatusB,
    /// The time that the guest is reading field by field.
    reading: Option<UnixTime>,
    /// The bytes that mean nothing to the clock; firmware and kernels keep things there.
    memory: [u8; INDICES],
}

const INDICES: usize = 128;
/// The index port's top bit is the PC's NMI mask and not part of the index.
const INDEX_MASK: u8 = 0x7f;

/// The two ports, by their offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pins {
    Index,
    Data,
}

impl Pins {
    fn at(offset: u64) -> Option<Self> {
        match offset {
            0 => Some(Self::Index),
            1 => Some(Self::Data),
            _ => None,
        }
    }
}

/// What an index selects (MC146818 data sheet, "Address map").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Time(Field),
    StatusA,
    StatusB,
    StatusC,
    StatusD,
    /// Alarm times and general memory.
    Memory(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Second,
    Minute,
    Hour,
    Weekday,
    Day,
    Month,
    Year,
    Century,
}

impl Register {
    fn of(index: u8) -> Self {
        match index & INDEX_MASK {
            0x00 => Self::Time(Field::Second),
            0x02 => Self::Time(Field::Minute),
            0x04 => Self::Time(Field::Hour),
            0x06 => Self::Time(Field::Weekday),
            0x07 => Self::Time(Field::Day),
            0x08 => Self::Time(Field::Month),
            0x09 => Self::Time(Field::Year),
            0x0a => Self::StatusA,
            0x0b => Self::StatusB,
            0x0c => Self::StatusC,
            0x0d => Self::StatusD,
            CENTURY => Self::Time(Field::Century),
            other => Self::Memory(other),
        }
    }
}

/// Where the century byte is; the FADT tells the guest.
const CENTURY: u8 = 0x32;

bitflags::bitflags! {
    /// Register B.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct StatusB: u8 {
        /// 24-hour, not 12-hour.
        const HOURS_24 = 1 << 1;
        /// Binary, not BCD.
        const BINARY = 1 << 2;
        const _ = !0;
    }
}

/// Register A: a 32.768 kHz crystal and no periodic interrupt. Bit 7, "update in progress", is
/// never set, because the time is always whole; kernels wait for it to go away.
const STATUS_A: u8 = 0x20;
/// Register C: no interrupt has happened.
const STATUS_C: u8 = 0;
/// Register D: the memory and the time are valid.
const STATUS_D: u8 = 0x80;
/// The hour's top bit in 12-hour form: after noon.
const PM: u8 = 0x80;

impl<N: FnMut() -> UnixTime> Cmos<N> {
    /// A clock that asks `now` for the time whenever the guest does.
    pub const fn new(now: N) -> Self {
        Self {
            now,
            index: 0,
            status_b: StatusB::HOURS_24,
            reading: None,
            memory: [0; INDICES],
        }
    }

    fn read_register(&mut self) -> u8 {
        match Register::of(self.index) {
            Register::Time(field) => self.field(field),
            Register::StatusA => {
                // Who reads the time looks here first, for the update flag.
                self.reading = None;
                STATUS_A
            }
            Register::StatusB => self.status_b.bits(),
            Register::StatusC => STATUS_C,
            Register::StatusD => STATUS_D,
            Register::Memory(index) => self.memory.get(usize::from(index)).map_or(0, |byte| *byte),
        }
    }

    fn field(&mut self, field: Field) -> u8 {
        let time = self.time_being_read(field);
        let DateTime {
            year,
            month,
            day,
            weekday,
            hour,
            minute,
            second,
        } = DateTime::from(time);
        match field {
            Field::Second => self.coded(second),
            Field::Minute => self.coded(minute),
            Field::Hour => self.coded_hour(hour),
            Field::Weekday => self.coded(weekday),
            Field::Day => self.coded(day),
            Field::Month => self.coded(month),
            Field::Year => self.coded(low_digits(year)),
            Field::Century => self.coded(low_digits(year / 100)),
        }
    }

    /// The time that the fields belong to: a second that ends between two reads must not give the
    /// guest the minute of the one and the second of the other.
    fn time_being_read(&mut self, field: Field) -> UnixTime {
        let now = (self.now)();
        let fresh = |then: &UnixTime| now.secs().saturating_sub(then.secs()) <= 1 && *then <= now;
        let time = match self.reading.filter(fresh) {
            Some(then) if field != Field::Second => then,
            _ => now,
        };
        self.reading = Some(time);
        time
    }

    fn coded(&self, value: u8) -> u8 {
        if self.status_b.contains(StatusB::BINARY) {
            value
        } else {
            (value / 10) << 4 | (value % 10)
        }
    }

    fn coded_hour(&self, hour: u8) -> u8 {
        if self.status_b.contains(StatusB::HOURS_24) {
            return self.coded(hour);
        }
        let pm = if hour >= 12 { PM } else { 0 };
        let hour = match hour % 12 {
            0 => 12,
            other => other,
        };
        self.coded(hour) | pm
    }

    fn write_register(&mut self, value: u8) {
        match Register::of(self.index) {
            Register::StatusB => self.status_b = StatusB::from_bits_retain(value),
            Register::Memory(index) => {
                if let Some(byte) = self.memory.get_mut(usize::from(index)) {
                    *byte = value;
                }
            }
            Register::Time(_) | Register::StatusA | Register::StatusC | Register::StatusD => {}
        }
    }
}

/// The last two digits.
fn low_digits(number: u16) -> u8 {
    u8::try_from(number % 100).unwrap_or(0)
}

impl<N: FnMut() -> UnixTime> ByteWide for Cmos<N> {
    fn read_byte(&mut self, offset: u64) -> u8 {
        match Pins::at(offset) {
            Some(Pins::Data) => self.read_register(),
            // The index can only be written.
            Some(Pins::Index) | None => 0xff,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        match Pins::at(offset) {
            Some(Pins::Index) => self.index = value,
            Some(Pins::Data) => self.write_register(value),
            None => {}
        }
        None
    }
}

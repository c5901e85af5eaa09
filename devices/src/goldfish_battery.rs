//! The Goldfish battery and its mains supply (Goldfish Virtual Hardware, "Goldfish battery"; Linux,
//! `drivers/power/supply/goldfish_battery.c`; Android emulator, `hw/misc/goldfish_battery.c`).
//!
//! The guest reads how it stands; whoever has the chip says so, and what has changed then is an
//! interrupt until the guest has asked which it was.

mod state;
#[cfg(test)]
mod tests;

pub use state::{BatteryHealth, BatteryState, BatteryStateError, BatteryStatus};

use crate::words::Words;
use crate::{Chip, Effect, Interrupting};

/// A Goldfish battery.
#[derive(Clone, Debug)]
pub struct GoldfishBattery {
    state: BatteryState,
    changed: Changes,
    enabled: Changes,
}

bitflags::bitflags! {
    /// What has changed: the bits of the first two registers.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Changes: u32 {
        const BATTERY = 1 << 0;
        const MAINS = 1 << 1;
    }
}

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    InterruptStatus,
    InterruptEnable,
    MainsOnline,
    Status,
    Health,
    Present,
    Capacity,
    Voltage,
    Temperature,
    ChargeCounter,
    MainsVoltageMax,
    MainsCurrentMax,
    CurrentNow,
    CurrentAverage,
    ChargeFull,
    CycleCount,
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x00 => Self::InterruptStatus,
            0x04 => Self::InterruptEnable,
            0x08 => Self::MainsOnline,
            0x0c => Self::Status,
            0x10 => Self::Health,
            0x14 => Self::Present,
            0x18 => Self::Capacity,
            0x1c => Self::Voltage,
            0x20 => Self::Temperature,
            0x24 => Self::ChargeCounter,
            0x28 => Self::MainsVoltageMax,
            0x2c => Self::MainsCurrentMax,
            0x30 => Self::CurrentNow,
            0x34 => Self::CurrentAverage,
            0x38 => Self::ChargeFull,
            0x40 => Self::CycleCount,
            _ => return None,
        })
    }
}

impl GoldfishBattery {
    /// How many bytes of addresses the registers have.
    pub const LEN: u64 = 0x44;
    const WORDS: Words = Words { len: Self::LEN };

    /// A battery of which that is true.
    #[must_use]
    pub const fn new(state: BatteryState) -> Self {
        Self {
            state,
            changed: Changes::empty(),
            enabled: Changes::empty(),
        }
    }

    /// How it stands.
    #[must_use]
    pub const fn state(&self) -> BatteryState {
        self.state
    }

    /// From now on it stands so. What of it differs from before the guest is told.
    ///
    /// # Errors
    ///
    /// [`BatteryStateError`] for what no battery can be; it stays as it was then.
    pub fn set_state(&mut self, state: BatteryState) -> Result<(), BatteryStateError> {
        state.check()?;
        let (before, now) = (self.state, state);
        self.state = now;
        let mains = |of: BatteryState| (of.mains, of.mains_voltage_uv, of.mains_current_ua);
        self.changed.set(
            Changes::MAINS,
            self.changed.contains(Changes::MAINS) || mains(before) != mains(now),
        );
        let without_mains = |of: BatteryState| BatteryState {
            mains: now.mains,
            mains_voltage_uv: now.mains_voltage_uv,
            mains_current_ua: now.mains_current_ua,
            ..of
        };
        self.changed.set(
            Changes::BATTERY,
            self.changed.contains(Changes::BATTERY) || without_mains(before) != now,
        );
        Ok(())
    }

    fn read_word(&mut self, offset: u64) -> u32 {
        let state = &self.state;
        match Register::at(offset) {
            Some(Register::InterruptStatus) => {
                let told = self.changed & self.enabled;
                self.changed = self.changed.difference(told);
                told.bits()
            }
            Some(Register::InterruptEnable) => self.enabled.bits(),
            Some(Register::MainsOnline) => state.mains.into(),
            Some(Register::Status) => state.status as u32,
            Some(Register::Health) => state.health as u32,
            Some(Register::Present) => state.present.into(),
            Some(Register::Capacity) => state.capacity.into(),
            Some(Register::Voltage) => state.voltage_uv,
            Some(Register::Temperature) => state.temperature.cast_unsigned(),
            Some(Register::ChargeCounter) => state.charge_uah,
            Some(Register::MainsVoltageMax) => state.mains_voltage_uv,
            Some(Register::MainsCurrentMax) => state.mains_current_ua,
            Some(Register::CurrentNow) => state.current_ua.cast_unsigned(),
            Some(Register::CurrentAverage) => state.current_average_ua.cast_unsigned(),
            Some(Register::ChargeFull) => state.charge_full_uah,
            Some(Register::CycleCount) => state.cycles,
            None => 0,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        if Register::at(offset) == Some(Register::InterruptEnable) {
            self.enabled = Changes::from_bits_truncate(value);
        }
    }
}

impl Chip for GoldfishBattery {
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

impl Interrupting for GoldfishBattery {
    fn irq(&mut self) -> bool {
        self.changed.intersects(self.enabled)
    }
}

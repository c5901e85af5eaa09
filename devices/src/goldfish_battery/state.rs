//! How a battery stands, and the words that say so.

use alloc::string::{String, ToString};
use core::fmt;

/// How a battery and its mains supply stand, in the units of Linux' power supply class
/// (`Documentation/power/power_supply_class.rst`). The [default](Self::default) is a full and healthy
/// one on mains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatteryState {
    /// Whether the machine has mains power.
    pub mains: bool,
    /// Whether the battery is there.
    pub present: bool,
    /// What it is doing.
    pub status: BatteryStatus,
    /// How it is.
    pub health: BatteryHealth,
    /// How full it is, in percent: at most 100.
    pub capacity: u8,
    /// Its voltage, in µV.
    pub voltage_uv: u32,
    /// Its temperature, in tenths of a degree Celsius.
    pub temperature: i32,
    /// What is in it, in µAh.
    pub charge_uah: u32,
    /// What is in it when it is full, in µAh.
    pub charge_full_uah: u32,
    /// The current into it, in µA; out of it is negative.
    pub current_ua: i32,
    /// The same over some time.
    pub current_average_ua: i32,
    /// How often it was charged.
    pub cycles: u32,
    /// The most that mains power gives, in µV.
    pub mains_voltage_uv: u32,
    /// The same in µA.
    pub mains_current_ua: u32,
}

/// What a battery is doing, by its number (`include/linux/power_supply.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BatteryStatus {
    /// Nobody knows.
    Unknown = 0,
    /// It becomes fuller.
    Charging = 1,
    /// It becomes emptier.
    Discharging = 2,
    /// It has mains power, and becomes no fuller.
    NotCharging = 3,
    /// It is full.
    Full = 4,
}

/// How a battery is, by its number (`include/linux/power_supply.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BatteryHealth {
    /// Nobody knows.
    Unknown = 0,
    /// Well.
    Good = 1,
    /// Too hot.
    Overheat = 2,
    /// At its end.
    Dead = 3,
    /// With too high a voltage.
    OverVoltage = 4,
    /// Broken in some other way.
    Failure = 5,
    /// Too cold.
    Cold = 6,
}

/// Why a battery cannot stand so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatteryStateError {
    /// It is fuller than full.
    #[error("a battery has at most 100 percent, not {percent}")]
    Capacity {
        /// How full.
        percent: u8,
    },
    /// There is nothing of that name.
    #[error(
        "`{key}` is not known of a battery; {} are",
        BatteryState::KEYS.join(", ")
    )]
    Key {
        /// The name.
        key: String,
    },
    /// It is no such thing as it is to be.
    #[error("{key} is {wanted}, not `{value}`")]
    Value {
        /// What of it.
        key: String,
        /// What it can be.
        wanted: &'static str,
        /// What it was to be.
        value: String,
    },
}

impl Default for BatteryState {
    fn default() -> Self {
        Self {
            mains: true,
            present: true,
            status: BatteryStatus::Full,
            health: BatteryHealth::Good,
            capacity: 100,
            voltage_uv: 5_000_000,
            temperature: 250,
            charge_uah: 3_000_000,
            charge_full_uah: 3_000_000,
            current_ua: 0,
            current_average_ua: 0,
            cycles: 10,
            mains_voltage_uv: 5_000_000,
            mains_current_ua: 500_000,
        }
    }
}

const STATUSES: [(&str, BatteryStatus); 5] = [
    ("unknown", BatteryStatus::Unknown),
    ("charging", BatteryStatus::Charging),
    ("discharging", BatteryStatus::Discharging),
    ("not-charging", BatteryStatus::NotCharging),
    ("full", BatteryStatus::Full),
];

const HEALTHS: [(&str, BatteryHealth); 7] = [
    ("unknown", BatteryHealth::Unknown),
    ("good", BatteryHealth::Good),
    ("overheat", BatteryHealth::Overheat),
    ("dead", BatteryHealth::Dead),
    ("over-voltage", BatteryHealth::OverVoltage),
    ("failure", BatteryHealth::Failure),
    ("cold", BatteryHealth::Cold),
];

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

impl BatteryState {
    /// What can be said of it by [`with`](Self::with).
    pub const KEYS: [&'static str; 14] = [
        "ac",
        "present",
        "status",
        "health",
        "capacity",
        "voltage",
        "temperature",
        "charge",
        "charge-full",
        "current",
        "current-average",
        "cycles",
        "ac-voltage",
        "ac-current",
    ];

    /// The same but for what `words` say: `KEY=VALUE`, with commas between. Where how full it is is said,
    /// and not what is in it, that is made to fit.
    ///
    /// # Errors
    ///
    /// [`BatteryStateError`] for the first word that is wrong.
    pub fn with(mut self, words: &str) -> Result<Self, BatteryStateError> {
        let (mut tells_fullness, mut tells_charge) = (false, false);
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            tells_fullness |= ["capacity", "charge-full"].contains(&key);
            tells_charge |= key == "charge";
            self.say(key, value)?;
        }
        self.check()?;
        if tells_fullness && !tells_charge {
            self.charge_uah = self.charge_full_uah / 100 * u32::from(self.capacity);
        }
        Ok(self)
    }

    fn say(&mut self, key: &str, value: &str) -> Result<(), BatteryStateError> {
        let word = (key, value);
        match key {
            "ac" => self.mains = one_of(word, "on or off", &SWITCH)?,
            "present" => self.present = one_of(word, "on or off", &SWITCH)?,
            "status" => {
                let wanted = "unknown, charging, discharging, not-charging or full";
                self.status = one_of(word, wanted, &STATUSES)?;
            }
            "health" => {
                let wanted = "unknown, good, overheat, dead, over-voltage, failure or cold";
                self.health = one_of(word, wanted, &HEALTHS)?;
            }
            "capacity" => self.capacity = number(word, "a number of percent, at most 100")?,
            "voltage" => self.voltage_uv = number(word, "a number of microvolts")?,
            "temperature" => {
                self.temperature = number(word, "a number of tenths of a degree Celsius")?;
            }
            "charge" => self.charge_uah = number(word, "a number of microampere-hours")?,
            "charge-full" => self.charge_full_uah = number(word, "a number of microampere-hours")?,
            "current" => self.current_ua = number(word, "a number of microamperes")?,
            "current-average" => {
                self.current_average_ua = number(word, "a number of microamperes")?;
            }
            "cycles" => self.cycles = number(word, "a number of times")?,
            "ac-voltage" => self.mains_voltage_uv = number(word, "a number of microvolts")?,
            "ac-current" => self.mains_current_ua = number(word, "a number of microamperes")?,
            _ => {
                let key = key.to_string();
                return Err(BatteryStateError::Key { key });
            }
        }
        Ok(())
    }

    /// Whether a battery can stand so.
    ///
    /// # Errors
    ///
    /// [`BatteryStateError`] where none can.
    pub const fn check(&self) -> Result<(), BatteryStateError> {
        match self.capacity {
            ..=100 => Ok(()),
            percent => Err(BatteryStateError::Capacity { percent }),
        }
    }
}

/// What [`with`](BatteryState::with) reads, of all that there is.
impl fmt::Display for BatteryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mains = name(&SWITCH, &self.mains);
        let present = name(&SWITCH, &self.present);
        let status = name(&STATUSES, &self.status);
        let health = name(&HEALTHS, &self.health);
        write!(
            f,
            "ac={mains},present={present},status={status},health={health},capacity={},voltage={},\
             temperature={},charge={},charge-full={},current={},current-average={},cycles={},\
             ac-voltage={},ac-current={}",
            self.capacity,
            self.voltage_uv,
            self.temperature,
            self.charge_uah,
            self.charge_full_uah,
            self.current_ua,
            self.current_average_ua,
            self.cycles,
            self.mains_voltage_uv,
            self.mains_current_ua,
        )
    }
}

/// What `meant` is called.
fn name<T: PartialEq>(known: &[(&'static str, T)], meant: &T) -> &'static str {
    let found = known.iter().find(|(_, value)| value == meant);
    found.map_or("", |(name, _)| name)
}

fn one_of<T: Copy>(
    (key, value): (&str, &str),
    wanted: &'static str,
    known: &[(&str, T)],
) -> Result<T, BatteryStateError> {
    let found = known.iter().find(|(name, _)| *name == value);
    let found = found.map(|(_, meant)| *meant);
    found.ok_or_else(|| wrong((key, value), wanted))
}

fn number<T: core::str::FromStr>(
    word: (&str, &str),
    wanted: &'static str,
) -> Result<T, BatteryStateError> {
    let parsed = word.1.parse().ok();
    parsed.ok_or_else(|| wrong(word, wanted))
}

fn wrong((key, value): (&str, &str), wanted: &'static str) -> BatteryStateError {
    BatteryStateError::Value {
        key: key.to_string(),
        wanted,
        value: value.to_string(),
    }
}

//! The watchdog of Intel's 6300ESB I/O controller hub (data sheet 300641, section 16; Linux,
//! `drivers/watchdog/i6300esb.c`; QEMU, `hw/watchdog/wdt_i6300esb.c`).
//!
//! It counts down twice, and at the end of the second time its machine is to be reset. No thread waits
//! for that: whoever has the watchdog asks how long it will be.

#[cfg(test)]
mod tests;

use super::{Bar, BarKind, ConfigSpace, Identity};
use core::time::Duration;
use firstlight_base::GpaRange;

/// The watchdog, which `now` tells how much time has passed since some moment; that never goes back.
#[derive(Debug)]
pub struct I6300esb<N> {
    now: N,
    header: ConfigSpace,
    state: State,
    /// Whether it has fired since the guest last cleared that.
    fired: bool,
}

/// What a reset gives its first value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    config: Config,
    lock: Lock,
    preloads: [u32; 2],
    key: Key,
    counting: Option<Counting>,
}

/// Which of the two times runs, and when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counting {
    stage: Stage,
    end: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    First,
    Second,
}

/// How much of the sequence that unlocks a register for one write has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Locked,
    Half,
    Unlocked,
}

bitflags::bitflags! {
    /// The configuration register, at 0x60 of configuration space.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Config: u16 {
        /// How the end of the first time is told. Nothing is: drivers turn that off.
        const INTERRUPT = 0b11;
        /// Counting at 1 MHz, not 1 kHz.
        const FAST = 1 << 2;
        /// The end of the second time resets nothing.
        const HARMLESS = 1 << 5;
    }

    /// The lock register, at 0x68.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Lock: u8 {
        /// The register takes no more writes until reset.
        const LOCKED = 1 << 0;
        const ENABLED = 1 << 1;
        /// It counts anew when it has fired.
        const FREE_RUNNING = 1 << 2;
    }

    /// The reload register, at 0xc of the BAR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Reload: u16 {
        const RELOAD = 1 << 8;
        const FIRED = 1 << 9;
    }
}

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x25ab,
    // A system peripheral of no other class.
    class: 0x08_8000,
    revision: 0,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// Registers of configuration space.
const CONFIG: u16 = 0x60;
const LOCK: u16 = 0x68;
/// Registers of the BAR.
const TIMER_1: u64 = 0x0;
const TIMER_2: u64 = 0x4;
const RELOAD: u64 = 0xc;
/// What has to be written to the reload register before any other write is taken.
const UNLOCK: [u32; 2] = [0x80, 0x86];
/// Preloads have so many bits.
const PRELOAD_MASK: u32 = 0xf_ffff;
/// The number of its one BAR.
const ONLY: usize = 0;

impl State {
    const RESET: Self = Self {
        config: Config::empty(),
        lock: Lock::empty(),
        preloads: [PRELOAD_MASK; 2],
        key: Key::Locked,
        counting: None,
    };

    /// How long a time is: the preload counts at the PCI bus's 33 MHz, divided by 2^5 or 2^15.
    fn length(&self, stage: Stage) -> Duration {
        const BUS_HZ: u64 = 33_000_000;
        let [first, second] = self.preloads;
        let preload = match stage {
            Stage::First => first,
            Stage::Second => second,
        };
        let shift = match self.config.contains(Config::FAST) {
            true => 5,
            false => 15,
        };
        // 20 bits and 15, so that a billion times that has room.
        let cycles = u64::from(preload) << shift;
        Duration::from_nanos(cycles.saturating_mul(1_000_000_000) / BUS_HZ)
    }
}

impl<N: FnMut() -> Duration> I6300esb<N> {
    /// A watchdog after reset, which asks `now` for the time whenever that matters.
    ///
    /// # Panics
    ///
    /// Never: sixteen bytes can be asked for.
    pub fn new(now: N) -> Self {
        let mut header = ConfigSpace::new(&IDENTITY);
        let bar = Bar::new(BarKind::Memory32, 16).expect("the smallest BAR has 16 bytes");
        header.add_bar(ONLY, bar);
        Self {
            now,
            header,
            state: State::RESET,
            fired: false,
        }
    }

    /// Fills `data` with what configuration space reads as from `register` on.
    pub fn config_read(&self, register: u16, data: &mut [u8]) {
        self.header.read(register, data);
        let [low, high] = self.state.config.bits().to_le_bytes();
        let ours = [
            (CONFIG, low),
            (CONFIG + 1, high),
            (LOCK, self.state.lock.bits()),
        ];
        for (byte, at) in data.iter_mut().zip(register..) {
            if let Some((_, value)) = ours.iter().find(|(register, _)| *register == at) {
                *byte = *value;
            }
        }
    }

    /// Writes `data` to the registers from `register` on.
    pub fn config_write(&mut self, register: u16, data: &[u8]) {
        self.header.write(register, data);
        match (register, data) {
            (CONFIG, &[low, high]) => {
                self.state.config = Config::from_bits_truncate(u16::from_le_bytes([low, high]));
            }
            (LOCK, &[byte]) if !self.state.lock.contains(Lock::LOCKED) => {
                let was = self.state.lock;
                self.state.lock = Lock::from_bits_truncate(byte);
                let is = self.state.lock.contains(Lock::ENABLED);
                if !is {
                    self.state.counting = None;
                } else if !was.contains(Lock::ENABLED) {
                    self.count(Stage::First);
                }
            }
            _ => {}
        }
    }

    /// Where its registers are in memory.
    #[must_use]
    pub fn bar(&self) -> Option<GpaRange> {
        self.header.bar(ONLY)
    }

    /// Fills `data` with what the registers from `offset` of the BAR read as. Counters and preloads do not
    /// tell what they are.
    pub fn bar_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (RELOAD, [_, high, ..]) = (offset, data) {
            let mut reload = Reload::empty();
            reload.set(Reload::FIRED, self.fired);
            [_, *high] = reload.bits().to_le_bytes();
        }
    }

    /// Writes to the registers from `offset` of the BAR.
    pub fn bar_write(&mut self, offset: u64, data: &[u8]) {
        let value = match *data {
            [a] => u32::from(a),
            [a, b] => u32::from_le_bytes([a, b, 0, 0]),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => return,
        };
        let [first, second] = UNLOCK;
        if offset == RELOAD && value == first {
            self.state.key = Key::Half;
        } else if offset == RELOAD && value == second && self.state.key == Key::Half {
            self.state.key = Key::Unlocked;
        } else if self.state.key == Key::Unlocked {
            self.write_unlocked(offset, value);
        }
    }

    fn write_unlocked(&mut self, offset: u64, value: u32) {
        let [first, second] = &mut self.state.preloads;
        match offset {
            TIMER_1 => *first = value & PRELOAD_MASK,
            TIMER_2 => *second = value & PRELOAD_MASK,
            RELOAD => {
                let [low, high, ..] = value.to_le_bytes();
                let written = Reload::from_bits_truncate(u16::from_le_bytes([low, high]));
                if written.contains(Reload::RELOAD) && self.state.lock.contains(Lock::ENABLED) {
                    self.count(Stage::First);
                }
                if written.contains(Reload::FIRED) {
                    self.fired = false;
                }
            }
            _ => return,
        }
        self.state.key = Key::Locked;
    }

    fn count(&mut self, stage: Stage) {
        let now = (self.now)();
        let end = now.saturating_add(self.state.length(stage));
        self.state.counting = Some(Counting { stage, end });
    }

    /// How long until [`has_fired`](Self::has_fired) has something to do, if it will.
    pub fn due_in(&mut self) -> Option<Duration> {
        let counting = self.state.counting?;
        Some(counting.end.saturating_sub((self.now)()))
    }

    /// Goes on to the second time where the first is over. Says where that is, too: the machine is to be
    /// reset.
    pub fn has_fired(&mut self) -> bool {
        let now = (self.now)();
        let Some(Counting { stage, end }) = self.state.counting.filter(|it| it.end <= now) else {
            return false;
        };
        if stage == Stage::First {
            let end = end.saturating_add(self.state.length(Stage::Second));
            let stage = Stage::Second;
            self.state.counting = Some(Counting { stage, end });
            return end <= now && self.has_fired();
        }
        self.state.counting = None;
        if self.state.config.contains(Config::HARMLESS) {
            if self.state.lock.contains(Lock::FREE_RUNNING) {
                self.count(Stage::First);
            }
            return false;
        }
        self.fired = true;
        self.state = State::RESET;
        true
    }

    /// Gives every register its value after reset, but for what tells that it has fired.
    pub fn reset(&mut self) {
        self.header.reset();
        self.state = State::RESET;
    }
}

//! A battery on the board: a chip with its interrupt line, and what it is set by while the guest runs.

use crate::board::{Attached, LevelLine};
use firstlight_devices::{
    BatteryState, BatteryStateError, Chip, Effect, GoldfishBattery, Interrupting,
};
use firstlight_hv::IrqLine;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A running machine's battery.
pub struct Battery {
    works: Mutex<Works>,
}

struct Works {
    chip: GoldfishBattery,
    line: LevelLine,
}

impl Works {
    fn settle(&mut self) {
        let high = self.chip.irq();
        self.line.set(high);
    }
}

impl Battery {
    pub(crate) fn new(state: BatteryState, line: Box<dyn IrqLine>) -> Self {
        Self {
            works: Mutex::new(Works {
                chip: GoldfishBattery::new(state),
                line: LevelLine::new(line),
            }),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn get(&self) -> BatteryState {
        self.works().chip.state()
    }

    /// From now on it stands so. The guest is interrupted where that is something new.
    ///
    /// # Errors
    ///
    /// [`BatteryStateError`] for what no battery can be.
    pub fn set(&self, state: BatteryState) -> Result<(), BatteryStateError> {
        let mut works = self.works();
        works.chip.set_state(state)?;
        works.settle();
        Ok(())
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Battery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Battery").field(&self.get()).finish()
    }
}

impl Attached for Battery {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut works = self.works();
        works.chip.read(offset, data);
        works.settle();
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut works = self.works();
        let effect = works.chip.write(offset, data);
        works.settle();
        effect
    }
}

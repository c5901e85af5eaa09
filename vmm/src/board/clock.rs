//! A clock with an alarm on the board: a chip between an interrupt line and a timer of the host.

use super::timer::{Timed, Timer};
use super::{Attached, LevelLine};
use crate::RunError;
use firstlight_devices::{Effect, Interrupting};
use firstlight_hv::IrqLine;
use rustix::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A clock chip with everything it is connected to.
pub(crate) struct Clock {
    works: Mutex<Works>,
    /// Runs out when the alarm may be due.
    timer: Timer,
}

struct Works {
    chip: Box<dyn Interrupting + Send>,
    line: LevelLine,
}

impl Clock {
    pub(crate) fn new(
        chip: impl Interrupting + Send + 'static,
        line: Box<dyn IrqLine>,
    ) -> Result<Self, RunError> {
        Ok(Self {
            works: Mutex::new(Works {
                chip: Box::new(chip),
                line: LevelLine::new(line),
            }),
            timer: Timer::new()?,
        })
    }

    /// Drives the line, and winds the timer up to the next alarm, or stops it.
    fn settle(&self, works: &mut Works) {
        let high = works.chip.irq();
        works.line.set(high);
        self.timer.set(works.chip.irq_in());
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timed for Clock {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Raises the line if the alarm is due.
    fn ring(&self) {
        self.settle(&mut self.works());
    }
}

impl Attached for Clock {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut works = self.works();
        works.chip.read(offset, data);
        self.settle(&mut works);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut works = self.works();
        let effect = works.chip.write(offset, data);
        self.settle(&mut works);
        effect
    }
}

//! A clock with an alarm on the board: a chip between an interrupt line and a timer of the host.

use super::{Attached, LevelLine};
use crate::RunError;
use firstlight_devices::{Effect, Interrupting};
use firstlight_hv::IrqLine;
use rustix::event::Timespec;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A clock chip with everything it is connected to.
pub(crate) struct Clock {
    works: Mutex<Works>,
    /// Runs out when the alarm may be due.
    timer: OwnedFd,
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
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .map_err(RunError::host("create a timer"))?;
        Ok(Self {
            works: Mutex::new(Works {
                chip: Box::new(chip),
                line: LevelLine::new(line),
            }),
            timer,
        })
    }

    /// What is readable when [`ring`](Self::ring) has something to do.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Raises the line if the alarm is due.
    pub(crate) fn ring(&self) {
        self.settle(&mut self.works());
    }

    /// Drives the line, and winds the timer up to the next alarm, or stops it.
    fn settle(&self, works: &mut Works) {
        let high = works.chip.irq();
        works.line.set(high);
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: works
                .chip
                .irq_in()
                .map_or(timespec(Duration::ZERO), |wait| {
                    // Zero would stop it.
                    timespec(wait.max(Duration::from_nanos(1)))
                }),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .expect("a timer of our own takes a valid time");
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The time as the kernel takes it: it counts nanoseconds in 63 bits.
fn timespec(time: Duration) -> Timespec {
    const LONGEST: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());
    Timespec::try_from(time.min(LONGEST)).expect("so many seconds have room")
}

//! A clock with an alarm on the board: a chip between an interrupt line and a timer of the host.

use super::level_line::LevelLine;
use crate::RunError;
use firstlight_devices::Interrupting;
use firstlight_hv::IrqLine;
use rustix::event::Timespec;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A clock chip with everything it is connected to.
pub(super) struct Clock<L: IrqLine> {
    works: Mutex<Works<L>>,
    /// Runs out when the alarm may be due.
    timer: OwnedFd,
}

struct Works<L> {
    chip: Box<dyn Interrupting + Send>,
    line: LevelLine<L>,
}

impl<L: IrqLine> Clock<L> {
    pub(super) fn new(chip: impl Interrupting + Send + 'static, line: L) -> Result<Self, RunError> {
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

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let mut works = self.works();
        works.chip.read(offset, data);
        self.settle(&mut works);
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) {
        let mut works = self.works();
        // A clock has no effect on the machine.
        let _ = works.chip.write(offset, data);
        self.settle(&mut works);
    }

    /// What is readable when [`ring`](Self::ring) has something to do.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Raises the line if the alarm is due.
    pub(super) fn ring(&self) {
        self.settle(&mut self.works());
    }

    /// Drives the line, and winds the timer up to the next alarm, or stops it.
    fn settle(&self, works: &mut Works<L>) {
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

    fn works(&self) -> MutexGuard<'_, Works<L>> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time as the kernel takes it: it counts nanoseconds in 63 bits.
fn timespec(time: Duration) -> Timespec {
    const LONGEST: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());
    Timespec::try_from(time.min(LONGEST)).expect("so many seconds have room")
}

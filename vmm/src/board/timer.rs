//! A timer of the host, which the session waits for together with everything else.

use crate::RunError;
use rustix::event::Timespec;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::time::Duration;

/// What runs out once.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

/// A device that does something when its time has come.
pub(crate) trait Timed: Send + Sync {
    /// What is readable when [`ring`](Self::ring) has something to do.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Does what is due, if anything is.
    fn ring(&self);
}

impl Timer {
    /// A timer that is stopped.
    pub(crate) fn new() -> Result<Self, RunError> {
        timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .map(Self)
        .map_err(RunError::host("create a timer"))
    }

    /// Winds it up to run out after `wait`, or stops it.
    pub(crate) fn set(&self, wait: Option<Duration>) {
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: wait.map_or(timespec(Duration::ZERO), |wait| {
                // Zero would stop it.
                timespec(wait.max(Duration::from_nanos(1)))
            }),
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)
            .expect("a timer of our own takes a valid time");
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The time as the kernel takes it: it counts nanoseconds in 63 bits.
fn timespec(time: Duration) -> Timespec {
    const LONGEST: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());
    Timespec::try_from(time.min(LONGEST)).expect("so many seconds have room")
}

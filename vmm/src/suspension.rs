//! Whether the guest's system sleeps, as it says itself, and who waits for that.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a guest's system says of its own sleep (suspend-to-idle), and what others wait on for it. It
/// sleeps with nothing turned off: its vCPUs are idle until an interrupt wakes one.
#[derive(Debug)]
pub struct Suspension {
    wakefulness: Mutex<Wakefulness>,
    changed: Condvar,
}

/// Whether a guest's system sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakefulness {
    /// It does not.
    Awake,
    /// It does.
    Suspended,
    /// The machine has ended.
    Ended,
}

impl Suspension {
    fn new() -> Self {
        Self {
            wakefulness: Mutex::new(Wakefulness::Awake),
            changed: Condvar::new(),
        }
    }

    /// How it is now.
    #[must_use]
    pub fn now(&self) -> Wakefulness {
        *self.wakefulness()
    }

    /// Whether the system sleeps.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.now() == Wakefulness::Suspended
    }

    /// Waits until it is as `wanted`, the machine has ended, or so much time is over; and says how it
    /// is then.
    #[must_use]
    pub fn wait_for(&self, wanted: Wakefulness, timeout: Duration) -> Wakefulness {
        let deadline = Instant::now().checked_add(timeout);
        let mut now = self.wakefulness();
        while *now != wanted && *now != Wakefulness::Ended {
            let waiting = match deadline {
                None => self.changed.wait(now),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return *now;
                    }
                    let waited = self.changed.wait_timeout(now, left);
                    waited
                        .map(|(now, _)| now)
                        .map_err(|poisoned| PoisonError::new(poisoned.into_inner().0))
                }
            };
            now = waiting.unwrap_or_else(PoisonError::into_inner);
        }
        *now
    }

    /// Tells whoever waits what the system has said, and says it.
    pub(crate) fn tell(&self, is_suspended: bool) {
        let (now, what) = match is_suspended {
            true => (Wakefulness::Suspended, "the guest sleeps"),
            false => (Wakefulness::Awake, "the guest has woken"),
        };
        let text = format!("\r\nfirstlight: {what}\r\n");
        // Nobody can be told that stderr is broken, and the guest goes on.
        let _ = io::stderr().write_all(text.as_bytes());
        self.turn(now);
    }

    fn turn(&self, now: Wakefulness) {
        *self.wakefulness() = now;
        self.changed.notify_all();
    }

    fn wakefulness(&self) -> MutexGuard<'_, Wakefulness> {
        self.wakefulness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A machine's own; whoever waits no longer does when it is gone.
pub(crate) struct OwnSuspension(Arc<Suspension>);

impl OwnSuspension {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Suspension::new()))
    }

    pub(crate) fn share(&self) -> Arc<Suspension> {
        Arc::clone(&self.0)
    }
}

impl Drop for OwnSuspension {
    fn drop(&mut self) {
        self.0.turn(Wakefulness::Ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_waits_is_woken_by_each_change_and_by_the_end() {
        let machines = OwnSuspension::new();
        let suspension = machines.share();
        assert!(!suspension.is_suspended());
        let awake = suspension.wait_for(Wakefulness::Awake, LONG);
        assert_eq!(awake, Wakefulness::Awake);
        thread::scope(|scope| {
            let sleeps = scope.spawn(|| suspension.wait_for(Wakefulness::Suspended, LONG));
            suspension.tell(true);
            assert_eq!(sleeps.join().unwrap(), Wakefulness::Suspended);
            let wakes = scope.spawn(|| suspension.wait_for(Wakefulness::Awake, Duration::MAX));
            suspension.tell(false);
            assert_eq!(wakes.join().unwrap(), Wakefulness::Awake);
            let never = scope.spawn(|| suspension.wait_for(Wakefulness::Suspended, LONG));
            drop(machines);
            assert_eq!(never.join().unwrap(), Wakefulness::Ended);
        });
    }

    #[test]
    fn nobody_waits_for_longer_than_they_want_to() {
        let suspension = Suspension::new();
        let now = suspension.wait_for(Wakefulness::Suspended, Duration::from_millis(1));
        assert_eq!(now, Wakefulness::Awake);
        let now = suspension.wait_for(Wakefulness::Suspended, Duration::ZERO);
        assert_eq!(now, Wakefulness::Awake);
    }
}

//! A watchdog as a function on the bus: a chip, and a timer of the host.

use super::PciDevice;
use crate::board::{Timed, Timer};
use crate::reports::Reports;
use crate::{RunError, Stop};
use firstlight_base::GpaRange;
use firstlight_devices::pci::{Address, I6300esb};
use rustix::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A watchdog that ends its machine where the guest does not feed it.
pub(crate) struct Watchdog {
    chip: Mutex<Chip>,
    /// Runs out when the chip may have something to do.
    timer: Timer,
    reports: Arc<Reports>,
}

type Chip = I6300esb<Box<dyn FnMut() -> Duration + Send>>;

/// The number by which its one BAR is known here.
const ONLY: usize = 0;
/// Command, status and BARs: what decides where a function answers lies below.
const HEADER_END: u16 = 0x40;

impl Watchdog {
    pub(crate) fn new(reports: &Arc<Reports>) -> Result<Arc<Self>, RunError> {
        let start = Instant::now();
        Ok(Arc::new(Self {
            chip: Mutex::new(I6300esb::new(Box::new(move || start.elapsed()))),
            timer: Timer::new()?,
            reports: Arc::clone(reports),
        }))
    }

    fn settle(&self, chip: &mut Chip) {
        self.timer.set(chip.due_in());
    }

    fn chip(&self) -> MutexGuard<'_, Chip> {
        self.chip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timed for Watchdog {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn ring(&self) {
        let mut chip = self.chip();
        if chip.has_fired() {
            self.reports.report(Ok(Stop::WatchdogFired));
        }
        self.settle(&mut chip);
    }
}

impl PciDevice for Watchdog {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        self.chip().config_read(register, data);
    }

    fn write_config(&self, _at: Address, register: u16, data: &[u8]) -> bool {
        let mut chip = self.chip();
        chip.config_write(register, data);
        self.settle(&mut chip);
        register < HEADER_END
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        let bar = self.chip().bar();
        bar.map(|range| (ONLY, range)).into_iter().collect()
    }

    fn read_bar(&self, _bar: usize, offset: u64, data: &mut [u8]) {
        self.chip().bar_read(offset, data);
    }

    fn write_bar(&self, _bar: usize, offset: u64, data: &[u8]) {
        let mut chip = self.chip();
        chip.bar_write(offset, data);
        self.settle(&mut chip);
    }

    fn reset(&self) {
        let mut chip = self.chip();
        chip.reset();
        self.settle(&mut chip);
    }

    fn retire(&self) {
        self.timer.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// Unlocks, and writes a word.
    fn write(watchdog: &Watchdog, offset: u64, value: u32) {
        watchdog.write_bar(ONLY, 0xc, &[0x80, 0]);
        watchdog.write_bar(ONLY, 0xc, &[0x86, 0]);
        watchdog.write_bar(ONLY, offset, &value.to_le_bytes());
    }

    fn wait(watchdog: &Watchdog) {
        let limit = Timespec::try_from(Duration::from_secs(60)).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(watchdog.fd(), PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
        watchdog.ring();
    }

    #[test]
    fn nothing_that_feeds_it_is_the_end_of_the_machine() {
        let reports = Reports::new().unwrap();
        let watchdog = Watchdog::new(&reports).unwrap();
        write(&watchdog, 0x0, 4);
        write(&watchdog, 0x4, 4);
        let at = Address::new(0, 1, 0).unwrap();
        // Before it counts: this thread may wait for its turn behind that.
        let started = Instant::now();
        assert!(!watchdog.write_config(at, 0x68, &[2]));
        while reports
            .take()
            .is_none_or(|report| !matches!(report, Ok(Stop::WatchdogFired)))
        {
            wait(&watchdog);
        }
        // Twice four counts of some millisecond each.
        assert!(started.elapsed() >= Duration::from_millis(7));
    }

    #[test]
    fn a_watchdog_that_is_off_wakes_nobody() {
        let reports = Reports::new().unwrap();
        let watchdog = Watchdog::new(&reports).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(watchdog.fd(), PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec::default())).unwrap(), 0);
        watchdog.ring();
        assert!(reports.take().is_none());
    }
}

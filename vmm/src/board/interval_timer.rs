//! A PC's interval timer on the board: the chip between an interrupt line and a timer of the host.

use super::timer::{Timed, Timer};
use super::{Attached, Board, Place};
use crate::RunError;
use firstlight_boot::Pc;
use firstlight_devices::{Chip, Effect, Pit};
use firstlight_hv::IrqLine;
use rustix::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An 8254 with everything it is connected to.
pub(crate) struct IntervalTimer {
    chip: Mutex<Pit<Box<dyn FnMut() -> Duration + Send>>>,
    line: Box<dyn IrqLine>,
    /// Runs out when it ticks.
    timer: Timer,
}

impl IntervalTimer {
    const PORTS: u64 = Pit::<fn() -> Duration>::PORTS;

    fn new(line: Box<dyn IrqLine>) -> Result<Self, RunError> {
        let start = Instant::now();
        Ok(Self {
            chip: Mutex::new(Pit::new(Box::new(move || start.elapsed()))),
            line,
            timer: Timer::new()?,
        })
    }

    /// Attaches one that drives `line`.
    pub(crate) fn attach(board: &mut Board, line: Box<dyn IrqLine>) -> Result<(), RunError> {
        let timer = Arc::new(Self::new(line)?);
        board.add_timed(Arc::<Self>::clone(&timer));
        board.attach(Place::Ports(Pc::PIT, Self::PORTS), timer);
        Ok(())
    }

    /// Interrupts if it has ticked: once, as the line is an edge, and waits for the next time.
    fn settle(&self, chip: &mut Pit<Box<dyn FnMut() -> Duration + Send>>) {
        if chip.take_ticks() > 0 {
            // Refused by the host it is lost, as by a broken wire.
            let _ = self.line.pulse();
        }
        self.timer.set(chip.tick_in());
    }

    fn chip(&self) -> MutexGuard<'_, Pit<Box<dyn FnMut() -> Duration + Send>>> {
        self.chip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timed for IntervalTimer {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn ring(&self) {
        self.settle(&mut self.chip());
    }
}

impl Attached for IntervalTimer {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.chip().read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut chip = self.chip();
        let effect = chip.write(offset, data);
        self.settle(&mut chip);
        effect
    }
}

//! The interrupt pins of the bus: four lines that all functions share (PCI Local Bus Specification
//! 3.0, section 2.2.6).

use crate::board::LevelLine;
use firstlight_hv::IrqLine;
use std::sync::{Arc, Mutex, PoisonError};

/// A line that is high as long as one of the pins at it is.
pub(crate) struct Intx(Mutex<Shared>);

struct Shared {
    line: LevelLine,
    /// How many pins are high.
    high: u32,
}

impl Intx {
    pub(crate) fn new(line: Box<dyn IrqLine>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Shared {
            line: LevelLine::new(line),
            high: 0,
        })))
    }

    fn change(&self, rises: bool) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.high = if rises {
            shared.high.saturating_add(1)
        } else {
            shared.high.saturating_sub(1)
        };
        let high = shared.high > 0;
        shared.line.set(high);
    }
}

/// A function's interrupt pin.
pub(crate) struct Pin {
    line: Arc<Intx>,
    high: Mutex<bool>,
}

impl Pin {
    /// A pin at `line`, which is low.
    pub(crate) fn new(line: &Arc<Intx>) -> Self {
        Self {
            line: Arc::clone(line),
            high: Mutex::new(false),
        }
    }

    pub(crate) fn set(&self, high: bool) {
        let mut was = self.high.lock().unwrap_or_else(PoisonError::into_inner);
        if *was != high {
            *was = high;
            self.line.change(high);
        }
    }

    /// The line it is at, for whatever else is.
    pub(crate) fn line(&self) -> &Arc<Intx> {
        &self.line
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.set(false);
    }
}

//! A PLIC on the board: the chip between its sources' lines and the harts' interrupt pins.

use super::{Attached, LevelLine};
use firstlight_base::Irq;
use firstlight_boot::platform::VirtRiscv64;
use firstlight_devices::{Chip, Effect, PlicContext};
use firstlight_hv::{HvError, IrqLine};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A PLIC with the harts that it notifies.
pub(crate) struct Plic {
    works: Mutex<Works>,
}

struct Works {
    chip: firstlight_devices::Plic,
    /// The harts' pins, by hart id.
    pins: Vec<LevelLine>,
}

impl Plic {
    /// A PLIC of the harts with these pins, by hart id.
    pub(crate) fn new(pins: Vec<Box<dyn IrqLine>>) -> Self {
        // As on QEMU's machine: a context of each hart's machine mode, which no guest is in, and
        // one of its supervisor mode.
        let contexts = u32::try_from(pins.len())
            .ok()
            .and_then(|harts| harts.checked_mul(2));
        let chip = contexts
            .and_then(|contexts| firstlight_devices::Plic::new(VirtRiscv64::SOURCES, contexts));
        Self {
            works: Mutex::new(Works {
                chip: chip.expect("a machine has far fewer harts than a PLIC can serve"),
                pins: pins.into_iter().map(LevelLine::new).collect(),
            }),
        }
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached for Plic {
    /// Reading a register may claim an interrupt.
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut works = self.works();
        works.chip.read(offset, data);
        works.notify();
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut works = self.works();
        let effect = works.chip.write(offset, data);
        works.notify();
        effect
    }
}

impl Works {
    fn notify(&mut self) {
        for (hart, pin) in (0..).zip(&mut self.pins) {
            let supervisor = PlicContext(2 * hart + 1);
            pin.set(self.chip.notifies(supervisor));
        }
    }
}

/// A source's line.
pub(crate) struct PlicLine {
    plic: Arc<Plic>,
    source: Irq,
}

impl PlicLine {
    pub(crate) fn new(plic: &Arc<Plic>, source: Irq) -> Self {
        Self {
            plic: Arc::clone(plic),
            source,
        }
    }
}

impl IrqLine for PlicLine {
    fn pulse(&self) -> Result<(), HvError> {
        let mut works = self.plic.works();
        works.chip.pulse(self.source);
        works.notify();
        Ok(())
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        let mut works = self.plic.works();
        works.chip.set(self.source, high);
        works.notify();
        Ok(())
    }
}

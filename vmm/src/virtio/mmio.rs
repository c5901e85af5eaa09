//! A virtio transport that is registers in memory (virtio 1.2, section 4.2), on the board.

use super::{Interrupt, Runner, VirtioDevice};
use crate::RunError;
use crate::board::{Attached, LevelLine};
use firstlight_base::Gpa;
use firstlight_devices::Effect;
use firstlight_devices::virtio::{Cause, Event, Mmio, Start};
use firstlight_hv::{Doorbell, Hung, Interconnect, IrqLine};
use firstlight_load::GuestMemory;
use rustix::fd::AsFd;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A device with its transport.
pub(crate) struct Transport {
    /// Itself, for its thread to interrupt by.
    this: Weak<Self>,
    /// Held from a write to what comes of it, so that starts and stops have one order.
    writing: Mutex<()>,
    works: Mutex<Works>,
    runner: Runner,
    registers: Gpa,
    interconnect: Arc<dyn Interconnect>,
}

struct Works {
    chip: Mmio,
    line: LevelLine,
    /// The doorbells that the guest rings without leaving its processor.
    hung: Vec<Hung>,
}

/// What a transport is wired to.
pub(crate) struct Wiring<'a> {
    /// Where its registers are.
    pub(crate) registers: Gpa,
    pub(crate) line: Box<dyn IrqLine>,
    pub(crate) interconnect: Arc<dyn Interconnect>,
    pub(crate) memory: &'a Arc<GuestMemory>,
}

impl Transport {
    pub(crate) fn new(device: VirtioDevice, wiring: Wiring<'_>) -> Result<Arc<Self>, RunError> {
        let VirtioDevice {
            name,
            chip,
            backend,
        } = device;
        let queues = chip.queue_sizes().len();
        let runner = Runner::new(&name, backend, queues, wiring.memory)?;
        Ok(Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            writing: Mutex::default(),
            works: Mutex::new(Works {
                chip: Mmio::new(chip),
                line: LevelLine::new(wiring.line),
                hung: Vec::new(),
            }),
            runner,
            registers: wiring.registers,
            interconnect: wiring.interconnect,
        }))
    }

    /// Stops the device, for good, and lets go of all that it has of the host.
    pub(crate) fn retire(&self) {
        self.works().hung.clear();
        self.runner.retire();
    }

    fn serve(&self, event: Event) {
        match event {
            Event::Start(start) => self.start(&start),
            Event::Stop => {
                let hung = std::mem::take(&mut self.works().hung);
                drop(hung);
                self.runner.stop();
                let mut works = self.works();
                works.chip.stopped();
                works.settle();
            }
            Event::Notify(queue) => self.runner.ring(queue),
            // What devices here let be written, nobody has to hear of at once.
            Event::Configured => {}
        }
    }

    fn start(&self, start: &Start) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        self.works().hung = self.hang();
        let interrupt: Arc<dyn Interrupt> = this;
        self.runner.start(start, &interrupt);
    }

    /// Hangs a doorbell for each queue; where the host refuses, the guest's writes are exits.
    fn hang(&self) -> Vec<Hung> {
        let at = Gpa::new(self.registers.get() + Mmio::QUEUE_NOTIFY);
        let bells = self.runner.bells().iter().zip(0_u64..);
        bells
            .filter_map(|(bell, queue)| {
                let doorbell = Doorbell {
                    at,
                    width: 4,
                    value: Some(queue),
                };
                self.interconnect.hang(doorbell, bell.as_fd()).ok()
            })
            .collect()
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Works {
    fn settle(&mut self) {
        self.line.set(self.chip.irq());
    }
}

impl Attached for Transport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut works = self.works();
        works.chip.read(offset, data);
        works.settle();
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let event = {
            let mut works = self.works();
            let event = works.chip.write(offset, data);
            works.settle();
            event
        };
        if let Some(event) = event {
            self.serve(event);
        }
        None
    }
}

impl Interrupt for Transport {
    fn raise(&self, cause: Cause) {
        let mut works = self.works();
        works.chip.raise(cause);
        works.settle();
    }

    fn break_down(&self, _error: &dyn Error) {
        let mut works = self.works();
        works.chip.break_down();
        works.settle();
    }
}

#[cfg(test)]
mod tests;

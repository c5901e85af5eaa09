//! A virtio device as a function on the bus (virtio 1.2, section 4.1).

use super::{PciDevice, Pin, Signals};
use crate::RunError;
use crate::virtio::{Interrupt, Runner, VirtioDevice};
use firstlight_base::{Gpa, GpaRange};
use firstlight_devices::pci::{Address, Attachment};
use firstlight_devices::virtio::{Cause, Event, Start, VirtioPci};
use firstlight_hv::{Doorbell, Hung, Interconnect};
use firstlight_load::GuestMemory;
use rustix::fd::AsFd;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A virtio device with its transport.
pub(crate) struct VirtioFunction {
    /// Itself, for its thread to interrupt by.
    this: Weak<Self>,
    /// Held from a write to what comes of it, so that starts and stops have one order.
    writing: Mutex<()>,
    works: Mutex<Works>,
    runner: Runner,
    signals: Signals,
}

struct Works {
    chip: VirtioPci,
    /// The doorbells that the guest rings without leaving its processor, and where the first is.
    hung: Option<(Gpa, Vec<Hung>)>,
    running: bool,
}

/// The number by which its one BAR is known here.
const ONLY: usize = 0;
/// Command, status and BARs: what decides where a function answers lies below.
const HEADER_END: u16 = 0x40;

impl VirtioFunction {
    pub(crate) fn new(
        device: VirtioDevice,
        (attachment, pin): (Attachment, Pin),
        interconnect: &Arc<dyn Interconnect>,
        memory: &Arc<GuestMemory>,
    ) -> Result<Arc<Self>, RunError> {
        let VirtioDevice {
            name,
            chip,
            backend,
        } = device;
        let runner = Runner::new(&name, backend, chip.queue_sizes().len(), memory)?;
        Ok(Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            writing: Mutex::default(),
            works: Mutex::new(Works {
                chip: VirtioPci::new(chip, attachment),
                hung: None,
                running: false,
            }),
            runner,
            signals: Signals::new(pin, interconnect),
        }))
    }

    fn serve(&self, event: Option<Event>) {
        match event {
            Some(Event::Start(start)) => self.start(&start),
            Some(Event::Stop) => self.stop(),
            Some(Event::Notify(queue)) => self.runner.ring(queue),
            // What devices here let be written, nobody has to hear of at once.
            Some(Event::Configured) | None => {}
        }
    }

    fn start(&self, start: &Start) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        {
            let mut works = self.works();
            works.running = true;
            self.hang(&mut works);
        }
        let interrupt: Arc<dyn Interrupt> = this;
        self.runner.start(start, &interrupt);
    }

    fn stop(&self) {
        {
            let mut works = self.works();
            works.running = false;
            works.hung = None;
        }
        self.runner.stop();
        let mut works = self.works();
        works.chip.stopped();
        self.settle(&mut works);
    }

    /// Hangs a doorbell for each queue where the BAR is now; where the host refuses, the guest's writes
    /// are exits.
    fn hang(&self, works: &mut Works) {
        let first = works.chip.notify_address(0).filter(|_| works.running);
        if works.hung.as_ref().map(|(at, _)| *at) == first {
            return;
        }
        works.hung = None;
        works.hung = first.map(|first| {
            let bells = self.runner.bells().iter().zip(0_u16..);
            let hung = bells.filter_map(|(bell, queue)| {
                let doorbell = Doorbell {
                    at: works.chip.notify_address(queue)?,
                    width: 2,
                    value: None,
                };
                let interconnect = self.signals.interconnect();
                interconnect.hang(doorbell, bell.as_fd()).ok()
            });
            (first, hung.collect())
        });
    }

    /// Does what an access to the chip has brought about.
    fn settle(&self, works: &mut Works) {
        while let Some(message) = works.chip.take_message() {
            self.signals.send(message);
        }
        self.signals.pin().set(works.chip.irq());
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PciDevice for VirtioFunction {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        let mut works = self.works();
        works.chip.config_read(register, data);
        self.settle(&mut works);
    }

    fn write_config(&self, at: Address, register: u16, data: &[u8]) -> bool {
        let _writing = self.writing();
        let event = {
            let mut works = self.works();
            self.signals.answers_at(at);
            let event = works.chip.config_write(register, data);
            self.hang(&mut works);
            self.settle(&mut works);
            event
        };
        self.serve(event);
        register < HEADER_END
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        let bar = self.works().chip.bar();
        bar.map(|range| (ONLY, range)).into_iter().collect()
    }

    fn read_bar(&self, _bar: usize, offset: u64, data: &mut [u8]) {
        let mut works = self.works();
        works.chip.bar_read(offset, data);
        self.settle(&mut works);
    }

    fn write_bar(&self, _bar: usize, offset: u64, data: &[u8]) {
        let _writing = self.writing();
        let event = {
            let mut works = self.works();
            let event = works.chip.bar_write(offset, data);
            self.settle(&mut works);
            event
        };
        self.serve(event);
    }

    fn reset(&self) {
        let _writing = self.writing();
        let event = {
            let mut works = self.works();
            let event = works.chip.reset();
            self.hang(&mut works);
            self.settle(&mut works);
            event
        };
        self.serve(event);
    }

    fn retire(&self) {
        self.works().hung = None;
        self.runner.retire();
        self.signals.pin().set(false);
    }
}

impl Interrupt for VirtioFunction {
    fn raise(&self, cause: Cause) {
        let mut works = self.works();
        let raised = works.chip.raise(cause);
        self.signals.deliver(raised);
    }

    fn break_down(&self, _error: &dyn Error) {
        let mut works = self.works();
        let raised = works.chip.break_down();
        self.signals.deliver(raised);
    }
}

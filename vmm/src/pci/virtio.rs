//! A virtio device as a function on the bus (virtio 1.2, section 4.1).

use super::{PciDevice, Pin};
use crate::RunError;
use crate::virtio::{Interrupt, Runner, VirtioDevice};
use firstlight_base::{Gpa, GpaRange};
use firstlight_devices::pci::{Address, Raised};
use firstlight_devices::virtio::{Cause, Event, QueueError, Start, VirtioPci};
use firstlight_hv::{Doorbell, Hung, Interconnect, Message};
use firstlight_load::GuestMemory;
use rustix::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A virtio device with its transport.
pub(crate) struct VirtioFunction {
    /// Itself, for its thread to interrupt by.
    this: Weak<Self>,
    works: Mutex<Works>,
    runner: Runner,
    pin: Pin,
    interconnect: Arc<dyn Interconnect>,
}

struct Works {
    chip: VirtioPci,
    /// Where it was last written to.
    address: Option<Address>,
    /// The doorbells that the guest rings without leaving its processor, and where the first is.
    hung: Option<(Gpa, Vec<Hung>)>,
    running: bool,
}

impl VirtioFunction {
    pub(crate) fn new(
        device: VirtioDevice,
        pin: Pin,
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
            works: Mutex::new(Works {
                chip: VirtioPci::new(chip),
                address: None,
                hung: None,
                running: false,
            }),
            runner,
            pin,
            interconnect: Arc::clone(interconnect),
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
        let raised = works.chip.stopped();
        self.deliver(&works, raised);
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
                    value: Some(queue.into()),
                };
                self.interconnect.hang(doorbell, bell.as_fd()).ok()
            });
            (first, hung.collect())
        });
    }

    /// Sends what the chip raised to where it goes, before it can raise or lower anything else.
    fn deliver(&self, works: &Works, raised: Raised) {
        match raised {
            Raised::Nothing => {}
            Raised::Line(high) => self.pin.set(high),
            Raised::Message(message) => {
                let requester = works.address.map_or(0, Address::routing_id);
                let message = Message {
                    address: Gpa::new(message.address),
                    data: message.data,
                    requester: requester.into(),
                };
                // A message to nowhere is lost, as on hardware.
                let _ = self.interconnect.send(&message);
            }
        }
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PciDevice for VirtioFunction {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        let mut works = self.works();
        let raised = works.chip.config_read(register, data);
        self.deliver(&works, raised);
    }

    fn write_config(&self, at: Address, register: u16, data: &[u8]) {
        let event = {
            let mut works = self.works();
            works.address = Some(at);
            let written = works.chip.config_write(register, data);
            self.hang(&mut works);
            self.deliver(&works, written.raised);
            written.event
        };
        self.serve(event);
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        let works = self.works();
        works.chip.bars().collect()
    }

    fn read_bar(&self, bar: usize, offset: u64, data: &mut [u8]) {
        let mut works = self.works();
        let raised = works.chip.bar_read(offset, data);
        self.deliver(&works, raised);
    }

    fn write_bar(&self, bar: usize, offset: u64, data: &[u8]) {
        let event = {
            let mut works = self.works();
            let written = works.chip.bar_write(offset, data);
            self.deliver(&works, written.raised);
            written.event
        };
        self.serve(event);
    }

    fn reset(&self) {
        self.retire();
        let mut works = self.works();
        works.running = false;
        works.chip.reset();
    }

    fn retire(&self) {
        self.works().hung = None;
        self.runner.stop();
        self.pin.set(false);
    }
}

impl Interrupt for VirtioFunction {
    fn raise(&self, cause: Cause) {
        let mut works = self.works();
        let raised = works.chip.raise(cause);
        self.deliver(&works, raised);
    }

    fn break_down(&self, _error: &QueueError) {
        let mut works = self.works();
        let raised = works.chip.break_down();
        self.deliver(&works, raised);
    }
}

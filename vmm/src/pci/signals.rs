//! How a function interrupts the guest: by its pin, or by messages.

use super::Pin;
use firstlight_base::Gpa;
use firstlight_devices::pci::{Address, Message, Raised};
use firstlight_hv::Interconnect;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// A function's pin, and its way to memory.
pub(super) struct Signals {
    pin: Pin,
    interconnect: Arc<dyn Interconnect>,
    /// The routing ID by which the machine knows who sends a message.
    requester: AtomicU16,
}

impl Signals {
    /// Those of a function that has not been written to yet.
    pub(super) fn new(pin: Pin, interconnect: &Arc<dyn Interconnect>) -> Self {
        Self {
            pin,
            interconnect: Arc::clone(interconnect),
            requester: AtomicU16::new(0),
        }
    }

    /// The function answers at `at` from now on.
    pub(super) fn answers_at(&self, at: Address) {
        self.requester.store(at.routing_id(), Ordering::Relaxed);
    }

    /// Does what the chip raised, before it can raise or lower anything else.
    pub(super) fn deliver(&self, raised: Raised) {
        match raised {
            Raised::Nothing => {}
            Raised::Line(high) => self.pin.set(high),
            Raised::Message(message) => self.send(message),
        }
    }

    /// Sends a message; one to nowhere is lost, as on hardware.
    pub(super) fn send(&self, message: Message) {
        let _ = self.interconnect.send(&firstlight_hv::Message {
            address: Gpa::new(message.address),
            data: message.data,
            requester: self.requester.load(Ordering::Relaxed).into(),
        });
    }

    pub(super) fn pin(&self) -> &Pin {
        &self.pin
    }

    pub(super) fn interconnect(&self) -> &dyn Interconnect {
        &*self.interconnect
    }
}

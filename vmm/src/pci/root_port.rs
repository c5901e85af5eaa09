//! A root port, and what is plugged into it.

use super::{PciDevice, Pin};
use firstlight_base::{Gpa, GpaRange};
use firstlight_devices::pci::{Address, Message, Raised};
use firstlight_hv::Interconnect;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A port on the root bus, with a slot behind it.
pub(crate) struct RootPort {
    works: Mutex<Works>,
    at: Address,
    pin: Pin,
    interconnect: Arc<dyn Interconnect>,
}

struct Works {
    chip: firstlight_devices::pci::RootPort,
    /// Where it was last written to.
    address: Option<Address>,
    /// What is in the slot.
    plugged: Option<Arc<dyn PciDevice>>,
}

impl RootPort {
    /// A port at `at` on the root bus; the empty slot behind it has the number of its device.
    pub(crate) fn new(at: Address, pin: Pin, interconnect: &Arc<dyn Interconnect>) -> Arc<Self> {
        Arc::new(Self {
            works: Mutex::new(Works {
                chip: firstlight_devices::pci::RootPort::new(at.device()),
                address: None,
                plugged: None,
            }),
            at,
            pin,
            interconnect: Arc::clone(interconnect),
        })
    }

    /// Where the port is on the root bus, by which its slot is known before the guest has numbered the
    /// bus behind it.
    pub(crate) fn address(&self) -> Address {
        self.at
    }

    /// What is in the slot.
    pub(crate) fn plugged(&self) -> Option<Arc<dyn PciDevice>> {
        self.works().plugged.clone()
    }

    /// The interrupt pin of what is in the slot: at the port's own line.
    pub(crate) fn pin(&self) -> Pin {
        Pin::new(self.pin.line())
    }

    /// Whether the slot is on that bus.
    pub(crate) fn leads_to(&self, bus: u8) -> bool {
        let works = self.works();
        works.chip.is_link_up() && works.chip.secondary() == Some(bus)
    }

    /// Puts a device into the empty slot, and tells the guest.
    pub(crate) fn plug(&self, device: Arc<dyn PciDevice>) {
        let mut works = self.works();
        assert!(works.plugged.is_none(), "a slot is given away once");
        works.plugged = Some(device);
        let raised = works.chip.plug();
        self.deliver(&works, raised);
    }

    /// Empties the slot and tells the guest; with what was in it, which has stopped.
    pub(crate) fn unplug(&self) -> Option<Arc<dyn PciDevice>> {
        let device = {
            let mut works = self.works();
            let device = works.plugged.take()?;
            let raised = works.chip.unplug();
            self.deliver(&works, raised);
            device
        };
        device.retire();
        Some(device)
    }

    fn deliver(&self, works: &Works, raised: Raised) {
        match raised {
            Raised::Nothing => {}
            Raised::Line(high) => self.pin.set(high),
            Raised::Message(message) => self.send(works, message),
        }
    }

    fn send(&self, works: &Works, message: Message) {
        let requester = works.address.map_or(0, Address::routing_id);
        // A message to nowhere is lost, as on hardware.
        let _ = self.interconnect.send(&firstlight_hv::Message {
            address: Gpa::new(message.address),
            data: message.data,
            requester: requester.into(),
        });
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PciDevice for RootPort {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        self.works().chip.config_read(register, data);
    }

    fn write_config(&self, at: Address, register: u16, data: &[u8]) {
        let reset = {
            let mut works = self.works();
            works.address = Some(at);
            let reset = works.chip.config_write(register, data);
            while let Some(message) = works.chip.take_message() {
                self.send(&works, message);
            }
            self.pin.set(works.chip.irq());
            reset.and_then(|_reset| works.plugged.clone())
        };
        if let Some(device) = reset {
            device.reset();
        }
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        Vec::new()
    }

    fn read_bar(&self, _bar: usize, _offset: u64, _data: &mut [u8]) {}

    fn write_bar(&self, _bar: usize, _offset: u64, _data: &[u8]) {}

    fn reset(&self) {
        let mut works = self.works();
        works.chip.reset();
        self.pin.set(works.chip.irq());
    }

    fn retire(&self) {
        if let Some(device) = self.plugged() {
            device.retire();
        }
        self.pin.set(false);
    }
}

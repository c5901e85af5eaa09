//! A root port, and what is plugged into it.

use super::{PciDevice, Pin, Signals};
use crate::arch::HotplugError;
use firstlight_base::GpaRange;
use firstlight_devices::pci::{Address, Secondary};
use firstlight_hv::Interconnect;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A port on the root bus, with a slot behind it.
pub(crate) struct RootPort {
    works: Mutex<Works>,
    /// The guest has written to its registers, or the slot was emptied.
    moved: Condvar,
    at: Address,
    signals: Signals,
}

struct Works {
    chip: firstlight_devices::pci::RootPort,
    /// What is in the slot.
    plugged: Option<Arc<dyn PciDevice>>,
}

impl RootPort {
    /// A port at `at` on the root bus; the empty slot behind it has the number of its device.
    pub(crate) fn new(at: Address, pin: Pin, interconnect: &Arc<dyn Interconnect>) -> Arc<Self> {
        Arc::new(Self {
            works: Mutex::new(Works {
                chip: firstlight_devices::pci::RootPort::new(at.device()),
                plugged: None,
            }),
            moved: Condvar::new(),
            at,
            signals: Signals::new(pin, interconnect),
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
        Pin::new(self.signals.pin().line())
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
        self.signals.deliver(raised);
    }

    /// Asks the guest to let go of what is in the slot, which is then taken out. Where the slot has
    /// no power, that is at once.
    pub(crate) fn request_unplug(&self) -> Result<(), HotplugError> {
        let mut works = self.works();
        if works.plugged.is_none() {
            return Err(HotplugError::Nobody(self.at));
        }
        if !works.chip.is_served() {
            return Err(HotplugError::Unserved(self.at));
        }
        if works.chip.is_busy() {
            return Err(HotplugError::Busy(self.at));
        }
        if works.chip.is_powered() {
            let raised = works.chip.request_unplug();
            self.signals.deliver(raised);
        } else {
            self.take_out(&mut works);
        }
        Ok(())
    }

    /// Waits until the guest is not about to turn what is in the slot on or off, but no longer than
    /// `limit`.
    pub(crate) fn wait_while_busy(&self, limit: Duration) {
        let is_busy = |works: &mut Works| works.plugged.is_some() && works.chip.is_busy();
        let waited = self.moved.wait_timeout_while(self.works(), limit, is_busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Empties the slot and tells the guest. What was in it has stopped before, so that who finds the
    /// slot empty finds free what that had of the host.
    fn take_out(&self, works: &mut Works) {
        if let Some(device) = works.plugged.take() {
            device.retire();
        }
        let raised = works.chip.unplug();
        self.signals.deliver(raised);
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Works {
    /// Resets what is in the slot, before its link can come up again.
    fn reset_plugged(&self) {
        if let Some(device) = &self.plugged {
            device.reset();
        }
    }
}

impl PciDevice for RootPort {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        self.works().chip.config_read(register, data);
    }

    fn write_config(&self, at: Address, register: u16, data: &[u8]) -> bool {
        let mut works = self.works();
        self.signals.answers_at(at);
        let secondary = works.chip.config_write(register, data);
        while let Some(message) = works.chip.take_message() {
            self.signals.send(message);
        }
        self.signals.pin().set(works.chip.irq());
        match secondary {
            None => {}
            Some(Secondary::Released) => self.take_out(&mut works),
            Some(Secondary::Reset) => works.reset_plugged(),
        }
        self.moved.notify_all();
        secondary.is_some()
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        Vec::new()
    }

    fn read_bar(&self, _bar: usize, _offset: u64, _data: &mut [u8]) {}

    fn write_bar(&self, _bar: usize, _offset: u64, _data: &[u8]) {}

    fn reset(&self) {
        let mut works = self.works();
        works.chip.reset();
        self.signals.pin().set(works.chip.irq());
        works.reset_plugged();
        self.moved.notify_all();
    }

    fn retire(&self) {
        let mut works = self.works();
        if let Some(device) = works.plugged.take() {
            device.retire();
        }
        drop(works);
        self.moved.notify_all();
        self.signals.pin().set(false);
    }
}

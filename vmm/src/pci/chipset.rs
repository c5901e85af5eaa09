//! What a machine's chipset has on its PCI bus.

use super::PciDevice;
use firstlight_base::GpaRange;
use firstlight_devices::pci::{Address, HostBridge, LpcBridge};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a machine's chipset has on its PCI bus, where the machine has one.
#[derive(Clone, Debug, Default)]
pub struct Chipset {
    /// What is in slot 0.
    pub host_bridge: HostBridge,
    /// The bridge to what is on no PCI bus, and its device number.
    pub lpc_bridge: Option<(u8, LpcBridge)>,
}

/// An LPC bridge on the bus.
pub(crate) struct Lpc(Mutex<LpcBridge>);

impl Lpc {
    pub(crate) const fn new(bridge: LpcBridge) -> Self {
        Self(Mutex::new(bridge))
    }

    fn bridge(&self) -> MutexGuard<'_, LpcBridge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PciDevice for Lpc {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        self.bridge().config_read(register, data);
    }

    fn write_config(&self, _at: Address, register: u16, data: &[u8]) -> bool {
        self.bridge().config_write(register, data);
        false
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        Vec::new()
    }

    fn read_bar(&self, _bar: usize, _offset: u64, _data: &mut [u8]) {}

    fn write_bar(&self, _bar: usize, _offset: u64, _data: &[u8]) {}

    fn reset(&self) {
        self.bridge().reset();
    }

    fn retire(&self) {}
}

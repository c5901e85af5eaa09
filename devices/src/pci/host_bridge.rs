//! The host bridge, function 00:00.0: by it a guest sees that there is a PCI bus.

use super::{ConfigSpace, Identity};

/// A host bridge for PCI Express that asks for nothing.
#[derive(Clone, Debug)]
pub struct HostBridge {
    config: ConfigSpace,
}

/// QEMU's generic PCI Express host bridge (QEMU's documentation, "PCI IDs for QEMU").
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    class: 0x06_0000,
    revision: 0,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

impl HostBridge {
    /// A host bridge after reset.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: ConfigSpace::new(&IDENTITY),
        }
    }

    /// Fills `data` with what the registers from `register` read as.
    pub fn config_read(&self, register: u16, data: &mut [u8]) {
        self.config.read(register, data);
    }

    /// Writes `data` to the registers from `register`.
    pub fn config_write(&mut self, register: u16, data: &[u8]) {
        self.config.write(register, data);
    }

    /// Gives every register its value after reset.
    pub const fn reset(&mut self) {
        self.config.reset();
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::config::tests::survives_every_access;
    use core::cell::RefCell;

    #[test]
    fn it_is_a_host_bridge_without_bars_and_capabilities() {
        let mut bridge = HostBridge::new();
        bridge.config_write(0x10, &[0xff; 24]);
        let mut data = [0xff; 0x40];
        bridge.config_read(0, &mut data);
        assert_eq!(data[..4], [0x36, 0x1b, 0x08, 0x00]);
        assert_eq!(data[8..12], [0, 0, 0, 6]);
        assert_eq!(data[0x10..0x28], [0; 24]);
        assert_eq!(data[0x34], 0);
    }

    #[test]
    fn every_access_is_survived() {
        let bridge = RefCell::new(HostBridge::new());
        survives_every_access(
            |at, data| bridge.borrow().config_read(at, data),
            |at, data| bridge.borrow_mut().config_write(at, data),
        );
    }
}

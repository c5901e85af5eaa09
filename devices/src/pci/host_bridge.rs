//! The host bridge, function 00:00.0: by it a guest sees that there is a PCI bus.

use super::{ConfigSpace, Identity};
use firstlight_base::Gpa;

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

/// The memory controller of Intel's Q35, by which firmware knows QEMU's machine of that name.
const Q35: Identity = Identity {
    vendor: 0x8086,
    device: 0x29c0,
    ..IDENTITY
};

/// Where configuration space is seen in memory (Intel 3 Series Express Chipset Family Datasheet,
/// section 5.1.12): enabled by bit 0, of 256 MiB where bits 1 and 2 are clear.
const PCIEXBAR: u8 = 0x60;
const PCIEXBAR_ENABLE: u64 = 1 << 0;
const PCIEXBAR_BASE: u64 = 0x000f_ffff_f000_0000;

impl HostBridge {
    /// That of a Q35 after reset, whose configuration space is where the guest wants it.
    #[must_use]
    pub fn q35() -> Self {
        let mut config = ConfigSpace::new(&Q35);
        config.make_writable(PCIEXBAR, &(PCIEXBAR_BASE | PCIEXBAR_ENABLE).to_le_bytes());
        Self { config }
    }

    /// Where the guest wants the 256 MiB of configuration space, if anywhere.
    #[must_use]
    pub fn ecam(&self) -> Option<Gpa> {
        let mut bytes = [0; 8];
        self.config.read(PCIEXBAR.into(), &mut bytes);
        let register = u64::from_le_bytes(bytes);
        let is_enabled = register & PCIEXBAR_ENABLE != 0;
        is_enabled.then_some(Gpa::new(register & PCIEXBAR_BASE))
    }

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
    fn configuration_space_is_where_a_guest_of_a_q35_puts_it() {
        let mut bridge = HostBridge::q35();
        assert_eq!(bridge.ecam(), None);
        bridge.config_write(0x64, &[0; 4]);
        bridge.config_write(0x60, &0xb000_0001_u32.to_le_bytes());
        assert_eq!(bridge.ecam(), Some(Gpa::new(0xb000_0000)));
        bridge.config_write(0x60, &[0xff; 8]);
        assert_eq!(bridge.ecam(), Some(Gpa::new(PCIEXBAR_BASE)));
        bridge.reset();
        assert_eq!(bridge.ecam(), None);
        let mut other = HostBridge::new();
        other.config_write(0x60, &[0xff; 8]);
        assert_eq!(other.ecam(), None);
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

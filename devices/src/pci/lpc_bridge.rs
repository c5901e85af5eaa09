//! The LPC bridge of an ICH9, which firmware finds a PC's serial ports and its power management by (Intel
//! ICH9 Family Datasheet, section 13.1).
//!
//! Its power management block is where OVMF has it put; what firmware writes to its routing and
//! base registers is kept and does nothing.

use super::{ConfigSpace, Identity};

/// The bridge, function 0 of device 31.
#[derive(Clone, Debug)]
pub struct LpcBridge {
    config: ConfigSpace,
}

/// Which of Intel's it is is what OVMF's drivers look for.
const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x2918,
    class: 0x06_0100,
    revision: 2,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// It always answers to ports and to memory, and is a master: firmware looks for the first before it looks
/// for what is behind the bridge.
const COMMAND: u8 = 0x04;
const ALWAYS_ON: u16 = 0b111;
/// The base of the power management block; it is one of ports.
const PM_BASE: u8 = 0x40;
const IS_PORTS: u16 = 1;
const ACPI_CONTROL: u8 = 0x44;
/// Where the interrupt pins A to D, and E to H, are routed to; after reset, nowhere.
const ROUTES: [u8; 2] = [0x60, 0x68];
const NOWHERE: [u8; 4] = [0x80; 4];
const ROOT_COMPLEX_BASE: u8 = 0xf0;

impl LpcBridge {
    /// A bridge after reset, whose power management block begins at the port `power`.
    #[must_use]
    pub fn new(power: u16) -> Self {
        let mut config = ConfigSpace::new(&IDENTITY);
        config.define(COMMAND, &ALWAYS_ON.to_le_bytes());
        config.define(PM_BASE, &(power | IS_PORTS).to_le_bytes());
        config.make_writable(ACPI_CONTROL, &[0x87]);
        for at in ROUTES {
            config.define(at, &NOWHERE);
            config.make_writable(at, &[0x8f; 4]);
        }
        config.make_writable(ROOT_COMPLEX_BASE, &0xffff_c001_u32.to_le_bytes());
        Self { config }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::config::tests::survives_every_access;
    use core::cell::RefCell;

    #[test]
    fn the_power_management_block_stays_where_it_is() {
        let mut bridge = LpcBridge::new(0x600);
        bridge.config_write(0x40, &[0xff; 5]);
        let mut data = [0; 5];
        bridge.config_read(0x40, &mut data);
        assert_eq!(data, [0x01, 0x06, 0, 0, 0x87]);
        bridge.config_write(0x04, &[0, 0]);
        bridge.config_read(0x04, &mut data[..2]);
        assert_eq!(data[0] & 1, 1, "ports");
        bridge.config_read(0x08, &mut data[..4]);
        assert_eq!(data[..4], [2, 0, 1, 6]);
    }

    #[test]
    fn every_access_is_survived() {
        let bridge = RefCell::new(LpcBridge::new(0x600));
        survives_every_access(
            |at, data| bridge.borrow().config_read(at, data),
            |at, data| bridge.borrow_mut().config_write(at, data),
        );
    }
}

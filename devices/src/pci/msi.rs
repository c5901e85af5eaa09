//! MSI with one message, whose address may have 64 bits (PCI section 6.8.1).

use super::{ConfigSpace, Message};

/// The capability; what the guest writes to it is in configuration space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Msi {
    at: u8,
}

/// The id of the capability, and its registers (PCI figure 6-7).
const ID: u8 = 0x05;
const CONTROL: u8 = 0x02;
const ADDRESS: u8 = 0x04;
const DATA: u8 = 0x0c;
const LEN: usize = 0x0e;

/// Message control (PCI section 6.8.1.3).
const ENABLE: u16 = 1 << 0;
const ADDRESS_64: u16 = 1 << 7;

impl Msi {
    pub(super) fn add_to(config: &mut ConfigSpace) -> Self {
        let at = config.add_capability(ID, &[0; LEN - 2]);
        config.define(at + CONTROL, &ADDRESS_64.to_le_bytes());
        config.make_writable(at + CONTROL, &ENABLE.to_le_bytes());
        config.make_writable(at + ADDRESS, &[0xfc, 0xff, 0xff, 0xff]);
        config.make_writable(at + ADDRESS + 4, &[0xff; 4]);
        config.make_writable(at + DATA, &[0xff; 2]);
        Self { at }
    }

    /// Whether interrupts come as messages, and not by pin.
    pub(super) fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.u16_at(self.at + CONTROL) & ENABLE != 0
    }

    /// The message that an interrupt is; `None` where the function must not send it.
    pub(super) fn message(self, config: &ConfigSpace) -> Option<Message> {
        let low = config.u32_at(self.at + ADDRESS);
        let high = config.u32_at(self.at + ADDRESS + 4);
        let message = Message {
            address: u64::from(high) << 32 | u64::from(low),
            data: config.u16_at(self.at + DATA).into(),
        };
        (self.is_enabled(config) && config.is_bus_master()).then_some(message)
    }
}

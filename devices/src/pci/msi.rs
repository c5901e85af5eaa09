//! MSI with one message, whose address may have 64 bits (PCI section 6.8.1).

use super::{ConfigSpace, Message};

/// The capability; what the guest writes to it is in configuration space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Msi {
    at: u8,
    is_64: bool,
}

/// The id of the capability, and its registers (PCI figure 6-7).
const ID: u8 = 0x05;
const CONTROL: u8 = 0x02;
const ADDRESS: u8 = 0x04;
const DATA_32: u8 = 0x08;
const DATA_64: u8 = 0x0c;
const LEN_64: usize = 0x0e;

/// Message control (PCI section 6.8.1.3).
const ENABLE: u16 = 1 << 0;
const ADDRESS_64: u16 = 1 << 7;

impl Msi {
    pub(super) fn add_to(config: &mut ConfigSpace) -> Self {
        let at = config.add_capability(ID, &[0; LEN_64 - 2]);
        let msi = Self { at, is_64: true };
        msi.define(config);
        msi
    }

    /// One at `at`, whose address has 64 bits or 32.
    pub(super) fn place_in(config: &mut ConfigSpace, at: u8, is_64: bool) -> Self {
        let msi = Self { at, is_64 };
        config.place_capability(at, ID, &[0; LEN_64 - 2][..Self::len(is_64) - 2]);
        msi.define(config);
        msi
    }

    /// How many bytes of configuration space such a one takes.
    pub(super) const fn len(is_64: bool) -> usize {
        if is_64 { LEN_64 } else { LEN_64 - 4 }
    }

    fn define(self, config: &mut ConfigSpace) {
        let Self { at, is_64 } = self;
        config.make_writable(at + CONTROL, &ENABLE.to_le_bytes());
        config.make_writable(at + ADDRESS, &[0xfc, 0xff, 0xff, 0xff]);
        if is_64 {
            config.define(at + CONTROL, &ADDRESS_64.to_le_bytes());
            config.make_writable(at + ADDRESS + 4, &[0xff; 4]);
        }
        config.make_writable(at + self.data(), &[0xff; 2]);
    }

    const fn data(self) -> u8 {
        if self.is_64 { DATA_64 } else { DATA_32 }
    }

    /// Whether interrupts come as messages, and not by pin.
    pub(super) fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.u16_at(self.at + CONTROL) & ENABLE != 0
    }

    /// The message that an interrupt is; `None` where the function must not send it.
    pub(super) fn message(self, config: &ConfigSpace) -> Option<Message> {
        let low = config.u32_at(self.at + ADDRESS);
        let high = match self.is_64 {
            true => config.u32_at(self.at + ADDRESS + 4),
            false => 0,
        };
        let message = Message {
            address: u64::from(high) << 32 | u64::from(low),
            data: config.u16_at(self.at + self.data()).into(),
        };
        (self.is_enabled(config) && config.is_bus_master()).then_some(message)
    }
}

//! Where a function is, and how an offset in the enhanced configuration access mechanism (ECAM)
//! says so (PCIe section 7.2.2).

use core::fmt;

/// The bus, device and function number of a function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    bus: u8,
    device: u8,
    function: u8,
}

/// How many devices a bus has.
const DEVICES: u8 = 32;
/// How many functions a device has.
const FUNCTIONS: u8 = 8;

impl Address {
    /// The function with these numbers; `None` where there are no such ones: a device is below 32
    /// and a function below 8.
    #[must_use]
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device >= DEVICES || function >= FUNCTIONS {
            return None;
        }
        Some(Self {
            bus,
            device,
            function,
        })
    }

    /// The function with this routing id: bus in bits 15 to 8, device in 7 to 3, function in 2 to 0
    /// (PCIe section 2.2.4.2).
    #[must_use]
    pub const fn from_routing_id(id: u16) -> Self {
        let [low, bus] = id.to_le_bytes();
        Self {
            bus,
            device: low >> 3,
            function: low & (FUNCTIONS - 1),
        }
    }

    /// The number by which its requests are known, and which [`from_routing_id`] takes apart.
    ///
    /// [`from_routing_id`]: Self::from_routing_id
    #[must_use]
    pub const fn routing_id(self) -> u16 {
        u16::from_le_bytes([self.device << 3 | self.function, self.bus])
    }

    /// The bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The device number on its bus, 0 to 31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }

    /// The function number in its device, 0 to 7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bus,
            device,
            function,
        } = self;
        write!(f, "{bus:02x}:{device:02x}.{function}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A register of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigAddress {
    /// Whose it is.
    pub function: Address,
    /// Its offset in the function's configuration space, below 4096.
    pub register: u16,
}

/// How many address bits of ECAM are the register, and how many the function and its device.
const REGISTER_BITS: u32 = 12;
const REGISTER_MASK: u16 = (1 << REGISTER_BITS) - 1;

impl ConfigAddress {
    /// How many bytes of ECAM a bus has.
    pub const ECAM_BUS_LEN: u64 = 1 << (REGISTER_BITS + 8);

    /// What is `offset` bytes above the first of bus 0 in ECAM; `None` behind bus 255.
    #[must_use]
    pub fn in_ecam(offset: u64) -> Option<Self> {
        let id = u16::try_from(offset >> REGISTER_BITS).ok()?;
        let [low, high, ..] = offset.to_le_bytes();
        Some(Self {
            function: Address::from_routing_id(id),
            register: u16::from_le_bytes([low, high]) & REGISTER_MASK,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn an_address_reads_as_people_write_it() {
        assert_eq!(format!("{}", Address::new(0, 0x1f, 7).unwrap()), "00:1f.7");
        assert_eq!(Address::new(0, 32, 0), None);
        assert_eq!(Address::new(0, 0, 8), None);
    }

    #[test]
    fn a_routing_id_and_its_address_are_one_to_one() {
        for id in 0..=u16::MAX {
            let address = Address::from_routing_id(id);
            assert_eq!(address.routing_id(), id);
            let (bus, device, function) = (address.bus(), address.device(), address.function());
            assert_eq!(Address::new(bus, device, function), Some(address));
        }
    }

    #[test]
    fn ecam_has_4096_bytes_for_each_function_and_ends_behind_bus_255() {
        let at = ConfigAddress::in_ecam(0x12f_f123).unwrap();
        assert_eq!(format!("{}", at.function), "12:1f.7");
        assert_eq!(at.register, 0x123);
        let last = ConfigAddress::in_ecam(256 * ConfigAddress::ECAM_BUS_LEN - 1).unwrap();
        assert_eq!(format!("{}", last.function), "ff:1f.7");
        assert_eq!(last.register, 0xfff);
        let behind = [256 * ConfigAddress::ECAM_BUS_LEN, 1 << 32, u64::MAX];
        assert!(
            behind
                .iter()
                .all(|&at| ConfigAddress::in_ecam(at).is_none())
        );
    }
}

//! The ports by which a PC reaches configuration space: CONFIG_ADDRESS at 0xcf8 and CONFIG_DATA at
//! 0xcfc (PCI section 3.2.2.3.2).

use super::{Address, ConfigAddress};

/// The two ports, as eight addresses from 0xcf8.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cam {
    address: u32,
}

/// CONFIG_ADDRESS: an access to CONFIG_DATA is one to configuration space.
const ENABLE: u32 = 1 << 31;
/// The bits that can be written: all others read as zero.
const WRITABLE: u32 = ENABLE | 0x00ff_fffc;
/// Where CONFIG_DATA begins, and where it ends.
const DATA: u64 = 4;
const END: u64 = 8;

impl Cam {
    /// The ports after reset: configuration space is not enabled.
    #[must_use]
    pub const fn new() -> Self {
        Self { address: 0 }
    }

    /// Fills `data` with what the ports from `offset` read as; `config` reads configuration space.
    ///
    /// Only all four bytes of CONFIG_ADDRESS at once are that register. To a part of it nobody
    /// answers.
    pub fn read(
        &self,
        offset: u64,
        data: &mut [u8],
        config: impl FnOnce(ConfigAddress, &mut [u8]),
    ) {
        data.fill(0xff);
        if let (0, Ok(whole)) = (offset, <&mut [u8; 4]>::try_from(&mut *data)) {
            *whole = self.address.to_le_bytes();
            return;
        }
        let window = data_port(offset, data.len());
        if let (Some(target), Some(bytes)) = (self.target(offset), data.get_mut(window)) {
            config(target, bytes);
        }
    }

    /// Writes `data` to the ports from `offset`; `config` writes configuration space.
    ///
    /// Only a write of all four bytes at once changes CONFIG_ADDRESS.
    pub fn write<E>(
        &mut self,
        offset: u64,
        data: &[u8],
        config: impl FnOnce(ConfigAddress, &[u8]) -> Option<E>,
    ) -> Option<E> {
        if let (0, &[a, b, c, d]) = (offset, data) {
            self.address = u32::from_le_bytes([a, b, c, d]) & WRITABLE;
            return None;
        }
        let bytes = data.get(data_port(offset, data.len()))?;
        config(self.target(offset)?, bytes)
    }

    /// The register that the first byte of CONFIG_DATA from `offset` is.
    fn target(&self, offset: u64) -> Option<ConfigAddress> {
        if self.address & ENABLE == 0 {
            return None;
        }
        let [register, low, bus, _] = self.address.to_le_bytes();
        let lane = u16::try_from(offset.max(DATA) - DATA).ok()?;
        Some(ConfigAddress {
            function: Address::from_routing_id(u16::from_le_bytes([low, bus])),
            register: u16::from(register) + lane,
        })
    }
}

/// Which of `len` bytes from `offset` are in CONFIG_DATA; an empty range behind the end where
/// none is.
fn data_port(offset: u64, len: usize) -> core::ops::Range<usize> {
    let within = |at: u64| usize::try_from(at.saturating_sub(offset)).map_or(len, |at| at.min(len));
    let (start, end) = (within(DATA), within(END));
    if start < end {
        start..end
    } else {
        len + 1..len + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn read(cam: &Cam, offset: u64, width: usize) -> (Vec<u8>, String) {
        let mut data = [0x55; 16];
        let mut asked = String::new();
        cam.read(offset, &mut data[..width], |at, data| {
            asked = format!("{} {:x} {}", at.function, at.register, data.len());
            data.fill(1);
        });
        (data[..width].into(), asked)
    }

    fn write(cam: &mut Cam, offset: u64, data: &[u8]) -> Option<String> {
        cam.write(offset, data, |at, data| {
            Some(format!("{} {:x} {data:x?}", at.function, at.register))
        })
    }

    fn pointed_at(address: u32) -> Cam {
        let mut cam = Cam::new();
        assert_eq!(write(&mut cam, 0, &address.to_le_bytes()), None);
        cam
    }

    #[test]
    fn only_a_write_of_all_four_bytes_latches_the_address() {
        let mut cam = pointed_at(0x8001_fa34);
        for (offset, len) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 3), (2, 2), (3, 1)] {
            assert_eq!(write(&mut cam, offset, &[0; 4][..len]), None);
        }
        assert_eq!(read(&cam, 0, 4).0, 0x8001_fa34_u32.to_le_bytes());
        for width in [1, 2, 3] {
            assert_eq!(read(&cam, 0, width).0, [0xff; 3][..width]);
        }
    }

    #[test]
    fn reserved_bits_of_the_address_read_as_zero() {
        assert_eq!(
            read(&pointed_at(u32::MAX), 0, 4).0,
            0x80ff_fffc_u32.to_le_bytes()
        );
    }

    #[test]
    fn the_data_port_is_reached_at_every_width_and_offset() {
        let mut cam = pointed_at(0x8001_fa34);
        assert_eq!(read(&cam, 4, 4), ([1; 4].into(), "01:1f.2 34 4".into()));
        assert_eq!(read(&cam, 7, 1), ([1].into(), "01:1f.2 37 1".into()));
        assert_eq!(read(&cam, 5, 2), ([1; 2].into(), "01:1f.2 35 2".into()));
        let write = write(&mut cam, 6, &[7, 8]);
        assert_eq!(write.as_deref(), Some("01:1f.2 36 [7, 8]"));
    }

    #[test]
    fn what_reaches_over_the_edges_of_the_data_port_is_cut_there() {
        let cam = pointed_at(0x8000_0010);
        let before = ([0xff, 0xff, 1, 1].into(), "00:00.0 10 2".into());
        assert_eq!(read(&cam, 2, 4), before);
        let behind = ([1, 1, 0xff, 0xff].into(), "00:00.0 12 2".into());
        assert_eq!(read(&cam, 6, 4), behind);
        assert_eq!(read(&cam, 8, 2), ([0xff; 2].into(), String::new()));
        assert_eq!(read(&cam, u64::MAX, 1), ([0xff].into(), String::new()));
    }

    #[test]
    fn nobody_answers_while_configuration_space_is_not_enabled() {
        let mut cam = pointed_at(0x0001_fa34);
        assert_eq!(read(&cam, 4, 4), ([0xff; 4].into(), String::new()));
        assert_eq!(write(&mut cam, 4, &[0; 4]), None);
    }

    #[test]
    fn every_access_is_survived() {
        for address in [0, 0x8000_0000, u32::MAX] {
            for offset in (0..24).chain([u64::MAX - 8, u64::MAX]) {
                for width in [0, 1, 2, 3, 4, 8, 16] {
                    let mut cam = pointed_at(address);
                    read(&cam, offset, width);
                    write(&mut cam, offset, &[0x5a; 16][..width]);
                }
            }
        }
    }
}

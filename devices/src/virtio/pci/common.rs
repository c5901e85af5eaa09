//! The layout of the common configuration (section 4.1.4.3, `struct virtio_pci_common_cfg`).

use crate::virtio::registers::{Half, Part};

/// A register, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Register {
    pub(super) field: Field,
    at: u64,
    len: usize,
}

/// What there is. Addresses are two registers each: drivers write them as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    QueueCount,
    Status,
    Generation,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOffset,
    QueueAddress(Part, Half),
    QueueNotifyData,
    QueueReset,
}

const REGISTERS: [Register; 21] = [
    Register::new(Field::DeviceFeatureSelect, 0x00, 4),
    Register::new(Field::DeviceFeature, 0x04, 4),
    Register::new(Field::DriverFeatureSelect, 0x08, 4),
    Register::new(Field::DriverFeature, 0x0c, 4),
    Register::new(Field::ConfigVector, 0x10, 2),
    Register::new(Field::QueueCount, 0x12, 2),
    Register::new(Field::Status, 0x14, 1),
    Register::new(Field::Generation, 0x15, 1),
    Register::new(Field::QueueSelect, 0x16, 2),
    Register::new(Field::QueueSize, 0x18, 2),
    Register::new(Field::QueueVector, 0x1a, 2),
    Register::new(Field::QueueEnable, 0x1c, 2),
    Register::new(Field::QueueNotifyOffset, 0x1e, 2),
    Register::new(Field::QueueAddress(Part::Descriptors, Half::Low), 0x20, 4),
    Register::new(Field::QueueAddress(Part::Descriptors, Half::High), 0x24, 4),
    Register::new(Field::QueueAddress(Part::Driver, Half::Low), 0x28, 4),
    Register::new(Field::QueueAddress(Part::Driver, Half::High), 0x2c, 4),
    Register::new(Field::QueueAddress(Part::Device, Half::Low), 0x30, 4),
    Register::new(Field::QueueAddress(Part::Device, Half::High), 0x34, 4),
    Register::new(Field::QueueNotifyData, 0x38, 2),
    Register::new(Field::QueueReset, 0x3a, 2),
];

/// How many bytes they are.
pub(super) const LEN: u32 = 0x3c;

impl Register {
    const fn new(field: Field, at: u64, len: usize) -> Self {
        Self { field, at, len }
    }

    /// Those of which an access of `len` bytes at `at` touches some, in order.
    pub(super) fn touched(at: u64, len: usize) -> impl Iterator<Item = Self> {
        let end = at.saturating_add(len as u64);
        let touches = move |it: &Self| it.at < end && at < it.at + it.len as u64;
        REGISTERS.into_iter().filter(touches)
    }

    /// Puts what of `value` is asked for into `data`, which begins at `from`.
    pub(super) fn read(self, value: u32, from: u64, data: &mut [u8]) {
        for (byte, index) in value.to_le_bytes().into_iter().zip(self.indices(from)) {
            if let Some(place) = index.and_then(|index| data.get_mut(index)) {
                *place = byte;
            }
        }
    }

    /// `value` with what `data`, which begins at `from`, has of it.
    pub(super) fn write(self, value: u32, from: u64, data: &[u8]) -> u32 {
        let mut bytes = value.to_le_bytes();
        for (byte, index) in bytes.iter_mut().zip(self.indices(from)) {
            if let Some(&new) = index.and_then(|index| data.get(index)) {
                *byte = new;
            }
        }
        u32::from_le_bytes(bytes)
    }

    /// Where in an access from `from` each byte is, as far as it does not lie before it.
    fn indices(self, from: u64) -> impl Iterator<Item = Option<usize>> {
        let bytes = (self.at..).take(self.len);
        bytes.map(move |at| usize::try_from(at.checked_sub(from)?).ok())
    }
}

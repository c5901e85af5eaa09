//! What a virtio device is to its transport, and what its driver asks of whoever runs it.

use super::queue::QueueSetup;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// What a driver sees of a device beside its queues: the chip's personality.
///
/// Whoever runs it finds his own type again by [`Any`].
pub trait Device: Any + fmt::Debug + Send {
    /// What kind of device it is.
    fn kind(&self) -> DeviceKind;

    /// The features that are its own. The transport adds those of [`Features`].
    fn features(&self) -> u64;

    /// Whether it can work with these of its features, which the driver chose; a driver that leaves
    /// out what another feature needs is told so (section 2.2.1).
    fn accepts(&self, features: u64) -> bool {
        let _ = features;
        true
    }

    /// Which of the features that all queues can have its own can have.
    fn queue_features(&self) -> Features {
        Features::all()
    }

    /// The largest size of each queue, in order.
    fn queue_sizes(&self) -> &[u16];

    /// Fills `data` from the device's configuration; what is beyond its end stays as it is, which is
    /// all ones.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes to the device's configuration; true where whoever runs the device is to be told.
    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        let _ = (offset, data);
        false
    }

    /// The driver has reset the device: what it wrote to the configuration is forgotten.
    fn reset(&mut self) {}
}

/// Fills `data` from `config`, the bytes of a device's configuration, as far as they reach.
pub fn read_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    let from = usize::try_from(offset).ok();
    let Some(bytes) = from.and_then(|from| config.get(from..)) else {
        return;
    };
    for (byte, &value) in data.iter_mut().zip(bytes) {
        *byte = value;
    }
}

/// A kind of device (chapter 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A network card (section 5.1).
    Net,
    /// A disk (section 5.2).
    Block,
    /// A console (section 5.3).
    Console,
    /// A source of random numbers (section 5.4).
    Rng,
    /// A memory balloon (section 5.5).
    Balloon,
    /// Sockets between the guest and its host (section 5.10).
    Vsock,
    /// A shared file system (section 5.11).
    Fs,
    /// Persistent memory (section 5.19).
    Pmem,
}

impl DeviceKind {
    /// The device's number.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Net => 1,
            Self::Block => 2,
            Self::Console => 3,
            Self::Rng => 4,
            Self::Balloon => 5,
            Self::Vsock => 19,
            Self::Fs => 26,
            Self::Pmem => 27,
        }
    }
}

bitflags::bitflags! {
    /// The features that transports and queues have, whatever the device (chapter 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Descriptors may lead to tables of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// Either side says up to where it wants to hear nothing.
        const EVENT_IDX = 1 << 29;
        /// The driver knows virtio 1; one that does not is refused.
        const VERSION_1 = 1 << 32;
        /// Queues are packed rings.
        const RING_PACKED = 1 << 34;
    }
}

/// What a driver's write asks of whoever runs the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver is ready: run the queues that it enabled.
    Start(Start),
    /// The driver resets the device: stop, then call `stopped()`. Until then the status does not read
    /// 0.
    ///
    /// Linux's driver for the MMIO transport does not wait for that, and a device on this transport
    /// must have stopped before the driver goes on.
    Stop,
    /// Requests are waiting in this queue.
    Notify(u16),
    /// The driver wrote the device's configuration.
    Configured,
}

/// What a device is to run by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The features that the driver chose, the transport's among them.
    pub features: u64,
    /// The device's queues in order, as far as the driver enabled them.
    pub queues: Vec<Option<QueueSetup>>,
}

/// Why a device interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It gave requests of this queue back.
    Queue(u16),
    /// Its configuration changed, or it needs to be reset.
    Configuration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_far_as_it_reaches() {
        let mut data = [0xff; 4];
        read_bytes(&[1, 2, 3], 1, &mut data);
        assert_eq!(data, [2, 3, 0xff, 0xff]);
        for offset in [3, 4, u64::MAX] {
            let mut data = [0xff; 4];
            read_bytes(&[1, 2, 3], offset, &mut data);
            assert_eq!(data, [0xff; 4]);
        }
    }
}

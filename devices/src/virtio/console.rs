//! The console device (virtio 1.2, section 5.3): ports that carry bytes in both directions, of
//! which one is a console and the others have names.
//!
//! [`Console`] is what the driver sees of it, and [`Ports`] is what both say about the ports over
//! the control queues. The bytes themselves are their carrier's business.

mod ports;
#[cfg(test)]
mod tests;

pub use ports::{PortKind, Ports};

use super::{Device, DeviceKind, read_bytes};
use alloc::vec::Vec;
use core::iter::repeat_n;

/// VIRTIO_CONSOLE_F_SIZE (section 5.3.3): the configuration has the console's size.
const SIZE: u64 = 1 << 0;
/// VIRTIO_CONSOLE_F_MULTIPORT: there are more ports than one, and control queues.
const MULTIPORT: u64 = 1 << 1;

/// The most entries that a port's queue can have.
const PORT_QUEUE: u16 = 128;
/// The most entries that a control queue can have.
const CONTROL_QUEUE: u16 = 64;

/// How large a console's screen is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScreenSize {
    /// How wide.
    pub columns: u16,
    /// How high.
    pub rows: u16,
}

/// What a queue is for (section 5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueRole {
    /// Bytes to a port in the guest.
    Receive(usize),
    /// Bytes from a port in the guest.
    Transmit(usize),
    /// Messages about ports to the guest.
    ControlReceive,
    /// Messages about ports from the guest.
    ControlTransmit,
}

impl QueueRole {
    /// What the queue with this number is for.
    #[must_use]
    pub const fn of(queue: usize) -> Self {
        match queue {
            0 => Self::Receive(0),
            1 => Self::Transmit(0),
            2 => Self::ControlReceive,
            3 => Self::ControlTransmit,
            other if other % 2 == 0 => Self::Receive(other / 2 - 1),
            other => Self::Transmit(other / 2 - 1),
        }
    }

    /// The number of the queue for this.
    #[must_use]
    pub const fn queue(self) -> usize {
        match self {
            Self::Receive(0) => 0,
            Self::Transmit(0) => 1,
            Self::ControlReceive => 2,
            Self::ControlTransmit => 3,
            Self::Receive(port) => 2 * port + 2,
            Self::Transmit(port) => 2 * port + 3,
        }
    }
}

/// What the driver sees of a console device.
#[derive(Clone, Debug)]
pub struct Console {
    ports: u8,
    size: Option<ScreenSize>,
    queues: Vec<u16>,
}

impl Console {
    /// A device with so many ports, and at least one.
    #[must_use]
    pub fn new(ports: u8, size: Option<ScreenSize>) -> Self {
        let ports = ports.max(1);
        let port = || repeat_n(PORT_QUEUE, 2);
        let others = (1..ports).flat_map(|_| port());
        let queues = port().chain(repeat_n(CONTROL_QUEUE, 2)).chain(others);
        Self {
            ports,
            size,
            queues: queues.collect(),
        }
    }

    /// Whether there are other ports and control queues, where the driver chose these features.
    #[must_use]
    pub const fn is_multiport(features: u64) -> bool {
        features & MULTIPORT != 0
    }

    /// The screen has another size. The driver is to be told that the configuration has changed, and
    /// by [`Ports::resize`].
    pub const fn resize(&mut self, size: ScreenSize) {
        if self.size.is_some() {
            self.size = Some(size);
        }
    }

    /// `struct virtio_console_config` (section 5.3.4), without what an emergency is written to.
    fn config(&self) -> [u8; 8] {
        let size = self.size.unwrap_or(ScreenSize {
            columns: 0,
            rows: 0,
        });
        let columns = size.columns.to_le_bytes();
        let rows = size.rows.to_le_bytes();
        [
            columns[0], columns[1], rows[0], rows[1], self.ports, 0, 0, 0,
        ]
    }
}

impl Device for Console {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Console
    }

    fn features(&self) -> u64 {
        MULTIPORT | if self.size.is_some() { SIZE } else { 0 }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config(), offset, data);
    }
}

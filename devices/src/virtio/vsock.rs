//! The socket device (virtio 1.2, section 5.10): streams between programs in the guest and
//! programs on the host.
//!
//! [`Vsock`] is what the driver sees of it, and [`Connections`] is what it does: packets from the
//! guest and events on the host go in, packets to the guest and things to do on the host come out.
//! It holds no bytes of any stream. How many the host's side may have to hold is bounded by the
//! credit that the guest is given.

mod connections;
mod credit;
mod packet;
#[cfg(test)]
mod tests;

pub use connections::{Connections, Received, Turn};
pub use credit::BUFFER;
pub use packet::{Header, Operation, Pair, Shutdown, SocketType};

use super::{Device, DeviceKind, read_bytes};
use core::fmt;

/// The queue of packets to the guest.
pub const RECEIVE: usize = 0;
/// The queue of packets from the guest.
pub const TRANSMIT: usize = 1;
/// The queue of events, of which there is none: a guest that stays where it is keeps its
/// connections.
pub const EVENT: usize = 2;

/// A guest's context identifier, by which it is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GuestCid(u32);

impl GuestCid {
    /// The identifier `cid`; `None` for those that are reserved (section 5.10.4).
    #[must_use]
    pub const fn new(cid: u32) -> Option<Self> {
        match cid {
            0..=2 | u32::MAX => None,
            3.. => Some(Self(cid)),
        }
    }

    /// The identifier as packets have it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for GuestCid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What the driver sees of a socket device.
#[derive(Clone, Copy, Debug)]
pub struct Vsock {
    cid: GuestCid,
}

/// VIRTIO_VSOCK_F_STREAM (section 5.10.3): the one kind of socket that there is here.
const STREAM: u64 = 1 << 0;

impl Vsock {
    /// The device of the guest `cid`.
    #[must_use]
    pub const fn new(cid: GuestCid) -> Self {
        Self { cid }
    }
}

impl Device for Vsock {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Vsock
    }

    fn features(&self) -> u64 {
        STREAM
    }

    fn queue_sizes(&self) -> &[u16] {
        &[256, 256, 16]
    }

    /// The guest's identifier (section 5.10.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.cid.get().to_le_bytes(), offset, data);
    }
}

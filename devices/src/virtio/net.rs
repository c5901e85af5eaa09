//! The network card (virtio 1.2 section 5.1): its personality, and frames in and out of queues.
//!
//! It has one pair of queues and no control queue. Frames come and go with the header before them
//! that tells of checksums and segments left to the other side; what offloads there are is up to
//! whoever carries the frames.

mod receive;
#[cfg(test)]
mod tests;

pub use receive::{Placed, Receiver};

use super::device::{Device, DeviceKind, read_bytes};
use super::queue::Chain;
use firstlight_base::GuestMem;

/// The queue of frames to the driver.
pub const RECEIVE: u16 = 0;
/// The queue of frames from the driver.
pub const TRANSMIT: u16 = 1;

/// The entries of each.
const QUEUE: u16 = 256;

/// A network card, as its driver sees it.
#[derive(Debug)]
pub struct Net {
    port: Port,
    link: Link,
}

/// What is told of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its address.
    pub mac: [u8; 6],
    /// The largest packet that its network carries, if that is to be told.
    pub mtu: Option<u16>,
    /// What the other side of the network can do for the driver, and expects of it.
    pub offloads: Offloads,
}

/// Whether there is a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is.
    Up,
    /// There is none at present.
    Down,
}

bitflags::bitflags! {
    /// The features by which one side leaves work to the other (section 5.1.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Offloads: u64 {
        /// The driver may leave checksums to be made.
        const CSUM = 1 << 0;
        /// The driver takes frames whose checksum is still to be made.
        const GUEST_CSUM = 1 << 1;
        /// The driver takes TCP segments over IPv4 that are longer than frames.
        const GUEST_TSO4 = 1 << 7;
        /// The same over IPv6.
        const GUEST_TSO6 = 1 << 8;
        /// The same with congestion notification.
        const GUEST_ECN = 1 << 9;
        /// The driver may send TCP segments over IPv4 that are longer than frames.
        const HOST_TSO4 = 1 << 11;
        /// The same over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// The same with congestion notification.
        const HOST_ECN = 1 << 13;
    }

    /// The features that are the card's own.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NetFeatures: u64 {
        /// The configuration tells the largest packet.
        const MTU = 1 << 3;
        /// The configuration tells the address.
        const MAC = 1 << 5;
        /// A frame may be spread over several of the driver's buffers.
        const MRG_RXBUF = 1 << 15;
        /// The configuration tells whether there is a network.
        const STATUS = 1 << 16;
    }
}

impl Offloads {
    /// Whether every one is there that others of them need (section 5.1.3.1).
    fn are_whole(self) -> bool {
        let needs = |any: Self, other: Self| !self.intersects(any) || self.intersects(other);
        let guest_segments = Self::GUEST_TSO4 | Self::GUEST_TSO6;
        let host_segments = Self::HOST_TSO4 | Self::HOST_TSO6;
        needs(guest_segments, Self::GUEST_CSUM)
            && needs(host_segments, Self::CSUM)
            && needs(Self::GUEST_ECN, guest_segments)
            && needs(Self::HOST_ECN, host_segments)
    }
}

/// The configuration (section 5.1.4), up to the largest packet.
const CONFIG: usize = 12;

impl Net {
    /// A network card whose network is there.
    #[must_use]
    pub const fn new(port: Port) -> Self {
        Self {
            port,
            link: Link::Up,
        }
    }

    /// The network comes or goes: the configuration has changed.
    pub const fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    fn config(&self) -> [u8; CONFIG] {
        let [a, b, c, d, e, f] = self.port.mac;
        let status = match self.link {
            Link::Up => 1,
            Link::Down => 0,
        };
        let [mtu_low, mtu_high] = self.port.mtu.unwrap_or(0).to_le_bytes();
        // There is one pair of queues.
        [a, b, c, d, e, f, status, 0, 1, 0, mtu_low, mtu_high]
    }
}

impl Device for Net {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Net
    }

    fn features(&self) -> u64 {
        let mut own = NetFeatures::MAC | NetFeatures::MRG_RXBUF | NetFeatures::STATUS;
        own.set(NetFeatures::MTU, self.port.mtu.is_some());
        own.bits() | self.port.offloads.bits()
    }

    fn accepts(&self, features: u64) -> bool {
        Offloads::from_bits_truncate(features).are_whole()
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE, QUEUE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config(), offset, data);
    }
}

/// The header before every frame, either way (section 5.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `NEEDS_CSUM` is 1, `DATA_VALID` 2.
    pub flags: u8,
    /// How a segment longer than frames is to be cut: 0 not, 1 TCP over IPv4, 4 TCP over IPv6, and
    /// 0x80 with congestion notification.
    pub segmentation: u8,
    /// How many bytes each piece of it begins with.
    pub header_len: u16,
    /// How many bytes follow them in each.
    pub segment_size: u16,
    /// Where the bytes begin that the checksum is over.
    pub checksum_start: u16,
    /// Where from there it goes.
    pub checksum_offset: u16,
    /// How many of the driver's buffers a received frame has.
    pub buffers: u16,
}

impl Header {
    /// Its bytes.
    pub const LEN: usize = 12;

    /// The header that these bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [flags, segmentation, a, b, c, d, e, f, g, h, i, j] = bytes;
        Self {
            flags,
            segmentation,
            header_len: u16::from_le_bytes([a, b]),
            segment_size: u16::from_le_bytes([c, d]),
            checksum_start: u16::from_le_bytes([e, f]),
            checksum_offset: u16::from_le_bytes([g, h]),
            buffers: u16::from_le_bytes([i, j]),
        }
    }

    /// The bytes of this header.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b] = self.header_len.to_le_bytes();
        let [c, d] = self.segment_size.to_le_bytes();
        let [e, f] = self.checksum_start.to_le_bytes();
        let [g, h] = self.checksum_offset.to_le_bytes();
        let [i, j] = self.buffers.to_le_bytes();
        [self.flags, self.segmentation, a, b, c, d, e, f, g, h, i, j]
    }
}

/// The most bytes of a header and a frame: 65550 of the frame are what a driver must have room for
/// that takes segments (section 5.1.6.3.1).
pub const MOST_BYTES: usize = Header::LEN + 65550;

/// The addresses and the type that every frame begins with.
const ETHERNET: usize = 14;

/// Copies what the driver sends, a header and a frame, into `buffer`, and returns it.
///
/// `None` where it is no frame that could be sent: shorter than its headers, or longer than `buffer`,
/// for which [`MOST_BYTES`] are enough. Such a request is given back like one that was sent.
pub fn gather<'b>(chain: &Chain, memory: &impl GuestMem, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut reader = chain.reader(memory);
    let len = usize::try_from(reader.len()).ok()?;
    if len < Header::LEN + ETHERNET {
        return None;
    }
    let frame = buffer.get_mut(..len)?;
    reader.read_exact(frame).ok()?;
    Some(frame)
}

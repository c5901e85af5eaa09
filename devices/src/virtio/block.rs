//! The disk (virtio 1.2 section 5.2): its personality, and what its requests ask for.
//!
//! It offers flushes, and on disks that can be written discarding and writing zeroes. Whoever keeps
//! the disk does what a [`Request`] asks for and then answers it by [`Reply::finish`].

mod request;
#[cfg(test)]
mod tests;

pub use request::{Command, Reply, Request, Segment, Segments, Status};

use super::device::{Device, DeviceKind, read_bytes};

/// The bytes of a sector, whatever a disk's blocks are (section 5.2.4).
pub const SECTOR: u64 = 512;

/// A disk, as its driver sees it.
#[derive(Debug)]
pub struct Block {
    disk: Disk,
}

/// What is told of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// How many sectors it has.
    pub sectors: u64,
    /// Whether it can be written.
    pub access: Access,
    /// What it is read and written in.
    pub block_size: BlockSize,
    /// Its serial number, which ends at its first zero byte.
    pub serial: [u8; SERIAL_LEN],
}

/// The bytes of a serial number (section 5.2.6).
pub const SERIAL_LEN: usize = 20;

/// Whether a disk can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can be.
    ReadWrite,
    /// It only can be read.
    ReadOnly,
}

/// The bytes of a disk's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// One sector.
    Bytes512,
    /// Eight sectors.
    Bytes4096,
}

impl BlockSize {
    /// As a number.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Bytes512 => 512,
            Self::Bytes4096 => 4096,
        }
    }
}

bitflags::bitflags! {
    /// The features of disks (section 5.2.3) that these have.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BlockFeatures: u64 {
        /// The configuration tells how many buffers a request can have.
        const SEG_MAX = 1 << 2;
        /// It can be read only.
        const RO = 1 << 5;
        /// The configuration tells the size of blocks.
        const BLK_SIZE = 1 << 6;
        /// Written data may be in a cache until it is flushed. Without it, it is kept when a request
        /// is answered.
        const FLUSH = 1 << 9;
        /// The configuration tells how blocks lie on the disk.
        const TOPOLOGY = 1 << 10;
        /// Sectors can be given up.
        const DISCARD = 1 << 13;
        /// Sectors can be made zeros without being sent.
        const WRITE_ZEROES = 1 << 14;
    }
}

/// The entries of the queue, and the most data buffers of a request: the others are for its header
/// and its status.
const QUEUE: u16 = 256;
const MOST_BUFFERS: u32 = 254;
/// The most segments of a request to discard or to write zeroes, and the most sectors of one.
const MOST_SEGMENTS: usize = 16;
const MOST_SECTORS: u32 = 1 << 22;
/// What files are kept in by most hosts.
const PHYSICAL_BLOCK: u32 = 4096;

impl Block {
    /// A disk.
    #[must_use]
    pub const fn new(disk: Disk) -> Self {
        Self { disk }
    }

    /// What is told of it.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The disk has become larger or smaller: its configuration has changed.
    pub const fn resize(&mut self, sectors: u64) {
        self.disk.sectors = sectors;
    }

    /// The configuration (section 5.2.4).
    fn config(&self) -> [u8; CONFIG] {
        let block = self.disk.block_size.bytes();
        let blocks_each = PHYSICAL_BLOCK / block;
        let [min_io, _] = halves(blocks_each);
        let most_segments = u32::try_from(MOST_SEGMENTS).unwrap_or(0);
        let mut config = [0; CONFIG];
        let mut put = |at: usize, bytes: &[u8]| {
            for (byte, &value) in config.iter_mut().skip(at).zip(bytes) {
                *byte = value;
            }
        };
        put(0, &self.disk.sectors.to_le_bytes());
        put(12, &MOST_BUFFERS.to_le_bytes());
        put(20, &block.to_le_bytes());
        // The logarithm of how many blocks are a physical one.
        put(24, &blocks_each.trailing_zeros().to_le_bytes()[..1]);
        put(26, &min_io);
        put(34, &1_u16.to_le_bytes());
        put(36, &MOST_SECTORS.to_le_bytes());
        put(40, &most_segments.to_le_bytes());
        put(44, &(PHYSICAL_BLOCK / 512).to_le_bytes());
        put(48, &MOST_SECTORS.to_le_bytes());
        put(52, &most_segments.to_le_bytes());
        put(56, &[1]);
        config
    }
}

/// Up to the fields for secure erasing.
const CONFIG: usize = 60;

const fn halves(number: u32) -> [[u8; 2]; 2] {
    let [a, b, c, d] = number.to_le_bytes();
    [[a, b], [c, d]]
}

impl Device for Block {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn features(&self) -> u64 {
        let always = BlockFeatures::SEG_MAX
            | BlockFeatures::BLK_SIZE
            | BlockFeatures::FLUSH
            | BlockFeatures::TOPOLOGY;
        let by_access = match self.disk.access {
            Access::ReadWrite => BlockFeatures::DISCARD | BlockFeatures::WRITE_ZEROES,
            Access::ReadOnly => BlockFeatures::RO,
        };
        (always | by_access).bits()
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config(), offset, data);
    }
}

//! What a driver can get wrong in a ring.

use super::{ChainError, Layout};
use core::fmt;
use firstlight_base::{Gpa, OutsideRam};

/// What is wrong with a queue. The device is broken by it until the driver resets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No queue of this layout has this many entries.
    #[error("a {layout} ring cannot have {size:#x} entries")]
    Size {
        /// How many.
        size: u16,
        /// Which layout.
        layout: Layout,
    },
    /// A part of the ring is not where its numbers can be read at once.
    #[error("the {part} at {at} are not at a multiple of {align:#x}")]
    Misaligned {
        /// Which part.
        part: RingPart,
        /// Where it is.
        at: Gpa,
        /// What it must be a multiple of.
        align: u64,
    },
    /// A part of the ring is not all guest memory.
    #[error("the {part}: {outside}")]
    RingOutside {
        /// Which part.
        part: RingPart,
        /// Where, and how long.
        outside: OutsideRam,
    },
    /// The driver made more requests available than there can be.
    #[error("available index {index:#x} is more than {size:#x} ahead of {next:#x}")]
    AvailableIndex {
        /// The driver's index.
        index: u16,
        /// The next to be popped.
        next: u16,
        /// How many entries the queue has.
        size: u16,
    },
    /// A descriptor's number is none.
    #[error("descriptor {index:#x} is beyond the {len:#x} of its table")]
    Index {
        /// The number.
        index: u32,
        /// How many there are.
        len: u32,
    },
    /// A chain has no end, or too many descriptors.
    #[error("a chain of more than {most:#x} descriptors")]
    ChainLength {
        /// How many it can have.
        most: u16,
    },
    /// A descriptor leads to a table, which the driver did not negotiate.
    #[error("an indirect descriptor without the feature")]
    IndirectRefused,
    /// A descriptor leads to a table and to another descriptor.
    #[error("an indirect descriptor that has a next one")]
    IndirectNext,
    /// A packed ring's descriptor leads to a table behind others of its chain.
    #[error("an indirect descriptor behind others of a packed ring")]
    IndirectBehindOthers,
    /// A descriptor in a split ring's table leads to a table.
    #[error("an indirect descriptor in the table at {table}")]
    IndirectNested {
        /// Where the outer one is.
        table: Gpa,
    },
    /// A table is not whole descriptors, or has none.
    #[error("the table at {table} has {len:#x} bytes, which are no descriptors")]
    IndirectLength {
        /// Where it is.
        table: Gpa,
        /// Its length.
        len: u32,
    },
    /// What the device reads comes behind what it writes.
    #[error("the buffer at {at} is to be read, behind one to be written")]
    ReadableBehindWritable {
        /// Where the buffer is.
        at: Gpa,
    },
    /// A buffer or a table is not all guest memory.
    #[error("a buffer: {0}")]
    BufferOutside(OutsideRam),
    /// A chain has more bytes than a chain can.
    #[error("a chain of {bytes:#x} bytes")]
    ChainBytes {
        /// How many, as far as they were counted.
        bytes: u64,
    },
    /// A request came again before it was given back.
    #[error("request {id:#x} is under way already")]
    UnderWay {
        /// The request's number.
        id: u16,
    },
    /// Requests have more descriptors than the ring.
    #[error("more than {size:#x} descriptors are under way")]
    TooManyUnderWay {
        /// How many there are in the ring.
        size: u16,
    },
    /// A request was given back that is not under way: this is not the driver's fault.
    #[error("request {id:#x} is not under way")]
    NotUnderWay {
        /// The request's number.
        id: u16,
    },
    /// The ring is no longer guest memory.
    #[error("the ring: {0}")]
    RingGone(OutsideRam),
    /// A request is not what the device takes, and cannot be answered.
    #[error("a request that cannot be answered: {0}")]
    Request(#[from] ChainError),
}

/// The parts of a ring, by whose they are (section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingPart {
    /// The descriptors.
    Descriptors,
    /// What the driver writes.
    Driver,
    /// What the device writes.
    Device,
}

impl fmt::Display for RingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "descriptors",
            Self::Driver => "driver's entries",
            Self::Device => "device's entries",
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "split",
            Self::Packed => "packed",
        })
    }
}

//! A request: the ranges of guest memory that a chain of descriptors gives, and cursors over them.

use super::descriptor::{Descriptor, Flags};
use super::{QueueError, ram};
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange, GuestMem, OutsideRam};

/// Which request a queue is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token {
    /// The number of the first descriptor, or in a packed ring the buffer's.
    pub(super) id: u16,
    /// How many descriptors of the ring it has.
    pub(super) descriptors: u16,
}

/// A request, reused from pop to pop, so that a running device does not allocate.
///
/// All of its bytes were found in guest memory.
#[derive(Debug, Default)]
pub struct Chain {
    token: Token,
    /// What the device reads, then what it writes.
    ranges: Vec<GpaRange>,
    /// How many of them it reads.
    readable: usize,
    readable_bytes: u64,
    writable_bytes: u64,
    /// How many descriptors it was made of, empty ones among them.
    descriptors: u16,
    has_writable: bool,
}

/// The most bytes of a chain (section 2.7.5.2).
const MOST_BYTES: u64 = 1 << 32;

/// A descriptor, as far as it tells of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) at: Gpa,
    pub(super) len: u32,
    pub(super) is_writable: bool,
}

impl Buffer {
    /// The buffer of a descriptor with `flags`.
    pub(super) const fn of(descriptor: &Descriptor, flags: Flags) -> Self {
        Self {
            at: descriptor.at,
            len: descriptor.len,
            is_writable: flags.contains(Flags::WRITE),
        }
    }
}

impl Chain {
    /// A chain to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the request, and makes room for one of as many descriptors, so that only the first pop
    /// allocates.
    pub(super) fn clear(&mut self, most: u16) {
        let mut ranges = core::mem::take(&mut self.ranges);
        ranges.clear();
        ranges.reserve(most.into());
        *self = Self {
            ranges,
            ..Self::default()
        };
    }

    /// Adds the buffer of a descriptor.
    pub(super) fn add(
        &mut self,
        memory: &impl GuestMem,
        buffer: Buffer,
        most: u16,
    ) -> Result<(), QueueError> {
        if self.descriptors >= most {
            return Err(QueueError::ChainLength { most });
        }
        self.descriptors += 1;
        let Buffer { at, len, .. } = buffer;
        if !buffer.is_writable && self.has_writable {
            return Err(QueueError::ReadableBehindWritable { at });
        }
        self.has_writable = buffer.is_writable;
        let len = u64::from(len);
        let bytes = self.readable_bytes + self.writable_bytes + len;
        if bytes > MOST_BYTES {
            return Err(QueueError::ChainBytes { bytes });
        }
        if len == 0 {
            return Ok(());
        }
        self.ranges
            .push(ram::range(memory, at, len).map_err(QueueError::BufferOutside)?);
        if buffer.is_writable {
            self.writable_bytes += len;
        } else {
            self.readable_bytes += len;
            self.readable += 1;
        }
        Ok(())
    }

    /// The request is whole, and known by `token`.
    pub(super) const fn finish(&mut self, token: Token) {
        self.token = token;
    }

    /// What the queue knows it by.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// What the device reads.
    #[must_use]
    pub fn readable(&self) -> &[GpaRange] {
        self.ranges.get(..self.readable).unwrap_or(&[])
    }

    /// What the device writes.
    #[must_use]
    pub fn writable(&self) -> &[GpaRange] {
        self.ranges.get(self.readable..).unwrap_or(&[])
    }

    /// A cursor over the bytes that the driver gave.
    #[must_use]
    pub fn reader<'a, M: GuestMem>(&'a self, memory: &'a M) -> ChainReader<'a, M> {
        ChainReader {
            memory,
            ranges: Ranges::new(self.readable(), self.readable_bytes),
        }
    }

    /// A cursor over the room that the driver gave.
    #[must_use]
    pub fn writer<'a, M: GuestMem>(&'a self, memory: &'a M) -> ChainWriter<'a, M> {
        ChainWriter::over(memory, Ranges::new(self.writable(), self.writable_bytes))
    }
}

/// The bytes that a request still has.
#[derive(Debug)]
pub struct ChainReader<'a, M> {
    memory: &'a M,
    ranges: Ranges<'a>,
}

impl<'a, M: GuestMem> ChainReader<'a, M> {
    /// How many bytes there still are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.ranges.bytes
    }

    /// Whether all have been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the next bytes.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there are not that many; none is taken then.
    pub fn read_exact(&mut self, into: &mut [u8]) -> Result<(), ChainError> {
        let mut rest = into;
        for range in self.ranges.pass(rest.len() as u64)? {
            let len = usize::try_from(range.len()).unwrap_or(usize::MAX);
            let Some((part, behind)) = rest.split_at_mut_checked(len) else {
                break;
            };
            self.memory.read(range.start(), part)?;
            rest = behind;
        }
        Ok(())
    }

    /// Passes over the next bytes.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there are not that many; none is taken then.
    pub fn skip(&mut self, bytes: u64) -> Result<(), ChainError> {
        self.ranges.pass(bytes).map(drop)
    }

    /// Where the next bytes are, without passing over them.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there are not that many.
    pub fn ranges(&self, bytes: u64) -> Result<Ranges<'a>, ChainError> {
        self.ranges.first(bytes)
    }
}

/// The room that a request still has.
#[derive(Debug)]
pub struct ChainWriter<'a, M> {
    memory: &'a M,
    ranges: Ranges<'a>,
    written: u64,
}

impl<'a, M: GuestMem> ChainWriter<'a, M> {
    /// A cursor over a part of a request's room.
    pub(in crate::virtio) const fn over(memory: &'a M, ranges: Ranges<'a>) -> Self {
        Self {
            memory,
            ranges,
            written: 0,
        }
    }

    /// How many bytes still fit.
    #[must_use]
    pub const fn room(&self) -> u64 {
        self.ranges.bytes
    }

    /// How many bytes were written, or passed over, as a queue is told.
    #[must_use]
    pub fn written(&self) -> u32 {
        u32::try_from(self.written).unwrap_or(u32::MAX)
    }

    /// Writes `from`.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there is not that much room; nothing is written then.
    pub fn write_all(&mut self, from: &[u8]) -> Result<(), ChainError> {
        let mut rest = from;
        for range in self.ranges.pass(rest.len() as u64)? {
            let len = usize::try_from(range.len()).unwrap_or(usize::MAX);
            let Some((part, behind)) = rest.split_at_checked(len) else {
                break;
            };
            self.memory.write(range.start(), part)?;
            rest = behind;
        }
        self.written += from.len() as u64;
        Ok(())
    }

    /// Passes over the next bytes, which something else has written.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there is not that much room.
    pub fn advance(&mut self, bytes: u64) -> Result<(), ChainError> {
        self.ranges.pass(bytes)?;
        self.written += bytes;
        Ok(())
    }

    /// Where the room for the next bytes is, without passing over it.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there is not that much.
    pub fn ranges(&self, bytes: u64) -> Result<Ranges<'a>, ChainError> {
        self.ranges.first(bytes)
    }
}

/// Ranges of guest memory, of which the first and the last may be parts of a request's.
#[derive(Clone, Debug)]
pub struct Ranges<'a> {
    ranges: &'a [GpaRange],
    /// How many bytes of the first range are behind us.
    passed: u64,
    /// How many bytes there are.
    bytes: u64,
}

impl<'a> Ranges<'a> {
    const fn new(ranges: &'a [GpaRange], bytes: u64) -> Self {
        Self {
            ranges,
            passed: 0,
            bytes,
        }
    }

    /// How many bytes they have.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first `bytes` of them.
    pub(in crate::virtio) fn first(&self, bytes: u64) -> Result<Self, ChainError> {
        if bytes > self.bytes {
            let left = self.bytes;
            return Err(ChainError::Short {
                wanted: bytes,
                left,
            });
        }
        Ok(Self {
            bytes,
            ..self.clone()
        })
    }

    /// Passes over the first `bytes` of them.
    fn pass(&mut self, bytes: u64) -> Result<Self, ChainError> {
        let first = self.first(bytes)?;
        let mut left = bytes;
        while left > 0 {
            let Some(range) = self.step(left) else { break };
            left -= range.len();
        }
        Ok(first)
    }

    /// The first range, or as many bytes of it as are wanted; it is behind us then.
    fn step(&mut self, most: u64) -> Option<GpaRange> {
        let (range, rest) = self.ranges.split_first()?;
        let left = range.len() - self.passed;
        let len = left.min(most).min(self.bytes);
        let part = GpaRange::new(range.start().checked_add(self.passed)?, len)?;
        self.bytes -= len;
        if len == left {
            self.ranges = rest;
            self.passed = 0;
        } else {
            self.passed += len;
        }
        Some(part)
    }
}

impl Iterator for Ranges<'_> {
    type Item = GpaRange;

    fn next(&mut self) -> Option<GpaRange> {
        self.step(u64::MAX)
    }
}

/// Why bytes of a request cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There are fewer.
    #[error("{wanted:#x} bytes wanted of a request that has {left:#x} left")]
    Short {
        /// How many were wanted.
        wanted: u64,
        /// How many there were.
        left: u64,
    },
    /// They are not guest memory after all.
    #[error(transparent)]
    Outside(#[from] OutsideRam),
}

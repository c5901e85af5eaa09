//! Zstandard frames (RFC 8878), unpacked straight into the output.
//!
//! Kernels are packed with a window of 128 MiB, wider than they are long. A decoder that keeps a
//! window of its own holds the whole kernel twice; this one looks back into the output, so a window
//! of any width costs nothing.

mod bits;
mod block;
mod fse;
mod huffman;
mod sequence;
mod xxh64;

use super::output::{Fault, Output};
use alloc::format;
use block::{Decoder, Stop};
use firstlight_base::Reader;
use xxh64::Xxh64;

/// The magic of a frame.
const MAGIC: u32 = 0xfd2f_b528;
/// The magic of a frame to be skipped, without its low four bits, which are the user's.
const SKIPPABLE: u32 = 0x184d_2a50;
/// The most bytes a block may have, packed or unpacked (section 3.1.1.2.4).
const BLOCK_MAX: usize = 128 << 10;

/// Unpacks every frame of `stream`.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let stream = Reader::new(stream);
    let mut at = 0;
    while at < stream.len() as u64 {
        let magic = stream.u32_le(at)?;
        at = if magic == MAGIC {
            frame(stream, at, output)?
        } else if magic & !0xf == SKIPPABLE {
            skip(stream, at)?
        } else {
            return Err(Fault::Broken(format!("no frame begins at {at:#x}")));
        };
    }
    Ok(())
}

/// The end of the frame at `at`, which is for somebody else (section 3.1.2).
fn skip(stream: Reader<'_>, at: u64) -> Result<u64, Fault> {
    let len = u64::from(stream.u32_le(at.saturating_add(4))?);
    let content = at.saturating_add(8);
    stream.slice(content, len)?;
    Ok(content.saturating_add(len))
}

/// Unpacks the frame at `at`; gives its end.
fn frame(stream: Reader<'_>, at: u64, output: &mut Output) -> Result<u64, Fault> {
    let header = Header::read(stream, at)?;
    let start = output.len();
    let mut decoder = Decoder::default();
    let mut checksum = Checksum::new(start);
    let mut at = header.end;
    loop {
        let block = BlockHeader::read(stream, at)?;
        at = block.unpack(stream, &mut decoder, start, output)?;
        if header.has_checksum {
            checksum.update(output);
        }
        if block.is_last {
            break;
        }
    }
    let unpacked = output.since(start);
    if let Some(len) = header.content_len
        && len != unpacked.len() as u64
    {
        return Err(Fault::Broken(format!(
            "a frame says it holds {len} bytes, and holds {}",
            unpacked.len()
        )));
    }
    if !header.has_checksum {
        return Ok(at);
    }
    if stream.u32_le(at)? != checksum.finish(output) {
        return Err(Fault::broken("its checksum is another"));
    }
    Ok(at.saturating_add(4))
}

/// A frame's header (section 3.1.1.1), as far as it matters without a window.
struct Header {
    has_checksum: bool,
    content_len: Option<u64>,
    /// Where the first block begins.
    end: u64,
}

impl Header {
    fn read(stream: Reader<'_>, at: u64) -> Result<Self, Fault> {
        const CHECKSUM: u8 = 1 << 2;
        const RESERVED: u8 = 1 << 3;
        const SINGLE_SEGMENT: u8 = 1 << 5;
        let mut at = at.saturating_add(4);
        let mut field = |len: u64| -> Result<u64, Fault> {
            let bytes = stream.slice(at, len)?;
            at = at.saturating_add(len);
            Ok(bytes
                .iter()
                .rev()
                .fold(0, |number, &byte| (number << 8) | u64::from(byte)))
        };
        let [descriptor, ..] = field(1)?.to_le_bytes();
        if descriptor & RESERVED != 0 {
            return Err(Fault::broken("a reserved bit of a frame header is set"));
        }
        let is_single_segment = descriptor & SINGLE_SEGMENT != 0;
        if !is_single_segment {
            field(1)?;
        }
        let dictionary = field(match descriptor & 3 {
            0 => 0,
            1 => 1,
            2 => 2,
            _ => 4,
        })?;
        if dictionary != 0 {
            return Err(Fault::Broken(format!(
                "a frame needs the dictionary {dictionary:#x}"
            )));
        }
        let content_len = match descriptor >> 6 {
            0 if is_single_segment => Some(field(1)?),
            0 => None,
            1 => Some(field(2)?.saturating_add(256)),
            2 => Some(field(4)?),
            _ => Some(field(8)?),
        };
        Ok(Self {
            has_checksum: descriptor & CHECKSUM != 0,
            content_len,
            end: at,
        })
    }
}

/// A block's header (section 3.1.1.2).
struct BlockHeader {
    at: u64,
    is_last: bool,
    kind: BlockKind,
    len: u64,
}

enum BlockKind {
    Raw,
    Repeated,
    Compressed,
}

impl BlockHeader {
    const LEN: u64 = 3;

    fn read(stream: Reader<'_>, at: u64) -> Result<Self, Fault> {
        let [low, middle, high] = stream.array(at)?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let kind = match (header >> 1) & 3 {
            0 => BlockKind::Raw,
            1 => BlockKind::Repeated,
            2 => BlockKind::Compressed,
            _ => return Err(Fault::Broken(format!("the block at {at:#x} is of no kind"))),
        };
        let len = u64::from(header >> 3);
        if len > BLOCK_MAX as u64 {
            return Err(Fault::Broken(format!(
                "the block at {at:#x} is longer than 128 KiB"
            )));
        }
        Ok(Self {
            at,
            is_last: header & 1 != 0,
            kind,
            len,
        })
    }

    /// Unpacks the block; gives its end.
    fn unpack(
        &self,
        stream: Reader<'_>,
        decoder: &mut Decoder,
        frame_start: usize,
        output: &mut Output,
    ) -> Result<u64, Fault> {
        let content = self.at.saturating_add(Self::LEN);
        match self.kind {
            BlockKind::Raw => {
                output.append(stream.slice(content, self.len)?)?;
                Ok(content.saturating_add(self.len))
            }
            BlockKind::Repeated => {
                let byte = stream.u8(content)?;
                let len = usize::try_from(self.len).or(Err(Fault::Full))?;
                output.make_room(len)?;
                let room = output.spare()?;
                room.get_mut(..len).ok_or(Fault::Full)?.fill(byte);
                output.advance(len)?;
                Ok(content.saturating_add(1))
            }
            BlockKind::Compressed => {
                let bytes = stream.slice(content, self.len)?;
                output.make_room(BLOCK_MAX)?;
                let end = output.len();
                let end = end.saturating_sub(frame_start);
                let frame = output.whole().get_mut(frame_start..).ok_or(Fault::Full)?;
                let written = decoder
                    .unpack(bytes, frame, end)
                    .map_err(|stop| match stop {
                        Stop::Full => Fault::Full,
                        Stop::Corrupt(what) => {
                            Fault::Broken(format!("the block at {:#x} has {what}", self.at))
                        }
                    })?;
                output.advance(written)?;
                Ok(content.saturating_add(self.len))
            }
        }
    }
}

/// The checksum of a frame's content, summed up while each block is still in the cache.
struct Checksum {
    hash: Xxh64,
    start: usize,
    summed: usize,
}

impl Checksum {
    fn new(start: usize) -> Self {
        Self {
            hash: Xxh64::default(),
            start,
            summed: start,
        }
    }

    fn update(&mut self, output: &Output) {
        let rest = self.hash.update(output.since(self.summed));
        self.summed = output.len().saturating_sub(rest.len());
    }

    /// The low half of the hash, which is what a frame carries.
    fn finish(&self, output: &Output) -> u32 {
        let len = output.since(self.start).len();
        let hash = self.hash.finish(output.since(self.summed), len as u64);
        let [a, b, c, d, ..] = hash.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests;

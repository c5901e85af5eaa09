//! LZ4 in today's frames (`doc/lz4_Frame_format.md` of LZ4, 1.6.4).

use super::lz4;
use super::output::{Fault, Output};
use firstlight_base::Reader;
use twox_hash::XxHash32;

const MAGIC: u32 = 0x184d_2204;
/// Frames of these magics have no data; the low four bits are free.
const SKIPPABLE: u32 = 0x184d_2a50;
/// How far back a block may look into the one before.
const WINDOW: usize = 64 << 10;

/// Unpacks every frame of `stream`.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut rest = stream;
    loop {
        rest = first(rest, output)?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Unpacks the first frame of `stream`, or skips it; gives what follows it.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let reader = Reader::new(stream);
    match reader.u32_le(0)? {
        MAGIC => frame(reader.tail(4)?, output),
        magic if magic & !0xf == SKIPPABLE => {
            let len = u64::from(reader.u32_le(4)?);
            Ok(reader.tail(len.saturating_add(8))?)
        }
        _ => Err(Fault::broken("what follows is no frame")),
    }
}

/// What a frame's descriptor says.
struct Descriptor {
    /// Whether no block looks back into the one before.
    is_independent: bool,
    has_block_checksums: bool,
    has_checksum: bool,
    content_len: Option<u64>,
    /// The most bytes that a block has, packed or not.
    block_max: usize,
    /// Bytes it takes, its checksum included.
    len: u64,
}

impl Descriptor {
    fn read(frame: Reader<'_>) -> Result<Self, Fault> {
        const VERSION: u8 = 0b11 << 6;
        const VERSION_1: u8 = 0b01 << 6;
        const INDEPENDENT: u8 = 1 << 5;
        const BLOCK_CHECKSUMS: u8 = 1 << 4;
        const CONTENT_LEN: u8 = 1 << 3;
        const CHECKSUM: u8 = 1 << 2;
        const RESERVED: u8 = 1 << 1;
        const DICTIONARY: u8 = 1 << 0;
        const NOT_THE_BLOCK_SIZE: u8 = 0x8f;

        let (flags, sizes) = (frame.u8(0)?, frame.u8(1)?);
        if flags & VERSION != VERSION_1 {
            return Err(Fault::broken("its frame is of another version"));
        }
        if flags & RESERVED != 0 || sizes & NOT_THE_BLOCK_SIZE != 0 {
            return Err(Fault::broken("reserved bits of its frame are set"));
        }
        if flags & DICTIONARY != 0 {
            return Err(Fault::broken("it needs a dictionary that it does not have"));
        }
        let block_max = match sizes >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(Fault::broken("its frame has no valid block size")),
        };
        let content_len = match flags & CONTENT_LEN {
            0 => None,
            _ => Some(frame.u64_le(2)?),
        };
        let checksum_at = if content_len.is_some() { 10 } else { 2 };
        let [_, sum, ..] = hash(frame.slice(0, checksum_at)?).to_le_bytes();
        if frame.u8(checksum_at)? != sum {
            return Err(Fault::broken("its header's checksum is another"));
        }
        Ok(Self {
            is_independent: flags & INDEPENDENT != 0,
            has_block_checksums: flags & BLOCK_CHECKSUMS != 0,
            has_checksum: flags & CHECKSUM != 0,
            content_len,
            block_max,
            len: checksum_at.saturating_add(1),
        })
    }
}

fn frame<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    const STORED: u32 = 1 << 31;

    let descriptor = Descriptor::read(Reader::new(stream))?;
    let start = output.len();
    let mut rest = Reader::new(stream).tail(descriptor.len)?;
    loop {
        let reader = Reader::new(rest);
        let field = reader.u32_le(0)?;
        if field == 0 {
            rest = reader.tail(4)?;
            break;
        }
        let len = u64::from(field & !STORED);
        if len > descriptor.block_max as u64 {
            return Err(Fault::broken("a block is longer than a block can be"));
        }
        let block = reader.slice(4, len)?;
        let mut end = len.saturating_add(4);
        if descriptor.has_block_checksums {
            if reader.u32_le(end)? != hash(block) {
                return Err(Fault::broken("a block's checksum is another"));
            }
            end = end.saturating_add(4);
        }
        if field & STORED != 0 {
            output.append(block)?;
        } else {
            let window = if descriptor.is_independent {
                0
            } else {
                output.len().saturating_sub(start).min(WINDOW)
            };
            lz4::block(block, window, descriptor.block_max, output)?;
        }
        rest = reader.tail(end)?;
    }
    let unpacked = output.since(start);
    if descriptor
        .content_len
        .is_some_and(|len| len != unpacked.len() as u64)
    {
        return Err(Fault::broken("its length is another than it says"));
    }
    if !descriptor.has_checksum {
        return Ok(rest);
    }
    let reader = Reader::new(rest);
    if reader.u32_le(0)? != hash(unpacked) {
        return Err(Fault::broken("its checksum is another"));
    }
    Ok(reader.tail(4)?)
}

fn hash(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

//! LZ4 in its legacy frames (`doc/lz4_Frame_format.md` of LZ4, "Legacy frame"): a magic, then
//! blocks of 8 MiB, each with its packed length before it. There is no end mark.

use super::output::{Fault, Output};
use alloc::string::ToString;
use firstlight_base::Reader;
use lz4_flex::block::{DecompressError, decompress_into};

/// The magic that every frame begins with.
const MAGIC: u32 = 0x184c_2102;
/// What a block unpacks to; the last one of a frame may be shorter.
const BLOCK: usize = 8 << 20;
/// The longest packed block: one that could not be packed, with a length byte for every 255.
const PACKED_MAX: u64 = (BLOCK + BLOCK / 255 + 16) as u64;

pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let reader = Reader::new(stream);
    if reader.u32_le(0)? != MAGIC {
        return Err(Fault::broken("it does not begin with a legacy frame"));
    }
    let mut rest = reader.tail(4)?;
    while !rest.is_empty() {
        let reader = Reader::new(rest);
        let len = reader.u32_le(0)?;
        // A frame may follow directly; its magic is no possible length.
        if len == MAGIC {
            rest = reader.tail(4)?;
            continue;
        }
        let len = u64::from(len);
        if len == 0 {
            return Err(Fault::broken("a block has no bytes"));
        }
        if len > PACKED_MAX {
            return Err(Fault::broken("a block is longer than a block can be"));
        }
        block(reader.slice(4, len)?, output)?;
        rest = reader.tail(len.saturating_add(4))?;
    }
    Ok(())
}

/// Unpacks what `stream` begins with, as far as the kernel does (`lib/decompress_unlz4.c`): up to
/// its end, or a length of 0, or what is too short for one. Gives what follows.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut rest = stream;
    loop {
        let reader = Reader::new(rest);
        match reader.u32_le(0) {
            Err(_) | Ok(0) => return Ok(rest),
            Ok(MAGIC) => rest = reader.tail(4)?,
            Ok(len) if u64::from(len) > PACKED_MAX => {
                return Err(Fault::broken("a block is longer than a block can be"));
            }
            Ok(len) => {
                let len = u64::from(len);
                block(reader.slice(4, len)?, output)?;
                rest = reader.tail(len.saturating_add(4))?;
            }
        }
    }
}

/// Unpacks one block into the room there is, and only where that is too small asks for more: the
/// claimed length is usually right, and the last block short.
fn block(packed: &[u8], output: &mut Output) -> Result<(), Fault> {
    let written = match decompress(packed, output) {
        Err(DecompressError::OutputTooSmall { .. }) => {
            output.make_room(BLOCK)?;
            match decompress(packed, output) {
                Err(DecompressError::OutputTooSmall { .. }) => return Err(full(output)),
                other => other,
            }
        }
        other => other,
    }
    .map_err(|error| Fault::Broken(error.to_string()))?;
    output.advance(written)
}

fn decompress(packed: &[u8], output: &mut Output) -> Result<usize, DecompressError> {
    let room = output.spare().unwrap_or_default();
    let room = match room.split_at_mut_checked(BLOCK) {
        Some((block, _)) => block,
        None => room,
    };
    decompress_into(packed, room)
}

/// Why a block did not fit: it is longer than a block, or the output is full.
fn full(output: &mut Output) -> Fault {
    match output.spare() {
        Ok(room) if room.len() >= BLOCK => Fault::broken("a block unpacks to more than 8 MiB"),
        _ => Fault::Full,
    }
}

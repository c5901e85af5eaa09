//! LZ4 in its legacy frames (`doc/lz4_Frame_format.md` of LZ4, "Legacy frame"): a magic, then
//! blocks of 8 MiB, each with its packed length before it. There is no end mark.

use super::output::{Fault, Output};
use alloc::format;
use alloc::string::ToString;
use firstlight_base::Reader;
use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

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
        block(reader.slice(4, len)?, 0, BLOCK, output)?;
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
                block(reader.slice(4, len)?, 0, BLOCK, output)?;
                rest = reader.tail(len.saturating_add(4))?;
            }
        }
    }
}

/// Unpacks one block of at most `most` bytes, which may look back into the last `window` bytes of
/// the output. It is unpacked into the room there is, and only where that is too small asks for
/// more: the claimed length is usually right, and the last block short.
pub(super) fn block(
    packed: &[u8],
    window: usize,
    most: usize,
    output: &mut Output,
) -> Result<(), Fault> {
    let written = match decompress(packed, window, most, output) {
        Err(DecompressError::OutputTooSmall { .. }) => {
            output.make_room(most)?;
            match decompress(packed, window, most, output) {
                Err(DecompressError::OutputTooSmall { .. }) => return Err(full(most, output)),
                other => other,
            }
        }
        other => other,
    }
    .map_err(|error| Fault::Broken(error.to_string()))?;
    output.advance(written)
}

fn decompress(
    packed: &[u8],
    window: usize,
    most: usize,
    output: &mut Output,
) -> Result<usize, DecompressError> {
    let (window, room) = output.window_and_room(window);
    let room = match room.split_at_mut_checked(most) {
        Some((block, _)) => block,
        None => room,
    };
    if window.is_empty() {
        decompress_into(packed, room)
    } else {
        decompress_into_with_dict(packed, room, window)
    }
}

/// Why a block did not fit: it is longer than a block, or the output is full.
fn full(most: usize, output: &mut Output) -> Fault {
    let (_, room) = output.window_and_room(0);
    if room.len() < most {
        return Fault::Full;
    }
    Fault::Broken(format!("a block unpacks to more than {} KiB", most >> 10))
}

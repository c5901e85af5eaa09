//! Zstandard frames (RFC 8878), unpacked by the C library: faster, where a compiler for C is at
//! hand.

use super::output::{Fault, Output};
use firstlight_base::Reader;
use zstd::zstd_safe::{DCtx, find_frame_compressed_size, get_error_name};

/// The widest window that is unpacked, as without this library.
const WINDOW_MAX: u64 = 128 << 20;
/// Bytes that a packed one is taken to become where nothing says more.
const USUAL_RATIO: usize = 8;

/// Unpacks every frame of `stream`.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut rest = stream;
    while !rest.is_empty() {
        rest = first(rest, output)?;
    }
    Ok(())
}

/// Unpacks the first frame of `stream`, or skips it; gives what follows it.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    if window(stream).is_some_and(|window| window > WINDOW_MAX) {
        return Err(Fault::broken("its window is larger than 128 MiB"));
    }
    let len = find_frame_compressed_size(stream).map_err(broken)?;
    let (frame, rest) = stream.split_at_checked(len).ok_or(Fault::Ends)?;
    let mut decoder = DCtx::create();
    match output.make_room(frame.len().saturating_mul(USUAL_RATIO)) {
        // There is all the room that there may be.
        Err(Fault::Full) => {}
        other => other?,
    }
    // In one go, which needs no window beside the output; so where that is too small, from the
    // frame's beginning again. The claimed length makes it large enough at once.
    loop {
        let room = output.spare()?;
        let room_len = room.len();
        match decoder.decompress(room, frame) {
            Ok(written) => {
                output.advance(written)?;
                return Ok(rest);
            }
            Err(code) if is_too_small(code) => {
                output.make_room(room_len.saturating_add(1))?;
            }
            Err(code) => return Err(broken(code)),
        }
    }
}

/// The window that a frame's header asks for (RFC 8878, section 3.1.1.1.2), where it has that field.
fn window(stream: &[u8]) -> Option<u64> {
    const MAGIC: u32 = 0xfd2f_b528;
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let reader = Reader::new(stream);
    if reader.u32_le(0).ok()? != MAGIC || reader.u8(4).ok()? & SINGLE_SEGMENT != 0 {
        return None;
    }
    let descriptor = reader.u8(5).ok()?;
    let base = 1_u64.checked_shl(u32::from(descriptor >> 3).saturating_add(10))?;
    base.checked_add((base / 8).checked_mul(u64::from(descriptor & 7))?)
}

/// Whether it is the output that is too small (`ZSTD_error_dstSize_tooSmall`).
fn is_too_small(code: usize) -> bool {
    get_error_name(code) == "Destination buffer is too small"
}

fn broken(code: usize) -> Fault {
    match get_error_name(code) {
        "Src size is incorrect" => Fault::Ends,
        name => Fault::broken(name),
    }
}

//! gzip members (RFC 1952) round deflate streams (RFC 1951).

use super::output::{Fault, Output};
use crate::crc32::crc32;
use alloc::boxed::Box;
use firstlight_base::{PastEnd, Reader};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The first bytes of a member whose method is deflate.
const MAGIC: &[u8] = b"\x1f\x8b\x08";

/// Unpacks every member of `stream`. What follows the last one and is no member is not looked at,
/// as `gzip -d` does.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut rest = stream;
    loop {
        rest = member(rest, output)?;
        if !rest.starts_with(MAGIC) {
            return Ok(());
        }
    }
}

/// Unpacks the first member of `stream`; gives what follows it.
pub(super) fn member<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let start = output.len();
    let body = skip_header(stream)?;
    let trailer = inflate(body, start, output)?;
    let unpacked = output.since(start);
    let reader = Reader::new(trailer);
    let (crc, isize) = (reader.u32_le(0)?, reader.u32_le(4)?);
    if crc32(unpacked) != crc {
        return Err(Fault::broken("its checksum is another"));
    }
    if unpacked.len() as u64 & u64::from(u32::MAX) != u64::from(isize) {
        return Err(Fault::broken("its length is another than it says"));
    }
    Ok(reader.tail(8)?)
}

/// The member's deflate stream and what follows it (RFC 1952, section 2.3).
fn skip_header(stream: &[u8]) -> Result<&[u8], Fault> {
    const FHCRC: u8 = 1 << 1;
    const FEXTRA: u8 = 1 << 2;
    const FNAME: u8 = 1 << 3;
    const FCOMMENT: u8 = 1 << 4;
    const RESERVED: u8 = 0xe0;

    let reader = Reader::new(stream);
    if reader.slice(0, 3)? != MAGIC {
        return Err(Fault::broken("it does not begin with a gzip header"));
    }
    let flags = reader.u8(3)?;
    if flags & RESERVED != 0 {
        return Err(Fault::broken("reserved header flags are set"));
    }
    let mut rest = reader.tail(10)?;
    if flags & FEXTRA != 0 {
        let reader = Reader::new(rest);
        let len = u64::from(reader.u16_le(0)?);
        rest = reader.tail(len.saturating_add(2))?;
    }
    for string in [FNAME, FCOMMENT] {
        if flags & string != 0 {
            let nul = rest.iter().position(|&byte| byte == 0).ok_or(Fault::Ends)?;
            rest = rest.get(nul.saturating_add(1)..).ok_or(Fault::Ends)?;
        }
    }
    if flags & FHCRC != 0 {
        rest = Reader::new(rest).tail(2)?;
    }
    Ok(rest)
}

/// Unpacks a deflate stream to `start` and on; gives what follows it.
fn inflate<'a>(stream: &'a [u8], start: usize, output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut decoder = Box::<DecompressorOxide>::default();
    let mut rest = stream;
    loop {
        output.spare()?;
        let position = output.len().saturating_sub(start);
        let room = output.whole().get_mut(start..).ok_or(Fault::Full)?;
        let (status, consumed, written) = decompress(
            &mut decoder,
            rest,
            room,
            position,
            TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        );
        output.advance(written)?;
        rest = rest.get(consumed..).ok_or(Fault::Ends)?;
        match status {
            TINFLStatus::Done => return Ok(rest),
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
                return Err(Fault::Ends);
            }
            _ => return Err(Fault::broken("what is in it is no deflate stream")),
        }
    }
}

impl From<PastEnd> for Fault {
    fn from(_: PastEnd) -> Self {
        Self::Ends
    }
}

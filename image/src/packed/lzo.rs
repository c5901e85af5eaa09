//! LZO1X blocks in the container of lzop 1.04 (its source, `src/lzop.c`, is the format's only
//! description), as the kernel's build makes it.

use super::output::{Fault, Output};
use crate::crc32::crc32;
use adler2::adler32_slice as adler32;
use firstlight_base::Reader;
use lzokay::decompress::decompress;

const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";
/// The longest block.
const BLOCK_MAX: u32 = 64 << 20;

/// Flags of the header.
const ADLER32_UNPACKED: u32 = 1 << 0;
const ADLER32_PACKED: u32 = 1 << 1;
const EXTRA_FIELD: u32 = 1 << 6;
const CRC32_UNPACKED: u32 = 1 << 8;
const CRC32_PACKED: u32 = 1 << 9;
const FILTER: u32 = 1 << 11;
const HEADER_CRC32: u32 = 1 << 12;

/// Unpacks every file of `stream`. What follows the last one and is none is not looked at.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut rest = stream;
    loop {
        rest = first(rest, output)?;
        if !rest.starts_with(MAGIC) {
            return Ok(());
        }
    }
}

/// Unpacks the first file of `stream`; gives what follows it.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let (flags, mut rest) = header(stream)?;
    while let Some(next) = block(flags, rest, output)? {
        rest = next;
    }
    Ok(Reader::new(rest).tail(4)?)
}

/// Big-endian fields that follow each other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let field = Reader::new(self.bytes).array(self.at)?;
        self.at = self.at.saturating_add(N as u64);
        Ok(field)
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.take().map(u32::from_be_bytes)
    }

    fn u32_if(&mut self, is_there: bool) -> Result<Option<u32>, Fault> {
        is_there.then(|| self.u32()).transpose()
    }

    fn slice(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let slice = Reader::new(self.bytes).slice(self.at, len)?;
        self.at = self.at.saturating_add(len);
        Ok(slice)
    }

    fn read(&self) -> &'a [u8] {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        self.bytes.get(..at).unwrap_or(self.bytes)
    }

    fn rest(&self) -> Result<&'a [u8], Fault> {
        Ok(Reader::new(self.bytes).tail(self.at)?)
    }
}

/// The header's flags, and what follows it.
fn header(stream: &[u8]) -> Result<(u32, &[u8]), Fault> {
    /// The version that brought the fields about versions and levels.
    const NEWER: u16 = 0x940;
    /// What is unpacked here: the newest method is that of 1.04.
    const VERSION_MAX: u16 = 0x104f;

    if !stream.starts_with(MAGIC) {
        let begins = MAGIC.starts_with(stream);
        return Err(if begins {
            Fault::Ends
        } else {
            Fault::broken("it does not begin with an lzop header")
        });
    }
    let magic_len = MAGIC.len();
    let mut fields = Fields {
        bytes: stream.get(magic_len..).ok_or(Fault::Ends)?,
        at: 0,
    };
    let version = fields.u16()?;
    let is_newer = version >= NEWER;
    let _library = fields.u16()?;
    if is_newer && fields.u16()? > VERSION_MAX {
        return Err(Fault::broken("it is for a later version of lzop"));
    }
    let method = fields.u8()?;
    if is_newer {
        let _level = fields.u8()?;
    }
    let flags = fields.u32()?;
    if flags & FILTER != 0 {
        return Err(Fault::broken("its filter is not known here"));
    }
    let _mode_and_time = fields.slice(if is_newer { 12 } else { 8 })?;
    let name_len = fields.u8()?;
    let _name = fields.slice(name_len.into())?;
    let summed = fields.read();
    check(
        fields.u32()?,
        if flags & HEADER_CRC32 != 0 {
            crc32(summed)
        } else {
            adler32(summed)
        },
        "its header's checksum is another",
    )?;
    // 1, 2 and 3 are ways to pack LZO1X, and are unpacked alike.
    if !(1..=3).contains(&method) {
        return Err(Fault::broken("its method is not LZO1X"));
    }
    if flags & EXTRA_FIELD != 0 {
        let len = fields.u32()?;
        let _extra = fields.slice(u64::from(len).saturating_add(4))?;
    }
    Ok((flags, fields.rest()?))
}

/// Unpacks the block that `stream` begins with, and gives what follows it; `None` at the length of
/// 0 that ends a file.
fn block<'a>(flags: u32, stream: &'a [u8], output: &mut Output) -> Result<Option<&'a [u8]>, Fault> {
    /// A length code's byte stands for 255 bytes; the first few are dearer.
    const MOST_PER_BYTE: u64 = 255;

    let mut fields = Fields {
        bytes: stream,
        at: 0,
    };
    let len = fields.u32()?;
    if len == 0 {
        return Ok(None);
    }
    let packed_len = fields.u32()?;
    if len > BLOCK_MAX || packed_len > len || packed_len == 0 {
        return Err(Fault::broken("a block's lengths are none it can have"));
    }
    let is_packed = packed_len < len;
    let adler_unpacked = fields.u32_if(flags & ADLER32_UNPACKED != 0)?;
    let crc_unpacked = fields.u32_if(flags & CRC32_UNPACKED != 0)?;
    let adler_packed = fields.u32_if(is_packed && flags & ADLER32_PACKED != 0)?;
    let crc_packed = fields.u32_if(is_packed && flags & CRC32_PACKED != 0)?;
    let packed = fields.slice(packed_len.into())?;
    check_if(
        adler_packed,
        || adler32(packed),
        "a block's checksum is another",
    )?;
    check_if(
        crc_packed,
        || crc32(packed),
        "a block's checksum is another",
    )?;

    let start = output.len();
    if is_packed {
        // Memory is taken for what the block can hold, not for what it says.
        if u64::from(len) > u64::from(packed_len).saturating_mul(MOST_PER_BYTE) {
            return Err(Fault::broken("a block's lengths are none it can have"));
        }
        let len = usize::try_from(len).or(Err(Fault::Full))?;
        output.make_room(len)?;
        let room = output.spare()?.get_mut(..len).ok_or(Fault::Full)?;
        if decompress(packed, room) != Ok(len) {
            return Err(Fault::broken("a block cannot be unpacked to its length"));
        }
        output.advance(len)?;
    } else {
        output.append(packed)?;
    }
    let unpacked = output.since(start);
    let what = "an unpacked block's checksum is another";
    check_if(adler_unpacked, || adler32(unpacked), what)?;
    check_if(crc_unpacked, || crc32(unpacked), what)?;
    fields.rest().map(Some)
}

fn check_if(said: Option<u32>, is: impl Fn() -> u32, what: &str) -> Result<(), Fault> {
    said.map_or(Ok(()), |said| check(said, is(), what))
}

fn check(said: u32, is: u32, what: &str) -> Result<(), Fault> {
    if said == is {
        Ok(())
    } else {
        Err(Fault::broken(what))
    }
}

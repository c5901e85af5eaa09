//! Initial ramdisks: what is compressed in one is unpacked by the host, once, and not by each guest
//! at each start.
//!
//! Linux takes a sequence of cpio archives, plain ones at multiples of 4 bytes and compressed ones
//! anywhere, with zeros between them (`Documentation/driver-api/early-userspace/buffer-format.rst`,
//! `init/initramfs.c`). The result is the same sequence with every archive plain. Whatever is not
//! such a sequence from beginning to end is left as it is: it is the guest's own business.

use firstlight_base::Reader;
use firstlight_image::{Codec, UnpackError};

/// Unpacks what is compressed in `initrd`, into at most `limit` bytes in all; `None` where nothing
/// is, or where it is not what Linux takes.
///
/// # Errors
///
/// [`InitrdError`] where a compressed archive is broken or goes beyond the limit.
pub fn unpack_initrd(initrd: &[u8], limit: u64) -> Result<Option<Vec<u8>>, InitrdError> {
    let mut plain = Vec::new();
    let mut unpacked = false;
    let mut rest = initrd;
    while let Some(&first) = rest.first() {
        let at = initrd.len() - rest.len();
        if first == 0 {
            let behind = skip_zeros(rest);
            // They are kept, so that what is plain anyway stays byte for byte what it was.
            plain.resize(plain.len() + rest.len() - behind.len(), 0);
            rest = behind;
        } else if first == b'0' && at.is_multiple_of(ALIGN) {
            let Some(end) = archive_end(rest) else {
                return Ok(None);
            };
            let (archive, behind) = rest.split_at(end);
            append(&mut plain, archive, limit);
            rest = behind;
        } else {
            let codec = Codec::of(rest);
            if !is_linux_codec(codec) {
                return Ok(None);
            }
            let room = limit.saturating_sub(plain.len() as u64);
            let (archive, behind) =
                codec
                    .unpack_first(rest, room)
                    .map_err(|source| InitrdError {
                        at: at as u64,
                        source,
                    })?;
            if !is_archives(&archive) {
                return Ok(None);
            }
            unpacked = true;
            if plain.is_empty() {
                // As the most are: one archive, and a copy less.
                plain = archive;
            } else {
                append(&mut plain, &archive, limit);
            }
            rest = behind;
        }
    }
    Ok(Some(plain).filter(|plain| unpacked && plain.len() as u64 <= limit))
}

/// Where archives begin, in the file and in what is unpacked.
const ALIGN: usize = 4;

/// Those that Linux unpacks initial ramdisks with (`lib/decompress.c`).
fn is_linux_codec(codec: Codec) -> bool {
    match codec {
        Codec::Gzip
        | Codec::Zstd
        | Codec::Xz
        | Codec::Lzma
        | Codec::Lz4Legacy
        | Codec::Bzip2
        | Codec::Lzo => true,
        Codec::Stored | Codec::Lz4Frame | Codec::Unknown(_) => false,
    }
}

/// Puts `archive` behind what is there, at a multiple of 4; what is too much anyway is not copied.
fn append(plain: &mut Vec<u8>, archive: &[u8], limit: u64) {
    let start = plain.len().next_multiple_of(ALIGN);
    let fits = (start as u64).saturating_add(archive.len() as u64) <= limit;
    plain.resize(start, 0);
    if fits {
        plain.extend_from_slice(archive);
    } else {
        plain.resize(usize::try_from(limit).unwrap_or(usize::MAX - 1) + 1, 0);
    }
}

fn skip_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().position(|byte| *byte != 0);
    bytes.get(zeros.unwrap_or(bytes.len())..).unwrap_or(&[])
}

/// Whether `bytes` are archives, one or more, and nothing else.
fn is_archives(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut some = false;
    loop {
        rest = skip_zeros(rest);
        if rest.is_empty() {
            return some;
        }
        let aligned = (bytes.len() - rest.len()).is_multiple_of(ALIGN);
        let Some(end) = archive_end(rest).filter(|_| aligned) else {
            return false;
        };
        some = true;
        rest = rest.get(end..).unwrap_or(&[]);
    }
}

/// Where the archive that `bytes` begin with ends, behind its trailer; `None` where it is none, or
/// has no end. Its offsets count from its first byte.
fn archive_end(bytes: &[u8]) -> Option<usize> {
    let reader = Reader::new(bytes);
    let mut at = 0_u64;
    loop {
        let entry = Entry::read(reader, at)?;
        at = entry.next;
        if entry.is_trailer {
            // The padding behind the trailer may be missing at the file's end.
            let end = usize::try_from(at).ok()?;
            return Some(end.min(bytes.len()));
        }
    }
}

/// A file in an archive.
struct Entry {
    is_trailer: bool,
    /// Where the next begins.
    next: u64,
}

impl Entry {
    /// Reads the header at `at` (`buffer-format.rst`, "struct cpio_newc_header").
    fn read(archive: Reader<'_>, at: u64) -> Option<Self> {
        const HEADER: u64 = 110;
        const NAME_MAX: u64 = 4096;
        let field = |index: u64| hexadecimal(&archive.array(at + 6 + 8 * index).ok()?);
        let magic = archive.slice(at, 6).ok()?;
        if magic != b"070701" && magic != b"070702" {
            return None;
        }
        let (len, name_len) = (field(6)?, field(11)?);
        if name_len == 0 || name_len > NAME_MAX {
            return None;
        }
        let name = archive.slice(at + HEADER, name_len).ok()?;
        let align = |offset: u64| offset.next_multiple_of(ALIGN as u64);
        let end = align(at + HEADER + name_len) + len;
        let is_trailer = name == b"TRAILER!!!\0";
        (is_trailer || end <= archive.len() as u64).then_some(Self {
            is_trailer,
            next: align(end),
        })
    }
}

fn hexadecimal(digits: &[u8; 8]) -> Option<u64> {
    let all = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u64::from_str_radix(text, 16).ok()
}

/// Why a compressed archive in an initial ramdisk could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot unpack what is at {at:#x} in it")]
pub struct InitrdError {
    /// Where it begins.
    pub at: u64,
    /// What is wrong.
    pub source: UnpackError,
}

#[cfg(test)]
mod tests;

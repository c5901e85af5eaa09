//! A kernel packed with the stub as an ELF file (System V gABI, chapters 4 and 5) whose notes name
//! the entry of the x86/HVM direct boot ABI (Xen's `include/public/elfnote.h`).

use crate::place::content;
use crate::{PlaceError, Sources};
use firstlight_base::Gpa;
use firstlight_boot::stub::{Movable, Package};
use firstlight_boot::{Content, Piece};
use std::io::{self, Write};

/// File and memory offsets of a segment are the same within a page, so that it can be mapped.
const PAGE: u64 = 0x1000;
const HEADER_LEN: u64 = 64;
const PROGRAM_LEN: u64 = 56;

/// Writes `package` to `out`.
///
/// # Errors
///
/// [`PvhElfError`] where `sources` are not those that were packed, or `out` takes no more.
pub fn pvh_elf(
    package: &Package,
    sources: &Sources<'_>,
    out: &mut dyn Write,
) -> Result<(), PvhElfError> {
    let mut out = Counted { out, written: 0 };
    let notes = notes(package.entry(), package.movable());
    let segments = segments(package.pieces(), sources)?;
    let count = segments.len() as u64 + 1;
    let notes_at = HEADER_LEN + count * PROGRAM_LEN;
    out.put(&header(package.entry(), count))?;
    out.put(&note_program(notes_at, notes.len() as u64))?;
    let mut end = notes_at + notes.len() as u64;
    let mut offsets = Vec::with_capacity(segments.len());
    for segment in &segments {
        let offset = end.next_multiple_of(PAGE) + segment.at.get() % PAGE;
        out.put(&segment.program(offset))?;
        offsets.push(offset);
        end = offset + segment.bytes.len() as u64;
    }
    out.put(&notes)?;
    for (segment, offset) in segments.iter().zip(offsets) {
        out.fill_to(offset)?;
        out.put(segment.bytes)?;
    }
    out.out.flush()?;
    Ok(())
}

/// Why a package could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PvhElfError {
    /// The files are not those that were packed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// What is loaded to one place.
struct Segment<'a> {
    at: Gpa,
    bytes: &'a [u8],
    /// Bytes of memory, those behind the file's being zero.
    len: u64,
}

/// Windows are part of the segment before them, because loaders pass over segments without a byte.
fn segments<'a>(
    pieces: &'a [Piece],
    sources: &Sources<'a>,
) -> Result<Vec<Segment<'a>>, PlaceError> {
    let mut segments: Vec<Segment<'_>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if piece.content == Content::Window
            && let Some(last) = segments.last_mut()
            && last.at.checked_add(last.len) == Some(piece.range.start())
        {
            last.len += piece.range.len();
            continue;
        }
        segments.push(Segment {
            at: piece.range.start(),
            bytes: content(piece, sources)?,
            len: piece.range.len(),
        });
    }
    Ok(segments)
}

impl Segment<'_> {
    fn program(&self, offset: u64) -> Vec<u8> {
        const PT_LOAD: u32 = 1;
        const READ_WRITE_EXECUTE: u32 = 7;
        program(
            PT_LOAD,
            READ_WRITE_EXECUTE,
            [
                offset,
                self.at.get(),
                self.bytes.len() as u64,
                self.len,
                PAGE,
            ],
        )
    }
}

/// gABI, chapter 4, "ELF Header".
fn header(entry: Gpa, programs: u64) -> Vec<u8> {
    const IDENT: [u8; 16] = [
        0x7f, b'E', b'L', b'F', 2, /* 64 bits */
        1, /* little-endian */
        1, /* version */
        0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    const ET_EXEC: u16 = 2;
    const EM_X86_64: u16 = 62;
    let count = u16::try_from(programs).expect("a package has a handful of pieces");
    let mut header = Vec::from(IDENT);
    header.extend(ET_EXEC.to_le_bytes());
    header.extend(EM_X86_64.to_le_bytes());
    header.extend(1_u32.to_le_bytes()); // version
    header.extend(entry.get().to_le_bytes());
    header.extend(HEADER_LEN.to_le_bytes()); // program headers
    header.extend(0_u64.to_le_bytes()); // no section headers
    header.extend(0_u32.to_le_bytes()); // flags
    for number in [64, 56, count, 0, 0, 0] {
        header.extend(u16::to_le_bytes(number));
    }
    header
}

fn note_program(at: u64, len: u64) -> Vec<u8> {
    const PT_NOTE: u32 = 4;
    const READ: u32 = 4;
    const ALIGN: u64 = 4;
    program(PT_NOTE, READ, [at, 0, len, len, ALIGN])
}

/// gABI, chapter 5, "Program Header". The one address is the virtual and the physical one.
fn program(kind: u32, flags: u32, [offset, at, filesz, memsz, align]: [u64; 5]) -> Vec<u8> {
    let mut program = Vec::new();
    program.extend(kind.to_le_bytes());
    program.extend(flags.to_le_bytes());
    for number in [offset, at, at, filesz, memsz, align] {
        program.extend(number.to_le_bytes());
    }
    program
}

/// The entry, in 8 bytes as 64-bit kernels have it: QEMU reads so many of a 64-bit file. And where
/// else all of it may be loaded.
fn notes(entry: Gpa, movable: Option<Movable>) -> Vec<u8> {
    const PHYS32_ENTRY: u32 = 18;
    const PHYS32_RELOC: u32 = 19;
    let mut notes = note(PHYS32_ENTRY, &entry.get().to_le_bytes());
    if let Some(Movable { align, min, max }) = movable {
        notes.extend(note(
            PHYS32_RELOC,
            [align, min, max].map(u32::to_le_bytes).as_flattened(),
        ));
    }
    notes
}

/// gABI, chapter 5, "Note Section"; all parts are multiples of 4 bytes long.
fn note(kind: u32, description: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"Xen\0";
    let mut note = Vec::new();
    for len in [NAME.len(), description.len()] {
        let len = u32::try_from(len).expect("a few bytes");
        note.extend(len.to_le_bytes());
    }
    note.extend(kind.to_le_bytes());
    note.extend(NAME);
    note.extend(description);
    note
}

/// Bytes as they go out, counted.
struct Counted<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Counted<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to `offset`, which is at most two pages away.
    fn fill_to(&mut self, offset: u64) -> io::Result<()> {
        let len = offset.saturating_sub(self.written);
        io::copy(&mut io::Read::take(io::repeat(0), len), &mut self.out)?;
        self.written += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

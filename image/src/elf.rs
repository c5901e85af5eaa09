//! ELF executables (System V gABI, chapters 4 and 5): what a loader needs of them.

use crate::architecture::Architecture;
use crate::note::{Notes, PvhEntry};
use crate::relocations::Relocations;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::ops::Range;
use firstlight_base::{PastEnd, Reader};

/// An ELF file's headers, as plain values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Width of its addresses.
    pub class: Class,
    /// What it runs on.
    pub machine: Machine,
    /// What it is for.
    pub kind: Kind,
    /// `e_entry`. For Linux on x86-64 a physical address.
    pub entry: u64,
    /// What is to be loaded: the segments of type `PT_LOAD` that take memory, in file order.
    pub segments: Vec<Segment>,
    /// Whether it is marked as a program that runs on some system: it asks for a dynamic linker
    /// (`PT_INTERP`) or carries an ABI tag. FreeBSD's kernels do the former, for show.
    pub is_program: bool,
    /// The PVH entry point, where a note names one.
    pub pvh: Option<PvhEntry>,
    /// Where the ELF ends in its layer: behind headers, segments and sections.
    pub end: u64,
    /// What follows the ELF in its layer, where that may be the relocation table that Linux' build
    /// appends to a relocatable kernel.
    pub behind: Option<Range<u64>>,
}

/// Width of an ELF file's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 32 bits.
    Elf32,
    /// 64 bits.
    Elf64,
}

/// What an ELF file runs on (`e_machine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 32-bit x86.
    I386,
    /// x86-64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// RISC-V.
    Riscv,
    /// Another; its number.
    Other(u16),
}

/// What an ELF file is for (`e_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object file: to be linked, or a kernel module.
    Relocatable,
    /// A program at fixed addresses.
    Executable,
    /// A program for any address, or a library.
    Dynamic,
    /// A memory dump.
    Core,
    /// Another; its number.
    Other(u16),
}

bitflags! {
    /// What a segment's memory may be used for (`p_flags`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct SegmentFlags: u32 {
        /// To execute.
        const EXECUTE = 1 << 0;
        /// To write.
        const WRITE = 1 << 1;
        /// To read.
        const READ = 1 << 2;
        const _ = !0;
    }
}

/// A segment to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes are in the layer; all of them are there.
    pub offset: u64,
    /// How many bytes are in the layer; never more than `memsz`.
    pub filesz: u64,
    /// Its physical address; `paddr + memsz` is a 64-bit number.
    pub paddr: u64,
    /// Its virtual address. 0 is usual for Linux' per-CPU data before 6.15.
    pub vaddr: u64,
    /// Bytes of memory it takes, never 0; behind the first `filesz` they are zero.
    pub memsz: u64,
    /// What its address is aligned to.
    pub align: u64,
    /// What it may be used for.
    pub flags: SegmentFlags,
}

impl Elf {
    const MAGIC: &[u8] = b"\x7fELF";

    /// Whether `file` begins as an ELF file does.
    pub(crate) fn is(file: &[u8]) -> bool {
        file.starts_with(Self::MAGIC)
    }

    /// Reads the headers of `bytes`, which begin as an ELF file does.
    ///
    /// # Errors
    ///
    /// [`ElfError`] where they contradict each other or the file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        let file = Reader::new(bytes);
        let header = Header::read(file)?;
        let programs = header.programs(file)?;
        let sections = header.sections(file)?;
        let end = end(&header, &programs, &sections, file)?;
        let segments = segments(&programs)?;
        let notes = notes(&programs, &sections, file)?;
        let align = segments.iter().map(|segment| segment.align).max();
        Ok(Self {
            class: header.layout.class,
            machine: header.machine,
            kind: header.kind,
            entry: header.entry,
            segments,
            is_program: notes.has_abi_tag()
                || programs.iter().any(|program| program.kind == PT_INTERP),
            pvh: notes.pvh(align.unwrap_or(0)),
            end,
            behind: Some(end..bytes.len() as u64).filter(|range| Relocations::may_be(file, range)),
        })
    }

    /// The relocation table behind the ELF in `layer`, the bytes it was read from. It is searched
    /// for only here: it may have megabytes, and headers alone are read at once.
    #[must_use]
    pub fn relocations(&self, layer: &[u8]) -> Option<Relocations> {
        Relocations::find(Reader::new(layer), self.behind.as_ref()?)
    }

    /// What it runs on.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        Architecture::of_elf(self.class, self.machine)
    }

    /// The lowest physical address of a segment and the first one behind the highest.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        let low = self.segments.iter().map(|segment| segment.paddr).min()?;
        let high = self.segments.iter().map(Segment::end).max()?;
        Some((low, high))
    }
}

impl Segment {
    /// The first physical address behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.paddr.saturating_add(self.memsz)
    }
}

impl fmt::Display for Elf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Elf32 => "ELF32",
            Class::Elf64 => "ELF64",
        };
        write!(f, "{class} {}", self.machine)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I386 => f.pad("i386"),
            Self::X86_64 => f.pad("x86-64"),
            Self::Aarch64 => f.pad("aarch64"),
            Self::Riscv => f.pad("riscv"),
            Self::Other(number) => write!(f, "machine {number:#x}"),
        }
    }
}

impl Machine {
    const fn from_number(number: u16) -> Self {
        match number {
            3 => Self::I386,
            62 => Self::X86_64,
            183 => Self::Aarch64,
            243 => Self::Riscv,
            other => Self::Other(other),
        }
    }
}

impl Kind {
    const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Relocatable,
            2 => Self::Executable,
            3 => Self::Dynamic,
            4 => Self::Core,
            other => Self::Other(other),
        }
    }
}

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;

/// Where the fields of a class's headers are.
struct Layout {
    class: Class,
    header_len: u64,
    program_len: u64,
    section_len: u64,
}

const ELF32: Layout = Layout {
    class: Class::Elf32,
    header_len: 52,
    program_len: 32,
    section_len: 40,
};

const ELF64: Layout = Layout {
    class: Class::Elf64,
    header_len: 64,
    program_len: 56,
    section_len: 64,
};

impl Layout {
    /// The address-wide number at one offset in ELF32 files and at another in ELF64 files.
    fn word(&self, reader: Reader<'_>, in_32: u64, in_64: u64) -> Result<u64, PastEnd> {
        match self.class {
            Class::Elf32 => reader.u32_le(in_32).map(u64::from),
            Class::Elf64 => reader.u64_le(in_64),
        }
    }

    /// The 32-bit number at one offset in ELF32 files and at another in ELF64 files.
    fn u32(&self, reader: Reader<'_>, in_32: u64, in_64: u64) -> Result<u32, PastEnd> {
        reader.u32_le(self.either(in_32, in_64))
    }

    /// The 16-bit number at one offset in ELF32 files and at another in ELF64 files.
    fn u16(&self, reader: Reader<'_>, in_32: u64, in_64: u64) -> Result<u16, PastEnd> {
        reader.u16_le(self.either(in_32, in_64))
    }

    const fn either(&self, in_32: u64, in_64: u64) -> u64 {
        match self.class {
            Class::Elf32 => in_32,
            Class::Elf64 => in_64,
        }
    }
}

/// The file header (gABI, chapter 4, "ELF Header").
struct Header {
    layout: Layout,
    kind: Kind,
    machine: Machine,
    entry: u64,
    programs_at: u64,
    sections_at: u64,
    program_count: u16,
    section_count: u16,
}

impl Header {
    fn read(file: Reader<'_>) -> Result<Self, ElfError> {
        const EI_CLASS: u64 = 4;
        const EI_DATA: u64 = 5;
        let header = |past_end| ElfError::Truncated {
            what: "file header",
            past_end,
        };
        let layout = match file.u8(EI_CLASS).map_err(header)? {
            1 => ELF32,
            2 => ELF64,
            class => return Err(ElfError::Class { class }),
        };
        match file.u8(EI_DATA).map_err(header)? {
            1 => {}
            2 => return Err(ElfError::BigEndian),
            data => return Err(ElfError::ByteOrder { data }),
        }
        let bytes = file.slice(0, layout.header_len).map_err(header)?;
        let reader = Reader::new(bytes);
        let this = Self {
            kind: Kind::from_number(reader.u16_le(16).map_err(header)?),
            machine: Machine::from_number(reader.u16_le(18).map_err(header)?),
            entry: layout.word(reader, 24, 24).map_err(header)?,
            programs_at: layout.word(reader, 28, 32).map_err(header)?,
            sections_at: layout.word(reader, 32, 40).map_err(header)?,
            program_count: layout.u16(reader, 44, 56).map_err(header)?,
            section_count: layout.u16(reader, 48, 60).map_err(header)?,
            layout,
        };
        let program_len = this.layout.u16(reader, 42, 54).map_err(header)?;
        let section_len = this.layout.u16(reader, 46, 58).map_err(header)?;
        this.check_entry_len(
            "program",
            this.program_count,
            program_len,
            this.layout.program_len,
        )?;
        if this.sections_at != 0 {
            this.check_entry_len(
                "section",
                this.section_count,
                section_len,
                this.layout.section_len,
            )?;
        }
        Ok(this)
    }

    fn check_entry_len(
        &self,
        what: &'static str,
        count: u16,
        len: u16,
        expected: u64,
    ) -> Result<(), ElfError> {
        if count > 0 && u64::from(len) != expected {
            return Err(ElfError::EntryLen {
                what,
                len,
                expected,
            });
        }
        Ok(())
    }

    fn programs(&self, file: Reader<'_>) -> Result<Vec<Program>, ElfError> {
        /// Says that the count is elsewhere (gABI, `PN_XNUM`); no kernel has so many.
        const PN_XNUM: u16 = 0xffff;
        let truncated = |past_end| ElfError::Truncated {
            what: "program headers",
            past_end,
        };
        if self.program_count == PN_XNUM {
            return Err(ElfError::TooManySegments);
        }
        let len = self.layout.program_len;
        let table_len = u64::from(self.program_count).saturating_mul(len);
        if table_len == 0 {
            return Ok(Vec::new());
        }
        let table = file.slice(self.programs_at, table_len).map_err(truncated)?;
        entries(table, len)
            .map(|entry| Program::read(&self.layout, entry).map_err(truncated))
            .collect()
    }

    fn sections(&self, file: Reader<'_>) -> Result<Vec<Section>, ElfError> {
        let truncated = |past_end| ElfError::Truncated {
            what: "section headers",
            past_end,
        };
        if self.sections_at == 0 {
            return Ok(Vec::new());
        }
        let len = self.layout.section_len;
        let first = file
            .slice(self.sections_at, len)
            .map_err(truncated)
            .and_then(|bytes| Section::read(&self.layout, Reader::new(bytes)).map_err(truncated))?;
        // With 0xff00 sections and more the count is the first header's size (gABI, chapter 4).
        let count = match self.section_count {
            0 => first.len,
            count => u64::from(count),
        };
        let table_len = count.saturating_mul(len);
        let table = file.slice(self.sections_at, table_len).map_err(truncated)?;
        entries(table, len)
            .map(|entry| Section::read(&self.layout, entry).map_err(truncated))
            .collect()
    }
}

/// The entries of a table, each `len` bytes.
fn entries(table: &[u8], len: u64) -> impl Iterator<Item = Reader<'_>> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    table.chunks_exact(len).map(Reader::new)
}

/// A program header (gABI, chapter 5).
struct Program {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

impl Program {
    fn read(layout: &Layout, entry: Reader<'_>) -> Result<Self, PastEnd> {
        Ok(Self {
            kind: entry.u32_le(0)?,
            flags: layout.u32(entry, 24, 4)?,
            offset: layout.word(entry, 4, 8)?,
            vaddr: layout.word(entry, 8, 16)?,
            paddr: layout.word(entry, 12, 24)?,
            filesz: layout.word(entry, 16, 32)?,
            memsz: layout.word(entry, 20, 40)?,
            align: layout.word(entry, 28, 48)?,
        })
    }
}

/// A section header (gABI, chapter 4, "Sections").
struct Section {
    kind: u32,
    offset: u64,
    len: u64,
    align: u64,
}

impl Section {
    fn read(layout: &Layout, entry: Reader<'_>) -> Result<Self, PastEnd> {
        Ok(Self {
            kind: entry.u32_le(4)?,
            offset: layout.word(entry, 16, 24)?,
            len: layout.word(entry, 20, 32)?,
            align: layout.word(entry, 32, 48)?,
        })
    }
}

/// The end of all that the headers speak of, after checking that the file has it.
fn end(
    header: &Header,
    programs: &[Program],
    sections: &[Section],
    file: Reader<'_>,
) -> Result<u64, ElfError> {
    let table = |at: u64, count: usize, len: u64| {
        let len = (count as u64).saturating_mul(len);
        if len == 0 { 0 } else { at.saturating_add(len) }
    };
    let mut end = header
        .layout
        .header_len
        .max(table(
            header.programs_at,
            programs.len(),
            header.layout.program_len,
        ))
        .max(table(
            header.sections_at,
            sections.len(),
            header.layout.section_len,
        ));
    let segments = programs
        .iter()
        .map(|program| ("segment", program.offset, program.filesz));
    let sections = sections
        .iter()
        .filter(|section| section.kind != SHT_NOBITS && section.kind != 0)
        .map(|section| ("section", section.offset, section.len));
    for (what, offset, len) in segments.chain(sections).filter(|&(_, _, len)| len > 0) {
        file.slice(offset, len)
            .map_err(|past_end| ElfError::Truncated { what, past_end })?;
        end = end.max(offset.saturating_add(len));
    }
    Ok(end)
}

fn segments(programs: &[Program]) -> Result<Vec<Segment>, ElfError> {
    programs
        .iter()
        .filter(|program| program.kind == PT_LOAD)
        .filter(|program| program.memsz > 0 || program.filesz > 0)
        .map(|program| {
            let segment = Segment {
                offset: program.offset,
                filesz: program.filesz,
                paddr: program.paddr,
                vaddr: program.vaddr,
                memsz: program.memsz,
                align: program.align,
                flags: SegmentFlags::from_bits_retain(program.flags),
            };
            if segment.filesz > segment.memsz {
                return Err(ElfError::FileLargerThanMemory {
                    filesz: segment.filesz,
                    memsz: segment.memsz,
                });
            }
            if segment.paddr.checked_add(segment.memsz).is_none() {
                return Err(ElfError::AddressWraps {
                    paddr: segment.paddr,
                    memsz: segment.memsz,
                });
            }
            Ok(segment)
        })
        .collect()
}

/// All notes, those in segments before those in sections: a PVH kernel's entry and relocation may
/// stand in different ones.
fn notes(programs: &[Program], sections: &[Section], file: Reader<'_>) -> Result<Notes, ElfError> {
    let in_segments = programs
        .iter()
        .filter(|program| program.kind == PT_NOTE && program.offset != 0)
        .map(|program| (program.offset, program.filesz, program.align));
    let in_sections = sections
        .iter()
        .filter(|section| section.kind == SHT_NOTE)
        .map(|section| (section.offset, section.len, section.align));
    let mut notes = Notes::default();
    // Thousands of headers may name the same bytes. No more are read than the file has, twice: once
    // as segments and once as sections.
    let mut left = (file.len() as u64).saturating_mul(2);
    for (offset, len, align) in in_segments
        .chain(in_sections)
        .filter(|&(_, len, _)| len > 0)
    {
        left = match left.checked_sub(len) {
            Some(left) => left,
            None => break,
        };
        let bytes = file
            .slice(offset, len)
            .map_err(|past_end| ElfError::Truncated {
                what: "notes",
                past_end,
            })?;
        notes.read(bytes, align);
    }
    Ok(notes)
}

/// What is wrong with an ELF file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Neither 32 nor 64 bits.
    #[error("its class is {class}, neither 32-bit (1) nor 64-bit (2)")]
    Class {
        /// What it says.
        class: u8,
    },
    /// No guest of any supported architecture is big-endian.
    #[error("it is big-endian, and only little-endian kernels can be booted")]
    BigEndian,
    /// No such byte order is defined.
    #[error("its byte order is {data}, neither little-endian (1) nor big-endian (2)")]
    ByteOrder {
        /// What it says.
        data: u8,
    },
    /// The headers in a table have another length than the format's.
    #[error("its {what} headers are {len} bytes each instead of {expected}")]
    EntryLen {
        /// Which table.
        what: &'static str,
        /// What it says.
        len: u16,
        /// What the format says.
        expected: u64,
    },
    /// The count of program headers does not fit its field.
    #[error("it has 65535 program headers or more")]
    TooManySegments,
    /// The headers speak of bytes that the file does not have.
    #[error("it is truncated: {what}: {past_end}")]
    Truncated {
        /// What lies behind the end.
        what: &'static str,
        /// Where it would be.
        past_end: PastEnd,
    },
    /// A segment has more bytes than memory for them.
    #[error("a segment has {filesz:#x} bytes in the file, but only {memsz:#x} in memory")]
    FileLargerThanMemory {
        /// Bytes in the file.
        filesz: u64,
        /// Bytes in memory.
        memsz: u64,
    },
    /// A segment goes beyond 64-bit addresses.
    #[error("a segment of {memsz:#x} bytes at {paddr:#x} ends above the highest address")]
    AddressWraps {
        /// Its physical address.
        paddr: u64,
        /// Its bytes in memory.
        memsz: u64,
    },
}

#[cfg(test)]
mod tests;

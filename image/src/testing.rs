//! Builders of the smallest images that show a point, for tests.
//!
//! What a test does not name is as Debian's kernels have it.

mod containers;
mod firmware;
mod multiboot;

pub use containers::{
    AndroidBootBuilder, LinuxImageBuilder, UImageBuilder, UkiBuilder, android_boot, arm64_image,
    riscv_image, uimage, uimage_of_several, uki, zboot,
};
pub use firmware::{FirmwareBuilder, firmware};
pub use multiboot::{Multiboot1Builder, Multiboot2Builder, multiboot1, multiboot2};

use crate::{Codec, SetupHeader};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// A bzImage of protocol 2.15 without a payload.
#[must_use]
pub fn bzimage() -> BzImageBuilder {
    BzImageBuilder {
        version: 0x20f,
        setup_sects: 1,
        header: vec![
            (0x211, vec![0x01]),
            (0x214, 0x10_0000_u32.to_le_bytes().to_vec()),
            (0x22c, 0x7fff_ffff_u32.to_le_bytes().to_vec()),
            (0x230, 0x20_0000_u32.to_le_bytes().to_vec()),
            (0x234, vec![1, 21]),
            (0x236, 0x7f_u16.to_le_bytes().to_vec()),
            (0x238, 2047_u32.to_le_bytes().to_vec()),
            (0x258, 0x100_0000_u64.to_le_bytes().to_vec()),
            (0x260, 0x40_0000_u32.to_le_bytes().to_vec()),
        ],
        kernel_version: None,
        payload: None,
        behind: Vec::new(),
        patches: Vec::new(),
    }
}

/// A bzImage in the making.
#[derive(Clone, Debug)]
pub struct BzImageBuilder {
    version: u16,
    setup_sects: u8,
    /// Header fields: offset in the file and bytes, later ones over earlier ones.
    header: Vec<(usize, Vec<u8>)>,
    kernel_version: Option<String>,
    payload: Option<Vec<u8>>,
    behind: Vec<u8>,
    patches: Vec<(usize, Vec<u8>)>,
}

impl BzImageBuilder {
    /// Protocol version, 0x20f for 2.15; the header ends where that version's does.
    #[must_use]
    pub fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// Sectors of real-mode code; the first holds nothing but the rest of the header.
    #[must_use]
    pub fn setup_sects(mut self, sectors: u8) -> Self {
        self.setup_sects = sectors;
        self
    }

    /// `loadflags`.
    #[must_use]
    pub fn loadflags(self, flags: u8) -> Self {
        self.header_field(0x211, &[flags])
    }

    /// `initrd_addr_max`.
    #[must_use]
    pub fn initrd_addr_max(self, address: u32) -> Self {
        self.header_field(0x22c, &address.to_le_bytes())
    }

    /// `kernel_alignment` in bytes.
    #[must_use]
    pub fn kernel_alignment(self, alignment: u32) -> Self {
        self.header_field(0x230, &alignment.to_le_bytes())
    }

    /// `relocatable_kernel`.
    #[must_use]
    pub fn relocatable(self, relocatable: bool) -> Self {
        self.header_field(0x234, &[u8::from(relocatable)])
    }

    /// `min_alignment`, as the power of two that the header has.
    #[must_use]
    pub fn min_alignment_log2(self, log2: u8) -> Self {
        self.header_field(0x235, &[log2])
    }

    /// `xloadflags`.
    #[must_use]
    pub fn xloadflags(self, flags: u16) -> Self {
        self.header_field(0x236, &flags.to_le_bytes())
    }

    /// `cmdline_size`.
    #[must_use]
    pub fn cmdline_size(self, len: u32) -> Self {
        self.header_field(0x238, &len.to_le_bytes())
    }

    /// `pref_address`.
    #[must_use]
    pub fn pref_address(self, address: u64) -> Self {
        self.header_field(0x258, &address.to_le_bytes())
    }

    /// `init_size`.
    #[must_use]
    pub fn init_size(self, len: u32) -> Self {
        self.header_field(0x260, &len.to_le_bytes())
    }

    /// The version string, put behind the header; two sectors of real-mode code are then needed.
    #[must_use]
    pub fn kernel_version(mut self, version: &str) -> Self {
        self.kernel_version = Some(version.into());
        self.setup_sects = self.setup_sects.max(2);
        self
    }

    /// The compressed kernel: `unpacked`, packed and with its length appended as the build does.
    #[must_use]
    pub fn payload(self, codec: Codec, unpacked: &[u8]) -> Self {
        let mut payload = pack(codec, unpacked);
        if codec != Codec::Gzip {
            payload.extend_from_slice(&low_u32(unpacked.len()));
        }
        self.raw_payload(&payload)
    }

    /// What the header names as the compressed kernel, as it is.
    #[must_use]
    pub fn raw_payload(mut self, payload: &[u8]) -> Self {
        self.payload = Some(payload.to_vec());
        self
    }

    /// Bytes behind the kernel, such as a signature.
    #[must_use]
    pub fn behind(mut self, bytes: &[u8]) -> Self {
        self.behind = bytes.to_vec();
        self
    }

    /// Any bytes at any offset of the file, over everything else.
    #[must_use]
    pub fn patch(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.patches.push((offset, bytes.to_vec()));
        self
    }

    /// A field of the header; one that the version does not have is left out.
    fn header_field(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.header.push((offset, bytes.to_vec()));
        self
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        /// Where the payload is in the protected-mode part, behind both entry points.
        const PAYLOAD: usize = 0x2cc;
        /// Where the version string is.
        const VERSION: usize = 0x400;

        let mut protected_mode = vec![0x90; PAYLOAD];
        if let Some(payload) = &self.payload {
            protected_mode.extend_from_slice(payload);
        }
        protected_mode.resize(protected_mode.len().next_multiple_of(16), 0);
        let units = protected_mode.len().div_ceil(16);

        let mut file = Vec::new();
        put(&mut file, 0, b"MZ");
        put(&mut file, 0x1f1, &[self.setup_sects]);
        put(&mut file, 0x1f4, &low_u32(units));
        put(&mut file, 0x1fe, &[0x55, 0xaa, 0xeb]);
        put(&mut file, 0x202, b"HdrS");
        put(&mut file, 0x206, &self.version.to_le_bytes());
        if let Some(version) = &self.kernel_version {
            let pointer = low_u16(VERSION.saturating_sub(0x200));
            put(&mut file, 0x20e, &pointer);
            put(&mut file, VERSION, version.as_bytes());
            put(&mut file, VERSION.saturating_add(version.len()), &[0]);
        }
        if let Some(payload) = &self.payload {
            put(&mut file, 0x248, &low_u32(PAYLOAD));
            put(&mut file, 0x24c, &low_u32(payload.len()));
        }
        for (offset, bytes) in &self.header {
            put(&mut file, *offset, bytes);
        }
        let setup_len = usize::from(self.setup_sects)
            .saturating_add(1)
            .saturating_mul(512);
        file.resize(file.len().max(setup_len), 0);
        self.end_header(&mut file);
        file.truncate(setup_len);
        file.extend_from_slice(&protected_mode);
        file.extend_from_slice(&self.behind);
        for (offset, bytes) in &self.patches {
            put(&mut file, *offset, bytes);
        }
        file
    }

    /// Sets the header's end to that of its version, and clears the fields it does not have.
    fn end_header(&self, file: &mut [u8]) {
        let end = SetupHeader::fields_end_of(self.version);
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        if let Some(jump) = file.get_mut(0x201) {
            *jump = u8::try_from(end.saturating_sub(0x202)).unwrap_or(u8::MAX);
        }
        if let Some(absent) = file.get_mut(end..0x26c) {
            absent.fill(0);
        }
    }
}

/// A 64-bit ELF executable for x86-64, without a segment.
#[must_use]
pub fn elf64() -> ElfBuilder {
    ElfBuilder {
        wide: true,
        machine: 62,
        kind: 2,
        entry: 0x100_0000,
        programs: Vec::new(),
        notes: Vec::new(),
        notes_in_section: false,
        notes_align: 4,
        behind: Vec::new(),
        patches: Vec::new(),
    }
}

/// A 32-bit ELF executable for i386, without a segment.
#[must_use]
pub fn elf32() -> ElfBuilder {
    ElfBuilder {
        wide: false,
        machine: 3,
        ..elf64()
    }
}

/// An ELF file in the making.
#[derive(Clone, Debug)]
pub struct ElfBuilder {
    wide: bool,
    machine: u16,
    kind: u16,
    entry: u64,
    programs: Vec<ProgramBuilder>,
    notes: Vec<u8>,
    notes_in_section: bool,
    notes_align: u64,
    behind: Vec<u8>,
    patches: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct ProgramBuilder {
    kind: u32,
    flags: u32,
    paddr: u64,
    vaddr: u64,
    bytes: Vec<u8>,
    memsz: u64,
    align: u64,
}

impl ElfBuilder {
    /// `e_machine`.
    #[must_use]
    pub fn machine(mut self, machine: u16) -> Self {
        self.machine = machine;
        self
    }

    /// `e_type`.
    #[must_use]
    pub fn kind(mut self, kind: u16) -> Self {
        self.kind = kind;
        self
    }

    /// `e_entry`.
    #[must_use]
    pub fn entry(mut self, entry: u64) -> Self {
        self.entry = entry;
        self
    }

    /// A segment to be loaded at `paddr`: `bytes`, then zeros up to `memsz`. Its virtual address is
    /// where Linux on x86-64 has it.
    #[must_use]
    pub fn segment(self, paddr: u64, bytes: &[u8], memsz: u64) -> Self {
        /// `__START_KERNEL_map` of Linux on x86-64.
        const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
        self.segment_at(paddr, KERNEL_MAP.wrapping_add(paddr), bytes, memsz)
    }

    /// A segment with a virtual address of its own.
    #[must_use]
    pub fn segment_at(mut self, paddr: u64, vaddr: u64, bytes: &[u8], memsz: u64) -> Self {
        self.programs.push(ProgramBuilder {
            kind: 1,
            flags: 7,
            paddr,
            vaddr,
            bytes: bytes.to_vec(),
            memsz,
            align: 0x20_0000,
        });
        self
    }

    /// A program header of another type than `PT_LOAD`.
    #[must_use]
    pub fn program(mut self, kind: u32, bytes: &[u8]) -> Self {
        self.programs.push(ProgramBuilder {
            kind,
            flags: 4,
            paddr: 0,
            vaddr: 0,
            bytes: bytes.to_vec(),
            memsz: bytes.len() as u64,
            align: 1,
        });
        self
    }

    /// The note of a PVH entry point, with the address in four bytes.
    #[must_use]
    pub fn pvh(self, entry: u32) -> Self {
        self.note(b"Xen\0", 18, &entry.to_le_bytes())
    }

    /// The note of where a PVH kernel may be moved to.
    #[must_use]
    pub fn pvh_relocation(self, align: u32, min: u32, max: u32) -> Self {
        let description = [align, min, max].map(u32::to_le_bytes).concat();
        self.note(b"Xen\0", 19, &description)
    }

    /// Any note, padded as the file's notes are aligned.
    #[must_use]
    pub fn note(mut self, name: &[u8], kind: u32, description: &[u8]) -> Self {
        let padding = usize::try_from(self.notes_align).unwrap_or(4);
        self.notes.extend_from_slice(&low_u32(name.len()));
        self.notes.extend_from_slice(&low_u32(description.len()));
        self.notes.extend_from_slice(&kind.to_le_bytes());
        for part in [name, description] {
            self.notes.extend_from_slice(part);
            let padded = self.notes.len().next_multiple_of(padding);
            self.notes.resize(padded, 0);
        }
        self
    }

    /// Bytes as they are, among the notes.
    #[must_use]
    pub fn raw_notes(mut self, bytes: &[u8]) -> Self {
        self.notes.extend_from_slice(bytes);
        self
    }

    /// What the notes that follow are padded to.
    #[must_use]
    pub fn notes_align(mut self, align: u64) -> Self {
        self.notes_align = align;
        self
    }

    /// Puts the notes into a section, and into no segment.
    #[must_use]
    pub fn notes_in_section(mut self) -> Self {
        self.notes_in_section = true;
        self
    }

    /// Appends a relocation table as Linux' build does.
    #[must_use]
    pub fn relocations(mut self, runs: &[&[u32]]) -> Self {
        for run in runs {
            self.behind.extend_from_slice(&[0; 4]);
            for place in *run {
                self.behind.extend_from_slice(&place.to_le_bytes());
            }
        }
        self
    }

    /// Bytes behind everything else.
    #[must_use]
    pub fn behind(mut self, bytes: &[u8]) -> Self {
        self.behind.extend_from_slice(bytes);
        self
    }

    /// Any bytes at any offset of the file, over everything else.
    #[must_use]
    pub fn patch(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.patches.push((offset, bytes.to_vec()));
        self
    }

    /// The file: header, program headers, their bytes in turn, section headers.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut programs = self.programs.clone();
        if !self.notes.is_empty() && !self.notes_in_section {
            programs.push(ProgramBuilder {
                kind: 4,
                flags: 4,
                paddr: 0,
                vaddr: 0,
                bytes: self.notes.clone(),
                memsz: 0,
                align: self.notes_align,
            });
        }
        let (header_len, program_len, section_len) = if self.wide {
            (64, 56, 64)
        } else {
            (52, 32, 40)
        };
        let mut file = vec![0; header_len];
        let mut offset = programs
            .len()
            .saturating_mul(program_len)
            .saturating_add(header_len);
        for program in &programs {
            file.extend_from_slice(&self.program_header(program, offset));
            offset = offset.saturating_add(program.bytes.len());
        }
        for program in &programs {
            file.extend_from_slice(&program.bytes);
        }
        let mut sections_at = 0;
        if self.notes_in_section {
            let notes_at = file.len();
            file.extend_from_slice(&self.notes);
            sections_at = file.len();
            file.resize(sections_at.saturating_add(section_len), 0);
            file.extend_from_slice(&self.notes_section_header(notes_at));
        }
        let header = self.header(programs.len(), sections_at);
        put(&mut file, 0, &header);
        file.extend_from_slice(&self.behind);
        for (offset, bytes) in &self.patches {
            put(&mut file, *offset, bytes);
        }
        file
    }

    fn header(&self, program_count: usize, sections_at: usize) -> Vec<u8> {
        let (header_len, program_len, section_len) = if self.wide {
            (64_u16, 56_u16, 64_u16)
        } else {
            (52, 32, 40)
        };
        let section_count: u16 = if sections_at == 0 { 0 } else { 2 };
        let mut header = b"\x7fELF".to_vec();
        header.extend_from_slice(&[if self.wide { 2 } else { 1 }, 1, 1]);
        header.resize(16, 0);
        header.extend_from_slice(&self.kind.to_le_bytes());
        header.extend_from_slice(&self.machine.to_le_bytes());
        header.extend_from_slice(&1_u32.to_le_bytes());
        self.word(&mut header, self.entry);
        self.word(
            &mut header,
            if program_count == 0 {
                0
            } else {
                header_len.into()
            },
        );
        self.word(&mut header, sections_at as u64);
        header.extend_from_slice(&0_u32.to_le_bytes());
        header.extend_from_slice(&header_len.to_le_bytes());
        header.extend_from_slice(&program_len.to_le_bytes());
        header.extend_from_slice(&low_u16(program_count));
        header.extend_from_slice(&section_len.to_le_bytes());
        header.extend_from_slice(&section_count.to_le_bytes());
        header.extend_from_slice(&0_u16.to_le_bytes());
        header
    }

    fn program_header(&self, program: &ProgramBuilder, offset: usize) -> Vec<u8> {
        let mut entry = program.kind.to_le_bytes().to_vec();
        if self.wide {
            entry.extend_from_slice(&program.flags.to_le_bytes());
        }
        self.word(&mut entry, offset as u64);
        self.word(&mut entry, program.vaddr);
        self.word(&mut entry, program.paddr);
        self.word(&mut entry, program.bytes.len() as u64);
        self.word(&mut entry, program.memsz);
        if !self.wide {
            entry.extend_from_slice(&program.flags.to_le_bytes());
        }
        self.word(&mut entry, program.align);
        entry
    }

    fn notes_section_header(&self, notes_at: usize) -> Vec<u8> {
        const SHT_NOTE: u32 = 7;
        let mut entry = 0_u32.to_le_bytes().to_vec();
        entry.extend_from_slice(&SHT_NOTE.to_le_bytes());
        self.word(&mut entry, 0);
        self.word(&mut entry, 0);
        self.word(&mut entry, notes_at as u64);
        self.word(&mut entry, self.notes.len() as u64);
        entry.extend_from_slice(&[0; 8]);
        self.word(&mut entry, self.notes_align);
        self.word(&mut entry, 0);
        entry
    }

    /// A number as wide as the file's addresses.
    fn word(&self, to: &mut Vec<u8>, number: u64) {
        let width = if self.wide { 8 } else { 4 };
        to.extend(number.to_le_bytes().into_iter().take(width));
    }
}

/// An initial ramdisk with these files: a cpio archive with a trailer
/// (`Documentation/driver-api/early-userspace/buffer-format.rst`).
#[must_use]
pub fn cpio(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files.iter().chain(&[("TRAILER!!!", &[][..])]) {
        let name_len = name.len().saturating_add(1);
        let fields = [
            0,
            0o10_0644,
            0,
            0,
            1,
            0,
            bytes.len(),
            0,
            0,
            0,
            0,
            name_len,
            0,
        ];
        archive.extend_from_slice(b"070701");
        for field in fields {
            archive.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// `bytes` as a stream of `codec`, which need not make it smaller. Of [`Codec::Lzma`] and
/// [`Codec::Unknown`] only the magic is right.
#[must_use]
pub fn pack(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Stored => bytes.to_vec(),
        Codec::Gzip => gzip(bytes),
        Codec::Zstd => {
            ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
        }
        Codec::Xz => xz(bytes),
        Codec::Lz4Legacy => lz4_legacy(bytes),
        Codec::Lzma => [b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff", bytes].concat(),
        Codec::Lz4Frame => lz4_frame(bytes),
        Codec::Bzip2 => bzip2(bytes),
        Codec::Lzo => lzo(bytes),
        Codec::Unknown(magic) => [&magic, bytes].concat(),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut stream = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    stream.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    stream.extend_from_slice(&crate::crc32::crc32(bytes).to_le_bytes());
    stream.extend_from_slice(&low_u32(bytes.len()));
    stream
}

/// A legacy frame whose blocks hold literals only (`doc/lz4_Block_format.md` of LZ4).
fn lz4_legacy(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 8 << 20;
    let mut stream = b"\x02\x21\x4c\x18".to_vec();
    for chunk in bytes.chunks(BLOCK) {
        let mut block = Vec::new();
        match chunk.len().checked_sub(15) {
            None => block.push(u8::try_from(chunk.len() << 4).unwrap_or(u8::MAX)),
            Some(mut rest) => {
                block.push(0xf0);
                while let Some(less) = rest.checked_sub(255) {
                    block.push(255);
                    rest = less;
                }
                block.push(u8::try_from(rest).unwrap_or(u8::MAX));
            }
        }
        block.extend_from_slice(chunk);
        stream.extend_from_slice(&low_u32(block.len()));
        stream.extend_from_slice(&block);
    }
    stream
}

/// A frame of independent blocks that are not compressed, with a checksum
/// (`doc/lz4_Frame_format.md` of LZ4).
fn lz4_frame(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 4 << 20;
    /// Version 1, independent blocks, a checksum of the content; blocks of 4 MiB.
    const DESCRIPTOR: [u8; 2] = [0x64, 0x70];
    let hash = |bytes| twox_hash::XxHash32::oneshot(0, bytes).to_le_bytes();
    let mut stream = b"\x04\x22\x4d\x18".to_vec();
    stream.extend_from_slice(&DESCRIPTOR);
    stream.extend(hash(&DESCRIPTOR).get(1));
    for chunk in bytes.chunks(BLOCK) {
        let [a, b, c, d] = low_u32(chunk.len());
        stream.extend_from_slice(&[a, b, c, d | 0x80]);
        stream.extend_from_slice(chunk);
    }
    stream.extend_from_slice(&[0; 4]);
    stream.extend_from_slice(&hash(bytes));
    stream
}

/// An lzop file whose blocks are not compressed, with the checksums that lzop makes.
fn lzo(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 256 << 10;
    // Versions 1.03, 2.06 and 0.94; LZO1X-999, level 9; both kinds of Adler-32; no name.
    let header = b"\x10\x30\x20\x60\x09\x40\x03\x09\0\0\0\x03\0\0\x81\xa4\0\0\0\0\0\0\0\0\0";
    let mut stream = [b"\x89LZO\0\r\n\x1a\n", &header[..]].concat();
    stream.extend_from_slice(&adler2::adler32_slice(header).to_be_bytes());
    for chunk in bytes.chunks(BLOCK) {
        let mut len = low_u32(chunk.len());
        len.reverse();
        stream.extend_from_slice(&len);
        stream.extend_from_slice(&len);
        stream.extend_from_slice(&adler2::adler32_slice(chunk).to_be_bytes());
        stream.extend_from_slice(chunk);
    }
    stream.extend_from_slice(&[0; 4]);
    stream
}

#[cfg(feature = "std")]
fn bzip2(bytes: &[u8]) -> Vec<u8> {
    // More room than bzip2 ever needs: then it is done in one step.
    let room = bytes.len().saturating_mul(2).saturating_add(1024);
    let mut stream = Vec::with_capacity(room);
    let mut encoder = bzip2::Compress::new(bzip2::Compression::fast(), 0);
    let packed = encoder.compress_vec(bytes, &mut stream, bzip2::Action::Finish);
    assert_eq!(packed, Ok(bzip2::Status::StreamEnd));
    stream
}

/// Only the magic is right.
#[cfg(not(feature = "std"))]
fn bzip2(bytes: &[u8]) -> Vec<u8> {
    [b"BZh9", bytes].concat()
}

/// An xz stream of one block whose LZMA2 chunks are not compressed (the .xz file format 1.2.1).
fn xz(bytes: &[u8]) -> Vec<u8> {
    const FLAGS: [u8; 2] = [0, 1];
    const CHUNK: usize = 1 << 16;
    let with_crc = |bytes: &[u8]| {
        let mut with = bytes.to_vec();
        with.extend_from_slice(&crate::crc32::crc32(bytes).to_le_bytes());
        with
    };
    let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);

    let mut stream = b"\xfd7zXZ\0".to_vec();
    stream.extend(with_crc(&FLAGS));

    // One filter, LZMA2, with a dictionary of 64 KiB; the header has 12 bytes.
    let mut block = with_crc(&[2, 0, 0x21, 1, 8, 0, 0, 0]);
    for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
        block.push(if index == 0 { 1 } else { 2 });
        let len = u16::try_from(chunk.len().saturating_sub(1)).unwrap_or(u16::MAX);
        block.extend_from_slice(&len.to_be_bytes());
        block.extend_from_slice(chunk);
    }
    block.push(0);
    let unpadded = block.len().saturating_add(4);
    pad(&mut block);
    block.extend_from_slice(&crate::crc32::crc32(bytes).to_le_bytes());
    stream.extend_from_slice(&block);

    let mut index = vec![0, 1];
    for number in [unpadded, bytes.len()] {
        index.extend(multibyte(number));
    }
    pad(&mut index);
    let index = with_crc(&index);
    stream.extend_from_slice(&index);

    let backward = low_u32((index.len() / 4).saturating_sub(1));
    let footer = [&backward[..], &FLAGS].concat();
    stream.extend_from_slice(&crate::crc32::crc32(&footer).to_le_bytes());
    stream.extend_from_slice(&footer);
    stream.extend_from_slice(b"YZ");
    stream
}

/// A number in groups of seven bits (the .xz file format, section 1.2).
fn multibyte(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = number;
    while rest >= 0x80 {
        bytes.extend(low_u32(rest).first().map(|byte| byte | 0x80));
        rest >>= 7;
    }
    bytes.extend(low_u32(rest).first());
    bytes
}

/// Puts `bytes` at `offset` of `file`, which grows with zeros where it is too short.
fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset.saturating_add(bytes.len());
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

/// The low 32 bits of a length, as they stand in a file.
fn low_u32(len: usize) -> [u8; 4] {
    u32::try_from(len & 0xffff_ffff)
        .unwrap_or(u32::MAX)
        .to_le_bytes()
}

/// The low 16 bits of a length, as they stand in a file.
fn low_u16(len: usize) -> [u8; 2] {
    u16::try_from(len & 0xffff)
        .unwrap_or(u16::MAX)
        .to_le_bytes()
}

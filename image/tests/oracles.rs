//! Other readers of the same formats, asked about the same files.

use firstlight_image::testing::{ElfBuilder, bzimage, elf32, elf64};
use firstlight_image::{Class, Codec, Elf, Format, Image, Limits, Segment};
use linux_loader::loader::{BzImage, KernelLoader};
use object::elf::{FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadRef};
use std::io::Cursor;
use vm_memory::{GuestAddress, GuestMemoryMmap};

fn ours(file: &[u8]) -> Elf {
    let image = Image::open(file, &Limits::default()).expect("a kernel");
    match image.kernel().format() {
        Format::Elf(elf) => elf.clone(),
        other => panic!("no ELF but {other}"),
    }
}

fn compare<'data, E, R>(header: &E, file: R, data: &'data [u8])
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let elf = ours(data);
    let endian = header.endian().expect("a byte order");
    assert_eq!(elf.entry, header.e_entry(endian).into());
    assert_eq!(elf.class == Class::Elf64, header.is_class_64());
    let theirs: Vec<_> = header
        .program_headers(endian, file)
        .expect("program headers")
        .iter()
        .filter(|program| program.p_type(endian) == PT_LOAD)
        .map(|program| {
            (
                program.p_offset(endian).into(),
                program.p_filesz(endian).into(),
                program.p_paddr(endian).into(),
                program.p_vaddr(endian).into(),
                program.p_memsz(endian).into(),
                program.p_align(endian).into(),
                program.p_flags(endian).0,
            )
        })
        .collect();
    let fields = |segment: &Segment| {
        (
            segment.offset,
            segment.filesz,
            segment.paddr,
            segment.vaddr,
            segment.memsz,
            segment.align,
            segment.flags.bits(),
        )
    };
    let ours: Vec<_> = elf.segments.iter().map(fields).collect();
    assert_eq!(ours, theirs);
}

fn compare_file(data: &[u8]) {
    match ours(data).class {
        Class::Elf64 => {
            let header = FileHeader64::<Endianness>::parse(data).expect("an ELF64 file");
            compare(header, data, data);
        }
        Class::Elf32 => {
            let header = FileHeader32::<Endianness>::parse(data).expect("an ELF32 file");
            compare(header, data, data);
        }
    }
}

#[test]
fn the_object_crate_reads_the_same_segments() {
    let grown = |builder: ElfBuilder| {
        builder
            .entry(0x123_4567)
            .segment(0x100_0000, b"code and more", 0x2000)
            .segment_at(0x200_0000, 0, b"", 0x1000)
            .segment(0x300_0000, &[7; 100], 100)
    };
    compare_file(&grown(elf64()).pvh(0x100_0000).build());
    compare_file(&grown(elf32()).build());
    compare_file(&grown(elf64()).pvh(1).notes_in_section().build());
}

#[test]
fn the_object_crate_reads_the_same_of_real_kernels() {
    for file in real_kernels() {
        let image = Image::open(&file, &Limits::default()).expect("a kernel");
        compare_file(image.kernel().bytes());
    }
}

/// linux-loader gives back the header it read, as the structure that the guest is to see.
#[test]
fn linux_loader_reads_the_same_setup_header() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 64 << 20)])
        .expect("memory for a guest");
    let mut files = real_kernels();
    let kernel = elf64().segment(0x100_0000, b"code", 4).build();
    files.push(
        bzimage()
            .kernel_version("6.1")
            .payload(Codec::Zstd, &kernel)
            .build(),
    );
    for file in files {
        let image = Image::open_outer(&file, &Limits::default()).expect("a kernel");
        let (_, ours) = image.bzimage().expect("a bzImage");
        let ours = &ours.setup;
        let loaded = BzImage::load(&memory, None, &mut Cursor::new(&file), None)
            .expect("linux-loader takes it");
        let theirs = loaded.setup_header.expect("a setup header");
        assert_eq!(ours.setup_sects(), { theirs.setup_sects });
        assert_eq!(ours.syssize(), { theirs.syssize });
        assert_eq!(ours.version().0, { theirs.version });
        assert_eq!(ours.kernel_version(), { theirs.kernel_version });
        assert_eq!(ours.loadflags().bits(), { theirs.loadflags });
        assert_eq!(ours.code32_start(), { theirs.code32_start });
        assert_eq!(ours.initrd_addr_max(), { theirs.initrd_addr_max });
        assert_eq!(ours.kernel_alignment(), Some(theirs.kernel_alignment));
        assert_eq!(ours.relocatable_kernel(), theirs.relocatable_kernel != 0);
        assert_eq!(ours.min_alignment(), Some(1 << theirs.min_alignment));
        assert_eq!(ours.xloadflags().bits(), { theirs.xloadflags });
        assert_eq!(ours.cmdline_size(), { theirs.cmdline_size });
        assert_eq!(ours.payload_offset(), Some(theirs.payload_offset));
        assert_eq!(ours.payload_length(), Some(theirs.payload_length));
        assert_eq!(ours.setup_data(), { theirs.setup_data });
        assert_eq!(ours.pref_address(), Some(theirs.pref_address));
        assert_eq!(ours.init_size(), Some(theirs.init_size));
        assert_eq!(ours.handover_offset().unwrap_or(0), {
            theirs.handover_offset
        });
    }
}

/// The kernels for x86 in the folder that `FIRSTLIGHT_KERNELS` names; none where it names none.
fn real_kernels() -> Vec<Vec<u8>> {
    let Some(folder) = std::env::var_os("FIRSTLIGHT_KERNELS") else {
        eprintln!("skipped for real kernels: FIRSTLIGHT_KERNELS names no folder");
        return Vec::new();
    };
    std::fs::read_dir(folder)
        .expect("FIRSTLIGHT_KERNELS names a folder")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.starts_with("vmlinuz-") && name.ends_with("-amd64")
            })
        })
        .map(|path| std::fs::read(path).expect("the kernel can be read"))
        .collect()
}

use super::*;
use firstlight_boot::{Request, Unpack, stub};
use firstlight_image::testing::{bzimage, elf64};
use firstlight_image::{Codec, Format, Image, Limits};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use std::io::Cursor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

fn kernel() -> Vec<u8> {
    let vmlinux = elf64()
        .entry(0x100_0010)
        .segment(0x100_0000, &[0x90; 0x1234], 0x3000)
        .segment(0x120_0000, &[0x91; 16], 0x1000)
        .build();
    bzimage()
        .xloadflags(1)
        .relocatable(true)
        .payload(Codec::Lz4Legacy, &vmlinux)
        .build()
}

fn packed(unpack: Unpack) -> (Package, Vec<u8>) {
    let kernel = kernel();
    let limits = Limits::default();
    let image = match unpack {
        Unpack::Host => Image::open(&kernel, &limits),
        Unpack::Guest => Image::open_outer(&kernel, &limits),
    };
    let image = image.expect("the builders build images");
    let request = Request {
        cmdline: "console=ttyS0".into(),
        initrd: Some(5),
        unpack,
        ..Request::default()
    };
    let package = stub::pack(&image, &request).expect("it fits");
    let layers: Vec<&[u8]> = image.layers().iter().map(|layer| layer.bytes()).collect();
    let sources = Sources {
        layers: &layers,
        initrd: b"12345",
        ..Sources::default()
    };
    let mut file = Vec::new();
    pvh_elf(&package, &sources, &mut file).expect("memory takes it all");
    (package, file)
}

#[test]
fn the_file_is_a_kernel_with_a_pvh_entry_that_can_be_moved() {
    for unpack in [Unpack::Host, Unpack::Guest] {
        let (package, file) = packed(unpack);
        let image = Image::open(&file, &Limits::default()).unwrap();
        let (_, elf) = image.elf().unwrap();
        let pvh = elf.pvh.unwrap();
        let relocation = pvh.relocation.unwrap();
        assert_eq!(u64::from(pvh.entry), package.entry().get());
        assert_eq!(elf.entry, package.entry().get());
        assert_eq!(Some(relocation.min), package.movable().map(|to| to.min));
        assert_eq!(u64::from(relocation.min), elf.segments[0].paddr);
    }
}

#[test]
fn every_piece_is_in_a_segment_byte_for_byte_and_every_window_in_its_memory() {
    let (package, file) = packed(Unpack::Host);
    let image = Image::open(&file, &Limits::default()).unwrap();
    let Format::Elf(elf) = image.kernel().format() else {
        panic!("{image}");
    };
    for piece in package.pieces() {
        let (start, end) = (piece.range.start().get(), piece.range.end().get());
        let holder = elf
            .segments
            .iter()
            .find(|segment| segment.paddr <= start && end <= segment.paddr + segment.memsz)
            .unwrap_or_else(|| panic!("{piece:?} is in no segment"));
        assert_eq!(holder.offset % PAGE, holder.paddr % PAGE);
        let Content::Bytes(bytes) = &piece.content else {
            continue;
        };
        let at = usize::try_from(holder.offset + start - holder.paddr).unwrap();
        assert_eq!(&file[at..at + bytes.len()], bytes);
    }
    let ramdisk = elf.segments.last().unwrap();
    let at = usize::try_from(ramdisk.offset).unwrap();
    assert_eq!(&file[at..], b"12345");
}

/// The loader of Cloud Hypervisor and Firecracker.
#[test]
fn linux_loader_finds_the_entry_and_loads_every_piece() {
    const HIGH_MEMORY: GuestAddress = GuestAddress(0x10_0000);
    for unpack in [Unpack::Host, Unpack::Guest] {
        let (package, file) = packed(unpack);
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        let loaded = Elf::load(&memory, None, &mut Cursor::new(&file), Some(HIGH_MEMORY)).unwrap();
        assert_eq!(
            loaded.pvh_boot_cap,
            PvhBootCapability::PvhEntryPresent(GuestAddress(package.entry().get()))
        );
        for piece in package.pieces() {
            let Content::Bytes(bytes) = &piece.content else {
                continue;
            };
            let mut there = vec![0; bytes.len()];
            let at = GuestAddress(piece.range.start().get());
            memory.read_slice(&mut there, at).unwrap();
            assert_eq!(&there, bytes);
        }
    }
}

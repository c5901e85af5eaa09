use super::*;
use crate::testing::{bzimage, elf32, elf64, pack};
use alloc::format;
use alloc::vec;
use core::error::Error;

fn kernel() -> Vec<u8> {
    elf64()
        .segment(0x100_0000, b"code", 0x1000)
        .pvh(0x100_0000)
        .build()
}

fn open(file: &[u8]) -> Result<Image<'_>, ImageError> {
    Image::open(file, &Limits::default())
}

/// The error and its causes, as the command line prints them.
fn words(error: &ImageError) -> String {
    let mut words = error.to_string();
    let mut error: &dyn Error = error;
    while let Some(source) = error.source() {
        words = format!("{words}: {source}");
        error = source;
    }
    words
}

fn refused(file: &[u8]) -> String {
    words(&open(file).expect_err("no kernel"))
}

#[test]
fn a_stock_kernel_is_two_layers() {
    for (codec, chain) in [
        (Codec::Zstd, "bzImage 2.15 → zstd → ELF64 x86-64"),
        (Codec::Xz, "bzImage 2.15 → xz → ELF64 x86-64"),
        (Codec::Gzip, "bzImage 2.15 → gzip → ELF64 x86-64"),
        (Codec::Lz4Legacy, "bzImage 2.15 → lz4 → ELF64 x86-64"),
        (
            Codec::Lz4Frame,
            "bzImage 2.15 → lz4 (frames) → ELF64 x86-64",
        ),
        (Codec::Bzip2, "bzImage 2.15 → bzip2 → ELF64 x86-64"),
        (Codec::Lzo, "bzImage 2.15 → lzo → ELF64 x86-64"),
        (Codec::Stored, "bzImage 2.15 → uncompressed → ELF64 x86-64"),
    ] {
        let file = bzimage().payload(codec, &kernel()).build();
        let image = open(&file).unwrap();
        assert_eq!(image.to_string(), chain);
        assert_eq!(image.layers().len(), 2);
        assert_eq!(image.layers()[0].bytes(), file);
        assert_eq!(image.kernel().bytes(), kernel());
        assert_eq!(image.bzimage().unwrap().0, 0);
        assert_eq!(image.elf().unwrap().0, 1);
    }
}

#[test]
fn the_guest_may_be_left_to_unpack() {
    let file = bzimage()
        .kernel_version("6.1")
        .payload(Codec::Unknown(*b"new!"), &kernel())
        .build();
    let image = Image::open_outer(&file, &Limits::default()).unwrap();
    assert_eq!(image.to_string(), "bzImage 2.15");
    assert_eq!(image.layers().len(), 1);
    assert_eq!(image.elf(), None);
    assert_eq!(image.kernel_version(), Some("6.1"));
    assert_eq!(
        refused(&file),
        "cannot unpack the bzImage 2.15: unknown compression (6e 65 77 21) cannot be unpacked here"
    );
}

#[test]
fn a_packed_kernel_file_is_unpacked_first() {
    let vmlinux = pack(Codec::Gzip, &kernel());
    assert_eq!(open(&vmlinux).unwrap().to_string(), "gzip → ELF64 x86-64");
    let bzimage = bzimage().payload(Codec::Zstd, &kernel()).build();
    let twice = pack(Codec::Xz, &pack(Codec::Gzip, &bzimage));
    let image = open(&twice).unwrap();
    assert_eq!(
        image.to_string(),
        "xz → gzip → bzImage 2.15 → zstd → ELF64 x86-64"
    );
    assert_eq!(image.bzimage().unwrap().0, 2);
    assert_eq!(image.elf().unwrap().0, 3);
    let outer = Image::open_outer(&twice, &Limits::default()).unwrap();
    assert_eq!(outer.to_string(), "xz → gzip → bzImage 2.15");
}

fn layers_of(image: &Image<'_>) -> Vec<Vec<u8>> {
    image
        .layers()
        .iter()
        .map(|layer| layer.bytes().to_vec())
        .collect()
}

fn reopen(layers: &[Vec<u8>]) -> Result<Image<'_>, ImageError> {
    Image::reopen(layers.iter().map(|layer| layer.into()).collect())
}

#[test]
fn kept_layers_are_the_image_again() {
    let bzimage = bzimage().payload(Codec::Zstd, &kernel()).build();
    for file in [kernel(), bzimage.clone(), pack(Codec::Xz, &bzimage)] {
        for image in [
            open(&file).unwrap(),
            Image::open_outer(&file, &Limits::default()).unwrap(),
        ] {
            let layers = layers_of(&image);
            let again = reopen(&layers).unwrap();
            assert_eq!(again.to_string(), image.to_string());
            for (layer, before) in again.layers().iter().zip(image.layers()) {
                assert_eq!(layer.format(), before.format());
                assert_eq!(layer.bytes(), before.bytes());
            }
        }
    }
}

#[test]
fn kept_layers_that_do_not_belong_together_are_told() {
    let file = bzimage().payload(Codec::Zstd, &kernel()).build();
    let layers = layers_of(&open(&file).unwrap());
    let why = |layers: &[Vec<u8>]| words(&reopen(layers).unwrap_err());
    let apart = "the layers that were kept do not belong together";
    assert_eq!(
        why(&[]),
        format!("{apart}: no layer: an image has at least one")
    );
    assert_eq!(
        why(&[layers.clone(), vec![kernel()]].concat()),
        format!(
            "{apart}: bzImage 2.15 → zstd → ELF64 x86-64: there is nothing in the innermost that \
             is one more"
        )
    );
    let shorter = layers[1][..layers[1].len() - 1].to_vec();
    let longer = [&layers[1][..], &[0]].concat();
    for wrong in [shorter, longer, Vec::new()] {
        assert_eq!(
            why(&[layers[0].clone(), wrong]),
            format!("{apart}: bzImage 2.15: the next is not as long as the one before it says")
        );
    }
    let packed = pack(Codec::Gzip, &file);
    assert_eq!(
        why(&[packed]),
        format!("{apart}: gzip: what the last one unpacks to is missing")
    );
    // What is as long, but no kernel, is told as it would be had it been unpacked.
    let zeros = vec![0; layers[1].len()];
    assert_eq!(
        why(&[layers[0].clone(), zeros]),
        "it is bzImage 2.15 → zstd → a file of zeros: that is no kernel"
    );
}

#[test]
fn a_kernel_without_a_payload_is_one_layer() {
    let file = bzimage().version(0x207).build();
    assert_eq!(open(&file).unwrap().to_string(), "bzImage 2.07");
}

#[test]
fn layers_have_a_limit() {
    let mut file = kernel();
    for _ in 0..5 {
        file = pack(Codec::Gzip, &file);
    }
    assert!(open(&file).is_ok());
    let six = pack(Codec::Gzip, &file);
    assert_eq!(
        refused(&six),
        "gzip → gzip → gzip → gzip → gzip → gzip is packed more than 5 deep"
    );
}

#[test]
fn nested_bombs_stop_at_the_limit() {
    let limits = Limits {
        unpacked: 1 << 20,
        depth: 5,
    };
    let bomb = pack(Codec::Gzip, &pack(Codec::Zstd, &vec![0; 16 << 20]));
    let error = Image::open(&bomb, &limits).expect_err("16 MiB");
    assert_eq!(
        words(&error),
        "cannot unpack the gzip → zstd: the zstd stream unpacks to more than the limit of 1048576 \
         bytes"
    );
}

#[test]
fn errors_say_what_the_file_is() {
    for (file, expected) in [
        (b"".to_vec(), "it is an empty file: there is nothing in it"),
        (
            b"menuentry 'Debian' {\n".to_vec(),
            "it is a text file: that is no kernel",
        ),
        (
            pack(Codec::Gzip, b"070701 and so on"),
            "it is gzip → a cpio archive (an initramfs): an initial ramdisk is given to a kernel \
             beside it",
        ),
        (
            b"\xd0\x0d\xfe\xed".to_vec(),
            "it is a device tree blob: it describes a machine, and is given to a kernel beside it",
        ),
        (
            elf64().kind(1).build(),
            "it is ELF64 x86-64: it is an object file or kernel module, to be linked",
        ),
        (
            elf64()
                .segment(0, b"code", 4)
                .program(3, b"/lib/ld.so\0")
                .build(),
            "it is ELF64 x86-64: it is a program for an operating system",
        ),
        (
            elf32().build(),
            "it is ELF32 i386: it has no segment to load",
        ),
        (
            bzimage().payload(Codec::Zstd, b"plain words").build(),
            "it is bzImage 2.15 → zstd → a text file: that is no kernel",
        ),
        (
            bzimage().payload(Codec::Gzip, &bzimage().build()).build(),
            "it is bzImage 2.15 → gzip → bzImage 2.15: what a bzImage has in it is an ELF file",
        ),
    ] {
        assert_eq!(refused(&file), expected);
    }
}

/// A broken kernel is not tried as something else, which would hide what is wrong with it.
#[test]
fn the_first_error_is_the_one_that_is_told() {
    let file = bzimage().payload(Codec::Zstd, &kernel()).build();
    assert_eq!(
        refused(&file[..file.len() - 1]),
        format!(
            "it is a broken bzImage: the file is truncated: its header says {0:#x} bytes ({0}), \
             but it has {1:#x} ({1})",
            file.len(),
            file.len() - 1
        )
    );
    let cut = &kernel()[..100];
    let file = bzimage().payload(Codec::Zstd, cut).build();
    assert_eq!(
        refused(&file),
        "it is a broken bzImage 2.15 → zstd → ELF file: it is truncated: program headers: 0x70 \
         bytes wanted at offset 0x40, but it ends at 0x64"
    );
    assert_eq!(
        refused(&elf64().patch(5, &[2]).build()),
        "it is a broken ELF file: it is big-endian, and only little-endian kernels can be booted"
    );
}

/// FreeBSD's kernels name an interpreter, and are kernels.
#[test]
fn a_pvh_entry_outweighs_the_marks_of_a_program() {
    let file = elf64()
        .segment(0x20_0000, b"code", 4)
        .program(3, b"/red/herring\0")
        .pvh(0x20_0000)
        .build();
    assert!(open(&file).is_ok());
}

#[test]
fn a_kernel_that_starts_as_a_pe_file_does_is_a_bzimage() {
    let file = bzimage()
        .patch(0x3c, &[0x40, 0, 0, 0])
        .patch(0x40, b"PE\0\0")
        .build();
    assert_eq!(open(&file).unwrap().to_string(), "bzImage 2.15");
}

#[test]
fn a_magic_before_the_payload_is_no_payload() {
    let file = bzimage()
        .payload(Codec::Zstd, &kernel())
        .patch(0x500, b"\x1f\x8b\x08\0 a decoy")
        .build();
    assert_eq!(
        open(&file).unwrap().to_string(),
        "bzImage 2.15 → zstd → ELF64 x86-64"
    );
}

#[test]
fn a_cut_of_a_whole_kernel_is_always_an_error_with_words() {
    let elf = kernel();
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Xz, Codec::Lz4Legacy] {
        let file = bzimage().payload(codec, &elf).build();
        for len in 0..file.len() {
            assert!(refused(&file[..len]).starts_with("it is"));
        }
        // Bytes missing from the stream's end, in a file that is whole.
        let stream = pack(codec, &elf);
        for len in 1..stream.len() {
            let mut payload = stream[..len].to_vec();
            if codec != Codec::Gzip {
                payload.extend(u32::try_from(elf.len()).unwrap().to_le_bytes());
            }
            let file = bzimage().raw_payload(&payload).build();
            assert!(open(&file).is_err(), "{codec} cut at {len}");
        }
    }
}

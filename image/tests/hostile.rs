//! Images that somebody made to break their reader: bytes changed anywhere, in any number.
//!
//! Nothing may panic, take more memory than the limit says, or give a kernel whose parts are not in
//! its bytes.

use firstlight_image::testing::{bzimage, elf32, elf64, pack};
use firstlight_image::{Codec, Format, Image, Layer, Limits};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    unpacked: 1 << 20,
    depth: 3,
};

/// Opens `file` both ways and checks what comes out.
fn survives(file: &[u8]) {
    for image in [Image::open(file, &LIMITS), Image::open_outer(file, &LIMITS)]
        .into_iter()
        .flatten()
    {
        assert!(!image.to_string().is_empty());
        image.layers().iter().for_each(check);
        for layer in image.layers().iter().skip(1) {
            assert!(layer.bytes().len() as u64 <= LIMITS.unpacked);
        }
    }
}

/// What a layer's facts speak of is in the layer.
fn check(layer: &Layer<'_>) {
    let len = layer.bytes().len() as u64;
    match layer.format() {
        Format::BzImage(bzimage) => {
            assert!(bzimage.protected_mode.start < bzimage.protected_mode.end);
            assert!(bzimage.protected_mode.end <= len);
            if let Some(payload) = &bzimage.payload {
                assert!(payload.range.start <= payload.range.end);
                assert!(payload.range.start >= bzimage.protected_mode.start);
                assert!(payload.range.end <= bzimage.protected_mode.end);
            }
        }
        Format::Elf(elf) => {
            for segment in &elf.segments {
                assert!(segment.memsz > 0 && segment.filesz <= segment.memsz);
                assert!(segment.paddr.checked_add(segment.memsz).is_some());
                let end = segment.offset.checked_add(segment.filesz);
                assert!(segment.filesz == 0 || end.is_some_and(|end| end <= len));
            }
            assert!(elf.end <= len);
            if let Some(relocations) = elf.relocations(layer.bytes()) {
                assert_eq!(relocations.r32.end, len);
            }
        }
        Format::Multiboot(headers) => {
            let one = headers.one.as_ref().map(|one| one.load(len));
            let two = headers.two.as_ref().map(|two| two.load(len));
            for load in [one, two].into_iter().flatten().flatten().flatten() {
                assert!(load.bytes.start < load.bytes.end && load.bytes.end <= len);
                let taken = u64::from(load.memory.end - load.memory.start);
                assert!(load.bytes.end - load.bytes.start <= taken);
            }
        }
        Format::Packed(packed) => assert_eq!(packed.range, 0..len),
        Format::Other(other) => panic!("{other} is no kernel"),
    }
}

fn kernel() -> Vec<u8> {
    elf64()
        .segment(0x100_0000, b"code of a kernel", 0x1000)
        .segment_at(0x200_0000, 0, b"per-CPU", 7)
        .pvh(0x100_0000)
        .pvh_relocation(0x20_0000, 0x100_0000, 0x3fff_ffff)
        .relocations(&[&[0x8100_0000], &[0x8100_0004], &[0x8100_0008]])
        .build()
}

/// One small image of every kind that is parsed.
fn images() -> Vec<Vec<u8>> {
    let mut images = vec![
        kernel(),
        elf64()
            .segment(0, b"code", 4)
            .pvh(1)
            .notes_in_section()
            .build(),
        elf32().segment(0x10_0000, b"code", 4).pvh(1).build(),
        bzimage().version(0x202).build(),
        pack(
            Codec::Gzip,
            &bzimage().payload(Codec::Xz, &kernel()).build(),
        ),
    ];
    for codec in [
        Codec::Stored,
        Codec::Gzip,
        Codec::Zstd,
        Codec::Xz,
        Codec::Lz4Legacy,
    ] {
        images.push(
            bzimage()
                .kernel_version("6.1")
                .payload(codec, &kernel())
                .build(),
        );
        images.push(pack(codec, &kernel()));
    }
    images
}

/// Values at which readers go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    3,
    0x7f,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    1 << 63,
    u64::MAX,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_bytes_are_survived(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = which.get(&images()).clone();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        survives(&file);
    }

    #[test]
    fn edge_values_in_any_field_are_survived(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        width in prop::sample::select(vec![1_usize, 2, 4, 8]),
        value in prop::sample::select(EDGES.to_vec()),
    ) {
        let mut file = which.get(&images()).clone();
        let at = at.index(file.len().min(0x700));
        let value = value.to_le_bytes();
        for (to, from) in file.iter_mut().skip(at).zip(&value[..width]) {
            *to = *from;
        }
        survives(&file);
    }

    #[test]
    fn two_images_in_each_other_are_survived(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let images = images();
        let (first, second) = (first.get(&images), second.get(&images));
        let at = at.index(first.len());
        survives(&[&first[..at], second].concat());
    }

    #[test]
    fn noise_behind_a_magic_is_survived(
        magic in prop::sample::select(vec![
            &b"\x7fELF\x02\x01\x01"[..],
            b"\x7fELF\x01\x01\x01",
            b"\x1f\x8b\x08\x00",
            b"\x28\xb5\x2f\xfd",
            b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36",
            b"\x02\x21\x4c\x18",
            b"\x5d\0\0",
            b"MZ",
            b"\xd0\x0d\xfe\xed",
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..4096),
    ) {
        survives(&[magic, &noise].concat());
    }
}

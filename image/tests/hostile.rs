//! Images that somebody made to break their reader: bytes changed anywhere, in any number.
//!
//! Nothing may panic, take more memory than the limit says, or give a kernel whose parts are not in
//! its bytes.

use firstlight_image::testing::{
    android_boot, arm64_image, bzimage, elf32, elf64, multiboot1, multiboot2, pack, riscv_image,
    uimage, uimage_of_several, uki, zboot,
};
use firstlight_image::{Codec, Format, Image, Layer, Limits};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::LazyLock;

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
        assert!(
            image
                .kernel_version()
                .is_none_or(|version| version.len() <= 6 * 512)
        );
        let parts = image.parts();
        for part in parts.initrds.iter().chain(&parts.device_tree) {
            assert_eq!(
                image.part(part).len() as u64,
                part.range.end - part.range.start
            );
        }
        if let Ok(Some((layer, headers))) = image.multiboot() {
            assert!(headers.one.is_some() || headers.two.is_some());
            assert!(layer < image.layers().len());
        }
        let layers = image.layers().iter().map(|layer| layer.bytes().into());
        let again = Image::reopen(layers.collect()).expect("the layers that it had");
        assert_eq!(again.to_string(), image.to_string());
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
        Format::Arm64(image) => {
            let size = image.image_size.unwrap_or(0);
            assert!(image.text_offset.checked_add(size).is_some());
        }
        Format::Riscv(image) => {
            assert!(image.image_size > 0);
            assert!(image.text_offset.checked_add(image.image_size).is_some());
        }
        Format::Zboot(zboot) => within(&zboot.payload.range, len),
        Format::Uki(uki) => {
            for section in &uki.sections {
                within(&section.range, len);
                assert!(
                    section
                        .profile
                        .is_none_or(|number| number < uki.profiles.len())
                );
            }
        }
        Format::UImage(uimage) => {
            within(&uimage.data, len);
            uimage.images.iter().for_each(|image| within(image, len));
        }
        Format::Android(boot) => {
            for part in [&boot.kernel, &boot.ramdisk, &boot.second, &boot.dtb] {
                within(part, len);
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
        Format::Firmware(firmware) => {
            for volume in &firmware.volumes {
                within(volume, len);
            }
        }
        Format::Other(other) => panic!("{other} is no kernel"),
    }
}

fn within(range: &Range<u64>, len: u64) {
    assert!(range.start <= range.end);
    assert!(range.is_empty() || range.end <= len);
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
static IMAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(images);

fn images() -> Vec<Vec<u8>> {
    let arm64 = arm64_image().build();
    let mut images = vec![
        arm64_image().efi_stub(0xaa64).build(),
        riscv_image().build(),
        zboot(0xaa64, "zstd", Codec::Zstd, &arm64),
        zboot(0xaa64, "gzip", Codec::Gzip, &arm64),
        uki()
            .section(".osrel", b"PRETTY_NAME=\"x\"")
            .section(".cmdline", b"root=/dev/vda")
            .section(".initrd", b"070701")
            .section(".linux", &bzimage().payload(Codec::Zstd, &kernel()).build())
            .section(".profile", b"ID=one")
            .section(".profile", b"ID=two")
            .section(".cmdline", b"debug")
            .build(),
        uimage(&pack(Codec::Gzip, &arm64)).compression(1).build(),
        uimage_of_several(&[&arm64, b"ramdisk", b"\xd0\x0d\xfe\xed"]).build(),
        android_boot(0, &pack(Codec::Lz4Legacy, &arm64))
            .ramdisk(b"070701")
            .cmdline("quiet")
            .build(),
        android_boot(2, &arm64).dtb(b"\xd0\x0d\xfe\xed").build(),
        android_boot(4, &arm64).ramdisk(b"070701").build(),
        multiboot1(7)
            .addresses(0x10_0000, 0x10_0000, 0, 0x20_0000)
            .entry(0x10_0010)
            .build(),
        multiboot2()
            .tag(1, &[1, 2, 3])
            .tag(2, &[0x10_0000, u32::MAX, 0, 0])
            .tag(10, &[0, u32::MAX, 4096, 1])
            .build(),
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
        Codec::Lz4Frame,
        Codec::Bzip2,
        Codec::Lzo,
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

/// The checksum of gzip, slowly.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
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
        let mut file = which.get(&IMAGES).clone();
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
        let mut file = which.get(&IMAGES).clone();
        let at = at.index(file.len().min(0x700));
        let value = value.to_le_bytes();
        for (to, from) in file.iter_mut().skip(at).zip(&value[..width]) {
            *to = *from;
        }
        survives(&file);
    }

    /// Without a right checksum a uImage's header is not even looked at.
    #[test]
    fn edge_values_behind_a_right_checksum_are_survived(
        several in any::<bool>(),
        at in 8_usize..100,
        value in prop::sample::select(EDGES.to_vec()),
    ) {
        let arm64 = arm64_image().build();
        let builder = if several {
            uimage_of_several(&[&arm64, b"ramdisk"])
        } else {
            uimage(&arm64)
        };
        let mut file = builder.build();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
        file[4..8].fill(0);
        let crc = crc32(&file[..64]);
        file[4..8].copy_from_slice(&crc.to_be_bytes());
        survives(&file);
    }

    #[test]
    fn two_images_in_each_other_are_survived(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let (first, second) = (first.get(&IMAGES), second.get(&IMAGES));
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
            b"MZ\0\0zimg",
            b"ANDROID!",
            b"\x27\x05\x19\x56",
            b"\x02\xb0\xad\x1b",
            b"\x04\x22\x4d\x18",
            b"BZh9",
            b"\x89LZO\0\r\n\x1a\n",
            b"\xd0\x0d\xfe\xed",
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..4096),
    ) {
        survives(&[magic, &noise].concat());
    }
}

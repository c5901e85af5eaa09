//! Any file at all, taken apart.

use crate::{LIMITS, Reached, Seed, Target};
use firstlight_boot::entries;
use firstlight_image::testing::{arm64_image, bzimage, elf32, elf64, pack, riscv_image};
use firstlight_image::{Codec, Format, Image};
use std::borrow::Cow;

/// The target.
pub const TARGET: Target = Target {
    name: "inspect",
    what: "any file, taken apart as `firstlight inspect` does",
    run,
    seeds,
};

fn run(file: &[u8]) -> Reached {
    let outer = Image::open_outer(file, &LIMITS);
    match &outer {
        Ok(image) => look(image, file),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match &Image::open(file, &LIMITS) {
        Ok(image) => look(image, file),
        // What is in it may be broken; the outer layers alone may do.
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Reached::Refusal;
        }
    }
    assert!(outer.is_ok(), "what opens down to the kernel opens at all");
    Reached::End
}

/// Looks at all that an opened image tells.
pub(crate) fn look(image: &Image<'_>, file: &[u8]) {
    assert!(!image.to_string().is_empty());
    let layers = image.layers();
    assert_eq!(
        layers[0].bytes(),
        file,
        "the file itself is the first layer"
    );
    assert!(layers.len() <= LIMITS.depth + 1, "no deeper than allowed");
    for layer in layers {
        let len = layer.bytes().len() as u64;
        assert!(len <= LIMITS.unpacked.max(file.len() as u64));
        match layer.format() {
            Format::BzImage(bzimage) => {
                assert!(bzimage.protected_mode.end <= len);
                assert!(bzimage.protected_mode.start <= bzimage.protected_mode.end);
            }
            Format::Elf(elf) => {
                for segment in &elf.segments {
                    let end = segment.offset.checked_add(segment.filesz);
                    let is_there = end.is_some_and(|end| end <= len);
                    assert!(segment.filesz == 0 || is_there, "{segment:?}");
                    assert!(segment.filesz <= segment.memsz, "{segment:?}");
                    assert!(segment.paddr.checked_add(segment.memsz).is_some());
                }
                if let Some(relocations) = elf.relocations(layer.bytes()) {
                    let runs = relocations.runs(layer.bytes()).expect("it was found here");
                    let (r64, inverse32, r32) = relocations.counts();
                    assert_eq!(runs.r64.len() as u64, r64);
                    assert_eq!(runs.inverse32.len() as u64, inverse32);
                    assert_eq!(runs.r32.len() as u64, r32);
                }
            }
            _ => {}
        }
    }
    let parts = image.parts();
    for part in parts.initrds.iter().chain(&parts.device_tree) {
        let len = layers[part.layer].bytes().len() as u64;
        assert!(part.range.end <= len, "{part:?}");
        let found = image.part(part).len() as u64;
        assert_eq!(found, part.range.end - part.range.start, "{part:?}");
    }
    for entry in entries(image) {
        assert!(entry.cmdline_limit > 0 || image.bzimage().is_some());
    }
    // A cache keeps the layers, and opens them again.
    let kept = layers
        .iter()
        .map(|layer| Cow::Borrowed(layer.bytes()))
        .collect();
    match Image::reopen_profile(kept, image.profile()) {
        Ok(again) => {
            assert_eq!(again.to_string(), image.to_string());
            assert_eq!(again.parts(), parts);
        }
        Err(error) => panic!("{image} cannot be opened again: {error}"),
    }
}

fn seeds() -> Vec<Seed> {
    let vmlinux = elf64()
        .entry(0x100_0000)
        .segment(0x100_0000, b"the kernel", 0x2000)
        .pvh(0x100_0004)
        .build();
    let small = elf32()
        .entry(0x10_0000)
        .segment(0x10_0000, b"a kernel", 64)
        .build();
    let packed = |codec| bzimage().xloadflags(1).payload(codec, &vmlinux).build();
    vec![
        Seed::new("elf32", small),
        Seed::new("bzimage-gzip", packed(Codec::Gzip)),
        Seed::new("bzimage-zstd", packed(Codec::Zstd)),
        Seed::new("bzimage-xz", packed(Codec::Xz)),
        Seed::new("bzimage-lz4", packed(Codec::Lz4Legacy)),
        Seed::new("bzimage-stored", packed(Codec::Stored)),
        Seed::new("gzip", pack(Codec::Gzip, &vmlinux)),
        Seed::new("zstd-gzip", pack(Codec::Zstd, &pack(Codec::Gzip, &vmlinux))),
        Seed::new("elf64", vmlinux),
        Seed::new("arm64", arm64_image().build()),
        Seed::new("riscv", riscv_image().build()),
    ]
}

//! Initial ramdisks, unpacked.

use crate::{Reached, Seed, Target};
use firstlight_image::Codec;
use firstlight_image::testing::pack;
use firstlight_load::unpack_initrd;

/// The target.
pub const TARGET: Target = Target {
    name: "initrd",
    what: "initial ramdisks: sequences of cpio archives, plain and compressed",
    run,
    seeds,
};

/// The most that a ramdisk may unpack to.
const LIMIT: u64 = 1 << 18;

fn run(initrd: &[u8]) -> Reached {
    match unpack_initrd(initrd, LIMIT) {
        Ok(Some(plain)) => {
            assert!(plain.len() as u64 <= LIMIT);
            Reached::End
        }
        // Left to the guest.
        Ok(None) => Reached::Refusal,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

fn seeds() -> Vec<Seed> {
    let early = archive(&[("kernel/x86/microcode/AuthenticAMD.bin", &[7; 33])]);
    let main = archive(&[("init", b"#!/bin/sh\n"), ("data", &[1; 99])]);
    let packed = |codec| pack(codec, &main);
    vec![
        Seed::new("no-need", main.clone()),
        Seed::new("gzip", packed(Codec::Gzip)),
        Seed::new("zstd", packed(Codec::Zstd)),
        Seed::new("xz", packed(Codec::Xz)),
        Seed::new("lz4", packed(Codec::Lz4Legacy)),
        Seed::new("early", [&early[..], &packed(Codec::Gzip)].concat()),
        Seed::new(
            "two",
            [&packed(Codec::Zstd)[..], &[0; 7], &packed(Codec::Gzip)].concat(),
        ),
    ]
}

/// A cpio archive with these files and a trailer (`buffer-format.rst` of Linux).
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files.iter().chain(&[("TRAILER!!!", &[][..])]) {
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
            name.len() + 1,
            0,
        ];
        archive.extend(b"070701");
        for field in fields {
            archive.extend(format!("{field:08X}").as_bytes());
        }
        archive.extend(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(*bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

//! Initial ramdisks, unpacked.

use crate::{Reached, Seed, Target};
use firstlight_image::Codec;
use firstlight_image::testing::{cpio, pack};
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
    let early = cpio(&[("kernel/x86/microcode/AuthenticAMD.bin", &[7; 33])]);
    let main = cpio(&[("init", b"#!/bin/sh\n"), ("data", &[1; 99])]);
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

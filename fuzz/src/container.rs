//! Boot loaders' wrappers: U-Boot's images, Android's.

use crate::knobs::Knobs;
use crate::{LIMITS, Reached, Seed, Target, inspect};
use firstlight_image::testing::{android_boot, arm64_image, pack, uimage, uimage_of_several};
use firstlight_image::{Codec, Image};

/// The target.
pub const TARGET: Target = Target {
    name: "container",
    what: "uImage and Android boot images",
    run,
    seeds,
};

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let file = match knobs.u8() % 6 {
        0 => [b"ANDROID!", knobs.rest()].concat(),
        // Checksums hide what is behind them from a fuzzer: here they are right.
        1 => {
            let (kind, architecture, compression) = (knobs.u8(), knobs.u8(), knobs.u8());
            uimage(knobs.rest())
                .kind(kind)
                .architecture(architecture)
                .compression(compression)
                .build()
        }
        2 => [b"\x27\x05\x19\x56", knobs.rest()].concat(),
        3 => [b"\xd0\x0d\xfe\xed", knobs.rest()].concat(),
        4 => [b"IGVM", knobs.rest()].concat(),
        // A firmware volume has its magic behind its first 40 bytes.
        _ => {
            let (first, rest) = knobs.rest().split_at_checked(40).unwrap_or_default();
            [first, b"_FVH", rest].concat()
        }
    };
    match Image::open(&file, &LIMITS) {
        Ok(image) => {
            inspect::look(&image, &file);
            Reached::End
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

fn seeds() -> Vec<Seed> {
    let kernel = arm64_image().build();
    let android = |version| {
        let boot = android_boot(version, &kernel)
            .ramdisk(b"070701")
            .dtb(b"\xd0\x0d\xfe\xed")
            .cmdline("quiet");
        [&[0], &boot.build()[8..]].concat()
    };
    let several = uimage_of_several(&[&kernel, b"070701"]).build();
    let gzip = pack(Codec::Gzip, &kernel);
    // Kind, architecture and compression, as U-Boot numbers them.
    let made = |knobs: [u8; 3], data: &[u8]| [&[1], &knobs[..], data].concat();
    vec![
        Seed::new("android-0", android(0)),
        Seed::new("android-2", android(2)),
        Seed::new("android-4", android(4)),
        Seed::new("uimage", made([2, 22, 0], &kernel)),
        Seed::new("uimage-gzip", made([2, 22, 1], &gzip)),
        Seed::new("uimage-of-several", made([4, 22, 0], &several[64..])),
        Seed::new("no-kernel-device-tree", [&[3], &[0; 60][..]].concat()),
        Seed::new("no-kernel-igvm", [&[4], &[1; 60][..]].concat()),
        Seed::new("no-kernel-firmware", [&[5], &[0; 100][..]].concat()),
    ]
}

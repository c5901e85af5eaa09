//! PE files: signed kernels, unified kernel images, EFI zboot kernels, EFI programs.

use crate::{LIMITS, Reached, Seed, Target, inspect};
use firstlight_image::testing::{arm64_image, elf64, uki, zboot};
use firstlight_image::{Codec, Image};

/// The target.
pub const TARGET: Target = Target {
    name: "uki",
    what: "PE files: signed and unified kernel images, zboot",
    run,
    seeds,
};

/// The machine, as PE numbers it.
const ARM64: u16 = 0xaa64;

fn run(input: &[u8]) -> Reached {
    let file = [b"MZ", input].concat();
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
    let kernel = elf64()
        .entry(0x100_0000)
        .segment(0x100_0000, b"kernel", 64)
        .build();
    let seed = |name, file: &[u8]| Seed::new(name, &file[2..]);
    let whole = uki()
        .section(".osrel", b"ID=test\n")
        .section(".cmdline", b"quiet")
        .section(".initrd", b"070701")
        .section(".linux", &kernel);
    let profiles = uki()
        .section(".linux", &kernel)
        .section(".profile", b"ID=a\n")
        .section(".cmdline", b"quiet")
        .section(".profile", b"ID=b\n")
        .section(".cmdline", b"debug");
    let arm64 = arm64_image().efi_stub(ARM64).build();
    vec![
        seed("uki", &whole.build()),
        seed("uki-with-profiles", &profiles.build()),
        seed("arm64", &arm64),
        seed("zboot-gzip", &zboot(ARM64, "gzip", Codec::Gzip, &arm64)),
        seed("zboot-zstd", &zboot(ARM64, "zstd", Codec::Zstd, &arm64)),
    ]
}

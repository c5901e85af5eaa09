//! A request and an image, planned.

use crate::guest;
use crate::knobs::Knobs;
use crate::{LIMITS, Reached, Seed, Target};
use firstlight_base::{Gpa, GpaRange, MIB};
use firstlight_boot::{
    Kaslr, Module, Protocol, ProtocolChoice, Request, StartInfoVersion, Unpack, draw, plan,
    reset_rom,
};
use firstlight_image::testing::{bzimage, elf32, elf64};
use firstlight_image::{Codec, Image};

/// The target.
pub const TARGET: Target = Target {
    name: "plan",
    what: "any request for any image: a sound plan or a named error",
    run,
    seeds,
};

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let request = request(&mut knobs);
    let file = knobs.rest();
    let opened = match request.unpack {
        Unpack::Host => Image::open(file, &LIMITS),
        Unpack::Guest => Image::open_outer(file, &LIMITS),
    };
    let Ok(image) = opened else {
        return Reached::Nothing;
    };
    match plan(&image, &request) {
        Ok(plan) => {
            guest::check(&plan);
            assert!(!draw::rows(&plan).is_empty());
            let _ = reset_rom(plan.boot_vcpu()).map_err(|error| error.to_string());
            Reached::End
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

/// A request, sensible or not.
fn request(knobs: &mut Knobs<'_>) -> Request {
    let bits = knobs.u16();
    let is = |bit: u16| bits & (1 << bit) != 0;
    let memory = if is(0) {
        knobs.u64()
    } else {
        u64::from(knobs.u16()) * MIB
    };
    let protocol = if is(1) {
        ProtocolChoice::Only(knobs.choose(&Protocol::ALL))
    } else {
        ProtocolChoice::Auto
    };
    let cpus = if is(2) { knobs.u32() } else { 1 };
    let cmdline = if is(3) {
        let byte = if is(4) { "\0" } else { "x" };
        byte.repeat(usize::from(knobs.u16() % 0x1000))
    } else {
        String::new()
    };
    let initrd = is(5).then(|| size(knobs, is(6)));
    let modules = (0..if is(7) { knobs.u8() % 4 } else { 0 })
        .map(|_| Module {
            len: size(knobs, is(6)),
            cmdline: "y".repeat(usize::from(knobs.u8())),
        })
        .collect();
    let load_address = is(8).then(|| Gpa::new(size(knobs, is(9))));
    let reserved = (0..if is(10) { knobs.u8() % 4 } else { 0 })
        .filter_map(|_| {
            let start = Gpa::new(u64::from(knobs.u32()) << 8);
            GpaRange::new(start, u64::from(knobs.u32()))
        })
        .collect();
    let kaslr = if is(11) {
        Kaslr::Seeded(knobs.u64())
    } else {
        Kaslr::Off
    };
    Request {
        memory,
        cpus,
        cmdline,
        initrd,
        modules,
        start_info: if is(12) {
            StartInfoVersion::V0
        } else {
            StartInfoVersion::V1
        },
        protocol,
        unpack: if is(13) { Unpack::Guest } else { Unpack::Host },
        load_address,
        reserved,
        kaslr,
        debug_exit: is(14),
        ..Request::default()
    }
}

/// A number of bytes, or an address.
fn size(knobs: &mut Knobs<'_>, is_wild: bool) -> u64 {
    if is_wild {
        knobs.u64()
    } else {
        u64::from(knobs.u32())
    }
}

fn seeds() -> Vec<Seed> {
    let vmlinux = elf64()
        .entry(0x100_0000)
        .segment(0x100_0000, &[0x90; 64], 0x3000)
        .pvh(0x100_0010)
        .pvh_relocation(0x20_0000, 0x100_0000, 0x3fff_ffff)
        .relocations(&[&[0x8100_0010], &[0x8100_0020]])
        .build();
    let small = elf32()
        .entry(0x10_0000)
        .segment(0x10_0000, &[0xf4; 64], 0x1000)
        .pvh(0x10_0000)
        .build();
    let packed = bzimage()
        .xloadflags(3)
        .payload(Codec::Lz4Legacy, &vmlinux)
        .build();
    // 256 MiB; then what the bits ask for.
    let request =
        |bits: u16, more: &[u8]| [&bits.to_le_bytes()[..], &256_u16.to_le_bytes(), more].concat();
    let initrd = 0x12_3456_u32.to_le_bytes();
    let seed = |name, request: Vec<u8>, file: &[u8]| Seed::new(name, [&request, file].concat());
    vec![
        seed("vmlinux", request(0, &[]), &vmlinux),
        seed("vmlinux-by-pvh", request(1 << 1, &[1]), &vmlinux),
        seed("elf32-by-pvh", request(1 << 1, &[1]), &small),
        seed("bzimage", request(0, &[]), &packed),
        seed("bzimage-with-initrd", request(1 << 5, &initrd), &packed),
        seed("bzimage-in-the-guest", request(1 << 13, &[]), &packed),
        seed(
            "bzimage-at-random",
            request(1 << 11, &7_u64.to_le_bytes()),
            &packed,
        ),
    ]
}

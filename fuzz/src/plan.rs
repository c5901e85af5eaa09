//! A request and an image, planned.

use crate::guest;
use crate::knobs::Knobs;
use crate::{LIMITS, Reached, Seed, Target};
use firstlight_base::{Gpa, GpaRange, MIB};
use firstlight_boot::{
    Kaslr, Module, Protocol, ProtocolChoice, Request, SetupData, StartInfoVersion, Subarch, Unpack,
    draw, plan, reset_rom,
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
            // Files are not here, and much memory takes long to map.
            let alone = request.initrd.is_none() && request.modules.is_empty();
            if alone && request.memory <= 256 * MIB && plan.relocate().is_none() {
                assert!(guest::carry_out(&plan, &image), "nothing is missing");
            }
            assert!(!draw::rows(&plan).is_empty());
            let _ = reset_rom(&plan).map_err(|error| error.to_string());
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
    let bits = knobs.u32();
    let is = |bit: u32| bits & (1 << bit) != 0;
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
    let reserved = if is(10) { reserved(knobs) } else { vec![] };
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
        subarch: is(15).then(|| Subarch {
            number: knobs.u32(),
            data: knobs.u64(),
        }),
        dtb: is(16).then(|| device_tree(knobs)),
        setup_data: (0..if is(17) { knobs.u8() % 4 } else { 0 })
            .map(|_| SetupData {
                kind: knobs.u32(),
                bytes: vec![7; usize::from(knobs.u16())],
                indirect: knobs.u8() & 1 == 1,
            })
            .collect(),
        debug_exit: is(14),
        ..Request::default()
    }
}

/// Ranges to be kept free: a few anywhere, or very many that are all alike.
fn reserved(knobs: &mut Knobs<'_>) -> Vec<GpaRange> {
    let count = u64::from(knobs.u8());
    let range = |knobs: &mut Knobs<'_>| {
        let start = Gpa::new(u64::from(knobs.u32()) << 8);
        GpaRange::new(start, u64::from(knobs.u32()))
    };
    if count < 8 {
        return (0..count).filter_map(|_| range(knobs)).collect();
    }
    let (step, first) = (u64::from(knobs.u32()), range(knobs));
    let others = (0..count).map(|number| {
        let first = first?;
        let start = first.start().checked_add(number * step)?;
        GpaRange::new(start, first.len())
    });
    others.flatten().collect()
}

/// Bytes that begin as a device tree does, or almost.
fn device_tree(knobs: &mut Knobs<'_>) -> Vec<u8> {
    let (len, said, magic) = (knobs.u16(), knobs.u16(), knobs.u8());
    let mut tree = vec![0; usize::from(len)];
    let mut header = b"\xd0\x0d\xfe\xed".to_vec();
    header.extend(u32::from(if said == 0 { len } else { said }).to_be_bytes());
    header[0] ^= magic;
    for (to, from) in tree.iter_mut().zip(header) {
        *to = from;
    }
    tree
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
    // Headers of both versions, with nothing asked for; the second comes to lie on 8 bytes.
    let headers: Vec<u8> = [
        0x1bad_b002,
        0,
        0xe452_4ffe,
        0xe852_50d6,
        0,
        24,
        0x17ad_af12,
        0,
        8,
    ]
    .iter()
    .flat_map(|word: &u32| word.to_le_bytes())
    .collect();
    let multiboot = elf32()
        .entry(0x10_0000)
        .segment(0x10_0000, &headers, 0x1000)
        .build();
    let packed = bzimage()
        .xloadflags(3)
        .payload(Codec::Lz4Legacy, &vmlinux)
        .build();
    // 256 MiB; then what the bits ask for.
    let request =
        |bits: u32, more: &[u8]| [&bits.to_le_bytes()[..], &256_u16.to_le_bytes(), more].concat();
    let by = |protocol: Protocol| {
        let number = Protocol::ALL.iter().position(|other| *other == protocol);
        let number = number.and_then(|number| u8::try_from(number).ok());
        request(1 << 1, &[number.expect("it is one of all")])
    };
    let initrd = 0x12_3456_u32.to_le_bytes();
    let seed = |name, request: Vec<u8>, file: &[u8]| Seed::new(name, [&request, file].concat());
    vec![
        seed("vmlinux", request(0, &[]), &vmlinux),
        seed("vmlinux-by-pvh", by(Protocol::Pvh), &vmlinux),
        seed("elf32-by-pvh", by(Protocol::Pvh), &small),
        seed("elf32-by-multiboot", by(Protocol::Multiboot), &multiboot),
        seed("elf32-by-multiboot2", by(Protocol::Multiboot2), &multiboot),
        seed("bzimage", request(0, &[]), &packed),
        seed("bzimage-with-initrd", request(1 << 5, &initrd), &packed),
        seed("bzimage-by-linux32", by(Protocol::Linux32), &packed),
        seed(
            "bzimage-among-many",
            request(1 << 10, &[200, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0x10, 0, 0]),
            &packed,
        ),
        seed(
            "bzimage-with-device-tree",
            request(1 << 16, &[64, 0, 0, 0, 0]),
            &packed,
        ),
        seed("bzimage-in-the-guest", request(1 << 13, &[]), &packed),
        seed(
            "bzimage-at-random",
            request(1 << 11, &7_u64.to_le_bytes()),
            &packed,
        ),
    ]
}

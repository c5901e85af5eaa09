//! Multiboot headers, in ELF files and flat ones.

use crate::knobs::Knobs;
use crate::{LIMITS, Reached, Seed, Target};
use firstlight_image::Image;
use firstlight_image::testing::elf32;

/// The target.
pub const TARGET: Target = Target {
    name: "multiboot",
    what: "multiboot 1 and 2 headers of a kernel",
    run,
    seeds,
};

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let (version, gap) = (knobs.u8() & 1, usize::from(knobs.u8()) * 4);
    let rest = knobs.rest();
    let header = if version == 0 {
        first(rest)
    } else {
        second(rest)
    };
    let code = [vec![0x90; gap], header, vec![0xf4; 64]].concat();
    let file = elf32()
        .entry(0x10_0000)
        .segment(0x10_0000, &code, 0x4000)
        .build();
    let image = Image::open(&file, &LIMITS).expect("the ELF around it is well");
    match image.multiboot() {
        Ok(None) => Reached::Nothing,
        Ok(Some((layer, multiboot))) => {
            let len = image.layers()[layer].bytes().len() as u64;
            let _ = format!("{multiboot:?}");
            if let Some(one) = &multiboot.one {
                let _ = one.load(len).map_err(|error| error.to_string());
            }
            if let Some(two) = &multiboot.two {
                let _ = two.load(len).map_err(|error| error.to_string());
            }
            Reached::End
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

/// A header of version 1 with a right checksum: flags, and what follows.
fn first(rest: &[u8]) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    let mut knobs = Knobs::new(rest);
    let flags = knobs.u32();
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    let words = [MAGIC, flags, checksum].map(u32::to_le_bytes);
    [words.as_flattened(), knobs.rest()].concat()
}

/// A header of version 2 with a right checksum: architecture, a length that may be another than
/// its tags', and the tags.
fn second(rest: &[u8]) -> Vec<u8> {
    const MAGIC: u32 = 0xe852_50d6;
    let mut knobs = Knobs::new(rest);
    let architecture = u32::from(knobs.u8());
    let more = u32::from(knobs.u16());
    let tags = knobs.rest();
    let len = u32::try_from(tags.len())
        .unwrap_or(u32::MAX)
        .wrapping_add(16);
    let len = len.wrapping_add(more);
    let checksum = 0_u32
        .wrapping_sub(MAGIC)
        .wrapping_sub(architecture)
        .wrapping_sub(len);
    let words = [MAGIC, architecture, len, checksum].map(u32::to_le_bytes);
    [words.as_flattened(), tags].concat()
}

fn seeds() -> Vec<Seed> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let addresses = [0x10_0000, 0x10_0000, 0x10_0100, 0x10_0200, 0x10_0040];
    let kludge = [&[1 << 16 | 3][..], &addresses].concat();
    let tag = |kind: u32, payload: &[u32]| {
        let mut tag = words(&[
            kind,
            8 + 4 * u32::try_from(payload.len()).expect("it is short"),
        ]);
        tag.extend(words(payload));
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    };
    let tags = [
        tag(1, &[6, 8]),
        tag(2, &addresses[1..]),
        tag(3, &[0x10_0040]),
        tag(10, &[0x10_0000, 0x100_0000, 0x20_0000, 1]),
        tag(0, &[]),
    ]
    .concat();
    vec![
        Seed::new("one", [&[0, 0], &words(&[3])[..]].concat()),
        Seed::new(
            "one-with-addresses",
            [&[0, 4], &words(&kludge)[..]].concat(),
        ),
        Seed::new("two", [&[1, 1, 0, 0, 0], &tags[..]].concat()),
        Seed::new(
            "two-without-tags",
            [&[1, 1, 0, 0, 0], &tag(0, &[])[..]].concat(),
        ),
    ]
}

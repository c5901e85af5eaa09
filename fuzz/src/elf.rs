//! ELF files and the notes in them.

use crate::knobs::Knobs;
use crate::{LIMITS, Reached, Seed, Target, inspect};
use firstlight_image::testing::{elf32, elf64};
use firstlight_image::{Format, Image};

/// The target.
pub const TARGET: Target = Target {
    name: "elf",
    what: "ELF files: their headers, their notes, the PVH entry",
    run,
    seeds,
};

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let is_wide = knobs.u8() & 1 == 0;
    let file = match knobs.u8() % 4 {
        // A whole file, of which only the magic is given.
        0 => {
            let class = if is_wide { 2 } else { 1 };
            [b"\x7fELF", &[class, 1, 1][..], knobs.rest()].concat()
        }
        // Notes in a file that is otherwise well, in a segment or a section.
        place => {
            let align = 1 << (knobs.u8() % 5);
            let builder = if is_wide { elf64() } else { elf32() };
            let builder = builder
                .entry(0x100_0000)
                .segment(0x100_0000, &[0xf4; 16], 0x1000)
                .notes_align(align)
                .raw_notes(knobs.rest());
            if place == 1 {
                builder.notes_in_section().build()
            } else {
                builder.build()
            }
        }
    };
    match Image::open(&file, &LIMITS) {
        Ok(image) => {
            inspect::look(&image, &file);
            assert!(matches!(image.kernel().format(), Format::Elf(_)));
            Reached::End
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

fn seeds() -> Vec<Seed> {
    let whole = |wide: bool| {
        let builder = if wide { elf64() } else { elf32() };
        let file = builder
            .entry(0x100_0000)
            .segment(0x100_0000, b"kernel", 64)
            .pvh(0x100_0000)
            .pvh_relocation(0x20_0000, 0x100_0000, 0x3fff_ffff)
            .build();
        [&[u8::from(!wide), 0], &file[7..]].concat()
    };
    let note = |name: &[u8], kind: u32, description: &[u8]| {
        let mut bytes = Vec::new();
        for number in [name.len(), description.len()] {
            bytes.extend(u32::try_from(number).expect("it is short").to_le_bytes());
        }
        bytes.extend(kind.to_le_bytes());
        for part in [name, description] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    };
    let entry = note(b"Xen\0", 18, &0x100_0000_u64.to_le_bytes());
    let range: Vec<u8> = [0x20_0000_u32, 0x100_0000, 0x3fff_ffff]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let notes = [
        note(b"GNU\0", 3, b"build id"),
        entry,
        note(b"Xen\0", 19, &range),
    ]
    .concat();
    vec![
        Seed::new("elf64", whole(true)),
        Seed::new("elf32", whole(false)),
        Seed::new("notes-in-a-section", [&[0, 1, 2], &notes[..]].concat()),
        Seed::new("notes-in-a-segment", [&[1, 2, 2], &notes[..]].concat()),
    ]
}

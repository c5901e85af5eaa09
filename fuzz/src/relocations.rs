//! The relocation table behind a kernel, applied.

use crate::guest;
use crate::knobs::Knobs;
use crate::{LIMITS, Reached, Seed, Target, inspect};
use firstlight_base::MIB;
use firstlight_boot::{Kaslr, Request, plan};
use firstlight_image::Image;
use firstlight_image::testing::elf64;

/// The target.
pub const TARGET: Target = Target {
    name: "relocations",
    what: "relocation tables, applied to a kernel in guest memory",
    run,
    seeds,
};

/// Where the kernel is linked to run, and where its addresses say that it is.
const PHYSICAL: u64 = 0x100_0000;
const VIRTUAL: u64 = 0xffff_ffff_8100_0000;
const LEN: u16 = 0x1000;

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let seed = knobs.u64();
    let is_raw = knobs.u8() & 1 == 1;
    let builder = elf64().entry(PHYSICAL).segment_at(
        PHYSICAL,
        VIRTUAL,
        &[0x5a; LEN as usize],
        u64::from(LEN) + 0x1000,
    );
    let file = if is_raw {
        builder.behind(knobs.rest()).build()
    } else {
        // Runs, as a kernel's build makes them, of places most of which are in the kernel.
        let (lens, rest) = (knobs.u8(), knobs.rest());
        let places: Vec<u32> = rest
            .as_chunks::<2>()
            .0
            .iter()
            .map(|place| 0x8100_0000 + u32::from(u16::from_le_bytes(*place) & (2 * LEN - 1)))
            .collect();
        let (first, others) = places.split_at((usize::from(lens & 0xf)).min(places.len()));
        let (second, third) = others.split_at((usize::from(lens >> 4)).min(others.len()));
        builder.relocations(&[first, second, third]).build()
    };
    let Ok(image) = Image::open(&file, &LIMITS) else {
        return Reached::Refusal;
    };
    inspect::look(&image, &file);
    let request = Request {
        memory: 64 * MIB,
        kaslr: Kaslr::Seeded(seed),
        ..Request::default()
    };
    match plan(&image, &request) {
        Ok(plan) => {
            guest::check(&plan);
            if guest::carry_out(&plan, &image) && plan.relocate().is_some() {
                Reached::End
            } else {
                Reached::Refusal
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

fn seeds() -> Vec<Seed> {
    let head = |seed: u64, is_raw: u8| [&seed.to_le_bytes()[..], &[is_raw]].concat();
    let places: Vec<u8> = [0x10_u16, 0x20, 0x30, 0x400, 0x408, 0xff0]
        .iter()
        .flat_map(|place| place.to_le_bytes())
        .collect();
    let table: Vec<u8> = [0_u32, 0x8100_0010, 0, 0x8100_0020, 0x8100_0030]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    vec![
        Seed::new("three-runs", [&head(1, 0), &[0x22][..], &places].concat()),
        Seed::new("one-run", [&head(7, 0), &[0][..], &places].concat()),
        Seed::new("as-it-is", [&head(3, 1), &table[..]].concat()),
    ]
}

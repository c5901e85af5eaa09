use super::*;
use crate::Backing;
use firstlight_boot::{Request, plan};
use firstlight_image::testing::elf64;
use firstlight_image::{Image, Limits};

#[test]
fn a_segment_without_bytes_may_claim_that_they_are_anywhere() {
    // `p_offset` of the second program header.
    const OFFSET: usize = 64 + 56 + 8;
    let file = elf64()
        .entry(0x100_0000)
        .segment(0x100_0000, b"kernel", 0x1000)
        .segment(0x200_0000, b"", 0x1000)
        .patch(OFFSET, &(1_u64 << 62).to_le_bytes())
        .build();
    let image = Image::open(&file, &Limits::default()).unwrap();
    let plan = plan(&image, &Request::default()).unwrap();
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private).unwrap();
    let sources = Sources {
        layers: &[&file],
        ..Sources::default()
    };
    place(&plan, &sources, &memory).unwrap();
}

use super::*;
use crate::Backing;
use firstlight_boot::{Request, plan};
use firstlight_image::testing::elf64;
use firstlight_image::{Image, Limits};

#[test]
fn a_page_is_zero_only_where_each_of_its_bytes_is() {
    for len in [1, 63, 64, 65, 4096] {
        let mut page = vec![0; len];
        assert!(is_zero(&page));
        for at in [0, len / 2, len - 1] {
            page[at] = 1;
            assert!(!is_zero(&page), "byte {at} of {len}");
            page[at] = 0;
        }
    }
}

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
    let memory = GuestMemory::allocate(&plan.platform().ram, Backing::Private).unwrap();
    let sources = Sources {
        layers: &[&file],
        ..Sources::default()
    };
    place(&plan, &sources, &memory).unwrap();
}

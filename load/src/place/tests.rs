use super::*;
use crate::Backing;
use firstlight_boot::{Request, plan};
use firstlight_image::testing::{arm64_image, elf64};
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

/// On hosts that give huge pages unasked, a device tree would take one.
#[test]
fn a_small_kernel_takes_small_pages() {
    let file = arm64_image().build();
    let image = Image::open(&file, &Limits::default()).unwrap();
    let plan = plan(&image, &Request::default()).unwrap();
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private).unwrap();
    let sources = Sources {
        layers: &[&file],
        ..Sources::default()
    };
    place(&plan, &sources, &memory).unwrap();
    let resident = resident_kib(&memory);
    assert!((4..2048).contains(&resident), "{resident} KiB");
}

/// How much of `memory` the host has given (proc_pid_smaps(5)).
fn resident_kib(memory: &GuestMemory) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut here = false;
    let mut sum = 0;
    for line in smaps.lines() {
        let first = line.split(['-', ' ']).next().unwrap();
        if let Ok(address) = u64::from_str_radix(first, 16) {
            here = memory.regions().iter().any(|region| {
                let start = region.host_address();
                (start..start + region.range().len()).contains(&address)
            });
        } else if let Some(kib) = line.strip_prefix("Rss:").filter(|_| here) {
            let number = kib.split_ascii_whitespace().next().unwrap();
            sum += number.parse::<u64>().unwrap();
        }
    }
    sum
}

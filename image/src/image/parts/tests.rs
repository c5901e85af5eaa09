use super::*;
use crate::testing::{android_boot, arm64_image, elf64, uki};
use crate::{Image, Limits};
use alloc::vec::Vec;

fn open(file: &[u8]) -> Image<'_> {
    Image::open(file, &Limits::default()).unwrap()
}

#[test]
fn a_kernel_by_itself_carries_nothing() {
    let file = elf64().segment(0x100_0000, b"code", 4).build();
    assert_eq!(open(&file).parts(), Parts::default());
}

#[test]
fn the_outermost_of_two_counts() {
    let inner = android_boot(2, &arm64_image().build())
        .ramdisk(b"inner")
        .cmdline("inner")
        .dtb(b"inner tree")
        .build();
    let outer = uki()
        .machine(0xaa64)
        .section(".cmdline", b"outer")
        .section(".initrd", b"outer")
        .section(".linux", &inner)
        .build();
    let image = open(&outer);
    let parts = image.parts();
    assert_eq!(parts.cmdline.as_deref(), Some("outer"));
    let initrds: Vec<_> = parts.initrds.iter().map(|part| image.part(part)).collect();
    assert_eq!(initrds, [b"outer"]);
    let tree = parts.device_tree.unwrap();
    assert_eq!((tree.layer, image.part(&tree)), (1, &b"inner tree"[..]));
}

/// A part that a caller made up, or has from another image.
#[test]
fn a_part_that_is_not_there_has_no_bytes() {
    let file = elf64().segment(0x100_0000, b"code", 4).build();
    let image = open(&file);
    for (layer, range) in [
        (1, 0..1),
        (0, u64::MAX - 1..u64::MAX),
        (0, 0..file.len() as u64 + 1),
        (0, Range { start: 9, end: 3 }),
    ] {
        let part = Part {
            name: "none",
            layer,
            range,
        };
        assert_eq!(image.part(&part), b"");
    }
}

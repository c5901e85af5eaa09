use super::*;
use crate::testing::{AndroidBootBuilder, android_boot, arm64_image, pack};
use crate::{Architecture, Image, ImageError, Limits};
use alloc::format;
use alloc::string::ToString;

fn kernel() -> Vec<u8> {
    arm64_image().build()
}

fn parse(builder: &AndroidBootBuilder) -> Result<AndroidBoot, AndroidBootError> {
    AndroidBoot::parse(&builder.build())
}

fn open(file: &[u8]) -> Result<Image<'_>, ImageError> {
    Image::open(file, &Limits::default())
}

#[test]
fn every_version_has_kernel_ramdisk_and_command_line() {
    for version in 0..=4 {
        let file = android_boot(version, &pack(Codec::Lz4Legacy, &kernel()))
            .ramdisk(b"070701 ramdisk")
            .cmdline("console=ttyAMA0 ")
            .build();
        let image = open(&file).unwrap();
        assert_eq!(
            image.to_string(),
            format!("Android boot image v{version} → lz4 → arm64 Image")
        );
        assert_eq!(image.kernel().bytes(), kernel());
        assert_eq!(image.architecture(), Architecture::Arm64);
        let parts = image.parts();
        assert_eq!(parts.cmdline.as_deref(), Some("console=ttyAMA0"));
        assert_eq!(parts.initrds.len(), 1);
        assert_eq!(image.part(&parts.initrds[0]), b"070701 ramdisk");
        assert_eq!(parts.device_tree, None);
    }
}

#[test]
fn version_2_has_a_device_tree() {
    let file = android_boot(2, &kernel()).dtb(b"\xd0\x0d\xfe\xed").build();
    let image = open(&file).unwrap();
    let parts = image.parts();
    assert_eq!(image.part(&parts.device_tree.unwrap()), b"\xd0\x0d\xfe\xed");
    assert_eq!((parts.initrds, parts.cmdline), (Vec::new(), None));
}

#[test]
fn parts_begin_on_pages() {
    let boot = parse(&android_boot(0, &[1; 3000]).ramdisk(&[2; 5])).unwrap();
    assert_eq!(boot.name, "board");
    assert_eq!(boot.kernel, 2048..5048);
    assert_eq!(boot.ramdisk, 6144..6149);
    let wide = android_boot(1, &[1; 3000])
        .ramdisk(&[2; 5])
        .page_size(16_384);
    let boot = parse(&wide).unwrap();
    assert_eq!(boot.kernel, 16_384..19_384);
    assert_eq!(boot.ramdisk, 32_768..32_773);
    let boot = parse(&android_boot(3, &[1; 5000]).ramdisk(&[2; 5])).unwrap();
    assert_eq!((boot.page_size, boot.kernel), (4096, 4096..9096));
    assert_eq!(boot.ramdisk, 12_288..12_293);
}

#[test]
fn a_long_command_line_goes_on_in_the_second_field() {
    let line = "a".repeat(500) + &"b".repeat(700);
    let boot = parse(&android_boot(0, b"x").cmdline(&line)).unwrap();
    assert_eq!(boot.cmdline, line);
    let line = "c".repeat(1500);
    let boot = parse(&android_boot(4, b"x").cmdline(&line)).unwrap();
    assert_eq!(boot.cmdline, line);
}

#[test]
fn what_breaks_the_rules_is_told() {
    let mut file = android_boot(0, b"x").build();
    for version in [5, 1 << 31, u32::MAX] {
        file[40..44].copy_from_slice(&version.to_le_bytes());
        assert_eq!(
            AndroidBoot::parse(&file),
            Err(AndroidBootError::Version { version })
        );
    }
    for page_size in [0, 1, 1024, 3000, 131_072, u32::MAX] {
        let builder = android_boot(0, b"x").page_size(page_size);
        let mut file = builder.page_size(2048).build();
        file[36..40].copy_from_slice(&page_size.to_le_bytes());
        assert_eq!(
            AndroidBoot::parse(&file),
            Err(AndroidBootError::PageSize { page_size })
        );
    }
    assert_eq!(
        parse(&android_boot(3, b"")),
        Err(AndroidBootError::NoKernel)
    );
    let mut file = android_boot(0, b"x").cmdline("root=?").build();
    file[69] = 0xff;
    assert_eq!(
        AndroidBoot::parse(&file),
        Err(AndroidBootError::CmdlineNotText)
    );
}

#[test]
fn sizes_behind_the_end_are_refused() {
    for (version, fields) in [(2, &[8, 16, 24, 1632, 1648][..]), (4, &[8, 12, 1580])] {
        for &at in fields {
            for value in [0x10_0000, 1 << 31, u32::MAX] {
                let mut file = android_boot(version, &kernel()).ramdisk(b"x").build();
                file[at..at + 4].copy_from_slice(&value.to_le_bytes());
                assert!(matches!(
                    AndroidBoot::parse(&file),
                    Err(AndroidBootError::Truncated { .. })
                ));
            }
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for version in 0..=4 {
        let file = android_boot(version, &kernel()).ramdisk(b"x").build();
        for len in 8..file.len() {
            assert!(
                matches!(
                    AndroidBoot::parse(&file[..len]),
                    Err(AndroidBootError::Truncated { .. })
                ),
                "cut at {len:#x}"
            );
        }
    }
}

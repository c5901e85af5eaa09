use super::*;
use crate::testing::{arm64_image, riscv_image, uki, zboot};
use crate::{Image, ImageError, Limits, UnpackError};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

const ARM64: u16 = 0xaa64;

fn kernel() -> Vec<u8> {
    arm64_image().build()
}

fn refused(file: &[u8]) -> ImageError {
    Image::open(file, &Limits::default()).expect_err("no kernel")
}

#[test]
fn it_is_unpacked_by_every_name_that_its_codec_has() {
    for (name, codec, shown) in [
        ("gzip", Codec::Gzip, "gzip"),
        ("zstd", Codec::Zstd, "zstd"),
        ("zstd22", Codec::Zstd, "zstd"),
        ("xzkern", Codec::Xz, "xz"),
        ("xz", Codec::Xz, "xz"),
        ("lz4", Codec::Lz4Legacy, "lz4"),
        ("lz4", Codec::Lz4Frame, "lz4 (frames)"),
        ("lzo", Codec::Lzo, "lzo"),
        ("bzip2", Codec::Bzip2, "bzip2"),
        // A name that nobody knows says nothing.
        ("future", Codec::Zstd, "zstd"),
    ] {
        let file = zboot(ARM64, name, codec, &kernel());
        for image in [
            Image::open(&file, &Limits::default()).unwrap(),
            Image::open_outer(&file, &Limits::default()).unwrap(),
        ] {
            assert_eq!(
                image.to_string(),
                format!("EFI zboot arm64 → {shown} → arm64 Image")
            );
            assert_eq!(image.kernel().bytes(), kernel());
        }
        let parsed = Zboot::parse(&file).unwrap();
        assert_eq!(parsed.codec_name, name);
        assert_eq!(parsed.payload.unpacked_len, Some(4096));
    }
}

#[test]
fn other_architectures_have_it_too() {
    let file = zboot(0x5064, "gzip", Codec::Gzip, &riscv_image().build());
    let image = Image::open(&file, &Limits::default()).unwrap();
    assert_eq!(
        image.to_string(),
        "EFI zboot riscv64 → gzip → riscv64 Image"
    );
    assert_eq!(image.architecture(), Architecture::Riscv64);
}

#[test]
fn a_name_that_lies_is_told() {
    let file = zboot(ARM64, "gzip", Codec::Zstd, &kernel());
    assert_eq!(
        Zboot::parse(&file).unwrap_err().to_string(),
        "its header says that the payload is gzip, but it begins like zstd"
    );
    let file = zboot(ARM64, "zstd", Codec::Unknown(*b"junk"), &kernel());
    assert!(matches!(
        refused(&file),
        ImageError::Broken { of, .. } if of == "EFI zboot image"
    ));
    let file = zboot(ARM64, "\x1b[2J", Codec::Unknown(*b"junk"), &kernel());
    assert_eq!(Zboot::parse(&file).unwrap().codec_name, "unnamed");
    assert!(matches!(
        refused(&file),
        ImageError::Unpack {
            source: UnpackError::Unsupported { .. },
            ..
        }
    ));
}

#[test]
fn a_length_that_lies_is_told() {
    let mut file = zboot(ARM64, "zstd", Codec::Zstd, &kernel());
    let end = file.len();
    file[end - 4..].copy_from_slice(&4095_u32.to_le_bytes());
    assert!(matches!(
        refused(&file),
        ImageError::Unpack {
            source: UnpackError::LongerThanClaim { claimed: 4095, .. },
            ..
        }
    ));
    // Without the length at its end it is taken as well.
    let file = zboot(ARM64, "zstd", Codec::Zstd, &kernel());
    assert!(Image::open(&file[..end - 4], &Limits::default()).is_ok());
}

#[test]
fn offsets_behind_the_end_are_refused() {
    let good = zboot(ARM64, "gzip", Codec::Gzip, &kernel());
    let len = u32::try_from(good.len()).unwrap();
    for at in [8, 12] {
        for value in [len, len + 1, 1 << 31, u32::MAX] {
            let mut file = good.clone();
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let is_outside = matches!(Zboot::parse(&file), Err(ZbootError::Outside { .. }));
            assert!(is_outside, "{value:#x} at {at}");
        }
    }
}

/// A kernel inside another PE file: the nesting that Fedora and systemd make.
#[test]
fn it_may_lie_in_a_unified_kernel_image_with_a_signature_behind_it() {
    let inner = zboot(ARM64, "zstd22", Codec::Zstd, &kernel());
    let file = uki()
        .machine(ARM64)
        .section(".linux", &inner)
        .section(".uname", b"6.12")
        .behind(&[0x30; 300])
        .build();
    let image = Image::open(&file, &Limits::default()).unwrap();
    assert_eq!(
        image.to_string(),
        "UKI arm64 → EFI zboot arm64 → zstd → arm64 Image"
    );
    assert_eq!(image.kernel_version(), Some("6.12"));
}

#[test]
fn a_zboot_image_in_itself_is_too_deep() {
    let mut file = kernel();
    for _ in 0..6 {
        file = zboot(ARM64, "gzip", Codec::Gzip, &file);
    }
    assert!(matches!(
        refused(&file),
        ImageError::TooDeep { depth: 5, .. }
    ));
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for (name, codec, trailer) in [("gzip", Codec::Gzip, 0), ("zstd", Codec::Zstd, 4)] {
        let file = zboot(ARM64, name, codec, &kernel());
        for len in 0..file.len() - trailer {
            refused(&file[..len]);
        }
    }
}

use super::*;
use crate::testing::{LinuxImageBuilder, arm64_image, pack};
use crate::{Architecture, Codec, Format, Image, ImageError, Limits};
use alloc::string::ToString;

fn parse(builder: &LinuxImageBuilder) -> Result<Arm64Image, LinuxImageError> {
    Arm64Image::parse(&builder.build())
}

#[test]
fn the_header_says_where_the_kernel_goes() {
    let image = parse(&arm64_image().text_offset(0x1000).image_size(0x24f_0000)).unwrap();
    assert_eq!(
        image,
        Arm64Image {
            text_offset: 0x1000,
            image_size: Some(0x24f_0000),
            is_big_endian: false,
            page_size: Some(4096),
            may_lie_anywhere: true,
            has_efi_stub: false,
        }
    );
}

#[test]
fn flags_name_byte_order_page_size_and_placement() {
    for (flags, page_size) in [
        (0, None),
        (0b010, Some(4 << 10)),
        (0b100, Some(16 << 10)),
        (0b110, Some(64 << 10)),
    ] {
        let image = parse(&arm64_image().flags(flags)).unwrap();
        assert_eq!(image.page_size, page_size);
        assert!(!image.is_big_endian && !image.may_lie_anywhere);
    }
    assert!(parse(&arm64_image().flags(1)).unwrap().is_big_endian);
    assert!(parse(&arm64_image().flags(8)).unwrap().may_lie_anywhere);
}

#[test]
fn zero_image_size_means_legacy_text_offset() {
    for said in [0, 0x1000, u64::MAX] {
        let image = parse(&arm64_image().text_offset(said).image_size(0)).unwrap();
        assert_eq!(image.image_size, None);
        assert_eq!(image.text_offset, 0x8_0000);
    }
}

#[test]
fn sizes_beyond_any_memory_are_refused() {
    for wrong in [1 << 48, 1 << 63, u64::MAX] {
        assert!(parse(&arm64_image().text_offset(wrong)).is_err());
        assert!(parse(&arm64_image().image_size(wrong)).is_err());
    }
    assert!(parse(&arm64_image().image_size((1 << 48) - 1)).is_ok());
}

#[test]
fn it_is_a_kernel_packed_or_not() {
    let file = arm64_image().build();
    let open = |file: &[u8]| {
        let image = Image::open(file, &Limits::default()).unwrap();
        assert_eq!(image.architecture(), Architecture::Arm64);
        assert!(image.arm64().is_some());
        assert!(matches!(image.kernel().format(), Format::Arm64(_)));
        image.to_string()
    };
    assert_eq!(open(&file), "arm64 Image");
    assert_eq!(open(&pack(Codec::Gzip, &file)), "gzip → arm64 Image");
    let stub = arm64_image().efi_stub(0xaa64).build();
    assert_eq!(open(&stub), "arm64 Image");
    assert!(Arm64Image::parse(&stub).unwrap().has_efi_stub);
}

#[test]
fn a_big_endian_kernel_is_told_as_such() {
    let file = arm64_image().flags(1).build();
    let error = Image::open(&file, &Limits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is arm64 Image: it is big-endian, and only little-endian kernels can be booted"
    );
}

/// Without an EFI stub nothing in the file says how long it is.
#[test]
fn a_cut_is_told_by_the_header_or_by_the_sections_of_the_stub() {
    let stub = arm64_image().efi_stub(0xaa64).build();
    for len in 0x40..stub.len() {
        let cut = Arm64Image::parse(&stub[..len]);
        // The PE headers end at 0x90; before that they are none.
        if len >= 0x90 {
            let needed = stub.len() as u64;
            let len = len as u64;
            assert_eq!(cut, Err(LinuxImageError::Truncated { needed, len }));
        }
    }
    let plain = arm64_image().build();
    for len in 0x3c..0x40 {
        let error = Image::open(&plain[..len], &Limits::default()).unwrap_err();
        assert!(matches!(error, ImageError::Broken { of, .. } if of == "arm64 Image"));
    }
    assert!(Arm64Image::parse(&plain[..0x40]).is_ok());
}

/// A signature behind the sections is not part of the kernel, and does not disturb.
#[test]
fn bytes_behind_the_sections_do_not_matter() {
    let mut signed = arm64_image().efi_stub(0xaa64).build();
    signed.extend_from_slice(&[0x30; 1000]);
    assert!(Arm64Image::parse(&signed).is_ok());
}

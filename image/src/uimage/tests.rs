use super::*;
use crate::testing::{UImageBuilder, arm64_image, pack, uimage, uimage_of_several};
use crate::{Image, ImageError, Limits};
use alloc::string::ToString;
use alloc::vec;
use core::error::Error;

fn kernel() -> Vec<u8> {
    arm64_image().build()
}

fn parse(builder: &UImageBuilder) -> Result<UImage, UImageError> {
    UImage::parse(&builder.build())
}

fn open(file: &[u8]) -> Result<Image<'_>, ImageError> {
    Image::open(file, &Limits::default())
}

/// The error's cause.
fn cause(file: &[u8]) -> String {
    let error = open(file).expect_err("no kernel");
    error.source().expect("a cause").to_string()
}

#[test]
fn a_kernel_in_it_is_taken_out() {
    let file = uimage(&kernel()).build();
    let image = open(&file).unwrap();
    assert_eq!(image.to_string(), "uImage → arm64 Image");
    let packed = uimage(&pack(Codec::Gzip, &kernel())).compression(1);
    let file = packed.build();
    let image = open(&file).unwrap();
    assert_eq!(image.to_string(), "uImage → gzip → arm64 Image");
    assert_eq!(image.layers().len(), 2);
    // Packed without the header saying so.
    let file = uimage(&pack(Codec::Zstd, &kernel())).build();
    let image = open(&file).unwrap();
    assert_eq!(image.to_string(), "uImage → zstd → arm64 Image");
    assert_eq!(image.layers().len(), 3);
}

#[test]
fn the_header_has_names_and_addresses() {
    let parsed = parse(&uimage(b"kernel").architecture(24)).unwrap();
    assert_eq!(parsed.name, "Linux");
    assert_eq!(parsed.kind, UImageKind::Kernel);
    assert_eq!(parsed.architecture, Architecture::X86_64);
    assert_eq!((parsed.load, parsed.entry), (0x8_0000, 0x8_0000));
    assert_eq!(parsed.data, 64..70);
    for (number, architecture) in [
        (2, Architecture::Arm),
        (3, Architecture::I386),
        (22, Architecture::Arm64),
        (26, Architecture::Riscv64),
        (5, Architecture::Unknown),
    ] {
        let parsed = parse(&uimage(b"x").architecture(number)).unwrap();
        assert_eq!(parsed.architecture, architecture);
    }
}

#[test]
fn several_images_are_kernel_ramdisk_and_device_tree() {
    let tree = b"\xd0\x0d\xfe\xed and more";
    let file = uimage_of_several(&[&kernel(), b"ramdisk", tree]).build();
    let image = open(&file).unwrap();
    assert_eq!(image.to_string(), "uImage → arm64 Image");
    let parts = image.parts();
    assert_eq!(parts.initrds.len(), 1);
    assert_eq!(image.part(&parts.initrds[0]), b"ramdisk");
    assert_eq!(image.part(&parts.device_tree.unwrap()), tree);
    // A third image may be something else.
    let file = uimage_of_several(&[&kernel(), b"ramdisk", b"x"]).build();
    assert_eq!(open(&file).unwrap().parts().device_tree, None);
}

#[test]
fn what_is_no_kernel_is_named() {
    for (kind, why) in [
        (1, "what is in it is a program for U-Boot"),
        (
            3,
            "what is in it is an initial ramdisk, to be given to a kernel",
        ),
        (5, "what is in it is firmware"),
        (6, "what is in it is a script for U-Boot"),
        (7, "what is in it is a file system"),
        (8, "what is in it is a device tree"),
        (200, "what is in it is no kernel"),
    ] {
        let file = uimage(b"data").kind(kind).build();
        let error = open(&file).unwrap_err();
        assert_eq!(error.to_string(), alloc::format!("it is uImage: {why}"));
    }
    assert_eq!(
        open(&uimage_of_several(&[]).build())
            .unwrap_err()
            .to_string(),
        "it is uImage: there is no kernel in it"
    );
}

#[test]
fn checksums_are_checked() {
    let good = uimage(&kernel()).build();
    for at in 8..64 {
        let mut file = good.clone();
        file[at] ^= 1;
        assert_eq!(cause(&file), "its header's checksum is another");
    }
    let mut file = good.clone();
    file[100] ^= 1;
    assert_eq!(cause(&file), "its data's checksum is another");
    // Layers that were kept are not gone through again.
    assert!(Image::reopen(vec![file.into(), kernel().into()]).is_ok());
}

#[test]
fn a_compression_that_lies_is_told() {
    assert_eq!(
        parse(&uimage(b"plain").compression(1))
            .unwrap_err()
            .to_string(),
        "its header says that it is packed with gzip, but it begins like unknown compression \
         (70 6c 61 69)"
    );
    assert_eq!(
        parse(&uimage(b"plain").compression(7)),
        Err(UImageError::Codec { number: 7 })
    );
}

#[test]
fn lengths_of_several_images_that_lie_are_told() {
    let several = |words: &[u32]| {
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        parse(&uimage(&data).kind(4)).map(|image| image.images.len())
    };
    assert_eq!(several(&[4, 0, 7]), Ok(1));
    for wrong in [
        &[][..],
        &[4],
        &[4, 7],
        &[5, 0, 7],
        &[u32::MAX, 0, 7],
        &[u32::MAX, u32::MAX, 0],
        &[1; 1000],
    ] {
        assert_eq!(several(wrong), Err(UImageError::Images), "{wrong:?}");
    }
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for file in [
        uimage(&kernel()[..200]).build(),
        uimage_of_several(&[&kernel()[..100], b"ramdisk"]).build(),
    ] {
        for len in 4..file.len() {
            assert!(matches!(
                UImage::parse(&file[..len]),
                Err(UImageError::Truncated { .. })
            ));
        }
    }
}

#[test]
fn one_in_itself_is_too_deep() {
    let mut file = kernel();
    for _ in 0..6 {
        file = uimage(&file).build();
    }
    assert!(matches!(
        open(&file),
        Err(ImageError::TooDeep { depth: 5, .. })
    ));
}

use super::*;
use crate::testing::{LinuxImageBuilder, pack, riscv_image};
use crate::{Codec, Format, Image, Limits};
use alloc::string::ToString;

fn parse(builder: &LinuxImageBuilder) -> Result<RiscvImage, LinuxImageError> {
    RiscvImage::parse(&builder.build())
}

#[test]
fn the_header_says_where_the_kernel_goes() {
    assert_eq!(
        parse(&riscv_image().image_size(0x1e6_b000)).unwrap(),
        RiscvImage {
            version: 2,
            text_offset: 0x20_0000,
            image_size: 0x1e6_b000,
            is_big_endian: false,
            has_efi_stub: false,
            architecture: Architecture::Riscv64,
        }
    );
    assert!(parse(&riscv_image().flags(1)).unwrap().is_big_endian);
}

#[test]
fn old_and_new_magics_are_both_taken() {
    let open = |builder: &LinuxImageBuilder| {
        let file = builder.build();
        let image = Image::open(&file, &Limits::default()).unwrap();
        assert!(matches!(image.kernel().format(), Format::Riscv(_)));
        assert_eq!(image.riscv().unwrap().0, 0);
        image.to_string()
    };
    let old = riscv_image().patch(0x38, &[0; 4]).patch(0x20, &[0; 4]);
    assert_eq!(open(&old), "riscv64 Image");
    let new = riscv_image().patch(0x30, &[0; 8]);
    assert_eq!(open(&new), "riscv64 Image");
    let packed = pack(Codec::Xz, &new.build());
    let image = Image::open(&packed, &Limits::default()).unwrap();
    assert_eq!(image.to_string(), "xz → riscv64 Image");
}

#[test]
fn only_the_efi_stub_tells_32_bits() {
    for (machine, architecture) in [
        (0x5032, Architecture::Riscv32),
        (0x5064, Architecture::Riscv64),
    ] {
        let image = parse(&riscv_image().efi_stub(machine)).unwrap();
        assert!(image.has_efi_stub);
        assert_eq!(image.architecture, architecture);
    }
}

#[test]
fn the_size_must_be_there_and_make_sense() {
    assert_eq!(
        parse(&riscv_image().image_size(0)),
        Err(LinuxImageError::NoSize)
    );
    assert!(parse(&riscv_image().image_size(u64::MAX)).is_err());
    assert!(parse(&riscv_image().text_offset(u64::MAX)).is_err());
}

#[test]
fn a_cut_header_is_told() {
    let file = riscv_image().build();
    for len in 0x38..0x40 {
        assert!(RiscvImage::is(Reader::new(&file[..len])));
        assert!(matches!(
            RiscvImage::parse(&file[..len]),
            Err(LinuxImageError::Truncated { needed: 0x40, .. })
        ));
    }
}

use super::*;
use crate::testing::{bzimage, elf64};
use alloc::string::ToString;
use alloc::vec;

fn parse(bytes: &[u8]) -> Result<BzImage, BzImageError> {
    assert!(BzImage::is(Reader::new(bytes)));
    BzImage::parse(bytes)
}

#[test]
fn fields_of_a_modern_header_are_read_where_the_document_has_them() {
    let file = bzimage()
        .kernel_version("6.12.0-test (someone@example.org) #1")
        .payload(Codec::Stored, &elf64().build())
        .build();
    let bzimage = parse(&file).unwrap();
    let setup = &bzimage.setup;
    assert_eq!(bzimage.to_string(), "bzImage 2.15");
    assert_eq!(setup.version(), Version(0x20f));
    assert_eq!(setup.end(), 0x26c);
    assert_eq!(setup.bytes(), &file[0x1f1..0x26c]);
    assert_eq!(setup.loadflags(), LoadFlags::LOADED_HIGH);
    assert_eq!(setup.code32_start(), 0x10_0000);
    assert_eq!(setup.initrd_addr_max(), 0x7fff_ffff);
    assert_eq!(setup.kernel_alignment(), Some(0x20_0000));
    assert_eq!(setup.min_alignment(), Some(0x20_0000));
    assert!(setup.relocatable_kernel());
    assert_eq!(setup.xloadflags().bits(), 0x7f);
    assert_eq!(setup.cmdline_size(), 2047);
    assert_eq!(setup.pref_address(), Some(0x100_0000));
    assert_eq!(setup.init_size(), Some(0x40_0000));
    assert_eq!(setup.handover_offset(), None);
    assert_eq!(setup.setup_data(), 0);
    assert_eq!(bzimage.entry_64(), Some(0x200));
    assert_eq!(
        bzimage.kernel_version.as_deref(),
        Some("6.12.0-test (someone@example.org) #1")
    );
}

#[test]
fn fields_that_a_version_lacks_read_as_the_document_says() {
    let file = bzimage().version(0x200).loadflags(0).build();
    let bzimage = parse(&file).unwrap();
    let setup = &bzimage.setup;
    assert_eq!(bzimage.to_string(), "zImage 2.00");
    assert_eq!(setup.initrd_addr_max(), 0x37ff_ffff);
    assert_eq!(setup.cmdline_size(), 255);
    assert_eq!(setup.kernel_alignment(), None);
    assert_eq!(setup.min_alignment(), None);
    assert_eq!(setup.pref_address(), None);
    assert_eq!(setup.init_size(), None);
    assert_eq!(setup.xloadflags(), XLoadFlags::empty());
    assert!(!setup.relocatable_kernel());
    assert_eq!(bzimage.entry_64(), None);
    assert_eq!(bzimage.payload, None);
}

/// Bytes behind the header belong to something else in old kernels: the version decides.
#[test]
fn a_field_is_not_read_before_the_version_that_brought_it() {
    for (version, field, since) in [
        (0x202, 0x22c, 0x203),
        (0x205, 0x238, 0x206),
        (0x20b, 0x236, 0x20c),
    ] {
        let with = |version| {
            bzimage()
                .version(version)
                .patch(field, &[0x55, 0x55])
                .patch(0x201, &[0x6a])
                .build()
        };
        let old = parse(&with(version)).unwrap().setup;
        let new = parse(&with(since)).unwrap().setup;
        let values = |setup: SetupHeader| {
            (
                setup.initrd_addr_max(),
                setup.cmdline_size(),
                setup.xloadflags(),
            )
        };
        assert_ne!(values(old), values(new), "field {field:#x}");
    }
}

#[test]
fn every_version_from_2_00_on_is_read_and_none_before() {
    for version in 0x200..=0x20f {
        assert!(parse(&bzimage().version(version).build()).is_ok());
    }
    // A version yet to come keeps the fields of this one.
    assert!(parse(&bzimage().version(0x217).build()).is_ok());
    let file = bzimage().version(0x1ff).build();
    assert_eq!(
        parse(&file),
        Err(BzImageError::Version {
            version: Version(0x1ff)
        })
    );
}

#[test]
fn no_setup_sectors_mean_four() {
    let four = bzimage().setup_sects(4).patch(0x1f1, &[0]).build();
    assert_eq!(parse(&four).unwrap().protected_mode.start, 5 * 512);
}

#[test]
fn a_truncated_kernel_is_told_with_both_lengths() {
    let file = bzimage().setup_sects(255).build();
    let cut = &file[..0x1000];
    assert_eq!(
        parse(cut),
        Err(BzImageError::Truncated {
            needed: file.len() as u64,
            len: 0x1000
        })
    );
}

#[test]
fn the_last_unit_of_what_has_no_payload_need_not_be_whole() {
    let file = bzimage().version(0x20c).build();
    let cut = |bytes: usize| parse(&file[..file.len() - bytes]);
    let end = cut(8).unwrap().protected_mode.end;
    assert_eq!(end, file.len() as u64 - 8);
    assert!(matches!(cut(16), Err(BzImageError::Truncated { .. })));
}

#[test]
fn what_lies_behind_the_kernel_is_not_part_of_it() {
    let plain = bzimage().build();
    let signed = bzimage().behind(&[0xff; 1984]).build();
    assert_eq!(signed.len(), plain.len() + 1984);
    assert_eq!(
        parse(&signed).unwrap().protected_mode,
        parse(&plain).unwrap().protected_mode
    );
}

#[test]
fn a_size_of_sixteen_bits_is_not_believed() {
    let file = bzimage().version(0x203).patch(0x1f4, &[0xff; 4]).build();
    assert_eq!(parse(&file).unwrap().protected_mode.end, file.len() as u64);
    let file = bzimage().version(0x204).patch(0x1f4, &[0xff; 4]).build();
    assert!(matches!(
        parse(&file),
        Err(BzImageError::Truncated { needed, .. }) if needed == 1024 + 0xffff_ffff * 16
    ));
}

#[test]
fn a_kernel_of_no_bytes_is_refused() {
    let file = bzimage().patch(0x1f4, &[0; 4]).build();
    assert_eq!(parse(&file), Err(BzImageError::Empty { start: 1024 }));
}

#[test]
fn a_header_shorter_than_its_version_is_refused() {
    let file = bzimage().patch(0x201, &[0x62]).build();
    assert_eq!(
        parse(&file),
        Err(BzImageError::HeaderShort {
            version: Version(0x20f),
            end: 0x264,
            needed: 0x26c
        })
    );
}

#[test]
fn alignments_are_powers_of_two() {
    for alignment in [0, 3, 0x20_0001, u32::MAX] {
        let file = bzimage().kernel_alignment(alignment).build();
        assert_eq!(parse(&file), Err(BzImageError::Alignment { alignment }));
        // Without a use for it nothing depends on it.
        let fixed = bzimage().relocatable(false).kernel_alignment(alignment);
        assert!(parse(&fixed.build()).is_ok());
    }
    assert!(parse(&bzimage().min_alignment_log2(31).build()).is_ok());
    let file = bzimage().min_alignment_log2(32).build();
    assert_eq!(parse(&file), Err(BzImageError::MinAlignment { log2: 32 }));
}

#[test]
fn the_payload_lies_in_the_protected_mode_part() {
    let good = bzimage().payload(Codec::Gzip, b"kernel");
    assert!(parse(&good.build()).unwrap().payload.is_some());
    for (offset, len) in [
        (u32::MAX, 1),
        (0, u32::MAX),
        (u32::MAX, u32::MAX),
        (0x2cc, 0x1000),
    ] {
        let file = good
            .clone()
            .patch(0x248, &offset.to_le_bytes())
            .patch(0x24c, &len.to_le_bytes())
            .build();
        assert!(matches!(
            parse(&file),
            Err(BzImageError::PayloadOutside { .. })
        ));
    }
}

#[test]
fn the_appended_length_is_not_part_of_the_stream_except_in_gzip() {
    for (codec, appended) in [
        (Codec::Gzip, 0),
        (Codec::Zstd, 4),
        (Codec::Xz, 4),
        (Codec::Lz4Legacy, 4),
        (Codec::Stored, 4),
    ] {
        let elf = elf64().build();
        let file = bzimage().payload(codec, &elf).build();
        let payload = parse(&file).unwrap().payload.unwrap();
        let packed = crate::testing::pack(codec, &elf);
        assert_eq!(payload.codec, codec);
        assert_eq!(payload.unpacked_len, Some(elf.len() as u64), "{codec}");
        assert_eq!(payload.range.start, 1024 + 0x2cc);
        assert_eq!(
            payload.range.end - payload.range.start,
            packed.len() as u64,
            "{codec} with {appended} bytes behind it"
        );
    }
}

#[test]
fn a_payload_of_a_few_bytes_is_no_trouble() {
    for len in 1..8 {
        let file = bzimage().raw_payload(&vec![0x28; len]).build();
        let payload = parse(&file).unwrap().payload.unwrap();
        assert!(payload.range.start <= payload.range.end);
        assert!(payload.unpack(&file, 1 << 20).is_err());
    }
}

#[test]
fn kernel_info_is_read_and_must_be_inside() {
    let info = |offset: u32, magic: &[u8]| {
        let mut payload = vec![0; 64];
        payload[..4].copy_from_slice(magic);
        payload[12..16].copy_from_slice(&0x8000_0009_u32.to_le_bytes());
        bzimage()
            .raw_payload(&payload)
            .patch(0x268, &offset.to_le_bytes())
            .build()
    };
    assert_eq!(
        parse(&info(0x2cc, b"LToP")).unwrap().kernel_info,
        Some(KernelInfo {
            setup_type_max: 0x8000_0009
        })
    );
    assert_eq!(parse(&info(0, b"LToP")).unwrap().kernel_info, None);
    assert!(matches!(
        parse(&info(0x2cc, b"Ltop")),
        Err(BzImageError::InfoMagic { info: 0x6cc })
    ));
    for outside in [0x308, 0x7fff_ffff, u32::MAX] {
        assert!(matches!(
            parse(&info(outside, b"LToP")),
            Err(BzImageError::InfoOutside { .. })
        ));
    }
}

#[test]
fn a_version_string_cannot_reach_the_terminal_raw() {
    let version = |text: &str| parse(&bzimage().kernel_version(text).build()).unwrap();
    assert_eq!(
        version("6.1\x1b[2J\n\u{7f}é").kernel_version.as_deref(),
        Some("6.1\\u{1b}[2J\\n\\u{7f}é")
    );
    assert_eq!(version("").kernel_version, None);
    // Without a NUL it ends with the real-mode part, and the rest of that is short.
    let file = bzimage().setup_sects(2).patch(0x400, &[b'a'; 512]);
    let file = file.patch(0x20e, &[0, 2]).build();
    let string = parse(&file).unwrap().kernel_version.unwrap();
    assert_eq!(string.len(), 512);
    // Outside the real-mode part there is none.
    for pointer in [[0xff, 0xff], [0, 4]] {
        let file = bzimage().setup_sects(2).patch(0x20e, &pointer).build();
        assert_eq!(parse(&file).unwrap().kernel_version, None);
    }
}

#[test]
fn a_cut_at_any_byte_is_an_error_with_a_name() {
    let file = bzimage()
        .kernel_version("6.1")
        .payload(Codec::Stored, b"\x7fELF and so on")
        .build();
    for len in 0..file.len() {
        let cut = &file[..len];
        if !BzImage::is(Reader::new(cut)) {
            assert!(len < 0x206);
            continue;
        }
        match BzImage::parse(cut) {
            Err(BzImageError::HeaderTruncated { len: told }) => {
                assert_eq!(told, len as u64);
                assert!(len < 0x26c);
            }
            Err(BzImageError::Truncated { needed, len: told }) => {
                assert_eq!((needed, told), (file.len() as u64, len as u64));
            }
            other => panic!("cut at {len:#x}: {other:?}"),
        }
    }
}

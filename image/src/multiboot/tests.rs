use super::*;
use crate::testing::{Multiboot1Builder, Multiboot2Builder, elf32, elf64, multiboot1, multiboot2};
use crate::{Format, Image, ImageError, Limits};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

fn find(bytes: &[u8]) -> Result<Option<Multiboot>, MultibootError> {
    Multiboot::find(bytes)
}

fn one(header: &Multiboot1Builder) -> Multiboot1 {
    find(&header.build()).unwrap().unwrap().one.unwrap()
}

fn two(header: &Multiboot2Builder) -> Multiboot2 {
    find(&header.build()).unwrap().unwrap().two.unwrap()
}

#[test]
fn a_header_of_version_1_has_what_its_flags_say() {
    let plain = one(&multiboot1(3));
    assert_eq!(plain.offset, 0);
    assert_eq!(
        plain.flags,
        Multiboot1Flags::PAGE_ALIGN | Multiboot1Flags::MEMORY_INFO
    );
    assert_eq!(
        (plain.addresses, plain.entry, plain.video),
        (None, None, None)
    );
    assert_eq!(plain.load(1000), Ok(None));

    let whole = one(&multiboot1(1 << 2)
        .addresses(0x10_0000, 0x10_0000, 0x10_0040, 0x10_2000)
        .entry(0x10_0030)
        .video(1, 80, 25, 0));
    assert_eq!(whole.entry, Some(0x10_0030));
    assert_eq!(
        whole.video,
        Some(MultibootVideo {
            mode: 1,
            width: 80,
            height: 25,
            depth: 0
        })
    );
    assert_eq!(
        whole.load(0x40),
        Ok(Some(MultibootLoad {
            bytes: 0..0x40,
            memory: 0x10_0000..0x10_2000
        }))
    );
}

#[test]
fn a_header_of_version_2_has_what_its_tags_say() {
    let header = two(&multiboot2()
        .tag(1, &[4, 6])
        .optional_tag(1, &[8])
        .tag(2, &[0x10_0000, 0x10_0000, 0, 0])
        .tag(3, &[0x10_0400])
        .tag(4, &[3])
        .optional_tag(5, &[1024, 768, 32])
        .tag(6, &[])
        .tag(7, &[])
        .tag(8, &[0x10_0500])
        .tag(9, &[0x10_0600])
        .tag(10, &[0x10_0000, 0xffff_ffff, 0x20_0000, 2])
        .tag(77, &[])
        .optional_tag(78, &[]));
    assert_eq!(header.architecture, Multiboot2::I386);
    assert_eq!(header.required_information, [4, 6]);
    assert_eq!(header.optional_information, [8]);
    assert_eq!(header.addresses.unwrap().load, 0x10_0000);
    assert_eq!(header.entry, Some(0x10_0400));
    assert_eq!(header.console, Some(3));
    assert_eq!(header.video.unwrap().height, 768);
    assert!(header.align_modules && header.efi_boot_services);
    assert_eq!(header.efi32_entry, Some(0x10_0500));
    assert_eq!(header.efi64_entry, Some(0x10_0600));
    assert_eq!(
        header.relocation,
        Some(MultibootRelocation {
            min: 0x10_0000,
            max: 0xffff_ffff,
            align: 0x20_0000,
            preference: 2
        })
    );
    assert_eq!(header.unknown, [77], "78 is optional");
}

#[test]
fn headers_are_found_where_they_may_lie_and_nowhere_else() {
    let at = |offset: usize, header: &[u8]| {
        let mut bytes = vec![0x90; offset];
        bytes.extend_from_slice(header);
        find(&bytes).unwrap()
    };
    let header = multiboot1(0).build();
    assert_eq!(at(8180, &header).unwrap().one.unwrap().offset, 8180);
    assert_eq!(at(8184, &header), None, "it ends behind 8192");
    assert_eq!(at(2, &header), None);
    let header = multiboot2().build();
    let last = 32_768 - header.len();
    assert_eq!(at(last, &header).unwrap().two.unwrap().offset, last as u64);
    assert_eq!(at(4, &header), None);
    let mut cut = vec![0x90; last + 8];
    cut.extend_from_slice(&header);
    assert_eq!(
        find(&cut),
        Err(MultibootError::Truncated {
            version: 2,
            offset: last as u64 + 8
        })
    );
}

#[test]
fn headers_need_their_checksum() {
    let mut header = multiboot1(3).build();
    header[8] ^= 1;
    assert_eq!(find(&header), Ok(None));
    let mut header = multiboot2().build();
    header[12] ^= 1;
    assert_eq!(find(&header), Ok(None));
}

/// A magic without its header is no header, and hides none that follows.
#[test]
fn decoy_magics_are_passed_by() {
    let mut bytes = vec![0; 64];
    bytes[8..12].copy_from_slice(&0x1bad_b002_u32.to_le_bytes());
    bytes[32..36].copy_from_slice(&0xe852_50d6_u32.to_le_bytes());
    bytes.extend(multiboot1(0).build());
    bytes.resize(128, 0);
    bytes.extend(multiboot2().build());
    let found = find(&bytes).unwrap().unwrap();
    assert_eq!(found.one.unwrap().offset, 64);
    assert_eq!(found.two.unwrap().offset, 128);
}

/// The fields that CVE-2017-14167 and CVE-2018-7550 were about, in every order.
#[test]
fn addresses_that_contradict_each_other_are_refused() {
    let values = [
        0_u32,
        1,
        0xf_ffff,
        0x10_0000,
        0x10_0020,
        0x10_0040,
        0x7fff_ffff,
        0xffff_fffe,
        u32::MAX,
    ];
    let len = 0x40;
    let mut taken = 0;
    for header in values {
        for load in values {
            for load_end in values {
                for bss_end in values {
                    let addresses = MultibootAddresses {
                        header,
                        load,
                        load_end,
                        bss_end,
                    };
                    let Ok(load) = addresses.resolve(0x20, len) else {
                        continue;
                    };
                    taken += 1;
                    assert!(load.bytes.start < load.bytes.end, "{addresses:?}");
                    assert!(load.bytes.end <= len, "{addresses:?}");
                    let memory = u64::from(load.memory.end - load.memory.start);
                    assert!(load.bytes.end - load.bytes.start <= memory);
                    // The header comes to lie where it says.
                    let in_memory = u64::from(header - load.memory.start);
                    assert_eq!(load.bytes.start + in_memory, 0x20);
                }
            }
        }
    }
    assert!(taken > 10, "only {taken} of them make sense");
}

#[test]
fn an_error_of_addresses_names_them() {
    let header = multiboot1(0).addresses(0x10_0000, 0x20_0000, 0, 0);
    assert_eq!(
        one(&header).load(0x40).unwrap_err().to_string(),
        "the multiboot addresses contradict each other: the header at 0x100000, loaded from \
         0x200000 to 0x0, zeros to 0x0"
    );
    let header = multiboot1(0).addresses(0x10_0000, 0x10_0000, 0x10_1000, 0);
    assert_eq!(
        one(&header).load(0x40).unwrap_err().to_string(),
        "the multiboot addresses want bytes up to 0x1000 of a file that has 0x40"
    );
}

#[test]
fn version_2_may_be_loaded_from_its_first_byte_on() {
    let mut file = vec![0x90; 0x40];
    let header = multiboot2().tag(2, &[0x10_0040, u32::MAX, 0, 0x11_0000]);
    file.extend(header.build());
    let found = find(&file).unwrap().unwrap().two.unwrap();
    let len = file.len() as u64;
    assert_eq!(
        found.load(len),
        Ok(Some(MultibootLoad {
            bytes: 0..len,
            memory: 0x10_0000..0x11_0000
        }))
    );
}

#[test]
fn tags_that_are_too_short_or_too_long_are_refused() {
    let tag = |len: u32, body: &[u8]| {
        let mut tag = [3_u16, 0].map(u16::to_le_bytes).concat();
        tag.extend(len.to_le_bytes());
        tag.extend(body);
        find(&multiboot2().raw_tag(&tag).build())
    };
    assert!(tag(12, &[0; 8]).is_ok());
    for len in [0, 7, 8, 11, 29, 0x8000_0000, u32::MAX] {
        assert_eq!(
            tag(len, &[0; 8]),
            Err(MultibootError::Tag { offset: 16 }),
            "a tag of {len} bytes"
        );
    }
}

#[test]
fn a_flat_file_says_where_it_goes_or_is_no_kernel() {
    let open = |file: &[u8]| {
        Image::open(file, &Limits::default()).map(|image| {
            let (layer, headers) = image.multiboot().unwrap().unwrap();
            assert_eq!(layer, image.layers().len() - 1);
            assert!(matches!(image.kernel().format(), Format::Multiboot(_)));
            assert!(headers.is_flat());
            image.to_string()
        })
    };
    let flat = multiboot1(0).addresses(0x10_0000, 0x10_0000, 0, 0);
    assert_eq!(open(&flat.build()).unwrap(), "a multiboot kernel");
    let flat = multiboot2().tag(2, &[0x10_0000, 0x10_0000, 0, 0]).build();
    assert_eq!(open(&flat).unwrap(), "a multiboot 2 kernel");
    let packed = crate::testing::pack(crate::Codec::Gzip, &flat);
    assert_eq!(open(&packed).unwrap(), "gzip → a multiboot 2 kernel");
    assert_eq!(
        open(&multiboot1(0).build()).unwrap_err().to_string(),
        "it is a multiboot kernel: its multiboot header does not say where to load it, and it is \
         no ELF file"
    );
    let broken = multiboot2().raw_tag(&[9; 8]).build();
    assert!(matches!(
        open(&broken),
        Err(ImageError::Broken { of, .. }) if of == "multiboot kernel"
    ));
}

/// Xen's has both, in front of its code.
#[test]
fn elf_files_have_headers_too() {
    // The headers of the ELF32 file end at an odd multiple of four.
    for (builder, padding) in [(elf32(), 4), (elf64(), 0)] {
        let both = [
            multiboot1(3).build(),
            vec![0; padding],
            multiboot2().build(),
        ]
        .concat();
        let file = builder.segment(0x20_0000, &both, 0x1000).build();
        let image = Image::open(&file, &Limits::default()).unwrap();
        let (layer, headers) = image.multiboot().unwrap().unwrap();
        assert_eq!(layer, 0);
        assert_eq!(headers.one.unwrap().flags.bits(), 3);
        assert_eq!(headers.two.unwrap().architecture, 0);
    }
    let none = elf64().segment(0x20_0000, b"code", 4).build();
    let image = Image::open(&none, &Limits::default()).unwrap();
    assert_eq!(image.multiboot(), Ok(None));
}

#[test]
fn no_cut_of_a_header_is_trouble() {
    let header = multiboot2()
        .tag(1, &[4, 6])
        .tag(2, &[0x10_0000, 0x10_0000, 0, 0]);
    for file in [
        header.build(),
        multiboot1(4)
            .addresses(0x10_0000, 0x10_0000, 0, 0)
            .video(0, 0, 0, 0)
            .build(),
    ] {
        assert!(find(&file).unwrap().is_some());
        for len in 0..file.len() {
            assert!(!matches!(find(&file[..len]), Ok(Some(_))), "cut at {len}");
        }
    }
    assert_eq!(
        format!("{}", find(&header.build()).unwrap().unwrap()),
        "a multiboot 2 kernel"
    );
}

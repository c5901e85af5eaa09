use super::*;
use firstlight_image::testing::{self, pack};

const LIMIT: u64 = 1 << 20;

/// An archive with these files and a trailer, padded to `block` bytes.
fn cpio(files: &[(&str, &[u8])], block: usize) -> Vec<u8> {
    let mut archive = testing::cpio(files);
    archive.resize(archive.len().next_multiple_of(block), 0);
    archive
}

fn early() -> Vec<u8> {
    cpio(&[("kernel/x86/microcode/AuthenticAMD.bin", &[7; 333])], 512)
}

fn main() -> Vec<u8> {
    cpio(&[("init", b"#!/bin/sh\n"), ("data", &[1; 70_000])], 512)
}

fn unpacked(initrd: &[u8]) -> Option<Vec<u8>> {
    unpack_initrd(initrd, LIMIT).unwrap()
}

/// Those that a small stream can be packed with here.
const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Zstd, Codec::Xz, Codec::Lz4Legacy];

#[test]
fn an_archive_of_any_codec_becomes_plain() {
    for codec in CODECS {
        assert!(unpacked(&pack(codec, &main())) == Some(main()), "{codec}");
    }
}

#[test]
fn the_microcode_stays_in_front_and_plain() {
    for codec in CODECS {
        let initrd = [early(), pack(codec, &main())].concat();
        let expected = [early(), main()].concat();
        assert!(unpacked(&initrd) == Some(expected), "{codec}");
    }
}

#[test]
fn archives_one_behind_the_other_become_one_sequence() {
    let odd = cpio(&[("a", b"1")], 1);
    let initrd = [
        pack(Codec::Gzip, &odd),
        pack(Codec::Zstd, &early()),
        vec![0; 5],
        pack(Codec::Xz, &odd),
        pack(Codec::Gzip, &main()),
        vec![0; 512],
    ]
    .concat();
    let plain = unpacked(&initrd).unwrap();
    let expected = [odd.clone(), early(), vec![0; 8], odd, main(), vec![0; 512]];
    assert!(plain == expected.concat());
    assert!(is_archives(&plain));
}

#[test]
fn an_archive_that_does_not_end_at_a_border_is_padded_to_one() {
    let mut ragged = cpio(&[("a", b"1")], 1);
    ragged.push(0);
    let initrd = [pack(Codec::Gzip, &ragged), pack(Codec::Gzip, &main())].concat();
    let plain = unpacked(&initrd).unwrap();
    assert!(is_archives(&plain));
    assert!(plain.ends_with(&main()));
    assert_eq!((plain.len() - main().len()) % 4, 0);
}

#[test]
fn a_plain_one_behind_a_compressed_one_is_found_at_a_border_only() {
    let packed = pack(Codec::Gzip, &main());
    let aligned = [packed.clone(), vec![0; 8 - packed.len() % 4], early()].concat();
    assert_eq!(aligned.len() % 4, 0);
    let plain = unpacked(&aligned).unwrap();
    assert!(plain.starts_with(&main()) && plain.ends_with(&early()));
    assert!(is_archives(&plain));
    let packed = (0..4)
        .map(|more| pack(Codec::Gzip, &cpio(&[("a", &vec![b'a'; more])], 4)))
        .find(|packed| packed.len() % 4 != 0);
    if let Some(packed) = packed {
        assert!(unpacked(&[packed, early()].concat()).is_none());
    }
}

#[test]
fn what_is_plain_or_no_archive_is_left_as_it_is() {
    assert!(unpacked(&[]).is_none());
    assert!(unpacked(&[0; 100]).is_none());
    assert!(unpacked(&main()).is_none());
    assert!(unpacked(&[early(), main()].concat()).is_none());
    assert!(unpacked(b"an ext2 image of old").is_none());
    let other = pack(Codec::Gzip, b"an ext2 image of old");
    assert!(unpacked(&other).is_none());
    assert!(unpacked(&[early(), other].concat()).is_none());
    assert!(unpacked(&[pack(Codec::Gzip, &main()), b"junk".to_vec()].concat()).is_none());
    // Linux does not take today's frames of LZ4.
    assert!(unpacked(b"\x04\x22\x4d\x18 and so on").is_none());
}

#[test]
fn an_archive_without_an_end_is_left_as_it_is() {
    let whole = cpio(&[("init", b"#!/bin/sh\n")], 4);
    for len in 1..whole.len() - 4 {
        let cut = &whole[..len];
        assert!(unpacked(&pack(Codec::Zstd, cut)).is_none(), "{len}");
        assert!(
            unpacked(&[cut, &pack(Codec::Zstd, &main())].concat()).is_none(),
            "{len}"
        );
    }
}

#[test]
fn a_broken_stream_is_told_with_its_place() {
    let mut broken = [early(), pack(Codec::Gzip, &main())].concat();
    let last = broken.len() - 5;
    broken[last] ^= 0xff;
    let error = unpack_initrd(&broken, LIMIT).unwrap_err();
    assert_eq!(error.at, early().len() as u64);
    assert!(
        matches!(error.source, UnpackError::Broken { .. }),
        "{error:?}"
    );
    for codec in CODECS {
        let whole = pack(codec, &main());
        for len in 16..whole.len() - 1 {
            // Some cuts leave a shorter archive, which is none; none of them panics.
            assert!(
                unpack_initrd(&whole[..len], LIMIT) != Ok(Some(main())),
                "{codec} {len}"
            );
        }
    }
}

#[test]
fn a_bomb_is_refused_at_the_limit_alone_or_with_others() {
    let bomb = cpio(&[("zeros", &vec![0; 3 << 20])], 4);
    for codec in CODECS {
        let error = unpack_initrd(&pack(codec, &bomb), LIMIT).unwrap_err();
        let over = matches!(
            error.source,
            UnpackError::OverLimit { .. } | UnpackError::ClaimOverLimit { .. }
        );
        assert!(over, "{codec}: {error:?}");
    }
    let half = pack(Codec::Gzip, &cpio(&[("zeros", &vec![0; 600_000])], 4));
    let error = unpack_initrd(&[half.clone(), half.clone()].concat(), LIMIT).unwrap_err();
    assert_eq!(error.at, half.len() as u64);
    // Plain ones count as well, but are no bomb: there is just nothing to be gained.
    let plain = cpio(&[("data", &vec![1; 900_000])], 4);
    let both = [pack(Codec::Gzip, &early()), vec![0; 4], plain].concat();
    assert!(unpacked(&both).is_none());
}

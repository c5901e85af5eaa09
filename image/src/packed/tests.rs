use super::*;
use crate::testing::pack;
use alloc::vec;

const SUPPORTED: [Codec; 8] = [
    Codec::Stored,
    Codec::Gzip,
    Codec::Zstd,
    Codec::Xz,
    Codec::Lz4Legacy,
    Codec::Lz4Frame,
    Codec::Bzip2,
    Codec::Lzo,
];

/// Those whose streams say where they end, or cannot but do.
const FRAMED: [Codec; 7] = [
    Codec::Gzip,
    Codec::Zstd,
    Codec::Xz,
    Codec::Lz4Legacy,
    Codec::Lz4Frame,
    Codec::Bzip2,
    Codec::Lzo,
];

/// What an unpacked kernel looks like to a codec: some of it repeats, some does not.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes = b"\x7fELF".to_vec();
    while bytes.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, _, high, higher] = state.to_le_bytes();
        bytes.extend(vec![high; usize::from(higher >> 3).saturating_add(1)]);
    }
    bytes.truncate(len);
    bytes
}

fn packed(codec: Codec, stream: &[u8], unpacked_len: Option<u64>) -> Packed {
    Packed {
        codec,
        range: 0..stream.len() as u64,
        unpacked_len,
    }
}

fn unpack(codec: Codec, stream: &[u8], limit: u64) -> Result<Vec<u8>, UnpackError> {
    packed(codec, stream, None).unpack(stream, limit)
}

#[test]
fn magics_name_their_codecs() {
    for codec in SUPPORTED {
        assert_eq!(Codec::of(&pack(codec, &sample(100))), codec);
    }
    for codec in [Codec::Lzma, Codec::Unknown([1, 2, 3, 4])] {
        assert_eq!(Codec::of(&pack(codec, b"rest")), codec);
    }
    assert_eq!(Codec::of(b""), Codec::Unknown([0; 4]));
    // gzip with another method than deflate, and marks cut short.
    assert_eq!(
        Codec::of(b"\x1f\x8b\x07\0"),
        Codec::Unknown([0x1f, 0x8b, 7, 0])
    );
    assert_eq!(
        Codec::of(b"\x28\xb5\x2f"),
        Codec::Unknown([0x28, 0xb5, 0x2f, 0])
    );
}

#[test]
fn every_codec_gives_back_what_was_packed() {
    for codec in SUPPORTED {
        for len in [4, 5, 1000, 65_536, 65_537, 3 << 20] {
            let bytes = sample(len);
            let stream = pack(codec, &bytes);
            let claimed = packed(codec, &stream, Some(len as u64));
            assert!(
                claimed.unpack(&stream, 1 << 30).as_ref() == Ok(&bytes),
                "{codec} of {len}"
            );
            assert!(
                unpack(codec, &stream, 1 << 30).as_ref() == Ok(&bytes),
                "{codec} of {len}"
            );
            assert!(
                unpack(codec, &stream, len as u64).as_ref() == Ok(&bytes),
                "{codec} of {len}"
            );
        }
    }
}

#[test]
fn blocks_of_8_mib_follow_each_other() {
    let bytes = sample((17 << 20) + 5);
    let stream = pack(Codec::Lz4Legacy, &bytes);
    for claim in [None, Some(bytes.len() as u64)] {
        let unpacked = packed(Codec::Lz4Legacy, &stream, claim).unpack(&stream, 1 << 30);
        assert!(unpacked.as_ref() == Ok(&bytes));
    }
}

#[test]
fn a_stream_is_found_inside_its_layer() {
    let mut layer = vec![0xee; 100];
    layer.extend(pack(Codec::Gzip, b"kernel"));
    let end = layer.len() as u64;
    layer.extend([0xee; 100]);
    let inside = Packed {
        codec: Codec::Gzip,
        range: 100..end,
        unpacked_len: Some(6),
    };
    assert_eq!(inside.unpack(&layer, 6).unwrap(), b"kernel");
    assert!(matches!(
        inside.unpack(&layer[..110], 6),
        Err(UnpackError::OutsideLayer { len: 110, .. })
    ));
}

#[test]
fn streams_follow_each_other() {
    for codec in FRAMED {
        let (first, second) = (sample(70_000), sample(5));
        let stream = [pack(codec, &first), pack(codec, &second)].concat();
        let unpacked = unpack(codec, &stream, 1 << 30);
        assert!(unpacked == Ok([first, second].concat()), "{codec}");
    }
}

#[test]
fn a_claim_must_be_what_comes_out() {
    for codec in SUPPORTED {
        let bytes = sample(5000);
        let stream = pack(codec, &bytes);
        let claim = |len| packed(codec, &stream, Some(len)).unpack(&stream, 1 << 30);
        assert_eq!(
            claim(4999),
            Err(UnpackError::LongerThanClaim {
                codec,
                claimed: 4999
            })
        );
        for claimed in [5001, 1 << 30] {
            assert_eq!(
                claim(claimed),
                Err(UnpackError::ShorterThanClaim {
                    codec,
                    claimed,
                    unpacked: 5000
                })
            );
        }
        assert_eq!(
            claim(0),
            Err(UnpackError::LongerThanClaim { codec, claimed: 0 })
        );
    }
}

#[test]
fn a_claim_beyond_the_limit_is_refused_before_anything_is_done() {
    for codec in SUPPORTED {
        for claimed in [1001, 0xffff_ffff, u64::MAX] {
            let stream = pack(codec, b"");
            assert_eq!(
                packed(codec, &stream, Some(claimed)).unpack(&stream, 1000),
                Err(UnpackError::ClaimOverLimit {
                    codec,
                    claimed,
                    limit: 1000
                })
            );
        }
    }
}

/// Memory follows what a stream can hold, not what it says: this would be 1 TiB.
#[test]
fn a_claim_that_no_such_stream_can_keep_takes_no_memory() {
    for codec in SUPPORTED {
        let stream = pack(codec, b"\x7fELF");
        let claimed = 1 << 40;
        assert_eq!(
            packed(codec, &stream, Some(claimed)).unpack(&stream, u64::MAX),
            Err(UnpackError::ShorterThanClaim {
                codec,
                claimed,
                unpacked: 4
            })
        );
    }
}

#[test]
fn the_limit_is_exact() {
    for codec in SUPPORTED {
        for len in [1000_u64, 131_072, 2 << 20] {
            let stream = pack(codec, &sample(usize::try_from(len).unwrap()));
            assert!(unpack(codec, &stream, len).is_ok());
            assert_eq!(
                unpack(codec, &stream, len - 1),
                Err(UnpackError::OverLimit {
                    codec,
                    limit: len - 1
                })
            );
        }
    }
}

/// Zeros pack a thousandfold and more.
#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Bzip2] {
        let bomb = pack(codec, &zeros);
        assert!(bomb.len() < 100_000, "{codec} bomb of {}", bomb.len());
        assert_eq!(
            unpack(codec, &bomb, 1 << 20),
            Err(UnpackError::OverLimit {
                codec,
                limit: 1 << 20
            })
        );
    }
    // Endless members of nothing cost no more than reading them.
    for codec in FRAMED {
        let nothing = pack(codec, b"").repeat(10_000);
        assert_eq!(unpack(codec, &nothing, 10), Ok(vec![]), "{codec}");
    }
}

#[test]
fn a_zstd_window_of_gigabytes_is_refused() {
    let mut frame = b"\x28\xb5\x2f\xfd\x00".to_vec();
    // Exponent 21: 2 GiB; one raw block of one byte.
    frame.extend([21 << 3, 0x09, 0, 0, b'x']);
    assert!(matches!(
        unpack(Codec::Zstd, &frame, 1 << 30),
        Err(UnpackError::Broken { what, .. }) if what.contains("window")
    ));
    // 128 MiB, as kernels have it, is taken.
    frame[5] = 17 << 3;
    assert_eq!(unpack(Codec::Zstd, &frame, 1 << 30), Ok(b"x".to_vec()));
}

#[test]
fn an_xz_dictionary_of_gigabytes_is_refused() {
    let mut stream = pack(Codec::Xz, b"kernel");
    // The block header's dictionary byte, 40 meaning 4 GiB, and its checksum.
    stream[16] = 40;
    let sum = crate::crc32::crc32(&stream[12..20]);
    stream[20..24].copy_from_slice(&sum.to_le_bytes());
    assert!(matches!(
        unpack(Codec::Xz, &stream, 1 << 30),
        Err(UnpackError::Broken { what, .. }) if what == "its dictionary is larger than 128 MiB"
    ));
}

#[test]
fn lz4_blocks_have_bytes_and_no_more_than_they_may() {
    let frame = |len: u32, block: &[u8]| {
        let mut frame = b"\x02\x21\x4c\x18".to_vec();
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(block);
        unpack(Codec::Lz4Legacy, &frame, 1 << 30)
    };
    let broken = |what: &str| {
        Err(UnpackError::Broken {
            codec: Codec::Lz4Legacy,
            what: what.into(),
        })
    };
    assert_eq!(frame(0, &[]), broken("a block has no bytes"));
    assert_eq!(
        frame(u32::MAX, &[0; 64]),
        broken("a block is longer than a block can be")
    );
    assert_eq!(
        frame(9, &[0; 8]),
        Err(UnpackError::Ends {
            codec: Codec::Lz4Legacy
        })
    );
    // A match of 9 MiB in one block.
    let mut block = vec![0x1f, b'x', 1, 0];
    block.extend(vec![0xff; (9 << 20) / 255]);
    block.push(0);
    let len = u32::try_from(block.len()).unwrap();
    assert_eq!(
        frame(len, &block),
        broken("a block unpacks to more than 8192 KiB")
    );
}

#[test]
fn a_gzip_header_may_carry_names_and_more() {
    let plain = pack(Codec::Gzip, b"kernel");
    let mut stream = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03".to_vec();
    stream.extend(b"\x03\0abc");
    stream.extend(b"vmlinux.bin\0");
    stream.extend(b"a comment\0");
    stream.extend([0, 0]);
    stream.extend(&plain[10..]);
    assert_eq!(unpack(Codec::Gzip, &stream, 6).unwrap(), b"kernel");
    for len in 0..stream.len() {
        assert!(unpack(Codec::Gzip, &stream[..len], 6).is_err());
    }
    let mut reserved = plain;
    reserved[3] = 0x80;
    assert!(matches!(
        unpack(Codec::Gzip, &reserved, 6),
        Err(UnpackError::Broken { .. })
    ));
}

#[test]
fn gzip_checks_what_came_out() {
    let stream = pack(Codec::Gzip, &sample(1000));
    let end = stream.len();
    for (at, what) in [
        (end - 8, "its checksum is another"),
        (end - 1, "its length is another than it says"),
    ] {
        let mut wrong = stream.clone();
        wrong[at] ^= 1;
        assert_eq!(
            unpack(Codec::Gzip, &wrong, 1000),
            Err(UnpackError::Broken {
                codec: Codec::Gzip,
                what: what.into()
            })
        );
    }
}

#[test]
fn a_changed_byte_does_not_pass_a_checksum() {
    for codec in [
        Codec::Gzip,
        Codec::Zstd,
        Codec::Xz,
        Codec::Lz4Frame,
        Codec::Bzip2,
        Codec::Lzo,
    ] {
        let bytes = sample(3000);
        let stream = pack(codec, &bytes);
        let mut passed = 0;
        for at in 0..stream.len() {
            let mut wrong = stream.clone();
            wrong[at] ^= 0x10;
            if unpack(codec, &wrong, 1 << 20).as_ref() == Ok(&bytes) {
                passed += 1;
            }
            let other = unpack(codec, &wrong, 1 << 20);
            assert!(
                other.is_err() || other.as_ref() == Ok(&bytes),
                "{codec} with byte {at:#x} changed"
            );
        }
        // A time stamp or the distance to an equal byte may change without harm.
        assert!(
            passed * 4 < stream.len(),
            "{codec}: {passed} bytes do not matter"
        );
    }
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for codec in FRAMED {
        let bytes = sample(3000);
        let stream = pack(codec, &bytes);
        for len in 0..stream.len() {
            let cut = packed(codec, &stream[..len], Some(3000));
            assert!(
                cut.unpack(&stream, 1 << 20).is_err(),
                "{codec} cut at {len}"
            );
        }
    }
}

#[test]
fn what_no_codec_begins_like_is_not_unpacked() {
    let codec = Codec::Unknown([1, 2, 3, 4]);
    let stream = pack(codec, b"rest");
    assert_eq!(
        unpack(codec, &stream, 1000),
        Err(UnpackError::Unsupported { codec })
    );
}

/// LZMA files have no magic, so they must look like one in every field.
#[test]
fn three_bytes_do_not_make_lzma() {
    assert!(matches!(Codec::of(b"\x5d\0\0"), Codec::Unknown(_)));
    let header = |len: u64| [&b"\x5d\0\0\x80\0"[..], &len.to_le_bytes()].concat();
    assert_eq!(Codec::of(&header(u64::MAX)), Codec::Lzma);
    assert_eq!(Codec::of(&header(64 << 20)), Codec::Lzma);
    assert!(matches!(Codec::of(&header(1 << 63)), Codec::Unknown(_)));
    // `pop %rbp`, and then what code may be.
    let code = b"\x5d\0\0\x0f\x05\xc3\xe8\0\x90\x90\x90\x48\x89\xe5";
    assert!(matches!(Codec::of(code), Codec::Unknown(_)));
}

fn broken(codec: Codec, what: &str) -> Result<Vec<u8>, UnpackError> {
    Err(UnpackError::Broken {
        codec,
        what: what.into(),
    })
}

/// A frame of this descriptor's flags and block size, with a right checksum, and what follows.
fn frame(flags: u8, sizes: u8, body: &[u8]) -> Vec<u8> {
    let descriptor = [flags, sizes];
    let hash = twox_hash::XxHash32::oneshot(0, &descriptor).to_le_bytes();
    [b"\x04\x22\x4d\x18", &descriptor[..], &hash[1..2], body].concat()
}

#[test]
fn lz4_frames_keep_their_own_rules() {
    let codec = Codec::Lz4Frame;
    let with = |flags, sizes, body: &[u8]| unpack(codec, &frame(flags, sizes, body), 1 << 30);
    let one = b"\x01\0\0\x80x\0\0\0\0";
    assert_eq!(with(0x60, 0x40, one), Ok(b"x".to_vec()));
    for (flags, sizes, what) in [
        (0x20, 0x40, "its frame is of another version"),
        (0xa0, 0x40, "its frame is of another version"),
        (0x62, 0x40, "reserved bits of its frame are set"),
        (0x60, 0xc0, "reserved bits of its frame are set"),
        (0x60, 0x41, "reserved bits of its frame are set"),
        (0x60, 0x30, "its frame has no valid block size"),
        (0x61, 0x40, "it needs a dictionary that it does not have"),
    ] {
        assert_eq!(with(flags, sizes, one), broken(codec, what));
    }
    let mut wrong = frame(0x60, 0x40, one);
    wrong[6] ^= 1;
    assert_eq!(
        Packed {
            codec,
            range: 0..wrong.len() as u64,
            unpacked_len: None
        }
        .unpack(&wrong, 10),
        broken(codec, "its header's checksum is another")
    );
    // One byte more than 64 KiB, stored and packed.
    let stored = [&0x8001_0001_u32.to_le_bytes(), &[7; 0x1_0001][..], &[0; 4]].concat();
    assert_eq!(
        with(0x60, 0x40, &stored),
        broken(codec, "a block is longer than a block can be")
    );
    let mut block = vec![0x1f, b'x', 1, 0];
    block.extend(vec![0xff; (64 << 10) / 255 + 1]);
    block.extend([0, 0]);
    let len = u32::try_from(block.len()).unwrap();
    let packed = [&len.to_le_bytes(), &block[..], &[0; 4]].concat();
    assert_eq!(
        with(0x60, 0x40, &packed),
        broken(codec, "a block unpacks to more than 64 KiB")
    );
}

/// The second block repeats the first, which it may only where blocks are linked.
#[test]
fn lz4_blocks_look_back_only_where_they_are_linked() {
    let first = b"\x08\0\0\x80abcdefgh";
    // No literal, a match of 8 bytes at distance 8; then one literal to end with.
    let second = b"\x05\0\0\0\x04\x08\0\x10x";
    let body = [&first[..], second, &[0; 4]].concat();
    let with = |flags| unpack(Codec::Lz4Frame, &frame(flags, 0x40, &body), 100);
    assert_eq!(with(0x40), Ok(b"abcdefghabcdefghx".to_vec()));
    assert!(matches!(with(0x60), Err(UnpackError::Broken { .. })));
    // Nor does a frame look back into the one before.
    let linked = frame(0x40, 0x40, &[second, &[0; 4][..]].concat());
    let two = [frame(0x40, 0x40, &[&first[..], &[0; 4]].concat()), linked].concat();
    assert!(unpack(Codec::Lz4Frame, &two, 100).is_err());
}

#[test]
fn lz4_frames_without_data_are_skipped() {
    let skipped = b"\x5f\x2a\x4d\x18\x03\0\0\0abc";
    let packed = pack(Codec::Lz4Frame, b"kernel");
    for stream in [
        [&skipped[..], &packed].concat(),
        [&packed, &skipped[..]].concat(),
    ] {
        let unpacked = unpack(Codec::Lz4Frame, &stream, 100);
        assert_eq!(unpacked, Ok(b"kernel".to_vec()));
    }
    let cut = [&packed[..], b"\x5f\x2a\x4d\x18\x03\0\0\0ab"].concat();
    assert!(unpack(Codec::Lz4Frame, &cut, 100).is_err());
    let junk = [&packed[..], b"junk"].concat();
    assert_eq!(
        unpack(Codec::Lz4Frame, &junk, 100),
        broken(Codec::Lz4Frame, "what follows is no frame")
    );
}

#[test]
fn lzo_blocks_have_lengths_that_they_can_have() {
    let codec = Codec::Lzo;
    let header = pack(codec, b"");
    let header = &header[..header.len() - 4];
    let block = |len: u32, packed_len: u32| {
        let words = [len, packed_len, 0, 0].map(u32::to_be_bytes).concat();
        let stream = [header, &words, &[0; 64][..]].concat();
        unpack(codec, &stream, 1 << 30)
    };
    let lengths = broken(codec, "a block's lengths are none it can have");
    for (len, packed_len) in [(1, 2), (1, 0), (65 << 20, 9), (u32::MAX, u32::MAX)] {
        assert_eq!(block(len, packed_len), lengths);
    }
    // What no nine bytes can become takes no memory.
    let sums = adler2::adler32_slice(&[0; 9]);
    let words = [64 << 20, 9, 0, sums].map(u32::to_be_bytes).concat();
    let stream = [header, &words, &[0; 64][..]].concat();
    assert_eq!(unpack(codec, &stream, 1 << 30), lengths);
}

#[test]
fn lzop_headers_may_have_more_and_less() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        // Magic and checksum taken off, and put on again.
        let plain = pack(Codec::Lzo, b"kernel");
        let body_at = 9 + 25;
        let mut header = plain[9..body_at].to_vec();
        change(&mut header);
        let sum = if header[10] & 0x10 == 0 {
            adler2::adler32_slice(&header)
        } else {
            crate::crc32::crc32(&header)
        };
        let stream = [
            &plain[..9],
            &header,
            &sum.to_be_bytes(),
            &plain[body_at + 4..],
        ]
        .concat();
        unpack(Codec::Lzo, &stream, 100)
    };
    assert_eq!(with(&|_| {}), Ok(b"kernel".to_vec()));
    // A name, and a CRC-32 over the header.
    let named = with(&|header| {
        header[24] = 4;
        header.extend(b"name");
        header[10] |= 0x10;
    });
    assert_eq!(named, Ok(b"kernel".to_vec()));
    let told = |what| broken(Codec::Lzo, what);
    assert_eq!(
        with(&|header| header[6] = 128),
        told("its method is not LZO1X")
    );
    assert_eq!(
        with(&|header| header[4] = 0x20),
        told("it is for a later version of lzop")
    );
    assert_eq!(
        with(&|header| header[10] |= 8),
        told("its filter is not known here")
    );
}

#[test]
fn the_first_of_several_streams_is_unpacked_alone() {
    for codec in [
        Codec::Gzip,
        Codec::Zstd,
        Codec::Xz,
        Codec::Lz4Frame,
        Codec::Bzip2,
        Codec::Lzo,
    ] {
        let stream = [&pack(codec, b"first")[..], b"behind it"].concat();
        let (unpacked, rest) = codec.unpack_first(&stream, 100).unwrap();
        assert_eq!((&unpacked[..], rest), (&b"first"[..], &b"behind it"[..]));
    }
}

/// What xz makes of machine code: LZMA2 behind the filter for x86 jumps.
#[test]
fn xz_with_the_filter_for_x86_is_undone() {
    use lzma_rust2::{FilterType, Write, XzOptions, XzWriter};
    let bytes: Vec<u8> = (0..20_000_u32)
        .flat_map(|at| [0xe8, 0x10, 0x20, at.to_le_bytes()[0] & 1, 0, 0x90])
        .collect();
    let mut options = XzOptions::with_preset(6);
    options.prepend_pre_filter(FilterType::BcjX86, 0);
    let mut writer = XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(&bytes).unwrap();
    let stream = writer.finish().unwrap();
    assert!(unpack(Codec::Xz, &stream, 1 << 20) == Ok(bytes));
}

#[test]
fn lzma_files_are_unpacked_with_and_without_their_length() {
    use lzma_rust2::{LzmaOptions, LzmaWriter, Write};
    let bytes = sample(5000);
    for len in [None, Some(5000)] {
        let options = LzmaOptions::with_preset(6);
        let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, len).unwrap();
        writer.write_all(&bytes).unwrap();
        let stream = writer.finish().unwrap();
        assert_eq!(Codec::of(&stream), Codec::Lzma);
        assert!(unpack(Codec::Lzma, &stream, 5000).as_ref() == Ok(&bytes));
        assert_eq!(
            unpack(Codec::Lzma, &stream, 4999),
            Err(UnpackError::OverLimit {
                codec: Codec::Lzma,
                limit: 4999
            })
        );
        for cut in 0..stream.len() {
            let cut = packed(Codec::Lzma, &stream[..cut], Some(5000));
            assert!(cut.unpack(&stream, 5000).is_err());
        }
    }
}

use super::*;
use crate::testing::pack;
use crate::{Codec, Packed, UnpackError};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

const RAW: u8 = 0;
const REPEATED: u8 = 1;
const COMPRESSED: u8 = 2;

/// A frame without checksum: its header behind the magic, then blocks of a kind, a length and
/// content.
fn framed(header: &[u8], blocks: &[(u8, usize, &[u8])]) -> Vec<u8> {
    let mut stream = MAGIC.to_le_bytes().to_vec();
    stream.extend_from_slice(header);
    for (index, &(kind, len, content)) in blocks.iter().enumerate() {
        let is_last = u32::from(index == blocks.len().saturating_sub(1));
        let len = u32::try_from(len).unwrap();
        let header = is_last | u32::from(kind) << 1 | len << 3;
        stream.extend(header.to_le_bytes().into_iter().take(3));
        stream.extend_from_slice(content);
    }
    stream
}

/// A frame with a window of 1 KiB that does not say its length.
fn frame_of(blocks: &[(u8, usize, &[u8])]) -> Vec<u8> {
    framed(&[0, 0], blocks)
}

fn unpacked(stream: &[u8]) -> Result<Vec<u8>, String> {
    let packed = Packed {
        codec: Codec::Zstd,
        range: 0..stream.len() as u64,
        unpacked_len: None,
    };
    packed.unpack(stream, 1 << 20).map_err(|error| match error {
        UnpackError::Broken { what, .. } => what,
        UnpackError::Ends { .. } => "ends early".into(),
        other => panic!("{other}"),
    })
}

fn broken(stream: &[u8]) -> String {
    unpacked(stream).expect_err("a broken stream")
}

#[test]
fn blocks_of_every_kind_follow_each_other() {
    // Two literals, and one sequence, whose codes are each the only one of their table: both
    // literals, from one byte back, three bytes.
    let compressed = [2 << 3, b'x', b'y', 1, 0x54, 2, 2, 0, 0b100];
    let stream = frame_of(&[
        (RAW, 3, b"raw"),
        (REPEATED, 5, b"r"),
        (COMPRESSED, compressed.len(), &compressed),
    ]);
    assert_eq!(unpacked(&stream).unwrap(), b"rawrrrrrxyyyy");
}

#[test]
fn frames_to_be_skipped_are_skipped() {
    let mut stream = b"\x5a\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    stream.extend(frame_of(&[(RAW, 1, b"x")]));
    stream.extend(b"\x50\x2a\x4d\x18\0\0\0\0");
    assert_eq!(unpacked(&stream).unwrap(), b"x");
    for cut in 1..11 {
        assert_eq!(broken(&stream[..cut]), "ends early");
    }
}

#[test]
fn something_behind_a_frame_that_is_none_is_told_with_its_place() {
    let mut stream = frame_of(&[(RAW, 1, b"x")]);
    let end = stream.len();
    stream.extend([0; 4]);
    assert_eq!(broken(&stream), format!("no frame begins at {end:#x}"));
}

#[test]
fn a_length_in_the_header_must_be_right() {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let with = |header: &[u8]| unpacked(&framed(header, &[(REPEATED, 300, b"x")]));
    assert_eq!(with(&[1 << 6 | SINGLE_SEGMENT, 44, 0]).unwrap().len(), 300);
    assert_eq!(with(&[2 << 6, 0, 0x2c, 1, 0, 0]).unwrap().len(), 300);
    assert_eq!(
        with(&[3 << 6, 0, 0x2c, 1, 0, 0, 0, 0, 0, 0]).unwrap().len(),
        300
    );
    assert_eq!(
        with(&[SINGLE_SEGMENT, 44]).unwrap_err(),
        "a frame says it holds 44 bytes, and holds 300"
    );
}

#[test]
fn dictionaries_and_reserved_bits_are_refused() {
    assert_eq!(
        broken(&framed(&[1, 0, 7], &[(RAW, 0, b"")])),
        "a frame needs the dictionary 0x7"
    );
    assert_eq!(unpacked(&framed(&[1, 0, 0], &[(RAW, 0, b"")])), Ok(vec![]));
    assert_eq!(
        broken(&framed(&[8, 0], &[(RAW, 0, b"")])),
        "a reserved bit of a frame header is set"
    );
    assert_eq!(
        broken(&frame_of(&[(3, 0, b"")])),
        "the block at 0x6 is of no kind"
    );
}

#[test]
fn blocks_have_128_kib_at_most() {
    for kind in [RAW, REPEATED, COMPRESSED] {
        assert_eq!(
            broken(&frame_of(&[(kind, (128 << 10) + 1, b"x")])),
            "the block at 0x6 is longer than 128 KiB"
        );
    }
    // A match of 65,539 bytes and up to 65,535 more, one byte back, twice.
    let long = [
        1 << 3,
        b'x',
        2,
        0x54,
        1,
        0,
        52,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        1,
    ];
    assert_eq!(
        broken(&frame_of(&[(COMPRESSED, long.len(), &long)])),
        "the block at 0x6 has more than 128 KiB in it"
    );
}

#[test]
fn sequences_stay_inside_the_frame_and_their_literals() {
    let with = |block: &[u8]| unpacked(&frame_of(&[(COMPRESSED, block.len(), block)]));
    // One literal, then from two bytes back.
    assert_eq!(
        with(&[1 << 3, b'x', 1, 0x54, 1, 2, 0, 0b101]).unwrap_err(),
        "the block at 0x6 has a distance to before the frame"
    );
    // Two literals of one.
    assert_eq!(
        with(&[1 << 3, b'x', 1, 0x54, 2, 2, 0, 0b100]).unwrap_err(),
        "the block at 0x6 has sequences for more literals than it has"
    );
    // A bit too many.
    assert_eq!(
        with(&[1 << 3, b'x', 1, 0x54, 1, 2, 0, 0b1000]).unwrap_err(),
        "the block at 0x6 has more or fewer bits than its sequences"
    );
    // Tables of a block before where there is none.
    assert_eq!(
        with(&[1 << 3, b'x', 1, 0xfc, 1]).unwrap_err(),
        "the block at 0x6 has sequence tables that make no sense"
    );
    // Literals by a tree of a block before where there is none.
    assert_eq!(
        with(&[3, 0, 0, 0]).unwrap_err(),
        "the block at 0x6 has literals that make no sense"
    );
}

/// A frame of another decoder's making, cut in every place, ends early wherever that is not the
/// end of the frame.
#[test]
fn every_cut_ends_early() {
    let bytes: Vec<u8> = (0..4000_u32)
        .flat_map(|at| at.wrapping_mul(at).to_le_bytes())
        .collect();
    let stream = pack(Codec::Zstd, &bytes);
    assert_eq!(unpacked(&stream).unwrap(), bytes);
    for len in 1..stream.len() {
        assert_eq!(broken(&stream[..len]), "ends early");
    }
}

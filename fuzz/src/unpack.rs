//! A compressed stream of each codec.

use crate::knobs::Knobs;
use crate::{Reached, Seed, Target};
use firstlight_image::testing::pack;
use firstlight_image::{Codec, Packed, UnpackError};

/// The target.
pub const TARGET: Target = Target {
    name: "unpack",
    what: "a stream of each codec, with and without a claimed length",
    run,
    seeds,
};

const CODECS: [Codec; 9] = [
    Codec::Stored,
    Codec::Gzip,
    Codec::Zstd,
    Codec::Xz,
    Codec::Lzma,
    Codec::Lz4Legacy,
    Codec::Lz4Frame,
    Codec::Bzip2,
    Codec::Lzo,
];

/// The most that a stream may unpack to.
const LIMIT: u64 = 1 << 18;

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let codec = knobs.choose(&CODECS);
    let claim = match knobs.u8() {
        claims @ 1..=15 => Some(u64::from(knobs.u32()) >> (2 * claims)),
        _ => None,
    };
    let stream = knobs.rest();
    let packed = |len: u64| Packed {
        codec,
        range: 0..len,
        unpacked_len: claim,
    };
    let beyond = packed(stream.len() as u64 + 1).unpack(stream, LIMIT);
    assert!(matches!(beyond, Err(UnpackError::OutsideLayer { .. })));
    match packed(stream.len() as u64).unpack(stream, LIMIT) {
        Ok(unpacked) => {
            assert!(unpacked.len() as u64 <= LIMIT);
            assert!(claim.is_none_or(|claim| claim == unpacked.len() as u64));
            Reached::End
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

fn seeds() -> Vec<Seed> {
    let text = b"a kernel, a kernel, and once more a kernel".repeat(6);
    let seed = |index: u8, codec: Codec| {
        let stream = pack(codec, &text);
        Seed::new(&codec.to_string(), [&[index, 0], &stream[..]].concat())
    };
    // The numbers are those of `CODECS`.
    vec![
        seed(0, Codec::Stored),
        seed(1, Codec::Gzip),
        seed(2, Codec::Zstd),
        seed(3, Codec::Xz),
        seed(5, Codec::Lz4Legacy),
        seed(6, Codec::Lz4Frame),
        seed(7, Codec::Bzip2),
        seed(8, Codec::Lzo),
    ]
}

//! The 64-bit xxHash with seed 0 (`doc/xxhash_spec.md` of xxHash, "XXH64 algorithm").

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

/// A hash in the making, over whole stripes.
pub(super) struct Xxh64 {
    lanes: [u64; 4],
}

impl Default for Xxh64 {
    fn default() -> Self {
        Self {
            lanes: [
                PRIME_1.wrapping_add(PRIME_2),
                PRIME_2,
                0,
                PRIME_1.wrapping_neg(),
            ],
        }
    }
}

impl Xxh64 {
    /// Takes in the whole stripes of `bytes`; gives what is behind them.
    pub(super) fn update<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (stripes, rest) = bytes.as_chunks::<32>();
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<8>();
            for (lane, word) in self.lanes.iter_mut().zip(words) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        rest
    }

    /// The hash of `len` bytes, the last of which are `rest`, less than a stripe.
    pub(super) fn finish(&self, rest: &[u8], len: u64) -> u64 {
        let [a, b, c, d] = self.lanes;
        let mut hash = if len < 32 {
            PRIME_5
        } else {
            let sum = a
                .rotate_left(1)
                .wrapping_add(b.rotate_left(7))
                .wrapping_add(c.rotate_left(12))
                .wrapping_add(d.rotate_left(18));
            self.lanes.iter().fold(sum, |sum, &lane| {
                (sum ^ round(0, lane))
                    .wrapping_mul(PRIME_1)
                    .wrapping_add(PRIME_4)
            })
        };
        hash = hash.wrapping_add(len);
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            hash = (hash ^ round(0, u64::from_le_bytes(*word)))
                .rotate_left(27)
                .wrapping_mul(PRIME_1)
                .wrapping_add(PRIME_4);
        }
        let (halves, rest) = rest.as_chunks::<4>();
        for half in halves {
            let half = u64::from(u32::from_le_bytes(*half));
            hash = (hash ^ half.wrapping_mul(PRIME_1))
                .rotate_left(23)
                .wrapping_mul(PRIME_2)
                .wrapping_add(PRIME_3);
        }
        for &byte in rest {
            hash = (hash ^ u64::from(byte).wrapping_mul(PRIME_5))
                .rotate_left(11)
                .wrapping_mul(PRIME_1);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
        hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
        hash ^ (hash >> 32)
    }
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn xxh64(bytes: &[u8]) -> u64 {
        let mut hash = Xxh64::default();
        let rest = hash.update(bytes);
        hash.finish(rest, bytes.len() as u64)
    }

    #[test]
    fn hashes_of_every_length_are_those_of_the_reference() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    #[test]
    fn stripes_may_come_in_pieces() {
        let bytes: Vec<u8> = (0..200).collect();
        let mut hash = Xxh64::default();
        let rest = hash.update(&bytes[..70]);
        assert_eq!(rest.len(), 6);
        let rest = hash.update(&bytes[64..]);
        assert_eq!(hash.finish(rest, 200), xxh64(&bytes));
    }
}

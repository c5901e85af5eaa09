//! Bit streams, forwards and backwards (RFC 8878, sections 4.1 and 4.2).

/// Bits read from the end of a stream towards its beginning.
///
/// Between two calls of [`refill`](Self::refill) there are at least 56 bits to read, except near
/// the beginning. What is read beyond it is meaningless, which [`is_done`](Self::is_done) tells
/// afterwards.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Where `word` begins in `bytes`.
    at: usize,
    /// Bits of `word` that have been read, from its top.
    used: u32,
    word: u64,
}

impl<'a> Bits<'a> {
    /// A reader of `bytes`, whose last byte's highest set bit marks where the bits end.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (&last, _) = bytes.split_last()?;
        if last == 0 {
            return None;
        }
        let padding = last.leading_zeros().wrapping_add(1);
        let at = bytes.len().saturating_sub(8);
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(bytes.get(at..)?) {
            *to = *from;
        }
        let missing = 8_usize.saturating_sub(bytes.len());
        let missing = u32::try_from(missing).ok()?.wrapping_mul(8);
        Some(Self {
            bytes,
            at,
            used: padding.wrapping_add(missing),
            word: u64::from_le_bytes(first),
        })
    }

    /// Moves on, so that there are bits to read.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let back = usize::try_from(self.used >> 3).unwrap_or(0).min(self.at);
        self.at = self.at.wrapping_sub(back);
        // A stream of fewer than eight bytes begins at 0, and has all its bits in `word`.
        if let Some(word) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            self.word = u64::from_le_bytes(*word);
            let back = u32::try_from(back).unwrap_or(0);
            self.used = self.used.wrapping_sub(back.wrapping_mul(8));
        }
    }

    /// The next `count` bits, at most 56, without reading them.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> u64 {
        let left = self.word.wrapping_shl(self.used);
        (left >> 1).wrapping_shr(63_u32.wrapping_sub(count))
    }

    /// Reads `count` bits that have been looked at.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.used = self.used.wrapping_add(count);
    }

    /// Reads the next `count` bits, at most 56.
    #[inline(always)]
    pub(super) fn read(&mut self, count: u32) -> u64 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Whether every bit has been read, and none beyond the first.
    pub(super) fn is_done(&self) -> bool {
        self.at == 0 && self.used == 64
    }

    /// Whether bits beyond the first have been read.
    pub(super) fn is_overrun(&self) -> bool {
        self.used > 64
    }
}

/// Bits read from the beginning of a stream towards its end, in small numbers.
pub(super) struct ForwardBits<'a> {
    bytes: &'a [u8],
    read: u32,
}

impl<'a> ForwardBits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, read: 0 }
    }

    /// The next `count` bits, at most 24, without reading them; zeros behind the end.
    pub(super) fn peek(&self, count: u32) -> u32 {
        let at = usize::try_from(self.read >> 3).unwrap_or(usize::MAX);
        let mut word = [0; 4];
        for (to, from) in word
            .iter_mut()
            .zip(self.bytes.get(at..).unwrap_or_default())
        {
            *to = *from;
        }
        let mask = 1_u32.wrapping_shl(count).wrapping_sub(1);
        (u32::from_le_bytes(word) >> (self.read & 7)) & mask
    }

    /// Reads `count` bits that have been looked at.
    pub(super) fn skip(&mut self, count: u32) {
        self.read = self.read.wrapping_add(count);
    }

    /// What is behind the byte that the last bit read is in; `None` where that is behind the end.
    pub(super) fn rest(&self) -> Option<&'a [u8]> {
        let at = usize::try_from(self.read.div_ceil(8)).ok()?;
        self.bytes.get(at..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_from_the_end_and_from_the_top() {
        // The marker is bit 4 of the last byte; below it 0b0110.
        let bytes = [0b1010_1010, 0b1100_0011, 0b0001_0110];
        let mut bits = Bits::new(&bytes).unwrap();
        assert_eq!(bits.read(4), 0b0110);
        assert_eq!(bits.read(0), 0);
        assert_eq!(bits.read(3), 0b110);
        bits.refill();
        assert_eq!(bits.read(5), 0b00011);
        assert!(!bits.is_done());
        assert_eq!(bits.read(8), 0b1010_1010);
        assert!(bits.is_done());
        bits.skip(1);
        assert!(bits.is_overrun() && !bits.is_done());
    }

    #[test]
    fn streams_of_any_length_are_read_to_their_first_bit() {
        for len in 1..40 {
            let mut bytes = alloc::vec![0x5a_u8; len];
            *bytes.last_mut().unwrap() = 1;
            let mut bits = Bits::new(&bytes).unwrap();
            for _ in 1..len {
                assert!(!bits.is_done());
                bits.refill();
                assert_eq!(bits.read(8), 0x5a);
            }
            bits.refill();
            assert!(bits.is_done());
        }
    }

    #[test]
    fn a_stream_without_its_marker_is_none() {
        assert!(Bits::new(&[]).is_none());
        assert!(Bits::new(&[0xff, 0]).is_none());
    }

    #[test]
    fn forward_bits_come_from_the_bottom() {
        let mut bits = ForwardBits::new(&[0b1010_0110, 0b1]);
        assert_eq!(bits.peek(3), 0b110);
        bits.skip(3);
        assert_eq!(bits.peek(7), 0b011_0100);
        assert_eq!(bits.rest(), Some(&[1][..]));
        bits.skip(7);
        assert_eq!(bits.rest(), Some(&[][..]));
        bits.skip(7);
        assert_eq!(bits.rest(), None);
    }
}

//! Registers that are words of 32 bits, lowest byte first: those of Arm's peripherals and of most
//! of RISC-V's.

use crate::Effect;

/// The addresses of a chip whose registers are words.
///
/// An access to a part of a word is one to the whole: a read gives the bytes that were asked for,
/// and a write gives the register zeros for the others, since the bus has no byte strobes (AMBA 3 APB,
/// IHI 0024B). A wider access is several, lowest address first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// How many bytes of addresses there are, a multiple of 4.
    pub(crate) len: u64,
}

impl Words {
    /// Fills `data` from the words that `word` reads, each once, by their offsets.
    pub(crate) fn read(self, offset: u64, data: &mut [u8], mut word: impl FnMut(u64) -> u32) {
        let mut value = u32::MAX;
        for (byte, index) in data.iter_mut().zip(0..) {
            let at = offset.wrapping_add(index);
            if index == 0 || lane(at) == 0 {
                value = if at < self.len {
                    word(at - lane(at))
                } else {
                    u32::MAX
                };
            }
            let [byte_of_lane, ..] = (value >> (8 * lane(at))).to_le_bytes();
            *byte = byte_of_lane;
        }
    }

    /// Gives `data` to `word` as words with their offsets. Answers with the first effect.
    pub(crate) fn write(
        self,
        offset: u64,
        data: &[u8],
        mut word: impl FnMut(u64, u32) -> Option<Effect>,
    ) -> Option<Effect> {
        let mut effect = None;
        let mut value = 0;
        for (&byte, index) in data.iter().zip(1..) {
            let at = offset.wrapping_add(index - 1);
            value |= u32::from(byte) << (8 * lane(at));
            let is_last = index == data.len() as u64;
            if (is_last || lane(at) == 3) && at < self.len {
                effect = effect.or(word(at - lane(at), value));
            }
            if lane(at) == 3 {
                value = 0;
            }
        }
        effect
    }
}

/// Which byte of its word is at `offset`.
fn lane(offset: u64) -> u64 {
    offset % 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const WORDS: Words = Words { len: 12 };

    fn read(offset: u64, width: usize) -> (Vec<u8>, Vec<u64>) {
        let mut data = [0x55; 16];
        let mut asked = Vec::new();
        WORDS.read(offset, &mut data[..width], |at| {
            asked.push(at);
            0x0302_0100 + u32::try_from(at).unwrap() * 0x0101_0101
        });
        (data[..width].into(), asked)
    }

    fn write(offset: u64, data: &[u8]) -> Vec<(u64, u32)> {
        let mut written = Vec::new();
        WORDS.write(offset, data, |at, value| {
            written.push((at, value));
            None
        });
        written
    }

    #[test]
    fn a_read_of_any_width_asks_each_word_once() {
        assert_eq!(read(4, 4), ([4, 5, 6, 7].into(), [4].into()));
        assert_eq!(read(5, 2), ([5, 6].into(), [4].into()));
        assert_eq!(read(3, 2), ([3, 4].into(), [0, 4].into()));
        let eight = [2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(read(2, 8), (eight.into(), [0, 4, 8].into()));
    }

    #[test]
    fn beyond_the_last_word_there_are_ones() {
        assert_eq!(read(11, 3), ([11, 0xff, 0xff].into(), [8].into()));
        assert_eq!(read(12, 1), ([0xff].into(), [].into()));
        assert_eq!(read(u64::MAX, 1), ([0xff].into(), [].into()));
        assert_eq!(write(11, &[1, 2, 3]), [(8, 0x0100_0000)]);
        assert_eq!(write(12, &[1, 2, 3, 4]), []);
        assert_eq!(write(u64::MAX, &[1]), []);
    }

    #[test]
    fn a_write_to_a_part_of_a_word_gives_zeros_for_the_rest() {
        assert_eq!(write(4, &[1, 2, 3, 4]), [(4, 0x0403_0201)]);
        assert_eq!(write(4, &[1]), [(4, 1)]);
        assert_eq!(write(5, &[1, 2]), [(4, 0x0002_0100)]);
        assert_eq!(write(3, &[1, 2]), [(0, 0x0100_0000), (4, 2)]);
    }

    #[test]
    fn the_first_effect_counts_and_every_word_is_written() {
        let mut written = 0;
        let effect = WORDS.write(0, &[0; 12], |at, _| {
            written += 1;
            (at > 0).then_some(Effect::Exit(u8::try_from(at).unwrap()))
        });
        assert_eq!((effect, written), (Some(Effect::Exit(4)), 3));
    }
}

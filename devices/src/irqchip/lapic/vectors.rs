//! Sets of vectors, in the words in which the registers show them.

/// A set of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vectors([u32; 8]);

impl Vectors {
    pub(super) const NONE: Self = Self([0; 8]);

    pub(super) fn contains(&self, vector: u8) -> bool {
        self.word(vector / 32) & bit(vector) != 0
    }

    /// Puts `vector` in or takes it out.
    pub(super) fn set(&mut self, vector: u8, member: bool) {
        if let Some(word) = self.0.get_mut(usize::from(vector / 32)) {
            *word = if member {
                *word | bit(vector)
            } else {
                *word & !bit(vector)
            };
        }
    }

    /// The 32 vectors from 32 times `index`.
    pub(super) fn word(&self, index: u8) -> u32 {
        self.0.get(usize::from(index)).map_or(0, |word| *word)
    }

    pub(super) fn highest(&self) -> Option<u8> {
        (0..8u8).rev().find_map(|index| {
            let place = self.word(index).checked_ilog2()?;
            u8::try_from(u32::from(index) * 32 + place).ok()
        })
    }
}

fn bit(vector: u8) -> u32 {
    1 << (vector % 32)
}

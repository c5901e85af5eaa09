//! Sets of processors by their numbers.

use alloc::vec::Vec;

/// A set of processors.
#[derive(Clone, Debug)]
pub(super) struct Processors(Vec<u64>);

impl Processors {
    /// None of `count` processors.
    pub(super) fn up_to(count: usize) -> Self {
        Self((0..count.div_ceil(64)).map(|_| 0).collect())
    }

    pub(super) fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Takes the lowest out.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let mut words = self.0.iter_mut().zip((0..).step_by(64));
        let (word, first) = words.find(|(word, _)| **word != 0)?;
        let place = usize::try_from(word.trailing_zeros()).ok()?;
        *word &= *word - 1;
        Some(first + place)
    }
}

//! The relocation table that Linux' build appends to a relocatable x86 kernel
//! (`arch/x86/boot/compressed/misc.c`, `handle_relocations`).
//!
//! It is read from the end of the image backwards: 32-bit places up to a zero, on x86-64 before
//! 6.15 inverse 32-bit places up to a zero, then on x86-64 64-bit places up to a zero. How many
//! runs there are is told by counting the zeros.

use core::ops::Range;
use firstlight_base::Reader;

/// Where the runs of a relocation table are in the layer, and so how long they are. Every entry is
/// a link-time virtual address of 32 bits, to be sign-extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocations {
    /// 64-bit places.
    pub r64: Range<u64>,
    /// 32-bit places from which the distance is subtracted.
    pub inverse32: Range<u64>,
    /// 32-bit places.
    pub r32: Range<u64>,
}

/// The runs of a relocation table, to be gone through: each entry is a little-endian number of 32
/// bits, and its sign extension the link-time virtual address of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelocationRuns<'a> {
    /// Places of 64 bits, to which the distance is added.
    pub r64: &'a [[u8; 4]],
    /// Places of 32 bits, from which the distance is subtracted.
    pub inverse32: &'a [[u8; 4]],
    /// Places of 32 bits, to which the distance is added.
    pub r32: &'a [[u8; 4]],
}

impl Relocations {
    /// Bytes in an entry.
    const ENTRY: u64 = 4;

    /// Whether `range` of `layer` may be a table, by its length and its first entry.
    pub(crate) fn may_be(layer: Reader<'_>, range: &Range<u64>) -> bool {
        let len = range.end.saturating_sub(range.start);
        len.is_multiple_of(Self::ENTRY) && layer.u32_le(range.start) == Ok(0)
    }

    /// The table in `range` of `layer`, if what is there is one.
    pub(crate) fn find(layer: Reader<'_>, range: &Range<u64>) -> Option<Self> {
        // The table begins with a zero, and a zero follows every run but the last.
        if !Self::may_be(layer, range) {
            return None;
        }
        let words = words(layer, range)?;
        let mut zeros = Zeros { words, next: 0 };
        let mut zero = || {
            let index = zeros.next()? as u64;
            Some(
                index
                    .saturating_mul(Self::ENTRY)
                    .saturating_add(range.start),
            )
        };
        let found = [zero(), zero(), zero(), zero()];
        let run = |zero: u64, end: u64| zero.saturating_add(Self::ENTRY)..end;
        let none = range.start..range.start;
        match found {
            [Some(first), None, None, None] => Some(Self {
                r64: none.clone(),
                inverse32: none,
                r32: run(first, range.end),
            }),
            [Some(first), Some(second), None, None] => Some(Self {
                r64: run(first, second),
                inverse32: none,
                r32: run(second, range.end),
            }),
            [Some(first), Some(second), Some(third), None] => Some(Self {
                r64: run(first, second),
                inverse32: run(second, third),
                r32: run(third, range.end),
            }),
            _ => None,
        }
    }

    /// The entries themselves, from `layer`, the bytes that the table was found in; `None` where
    /// those are others, and too short.
    #[must_use]
    pub fn runs<'a>(&self, layer: &'a [u8]) -> Option<RelocationRuns<'a>> {
        let layer = Reader::new(layer);
        Some(RelocationRuns {
            r64: words(layer, &self.r64)?,
            inverse32: words(layer, &self.inverse32)?,
            r32: words(layer, &self.r32)?,
        })
    }

    /// How many 64-bit, inverse 32-bit and 32-bit places there are.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let count = |run: &Range<u64>| run.end.saturating_sub(run.start) / Self::ENTRY;
        (count(&self.r64), count(&self.inverse32), count(&self.r32))
    }
}

fn words<'a>(layer: Reader<'a>, range: &Range<u64>) -> Option<&'a [[u8; 4]]> {
    let len = range.end.checked_sub(range.start)?;
    let (words, _) = layer.slice(range.start, len).ok()?.as_chunks();
    Some(words)
}

/// The indices of the zeros among `words`.
///
/// A table has a megabyte and three zeros, so the words are looked at in blocks that the processor
/// compares at once.
struct Zeros<'a> {
    words: &'a [[u8; 4]],
    next: usize,
}

/// Words looked at together.
const BLOCK: usize = 64;

impl Iterator for Zeros<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let rest = self.words.get(self.next..)?;
        let (blocks, _) = rest.as_chunks::<BLOCK>();
        let without = blocks.iter().take_while(|block| !has_zero(block)).count();
        let skipped = without.saturating_mul(BLOCK);
        let found = rest
            .get(skipped..)?
            .iter()
            .position(|word| *word == [0; 4])?
            .saturating_add(skipped)
            .saturating_add(self.next);
        self.next = found.saturating_add(1);
        Some(found)
    }
}

fn has_zero(words: &[[u8; 4]; BLOCK]) -> bool {
    words
        .iter()
        .fold(false, |has, word| has | (u32::from_le_bytes(*word) == 0))
}

#[cfg(test)]
mod tests;

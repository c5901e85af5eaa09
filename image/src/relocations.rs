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

impl Relocations {
    /// Bytes in an entry.
    const ENTRY: u64 = 4;

    /// The table between `start` and the end of `layer`, if what is there is one.
    pub(crate) fn read(layer: Reader<'_>, start: u64) -> Option<Self> {
        let bytes = layer.tail(start).ok()?;
        let (words, []) = bytes.as_chunks::<4>() else {
            return None;
        };
        // The table begins with a zero, and a zero follows every run but the last.
        if words.first() != Some(&[0; 4]) {
            return None;
        }
        let end = start.checked_add(bytes.len() as u64)?;
        let mut zeros = words
            .iter()
            .enumerate()
            .filter(|(_, word)| **word == [0; 4])
            .map(|(index, _)| {
                (index as u64)
                    .saturating_mul(Self::ENTRY)
                    .saturating_add(start)
            });
        let found = [zeros.next(), zeros.next(), zeros.next(), zeros.next()];
        let run = |zero: u64, end: u64| zero.saturating_add(Self::ENTRY)..end;
        match found {
            [Some(first), None, None, None] => Some(Self {
                r64: start..start,
                inverse32: start..start,
                r32: run(first, end),
            }),
            [Some(first), Some(second), None, None] => Some(Self {
                r64: run(first, second),
                inverse32: start..start,
                r32: run(second, end),
            }),
            [Some(first), Some(second), Some(third), None] => Some(Self {
                r64: run(first, second),
                inverse32: run(second, third),
                r32: run(third, end),
            }),
            _ => None,
        }
    }

    /// How many 64-bit, inverse 32-bit and 32-bit places there are.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let count = |run: &Range<u64>| run.end.saturating_sub(run.start) / Self::ENTRY;
        (count(&self.r64), count(&self.inverse32), count(&self.r32))
    }
}

#[cfg(test)]
mod tests;

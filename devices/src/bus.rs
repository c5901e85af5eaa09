//! Which chip answers at which address: for I/O ports and for memory-mapped registers alike.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

/// Addresses and what is attached there.
///
/// `T` is a chip with whatever its owner needs round it, such as a lock.
#[derive(Debug, Default)]
pub struct Bus<T> {
    /// Ascending, without overlaps.
    slots: Vec<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    first: u64,
    last: u64,
    chip: T,
}

impl<T> Bus<T> {
    /// A bus with nothing on it.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// Attaches `chip` to the `len` addresses from `at`.
    ///
    /// # Errors
    ///
    /// [`Overlap`] where another chip has one of them, or they are none or wrap.
    pub fn attach(&mut self, at: u64, len: u64, chip: T) -> Result<(), Overlap> {
        let overlap = Overlap { at, len };
        let last = len
            .checked_sub(1)
            .and_then(|rest| at.checked_add(rest))
            .ok_or(overlap)?;
        let index = self.slots.partition_point(|slot| slot.last < at);
        if self.slots.get(index).is_some_and(|slot| slot.first <= last) {
            return Err(overlap);
        }
        let first = at;
        self.slots.insert(index, Slot { first, last, chip });
        Ok(())
    }

    /// Hands a read to whom it is for: `read` is called with the chip, the offset from the chip's
    /// first address, and the part of `data` to fill. What no chip claims reads all ones.
    ///
    /// A read across a chip's border is divided there, as a bus of bytes would do it.
    pub fn read(&self, at: u64, data: &mut [u8], mut read: impl FnMut(&T, u64, &mut [u8])) {
        data.fill(0xff);
        let mut rest = data;
        let mut at = at;
        while let Some((skip, len, slot)) = self.next(at, rest.len()) {
            let (_, tail) = rest.split_at_mut(skip);
            let (mine, tail) = tail.split_at_mut(len);
            let start = at + skip as u64;
            read(&slot.chip, start - slot.first, mine);
            rest = tail;
            let Some(next) = start.checked_add(len as u64) else {
                return;
            };
            at = next;
        }
    }

    /// Hands a write to whom it is for, as [`read`](Bus::read) does. What no chip claims is
    /// dropped. Answers with the first effect.
    pub fn write<E>(
        &self,
        at: u64,
        data: &[u8],
        mut write: impl FnMut(&T, u64, &[u8]) -> Option<E>,
    ) -> Option<E> {
        let mut effect = None;
        let mut rest = data;
        let mut at = at;
        while let Some((skip, len, slot)) = self.next(at, rest.len()) {
            let (_, tail) = rest.split_at(skip);
            let (mine, tail) = tail.split_at(len);
            let start = at + skip as u64;
            effect = effect.or(write(&slot.chip, start - slot.first, mine));
            rest = tail;
            let Some(next) = start.checked_add(len as u64) else {
                return effect;
            };
            at = next;
        }
        effect
    }

    /// The first chip that has one of the `len` addresses from `at`: how many addresses before it
    /// nobody has, and how many of them it has.
    fn next(&self, at: u64, len: usize) -> Option<(usize, usize, &Slot<T>)> {
        let last = at.checked_add((len as u64).checked_sub(1)?);
        // An access that wraps ends at the last address there is.
        let last = last.unwrap_or(u64::MAX);
        let index = self.slots.partition_point(|slot| slot.last < at);
        let slot = self.slots.get(index).filter(|slot| slot.first <= last)?;
        let skip = usize::try_from(slot.first.saturating_sub(at)).ok()?;
        let mine = usize::try_from(slot.last.min(last) - slot.first.max(at)).ok()? + 1;
        Some((skip, mine, slot))
    }
}

/// Addresses that cannot be given to a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The first address.
    pub at: u64,
    /// How many there are.
    pub len: u64,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, len } = self;
        write!(
            f,
            "{len:#x} addresses from {at:#x} are taken by another chip, or are none"
        )
    }
}

impl core::error::Error for Overlap {}

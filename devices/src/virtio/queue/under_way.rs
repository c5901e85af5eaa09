//! Which requests the device has taken and not given back.

use super::{QueueError, Token};
use alloc::boxed::Box;
use alloc::vec;

/// The requests under way: each number once, and no more descriptors than the ring has.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// A bit for each number that a request can have.
    bits: Box<[u64]>,
    descriptors: u32,
    size: u16,
}

impl UnderWay {
    /// For requests that are known by a descriptor's number.
    pub(super) fn heads(size: u16) -> Self {
        Self::new(size.into(), size)
    }

    /// For requests that are known by any number of the driver's.
    pub(super) fn ids(size: u16) -> Self {
        Self::new(1 << 16, size)
    }

    fn new(numbers: usize, size: u16) -> Self {
        Self {
            bits: vec![0; numbers.div_ceil(64)].into(),
            descriptors: 0,
            size,
        }
    }

    /// A request is taken.
    pub(super) fn begin(&mut self, token: Token) -> Result<(), QueueError> {
        let id = token.id;
        let size = self.size;
        let again = QueueError::UnderWay { id };
        let (word, bit) = self.bit(id).ok_or(again)?;
        if *word & bit != 0 {
            return Err(again);
        }
        *word |= bit;
        self.descriptors += u32::from(token.descriptors);
        if self.descriptors > size.into() {
            return Err(QueueError::TooManyUnderWay { size });
        }
        Ok(())
    }

    /// A request is given back.
    pub(super) fn end(&mut self, token: Token) -> Result<(), QueueError> {
        let id = token.id;
        let not_under_way = QueueError::NotUnderWay { id };
        let (word, bit) = self.bit(id).ok_or(not_under_way)?;
        if *word & bit == 0 {
            return Err(not_under_way);
        }
        *word &= !bit;
        self.descriptors = self.descriptors.saturating_sub(token.descriptors.into());
        Ok(())
    }

    fn bit(&mut self, id: u16) -> Option<(&mut u64, u64)> {
        let word = self.bits.get_mut(usize::from(id / 64))?;
        Some((word, 1 << (id % 64)))
    }
}

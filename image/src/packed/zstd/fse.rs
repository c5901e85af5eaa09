//! Finite state entropy tables (RFC 8878, section 4.1).

use super::bits::ForwardBits;
use alloc::vec;
use alloc::vec::Vec;

/// A state: the symbol it stands for, and how to come to the next one.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    pub(super) symbol: u8,
    /// How many bits to read for the next state.
    pub(super) bits: u8,
    /// What to add to them.
    pub(super) next: u16,
}

/// How often each symbol is expected, in parts of two to the power of the accuracy; -1 is less
/// than one part.
pub(super) struct Distribution {
    pub(super) accuracy: u32,
    pub(super) counts: Vec<i16>,
}

impl Distribution {
    /// Reads a table description (section 4.1.1) of at most `symbols` symbols; gives what follows.
    pub(super) fn read(bytes: &[u8], accuracy_max: u32, symbols: usize) -> Option<(Self, &[u8])> {
        let mut bits = ForwardBits::new(bytes);
        let accuracy = bits.peek(4).wrapping_add(5);
        bits.skip(4);
        if accuracy > accuracy_max {
            return None;
        }
        let mut counts = Vec::with_capacity(symbols);
        let mut left = 1_u32.wrapping_shl(accuracy);
        while left > 0 {
            if counts.len() >= symbols {
                return None;
            }
            let count = read_count(&mut bits, left)?;
            counts.push(count);
            left = left.checked_sub(u32::from(count.unsigned_abs()))?;
            if count == 0 {
                skip_zeros(&mut bits, &mut counts, symbols)?;
            }
        }
        let rest = bits.rest()?;
        Some((Self { accuracy, counts }, rest))
    }

    /// The table of states (section 4.1.1, "From normalized distribution to decoding tables").
    pub(super) fn table(&self) -> Option<Vec<State>> {
        let size = 1_usize.wrapping_shl(self.accuracy);
        let mask = size.wrapping_sub(1);
        let mut table = vec![State::default(); size];
        // Symbols of less than one part stand at the end, one state each.
        let mut high = size;
        for (symbol, &count) in (0_u8..=u8::MAX).zip(&self.counts) {
            if count < 0 {
                high = high.checked_sub(1)?;
                table.get_mut(high)?.symbol = symbol;
            }
        }
        let step = (size >> 1).wrapping_add(size >> 3).wrapping_add(3);
        let mut at = 0;
        for (symbol, &count) in (0_u8..=u8::MAX).zip(&self.counts) {
            for _ in 0..count {
                table.get_mut(at)?.symbol = symbol;
                at = at.wrapping_add(step) & mask;
                while at >= high && high > 0 {
                    at = at.wrapping_add(step) & mask;
                }
            }
        }
        if at != 0 {
            return None;
        }
        let mut seen: Vec<u16> = self
            .counts
            .iter()
            .map(|count| count.unsigned_abs())
            .collect();
        for state in &mut table {
            let seen = seen.get_mut(usize::from(state.symbol))?;
            let next = *seen;
            *seen = seen.checked_add(1)?;
            let bits = self.accuracy.checked_sub(next.checked_ilog2()?)?;
            let base = u32::from(next).wrapping_shl(bits);
            state.bits = u8::try_from(bits).ok()?;
            state.next = u16::try_from(base.checked_sub(u32::try_from(size).ok()?)?).ok()?;
        }
        Some(table)
    }
}

/// One count, of which as many as are `left` are possible: those that need a bit less than the
/// others are the low ones.
fn read_count(bits: &mut ForwardBits<'_>, left: u32) -> Option<i16> {
    let possible = left.checked_add(2)?;
    let width = left.checked_add(1)?.ilog2().wrapping_add(1);
    let half = 1_u32.wrapping_shl(width.wrapping_sub(1));
    let short = half.wrapping_mul(2).checked_sub(possible)?;
    let value = bits.peek(width);
    let low = value & half.wrapping_sub(1);
    let value = if low < short {
        bits.skip(width.wrapping_sub(1));
        low
    } else {
        bits.skip(width);
        if value >= half {
            value.wrapping_sub(short)
        } else {
            value
        }
    };
    i16::try_from(value).ok()?.checked_sub(1)
}

/// Symbols of no part at all follow each other; their number comes in pairs of bits, of which the
/// last is not 3.
fn skip_zeros(bits: &mut ForwardBits<'_>, counts: &mut Vec<i16>, symbols: usize) -> Option<()> {
    loop {
        let zeros = bits.peek(2);
        bits.skip(2);
        for _ in 0..zeros {
            if counts.len() >= symbols {
                return None;
            }
            counts.push(0);
        }
        if zeros < 3 {
            return Some(());
        }
    }
}

//! Huffman-coded literals (RFC 8878, section 4.2).

use super::bits::Bits;
use super::fse::{Distribution, State};
use alloc::boxed::Box;
use alloc::vec::Vec;
use firstlight_base::Reader;

/// The longest code.
const BITS_MAX: u32 = 11;
const SIZE: usize = 1 << BITS_MAX;

/// What the next bits stand for.
#[derive(Clone, Copy, Default)]
struct Code {
    symbol: u8,
    bits: u8,
}

/// A table of codes by the bits they begin with.
pub(super) struct Huffman {
    codes: Box<[Code; SIZE]>,
    /// How many bits the table is looked up by.
    bits: u32,
}

impl Huffman {
    /// Reads a tree description (section 4.2.1); gives what follows.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&header, rest) = bytes.split_first()?;
        let (weights, rest) = match header.checked_sub(128) {
            // Four bits each.
            Some(more) => {
                let count = usize::from(more).saturating_add(1);
                let (packed, rest) = rest.split_at_checked(count.div_ceil(2))?;
                let mut weights: Vec<u8> = packed
                    .iter()
                    .flat_map(|byte| [byte >> 4, byte & 15])
                    .collect();
                weights.truncate(count);
                (weights, rest)
            }
            None => {
                let (packed, rest) = rest.split_at_checked(usize::from(header))?;
                (read_weights(packed)?, rest)
            }
        };
        Some((Self::of(weights)?, rest))
    }

    /// The table of codes of these weights, of which the last is not given: it fills the table up.
    fn of(mut weights: Vec<u8>) -> Option<Self> {
        let filled = weights.iter().try_fold(0_u32, |sum, &weight| {
            let part = 1_u32.checked_shl(u32::from(weight))? >> 1;
            sum.checked_add(part)
        })?;
        let bits = filled.checked_ilog2()?.wrapping_add(1);
        if bits > BITS_MAX {
            return None;
        }
        let left = 1_u32.wrapping_shl(bits).checked_sub(filled)?;
        if !left.is_power_of_two() {
            return None;
        }
        weights.push(u8::try_from(left.ilog2().wrapping_add(1)).ok()?);

        let mut codes = Box::new([Code::default(); SIZE]);
        let mut free = codes.as_mut_slice();
        for weight in 1..=bits {
            let len = bits.wrapping_add(1).checked_sub(weight)?;
            for (symbol, _) in (0_u8..=u8::MAX)
                .zip(&weights)
                .filter(|&(_, &of)| u32::from(of) == weight)
            {
                let span = 1_usize.wrapping_shl(weight.wrapping_sub(1));
                let (codes, rest) = free.split_at_mut_checked(span)?;
                codes.fill(Code {
                    symbol,
                    bits: u8::try_from(len).ok()?,
                });
                free = rest;
            }
        }
        Some(Self { codes, bits })
    }

    #[inline(always)]
    fn next(&self, bits: &mut Bits<'_>) -> u8 {
        let index = usize::try_from(bits.peek(self.bits)).unwrap_or(0);
        let code = self.codes.get(index & (SIZE - 1)).copied();
        let code = code.unwrap_or_default();
        bits.skip(u32::from(code.bits));
        code.symbol
    }

    /// Fills `into` from one stream.
    pub(super) fn decode(&self, stream: &[u8], into: &mut [u8]) -> Option<()> {
        let mut bits = Bits::new(stream)?;
        self.fill(&mut bits, into)
    }

    /// Fills `into` from four streams in turn, each of which has a quarter (section 3.1.1.3.1.6).
    pub(super) fn decode_four(&self, streams: &[u8], into: &mut [u8]) -> Option<()> {
        let reader = Reader::new(streams);
        let lens = [0, 2, 4].map(|at| reader.u16_le(at));
        let [Ok(first), Ok(second), Ok(third)] = lens else {
            return None;
        };
        let (first, rest) = streams.get(6..)?.split_at_checked(first.into())?;
        let (second, rest) = rest.split_at_checked(second.into())?;
        let (third, fourth) = rest.split_at_checked(third.into())?;
        let mut a = Bits::new(first)?;
        let mut b = Bits::new(second)?;
        let mut c = Bits::new(third)?;
        let mut d = Bits::new(fourth)?;

        let quarter = into.len().div_ceil(4);
        let (into_a, rest) = into.split_at_mut_checked(quarter)?;
        let (into_b, rest) = rest.split_at_mut_checked(quarter)?;
        let (into_c, into_d) = rest.split_at_mut_checked(quarter)?;

        // In turn, so that the processor works on four at once; five codes need 55 bits at most.
        let rounds = into_d.len() / 5;
        let (fives_a, rest_a) = fives(into_a, rounds)?;
        let (fives_b, rest_b) = fives(into_b, rounds)?;
        let (fives_c, rest_c) = fives(into_c, rounds)?;
        let (fives_d, rest_d) = fives(into_d, rounds)?;
        for (((five_a, five_b), five_c), five_d) in
            fives_a.iter_mut().zip(fives_b).zip(fives_c).zip(fives_d)
        {
            a.refill();
            b.refill();
            c.refill();
            d.refill();
            for (((to_a, to_b), to_c), to_d) in
                five_a.iter_mut().zip(five_b).zip(five_c).zip(five_d)
            {
                *to_a = self.next(&mut a);
                *to_b = self.next(&mut b);
                *to_c = self.next(&mut c);
                *to_d = self.next(&mut d);
            }
        }
        self.fill(&mut a, rest_a)?;
        self.fill(&mut b, rest_b)?;
        self.fill(&mut c, rest_c)?;
        self.fill(&mut d, rest_d)
    }

    /// Fills `into` from what is left of a stream, which must then be at its end.
    fn fill(&self, bits: &mut Bits<'_>, into: &mut [u8]) -> Option<()> {
        let (fives, rest) = into.as_chunks_mut::<5>();
        for five in fives {
            bits.refill();
            for to in five {
                *to = self.next(bits);
            }
        }
        bits.refill();
        for to in rest {
            *to = self.next(bits);
        }
        bits.refill();
        bits.is_done().then_some(())
    }
}

/// The first `rounds` times five bytes of `into`, and the rest.
fn fives(into: &mut [u8], rounds: usize) -> Option<(&mut [[u8; 5]], &mut [u8])> {
    let (fives, rest) = into.split_at_mut_checked(rounds.checked_mul(5)?)?;
    Some((fives.as_chunks_mut().0, rest))
}

/// Weights that are themselves packed, with two states in turn (section 4.2.1.2).
fn read_weights(bytes: &[u8]) -> Option<Vec<u8>> {
    const ACCURACY_MAX: u32 = 6;
    const WEIGHTS_MAX: usize = 255;
    let (distribution, stream) = Distribution::read(bytes, ACCURACY_MAX, WEIGHTS_MAX)?;
    let table = distribution.table()?;
    let state = |index: u64| table.get(usize::try_from(index).ok()?).copied();
    let mut bits = Bits::new(stream)?;
    let mut first = state(bits.read(distribution.accuracy))?;
    let mut second = state(bits.read(distribution.accuracy))?;
    let next = |from: State, bits: &mut Bits<'_>| {
        bits.refill();
        state(u64::from(from.next).wrapping_add(bits.read(from.bits.into())))
    };
    let mut weights = Vec::new();
    while weights.len() < WEIGHTS_MAX {
        weights.push(first.symbol);
        let after = next(first, &mut bits);
        if bits.is_overrun() {
            weights.push(second.symbol);
            return (weights.len() <= WEIGHTS_MAX).then_some(weights);
        }
        first = second;
        second = after?;
    }
    None
}

//! Sequences: how many literals, then from how far back how many bytes (RFC 8878, section
//! 3.1.1.3.2).

use super::bits::Bits;
use super::fse::Distribution;
use alloc::boxed::Box;

/// A kind of number in a sequence, and how its codes are read.
pub(super) struct Kind {
    /// The most accurate table of it.
    accuracy_max: u32,
    /// How many codes there are.
    codes: usize,
    /// The table to use where none is given.
    default_accuracy: u32,
    default_counts: &'static [i16],
    /// A code's smallest number, and how many bits are to be added to it.
    number: fn(u8) -> Option<(u32, u8)>,
}

/// How many literals.
pub(super) const LITERALS: Kind = Kind {
    accuracy_max: 9,
    codes: 36,
    default_accuracy: 6,
    default_counts: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1,
        1, 1, -1, -1, -1, -1,
    ],
    number: |code| {
        const NUMBERS: [(u32, u8); 20] = [
            (16, 1),
            (18, 1),
            (20, 1),
            (22, 1),
            (24, 2),
            (28, 2),
            (32, 3),
            (40, 3),
            (48, 4),
            (64, 6),
            (128, 7),
            (256, 8),
            (512, 9),
            (1024, 10),
            (2048, 11),
            (4096, 12),
            (8192, 13),
            (16_384, 14),
            (32_768, 15),
            (65_536, 16),
        ];
        match code.checked_sub(16) {
            None => Some((code.into(), 0)),
            Some(index) => NUMBERS.get(usize::from(index)).copied(),
        }
    },
};

/// How far back; the lowest three numbers mean distances used before.
pub(super) const OFFSETS: Kind = Kind {
    accuracy_max: 8,
    codes: 32,
    default_accuracy: 5,
    default_counts: &[
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ],
    number: |code| Some((1_u32.checked_shl(code.into())?, code)),
};

/// How many bytes from there.
pub(super) const MATCHES: Kind = Kind {
    accuracy_max: 9,
    codes: 53,
    default_accuracy: 6,
    default_counts: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
    number: |code| {
        const NUMBERS: [(u32, u8); 21] = [
            (35, 1),
            (37, 1),
            (39, 1),
            (41, 1),
            (43, 2),
            (47, 2),
            (51, 3),
            (59, 3),
            (67, 4),
            (83, 4),
            (99, 5),
            (131, 7),
            (259, 8),
            (515, 9),
            (1027, 10),
            (2051, 11),
            (4099, 12),
            (8195, 13),
            (16_387, 14),
            (32_771, 15),
            (65_539, 16),
        ];
        match code.checked_sub(32) {
            None => Some((u32::from(code).wrapping_add(3), 0)),
            Some(index) => NUMBERS.get(usize::from(index)).copied(),
        }
    },
};

const SIZE: usize = 1 << 9;

/// A state of a table: the number it stands for, and how to come to the next one.
#[derive(Clone, Copy, Default)]
struct State {
    base: u32,
    next: u16,
    extra_bits: u8,
    next_bits: u8,
}

/// A table of states, for one kind of number.
#[derive(Clone)]
pub(super) struct Table {
    states: Box<[State; SIZE]>,
    accuracy: u32,
}

impl Table {
    /// The table that a block's header names by `mode` (section 3.1.1.3.2.1.1), `before` being
    /// that of the block before; gives what follows its description.
    pub(super) fn read<'a>(
        kind: &Kind,
        mode: u8,
        before: &mut Option<Self>,
        bytes: &'a [u8],
    ) -> Option<&'a [u8]> {
        match mode & 3 {
            0 => {
                let distribution = Distribution {
                    accuracy: kind.default_accuracy,
                    counts: kind.default_counts.to_vec(),
                };
                *before = Some(Self::of(kind, &distribution)?);
                Some(bytes)
            }
            1 => {
                let (&code, rest) = bytes.split_first()?;
                *before = Some(Self::of_one(kind, code)?);
                Some(rest)
            }
            2 => {
                let (distribution, rest) =
                    Distribution::read(bytes, kind.accuracy_max, kind.codes)?;
                *before = Some(Self::of(kind, &distribution)?);
                Some(rest)
            }
            _ => before.is_some().then_some(bytes),
        }
    }

    fn of(kind: &Kind, distribution: &Distribution) -> Option<Self> {
        let mut states = Box::new([State::default(); SIZE]);
        for (to, from) in states.iter_mut().zip(distribution.table()?) {
            let (base, extra_bits) = (kind.number)(from.symbol)?;
            *to = State {
                base,
                next: from.next,
                extra_bits,
                next_bits: from.bits,
            };
        }
        Some(Self {
            states,
            accuracy: distribution.accuracy,
        })
    }

    /// Always the same code.
    fn of_one(kind: &Kind, code: u8) -> Option<Self> {
        if usize::from(code) >= kind.codes {
            return None;
        }
        let (base, extra_bits) = (kind.number)(code)?;
        let state = State {
            base,
            extra_bits,
            ..State::default()
        };
        Some(Self {
            states: Box::new([state; SIZE]),
            accuracy: 0,
        })
    }

    #[inline(always)]
    fn state(&self, index: u64) -> State {
        let index = usize::try_from(index).unwrap_or(0) & (SIZE - 1);
        self.states.get(index).copied().unwrap_or_default()
    }

    fn start(&self, bits: &mut Bits<'_>) -> State {
        let state = self.state(bits.read(self.accuracy));
        bits.refill();
        state
    }
}

impl State {
    #[inline(always)]
    fn number(self, bits: &mut Bits<'_>) -> u32 {
        let extra = bits.read(self.extra_bits.into());
        self.base.wrapping_add(u32::try_from(extra).unwrap_or(0))
    }

    #[inline(always)]
    fn after(self, table: &Table, bits: &mut Bits<'_>) -> Self {
        table.state(u64::from(self.next).wrapping_add(bits.read(self.next_bits.into())))
    }
}

/// Literals to copy, then bytes to repeat.
pub(super) struct Sequence {
    pub(super) literals: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// The sequences of a block, one after the other.
pub(super) struct Sequences<'a> {
    pub(super) bits: Bits<'a>,
    tables: [&'a Table; 3],
    states: [State; 3],
    left: u32,
}

impl<'a> Sequences<'a> {
    /// The sequences in `stream`, by the tables of literals, offsets and matches.
    pub(super) fn new(stream: &'a [u8], count: u32, tables: [&'a Table; 3]) -> Option<Self> {
        let mut bits = Bits::new(stream)?;
        let states = tables.map(|table| table.start(&mut bits));
        Some(Self {
            bits,
            tables,
            states,
            left: count,
        })
    }
}

impl Iterator for Sequences<'_> {
    type Item = Sequence;

    #[inline(always)]
    fn next(&mut self) -> Option<Sequence> {
        /// What is left of the bits between two refills when those for the next states are off.
        const BITS: u8 = 56 - 9 - 9 - 8;
        self.left = self.left.checked_sub(1)?;
        let [literals, offset, len] = self.states;
        let bits = &mut self.bits;
        bits.refill();
        let sequence_offset = offset.number(bits);
        let sequence_len = len.number(bits);
        let extra_bits = literals
            .extra_bits
            .wrapping_add(offset.extra_bits)
            .wrapping_add(len.extra_bits);
        if extra_bits > BITS {
            bits.refill();
        }
        let sequence = Sequence {
            literals: literals.number(bits),
            offset: sequence_offset,
            len: sequence_len,
        };
        if self.left > 0 {
            let [literals_table, offsets_table, matches_table] = self.tables;
            let literals = literals.after(literals_table, bits);
            let len = len.after(matches_table, bits);
            let offset = offset.after(offsets_table, bits);
            self.states = [literals, offset, len];
        }
        Some(sequence)
    }
}

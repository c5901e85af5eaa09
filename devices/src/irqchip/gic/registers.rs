//! The registers that show banks of interrupts: at the same offsets in a GICv2's distributor, and
//! in a GICv3's distributor and redistributors.

use super::bank::Bank;
use super::{bit, members};

/// A register of 32 bits, or four registers of one byte, of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BankRegister {
    bank: u32,
    field: Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Group,
    SetEnabled,
    ClearEnabled,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
    /// Of four interrupts, from the one with this index in the bank.
    Priority(u32),
    /// Of 16 interrupts, two bits each, from the one with this index in the bank.
    Config(u32),
}

impl BankRegister {
    /// The register at `offset` (IHI 0048B.b, section 4.1.2).
    pub(super) fn at(offset: u64) -> Option<Self> {
        let offset = u32::try_from(offset).ok()?;
        let words = |first: u32| (offset - first) / 4;
        let of_each = |field, first| Self {
            bank: words(first),
            field,
        };
        Some(match offset {
            0x080..0x100 => of_each(Field::Group, 0x080),
            0x100..0x180 => of_each(Field::SetEnabled, 0x100),
            0x180..0x200 => of_each(Field::ClearEnabled, 0x180),
            0x200..0x280 => of_each(Field::SetPending, 0x200),
            0x280..0x300 => of_each(Field::ClearPending, 0x280),
            0x300..0x380 => of_each(Field::SetActive, 0x300),
            0x380..0x400 => of_each(Field::ClearActive, 0x380),
            0x400..0x800 => Self {
                bank: words(0x400) / 8,
                field: Field::Priority(words(0x400) % 8 * 4),
            },
            0xc00..0xd00 => Self {
                bank: words(0xc00) / 2,
                field: Field::Config(words(0xc00) % 2 * 16),
            },
            _ => return None,
        })
    }

    pub(super) fn bank(self) -> u32 {
        self.bank
    }

    pub(super) fn field(self) -> Field {
        self.field
    }

    pub(super) fn read(self, bank: &Bank) -> u32 {
        match self.field {
            Field::Group => bank.group_1,
            Field::SetEnabled | Field::ClearEnabled => bank.enabled,
            Field::SetPending | Field::ClearPending => bank.pending(),
            Field::SetActive | Field::ClearActive => bank.active,
            Field::Priority(first) => {
                u32::from_le_bytes([0, 1, 2, 3].map(|index| bank.priority(first + index)))
            }
            Field::Config(first) => members(bank.edge() >> first & 0xffff)
                .fold(0, |config, index| config | 0b10 << (2 * index)),
        }
    }

    pub(super) fn write(self, bank: &mut Bank, written: Written) {
        let ones = written.ones();
        match self.field {
            Field::Group => bank.group_1 = written.over(bank.group_1) & bank.present,
            Field::SetEnabled => bank.enabled |= ones & bank.present,
            Field::ClearEnabled => bank.enabled &= !ones,
            Field::SetPending => bank.latch(ones),
            Field::ClearPending => bank.unlatch(ones),
            Field::SetActive => bank.activate(ones),
            Field::ClearActive => bank.deactivate(ones),
            Field::Priority(first) => {
                for (index, priority) in written.bytes() {
                    bank.set_priority(first + index, priority);
                }
            }
            Field::Config(first) => {
                let edge = (0..16).filter(|index| written.value >> (2 * index + 1) & 1 != 0);
                let edge = edge.fold(0, |edge, index| edge | bit(first + index));
                let touched = (0..16).filter(|index| written.mask >> (2 * index + 1) & 1 != 0);
                let touched = touched.fold(0, |touched, index| touched | bit(first + index));
                bank.set_edge((bank.edge() & !touched) | (edge & touched));
            }
        }
    }
}

/// What a write gives a register of 32 bits: some of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) value: u32,
    /// All ones in the bytes that were written.
    pub(super) mask: u32,
}

impl Written {
    /// The register's value, after `old`.
    pub(super) fn over(self, old: u32) -> u32 {
        (old & !self.mask) | self.ones()
    }

    /// The bits that were written as ones.
    pub(super) fn ones(self) -> u32 {
        self.value & self.mask
    }

    /// The bytes that were written, with their places.
    pub(super) fn bytes(self) -> impl Iterator<Item = (u32, u8)> {
        (0..)
            .zip(self.value.to_le_bytes())
            .zip(self.mask.to_le_bytes())
            .filter_map(|(byte, mask)| (mask != 0).then_some(byte))
    }

    /// Gives a write of any width to `word`, register by register, lowest first.
    pub(super) fn each(offset: u64, data: &[u8], mut word: impl FnMut(u64, Self)) {
        let mut written = Self { value: 0, mask: 0 };
        for (&byte, index) in data.iter().zip(1..) {
            let at = offset.wrapping_add(index - 1);
            let lane = at % 4;
            written.value |= u32::from(byte) << (8 * lane);
            written.mask |= 0xff << (8 * lane);
            if lane == 3 || index == data.len() as u64 {
                word(at - lane, written);
                written = Self { value: 0, mask: 0 };
            }
        }
    }
}

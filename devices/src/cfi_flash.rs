//! NOR flash with Intel's extended command set, as QEMU's machines have it (Common Flash Memory Interface
//! Specification, JESD68.01; Intel's "Common Flash Memory Interface Specification and Command Set"
//! for what commands do; QEMU's `hw/block/pflash_cfi01.c` for how a bank is put together).

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange, GuestMem};

/// A bank of flash: chips side by side that answer together, each with its part of every word.
///
/// The bytes that are stored lie with whoever owns the bank, and the guest reads them there, past this
/// value, as long as the bank [shows](Self::shows_array) them.
#[derive(Debug)]
pub struct CfiFlash {
    range: GpaRange,
    bus: FlashBus,
    is_readonly: bool,
    reads: Reads,
    status: u8,
    next: Next,
}

/// How a bank is put together, of chips of 8 or of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashBus {
    /// One chip of 8 bits, with blocks of 4 KiB: as PCs have it.
    Narrow,
    /// Two chips of 16 bits, with blocks of 256 KiB of both: as `virt` machines have it.
    Wide,
}

impl FlashBus {
    /// Bytes of a word.
    const fn width(self) -> usize {
        match self {
            Self::Narrow => 1,
            Self::Wide => 4,
        }
    }

    /// How many chips a word is divided among.
    const fn chips(self) -> usize {
        match self {
            Self::Narrow => 1,
            Self::Wide => 2,
        }
    }

    /// Bytes that are erased at once.
    #[must_use]
    pub const fn block(self) -> u64 {
        match self {
            Self::Narrow => 0x1000,
            Self::Wide => 0x4_0000,
        }
    }

    /// Bytes that can be written by one command.
    const fn buffer(self) -> usize {
        match self {
            Self::Narrow => 0x100,
            Self::Wide => 0x1000,
        }
    }
}

/// What reads are answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Array,
    Status,
    Identifier,
    Query,
}

/// What the next write is.
#[derive(Debug)]
enum Next {
    /// A command.
    Command,
    /// The word that is to be stored.
    Word,
    /// How many words the buffer is to take, less one.
    Count { block: u64 },
    /// Words for the buffer.
    Words {
        block: u64,
        left: usize,
        words: Vec<(u64, Vec<u8>)>,
    },
    /// That the buffer is to be stored.
    ConfirmBuffer { words: Vec<(u64, Vec<u8>)> },
    /// That a block is to be erased.
    ConfirmErase { block: u64 },
    /// What a lock is to be.
    Lock,
}

/// Bits of the status register.
const READY: u8 = 0x80;
const ERASE_FAILED: u8 = 0x20;
const PROGRAM_FAILED: u8 = 0x10;
const LOCKED: u8 = 0x02;
const BAD_SEQUENCE: u8 = ERASE_FAILED | PROGRAM_FAILED;
/// What confirms.
const CONFIRM: u8 = 0xd0;

impl CfiFlash {
    /// A bank at `range`, whole blocks of it. The guest cannot change one that is read-only.
    #[must_use]
    pub const fn new(range: GpaRange, bus: FlashBus, is_readonly: bool) -> Self {
        Self {
            range,
            bus,
            is_readonly,
            reads: Reads::Array,
            status: READY,
            next: Next::Command,
        }
    }

    /// Whether reads are answered with the bytes that are stored.
    #[must_use]
    pub fn shows_array(&self) -> bool {
        self.reads == Reads::Array
    }

    /// Fills `data` with what the bank answers at `offset`, its bytes being in `array` at the addresses
    /// that the guest knows them by.
    pub fn read(&self, offset: u64, data: &mut [u8], array: &impl GuestMem) {
        if self.shows_array() {
            // What is not there reads as erased.
            if self
                .at(offset)
                .is_none_or(|at| array.read(at, data).is_err())
            {
                data.fill(0xff);
            }
            return;
        }
        let width = self.bus.width() as u64;
        let mut word = Vec::new();
        for (byte, at) in data.iter_mut().zip(0..) {
            let at = offset.wrapping_add(at);
            if word.is_empty() || at.is_multiple_of(width) {
                word = self.answer(at / width);
            }
            let lane = usize::try_from(at % width).unwrap_or_default();
            *byte = word.get(lane).copied().unwrap_or(0xff);
        }
    }

    /// Writes `data` at `offset`: commands, or what belongs to one.
    pub fn write(&mut self, offset: u64, data: &[u8], array: &impl GuestMem) {
        let width = self.bus.width();
        for (word, at) in data.chunks(width).zip((0..).step_by(width)) {
            self.write_word(offset.wrapping_add(at), word, array);
        }
    }

    /// What each chip says at its own address, side by side.
    fn answer(&self, address: u64) -> Vec<u8> {
        let (chips, width) = (self.bus.chips(), self.bus.width());
        let byte = match self.reads {
            Reads::Array => 0xff,
            Reads::Status => self.status,
            Reads::Identifier => identifier(address & 0xff),
            Reads::Query => self.query(address & 0xff),
        };
        let mut one = Vec::from([byte]);
        one.resize(width.checked_div(chips).unwrap_or(width), 0);
        one.repeat(chips)
    }

    fn write_word(&mut self, offset: u64, word: &[u8], array: &impl GuestMem) {
        let Some(&command) = word.first() else { return };
        let block = offset - offset % self.bus.block();
        match core::mem::replace(&mut self.next, Next::Command) {
            Next::Command => self.begin(command, block),
            Next::Word => {
                let stored = self.program(&[(offset, word.to_vec())], array);
                self.end(stored, PROGRAM_FAILED);
            }
            Next::Count { block } => self.count(word, block),
            Next::Words { block, left, words } => {
                self.take(block, left, words, (offset, word.to_vec()));
            }
            Next::ConfirmBuffer { words } if command == CONFIRM => {
                let stored = self.program(&words, array);
                self.end(stored, PROGRAM_FAILED);
            }
            Next::ConfirmErase { block } if command == CONFIRM => {
                let erased = self.erase(block, array);
                self.end(erased, ERASE_FAILED);
            }
            // Locks are there for form's sake: whoever may write here may unlock, too.
            Next::Lock if [0x01, 0x2f, CONFIRM].contains(&command) => self.end(true, 0),
            Next::ConfirmBuffer { .. } | Next::ConfirmErase { .. } | Next::Lock => {
                self.status |= BAD_SEQUENCE;
                self.reads = Reads::Status;
            }
        }
    }

    fn begin(&mut self, command: u8, block: u64) {
        let (reads, next) = match command {
            0x10 | 0x40 => (Reads::Status, Next::Word),
            0x20 => (Reads::Status, Next::ConfirmErase { block }),
            0x50 => {
                // QEMU's is not even ready then, by which firmware knows it.
                self.status = 0;
                return;
            }
            0x60 => (Reads::Status, Next::Lock),
            0x70 => (Reads::Status, Next::Command),
            0x90 => (Reads::Identifier, Next::Command),
            0x98 => (Reads::Query, Next::Command),
            0xe8 => (Reads::Status, Next::Count { block }),
            // 0xff, and whatever else a chip does not know.
            _ => (Reads::Array, Next::Command),
        };
        if !matches!(next, Next::Command | Next::Word) {
            // It takes what belongs to the command.
            self.status |= READY;
        }
        (self.reads, self.next) = (reads, next);
    }

    fn count(&mut self, word: &[u8], block: u64) {
        let mut number = [0; 2];
        let of_one_chip = word.len().min(self.bus.width() / self.bus.chips()).min(2);
        for (to, from) in number.iter_mut().zip(word.iter().take(of_one_chip)) {
            *to = *from;
        }
        let left = usize::from(u16::from_le_bytes(number)).saturating_add(1);
        if left.saturating_mul(self.bus.width()) > self.bus.buffer() {
            self.status |= BAD_SEQUENCE;
            return;
        }
        let words = Vec::new();
        self.next = Next::Words { block, left, words };
    }

    fn take(
        &mut self,
        block: u64,
        left: usize,
        mut words: Vec<(u64, Vec<u8>)>,
        word: (u64, Vec<u8>),
    ) {
        let is_inside = (block..block.saturating_add(self.bus.block())).contains(&word.0);
        if !is_inside {
            self.status |= BAD_SEQUENCE;
            return;
        }
        words.push(word);
        let left = left.saturating_sub(1);
        self.next = match left {
            0 => Next::ConfirmBuffer { words },
            left => Next::Words { block, left, words },
        };
    }

    /// What has been done is seen in the status.
    fn end(&mut self, is_done: bool, failed: u8) {
        self.reads = Reads::Status;
        self.status |= READY;
        if !is_done {
            self.status |= failed;
            self.status |= if self.is_readonly { LOCKED } else { 0 };
        }
    }

    /// Stores words; flash can only be made zero, bit by bit, until it is erased.
    fn program(&self, words: &[(u64, Vec<u8>)], array: &impl GuestMem) -> bool {
        !self.is_readonly
            && words.iter().all(|(offset, word)| {
                let mut stored = word.clone();
                self.at(*offset).is_some_and(|at| {
                    array.read(at, &mut stored).is_ok() && {
                        let bits = stored.iter_mut().zip(word);
                        bits.for_each(|(stored, byte)| *stored &= byte);
                        array.write(at, &stored).is_ok()
                    }
                })
            })
    }

    fn erase(&self, block: u64, array: &impl GuestMem) -> bool {
        const PIECE: [u8; 0x1000] = [0xff; 0x1000];
        let end = block.saturating_add(self.bus.block());
        !self.is_readonly
            && (block..end).step_by(PIECE.len()).all(|offset| {
                self.at(offset)
                    .is_some_and(|at| array.write(at, &PIECE).is_ok())
            })
    }

    fn at(&self, offset: u64) -> Option<Gpa> {
        let is_inside = offset < self.range.len();
        is_inside.then(|| self.range.start().checked_add(offset))?
    }

    /// The table that drivers ask for (JESD68.01, section 3.2; for the Intel command set its extension,
    /// `PRI`).
    fn query(&self, address: u64) -> u8 {
        let chips = self.bus.chips() as u64;
        let of_chip = self.range.len().checked_div(chips).unwrap_or_default();
        let block = self.bus.block().checked_div(chips).unwrap_or_default();
        let blocks = of_chip
            .checked_div(block)
            .unwrap_or_default()
            .saturating_sub(1);
        let [blocks_low, blocks_high, ..] = blocks.to_le_bytes();
        let [block_low, block_high, ..] = (block >> 8).to_le_bytes();
        let log = |number: u64| u8::try_from(number.checked_ilog2().unwrap_or(0)).unwrap_or(0);
        let buffer = (self.bus.buffer() as u64)
            .checked_div(chips)
            .unwrap_or_default();
        let is_wide = u8::from(self.bus == FlashBus::Wide);
        match address {
            0x10 => b'Q',
            0x11 => b'R',
            0x12 => b'Y',
            // Intel's extended command set, and where its table begins.
            0x13 => 0x01,
            0x15 => 0x31,
            // 4.5 to 5.5 V.
            0x1b => 0x45,
            0x1c => 0x55,
            // A word takes 2⁷ us, a buffer as long, a block 2¹⁰ ms; at most 2⁴ times that.
            0x1f | 0x20 => 0x07,
            0x21 => 0x0a,
            0x23..=0x25 => 0x04,
            0x27 => log(of_chip),
            // Chips of 8 bits, or of 16.
            0x28 => is_wide,
            0x2a => log(buffer),
            0x2c => 1,
            0x2d => blocks_low,
            0x2e => blocks_high,
            0x2f => block_low,
            0x30 => block_high,
            0x31 => b'P',
            0x32 => b'R',
            0x33 => b'I',
            0x34 => b'1',
            0x35 => b'0',
            _ => 0,
        }
    }
}

/// Intel's number, and that of a 28F640J3 for one.
const fn identifier(address: u64) -> u8 {
    match address {
        0 => 0x89,
        1 => 0x18,
        _ => 0,
    }
}

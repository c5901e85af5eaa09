//! The receiver: its FIFO, the level that the interrupt is for, and its errors (DDI 0183, sections
//! 3.3.1, 3.3.2 and 3.3.9).

use alloc::collections::VecDeque;

/// Bytes that have come and were not taken yet.
#[derive(Debug)]
pub(super) struct Receiver {
    bytes: VecDeque<u8>,
    holds: Holds,
    /// UARTIFLS. Bits 0 to 2 are the transmitter's.
    pub(super) level_select: u32,
    /// Whether the byte that came last was lost, as UARTDR tells it.
    overrun: bool,
    /// The same until it is forgiven, as UARTRSR tells it.
    overrun_seen: bool,
}

/// What the receiver holds bytes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// One register.
    Byte,
    /// The FIFO.
    Fifo,
}

const FIFO_DEPTH: usize = 32;
/// The overrun error in UARTDR, above the byte, and in UARTRSR.
const DATA_OVERRUN: u32 = 1 << 11;
const STATUS_OVERRUN: u32 = 1 << 3;
/// Both levels are a half after reset.
const LEVELS_AFTER_RESET: u32 = 0x12;

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            bytes: VecDeque::with_capacity(FIFO_DEPTH),
            holds: Holds::Byte,
            level_select: LEVELS_AFTER_RESET,
            overrun: false,
            overrun_seen: false,
        }
    }

    /// How many bytes more it holds.
    pub(super) fn room(&self) -> usize {
        let depth = match self.holds {
            Holds::Byte => 1,
            Holds::Fifo => FIFO_DEPTH,
        };
        depth.saturating_sub(self.bytes.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes a byte in. Without room it is lost, which is an overrun.
    pub(super) fn put(&mut self, byte: u8) -> bool {
        let fits = self.room() > 0;
        if fits {
            self.bytes.push_back(byte);
        } else {
            self.overrun = true;
            self.overrun_seen = true;
        }
        fits
    }

    /// The oldest byte, and whether bytes were lost since the last was taken.
    pub(super) fn take(&mut self) -> u32 {
        let byte = self.bytes.pop_front().unwrap_or(0);
        let overrun = core::mem::take(&mut self.overrun);
        u32::from(byte) | if overrun { DATA_OVERRUN } else { 0 }
    }

    pub(super) fn status(&self) -> u32 {
        if self.overrun_seen { STATUS_OVERRUN } else { 0 }
    }

    pub(super) fn forgive(&mut self) {
        self.overrun_seen = false;
    }

    /// How many bytes must be there for the receive interrupt.
    fn level(&self) -> usize {
        match (self.holds, self.level_select >> 3) {
            (Holds::Byte, _) => 1,
            (Holds::Fifo, 0) => FIFO_DEPTH / 8,
            (Holds::Fifo, 1) => FIFO_DEPTH / 4,
            (Holds::Fifo, 2) => FIFO_DEPTH / 2,
            (Holds::Fifo, 3) => FIFO_DEPTH * 3 / 4,
            // 5 and above are reserved.
            (Holds::Fifo, _) => FIFO_DEPTH * 7 / 8,
        }
    }

    /// Whether the byte that came last made them as many as the level. The interrupt is for that
    /// transition, not for the level itself.
    pub(super) fn has_just_reached_level(&self) -> bool {
        self.bytes.len() == self.level()
    }

    pub(super) fn is_below_level(&self) -> bool {
        self.bytes.len() < self.level()
    }

    /// Changes over. The FIFO without its enable bit holds no more than one byte, and guests use
    /// that to empty it.
    pub(super) fn hold(&mut self, holds: Holds) {
        if self.holds == Holds::Fifo && holds == Holds::Byte {
            self.bytes.clear();
        }
        self.holds = holds;
    }
}

//! An interrupt line that is only driven when its level changes.

use firstlight_hv::IrqLine;

/// A line and its level.
///
/// The one thing that can go wrong with a line is the host's refusal: the guest then misses an
/// interrupt, as with a broken wire.
pub(super) struct LevelLine<L> {
    line: L,
    high: bool,
}

impl<L: IrqLine> LevelLine<L> {
    /// A line that is low.
    pub(super) fn new(line: L) -> Self {
        Self { line, high: false }
    }

    pub(super) fn set(&mut self, high: bool) {
        if high != self.high && self.line.set(high).is_ok() {
            self.high = high;
        }
    }

    /// Raises and lowers it.
    pub(super) fn pulse(&self) {
        let _ = self.line.pulse();
    }
}

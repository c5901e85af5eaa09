//! An interrupt line that is only driven when its level changes.

use firstlight_hv::IrqLine;

/// A line and its level.
///
/// The one thing that can go wrong with a line is the host's refusal: the guest then misses an
/// interrupt, as with a broken wire.
pub(crate) struct LevelLine {
    line: Box<dyn IrqLine>,
    high: bool,
}

impl LevelLine {
    /// A line that is low.
    pub(crate) fn new(line: Box<dyn IrqLine>) -> Self {
        Self { line, high: false }
    }

    pub(crate) fn set(&mut self, high: bool) {
        if high != self.high && self.line.set(high).is_ok() {
            self.high = high;
        }
    }

    /// Raises and lowers it.
    pub(crate) fn pulse(&self) {
        let _ = self.line.pulse();
    }
}

//! What all JSON of this command has in common.

use firstlight_base::GpaRange;
use serde::{Serialize, Serializer};

/// A 64-bit number as a string: readers that keep numbers as floating point would lose its low
/// bits, and people read addresses in hexadecimal anyway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hex(pub(crate) u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// A range of guest-physical addresses; `end` is the first address behind it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Span {
    start: Hex,
    end: Hex,
    size: u64,
}

impl Span {
    pub(crate) fn of(range: GpaRange) -> Self {
        Self {
            start: Hex(range.start().get()),
            end: Hex(range.end().get()),
            size: range.len(),
        }
    }
}

/// `value` as text for people and programs alike, with a line end.
pub(crate) fn to_text(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value)
        .expect("string keys and no serializer of ours that fails");
    text.push('\n');
    text
}

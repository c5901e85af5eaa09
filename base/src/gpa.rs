//! Guest-physical addresses and ranges of them.

use core::fmt;

/// Bytes in a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

/// A guest-physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gpa(u64);

impl Gpa {
    /// The address `bytes` above zero.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The address as a number of bytes above zero.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` higher; `None` where that is no 64-bit address.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The address `bytes` lower; `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
        match self.0.checked_sub(bytes) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// The lowest multiple of `align` that is not below this address; `None` where `align` is not
    /// a power of two or the result is no 64-bit address.
    #[must_use]
    pub const fn align_up(self, align: u64) -> Option<Self> {
        if !align.is_power_of_two() {
            return None;
        }
        match self.0.checked_next_multiple_of(align) {
            Some(up) => Some(Self(up)),
            None => None,
        }
    }

    /// The highest multiple of `align` that is not above this address; `None` where `align` is not
    /// a power of two.
    #[must_use]
    pub const fn align_down(self, align: u64) -> Option<Self> {
        if align.is_power_of_two() {
            Some(Self(self.0 & !(align - 1)))
        } else {
            None
        }
    }

    /// Whether the address is a multiple of `align`; false where `align` is no power of two.
    #[must_use]
    pub const fn is_aligned(self, align: u64) -> bool {
        align.is_power_of_two() && self.0 & (align - 1) == 0
    }
}

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#011x}", self.0)
    }
}

impl fmt::Debug for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A range of guest-physical addresses that holds at least one byte and does not wrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpaRange {
    start: Gpa,
    len: u64,
}

impl GpaRange {
    /// The `len` bytes from `start`; `None` where that is no byte at all or more than there are.
    #[must_use]
    pub const fn new(start: Gpa, len: u64) -> Option<Self> {
        if len == 0 || start.checked_add(len).is_none() {
            return None;
        }
        Some(Self { start, len })
    }

    /// From `start` up to but not including `end`; `None` where `end` is not above `start`.
    #[must_use]
    pub const fn between(start: Gpa, end: Gpa) -> Option<Self> {
        match end.0.checked_sub(start.0) {
            Some(len) => Self::new(start, len),
            None => None,
        }
    }

    /// The first address.
    #[must_use]
    pub const fn start(self) -> Gpa {
        self.start
    }

    /// The first address behind the range.
    #[must_use]
    pub const fn end(self) -> Gpa {
        Gpa(self.start.0 + self.len)
    }

    /// The address of the last byte, which is how some headers state limits.
    #[must_use]
    pub const fn last(self) -> Gpa {
        Gpa(self.start.0 + self.len - 1)
    }

    /// How many bytes; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Whether some byte is in both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end().0 && other.start.0 < self.end().0
    }

    /// Whether every byte of `other` is in this range.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end().0 <= self.end().0
    }

    /// The bytes that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end().min(other.end()))
    }
}

impl fmt::Display for GpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end())
    }
}

impl fmt::Debug for GpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> GpaRange {
        GpaRange::new(Gpa::new(start), len).unwrap()
    }

    #[test]
    fn a_range_refuses_to_be_empty_or_to_wrap() {
        assert_eq!(GpaRange::new(Gpa::new(4), 0), None);
        assert_eq!(GpaRange::new(Gpa::new(u64::MAX), 1), None);
        assert!(GpaRange::new(Gpa::new(u64::MAX - 1), 1).is_some());
        assert_eq!(GpaRange::between(Gpa::new(4), Gpa::new(3)), None);
    }

    #[test]
    fn neighbours_do_not_overlap() {
        assert!(!range(0, 16).overlaps(range(16, 16)));
        assert!(range(0, 17).overlaps(range(16, 16)));
        assert!(range(16, 1).overlaps(range(0, 64)));
        assert_eq!(range(0, 16).intersection(range(16, 16)), None);
        assert_eq!(range(0, 20).intersection(range(16, 16)), Some(range(16, 4)));
    }

    #[test]
    fn alignment_near_the_top_is_refused_not_wrapped() {
        assert_eq!(Gpa::new(u64::MAX).align_up(0x1000), None);
        assert_eq!(Gpa::new(1).align_up(3), None);
        assert_eq!(Gpa::new(1).align_up(0x1000), Some(Gpa::new(0x1000)));
        assert_eq!(Gpa::new(0x1000).align_up(0x1000), Some(Gpa::new(0x1000)));
        assert_eq!(Gpa::new(0x1fff).align_down(0x1000), Some(Gpa::new(0x1000)));
        assert!(!Gpa::new(0).is_aligned(0));
    }

    #[test]
    fn ranges_read_as_people_write_them() {
        extern crate alloc;
        assert_eq!(
            alloc::format!("{}", range(0x10_0000, 0x1000)),
            "0x000100000..0x000101000"
        );
    }
}

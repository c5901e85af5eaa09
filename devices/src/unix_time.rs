//! The time that clock chips are given.

use core::time::Duration;

/// The time since 1970-01-01 00:00:00 UTC, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub Duration);

impl UnixTime {
    /// So many seconds after it began.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The whole seconds of it.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0.as_secs()
    }
}

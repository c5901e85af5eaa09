//! Flash, which firmware lies in.

use firstlight_base::GpaRange;

/// Two banks of flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flash {
    /// The firmware itself, which the guest can only read.
    pub code: GpaRange,
    /// What the firmware keeps between two starts.
    pub variables: GpaRange,
}

//! Numbers of bytes as people read them.

use core::fmt;
use firstlight_base::{GIB, KIB, MIB};

/// A number of bytes, shown in the largest unit of which it holds at least one, with one decimal
/// where that says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

const TIB: u64 = 1 << 40;

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        let unit = units.into_iter().find(|&(unit, _)| self.0 >= unit);
        match unit {
            None => write!(f, "{} B", self.0),
            Some((unit, name)) if self.0.is_multiple_of(unit) => {
                write!(f, "{} {name}", self.0.checked_div(unit).unwrap_or_default())
            }
            Some((unit, name)) => write!(f, "{:.1} {name}", self.0 as f64 / unit as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        let shown = [
            0,
            1023,
            1024,
            1536,
            512 << 20,
            (1 << 20) + (1 << 19),
            3 << 40,
        ]
        .map(|bytes| Size(bytes).to_string());
        let meant = [
            "0 B", "1023 B", "1 KiB", "1.5 KiB", "512 MiB", "1.5 MiB", "3 TiB",
        ];
        assert_eq!(shown, meant);
    }
}

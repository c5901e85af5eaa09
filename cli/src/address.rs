//! `--load-address` and `--reserve`: guest-physical addresses and ranges of them.

use crate::memory_size;
use firstlight_base::{Gpa, GpaRange};

/// The address that `text` means: in hexadecimal behind 0x, or a number as for `--memory`.
pub(crate) fn parse(text: &str) -> Result<Gpa, String> {
    number(text).map(Gpa::new)
}

/// The range that `text` means: `START-END`, the end not being part of it, or `START+LENGTH`.
pub(crate) fn parse_range(text: &str) -> Result<GpaRange, String> {
    let (range, rule) = if let Some((start, end)) = text.split_once('-') {
        let (start, end) = (parse(start)?, parse(end)?);
        (
            GpaRange::between(start, end),
            "its end is not above its start",
        )
    } else if let Some((start, len)) = text.split_once('+') {
        let (start, len) = (parse(start)?, number(len)?);
        (
            GpaRange::new(start, len),
            "it is empty, or ends above every 64-bit address",
        )
    } else {
        return Err(format!(
            "{text:?} is no range; 1M-2M is one, and so is 0x100000+64K"
        ));
    };
    range.ok_or_else(|| format!("{text:?} is no range: {rule}"))
}

fn number(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // The parser would take a sign.
        Some(digits) if digits.starts_with('+') => Err(format!("{text:?} is no number")),
        Some(digits) => u64::from_str_radix(digits, 16)
            .map_err(|error| format!("{text:?} is no hexadecimal number: {error}")),
        None => memory_size::number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hexadecimal_or_sizes() {
        let parsed = ["0x100000", "0X10", "16M", "4096", "0"].map(|text| parse(text).unwrap());
        assert_eq!(parsed.map(Gpa::get), [0x10_0000, 0x10, 16 << 20, 4096, 0]);
        for text in ["100000h", "0x", "0x+1", "-1", "1G1", "0x1_0000"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ranges_have_an_end_or_a_length() {
        let wanted = GpaRange::new(Gpa::new(1 << 20), 1 << 20);
        for text in ["1M-2M", "0x100000-2M", "1M+1M", "0x100000+0x100000"] {
            assert_eq!(parse_range(text).ok(), wanted, "{text}");
        }
        for (text, reason) in [
            ("1M", "no range"),
            ("2M-1M", "not above"),
            ("1M-1M", "not above"),
            ("1M+0", "empty"),
            ("0xffffffffffffffff+2", "64-bit"),
            ("1M-", "no number"),
        ] {
            let error = parse_range(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}

//! `--memory`: a number of bytes with an optional unit.

/// The bytes that `text` means: a whole number, alone or with K, M, G or T behind it.
///
/// Guest memory is handed out in pages of 4 KiB, so it has to be a multiple of that.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    const PAGE: u64 = 4096;
    let bytes = number(text)?;
    if bytes == 0 {
        Err("a guest without memory cannot run".into())
    } else if bytes % PAGE != 0 {
        Err(format!(
            "{bytes} bytes are not a multiple of {PAGE}, the size of a page"
        ))
    } else {
        Ok(bytes)
    }
}

/// The number that `text` means: a whole one, alone or with K, M, G or T behind it.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = &text[digits.len()..];
    let number: u64 = digits
        .parse()
        .map_err(|error| format!("{text:?} is no number of bytes: {error}"))?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(format!("{unit:?} is no unit; K, M, G and T are")),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} is more than a 64-bit number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        let parsed = ["8192", "8k", "512M", "1GiB", "2t"].map(|text| parse(text).unwrap());
        assert_eq!(parsed, [8192, 8192, 512 << 20, 1 << 30, 2 << 40]);
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_reason() {
        for (text, reason) in [
            ("0", "without memory"),
            ("", "no number"),
            ("M", "no number"),
            ("-1", "no number"),
            ("1.5G", "no number"),
            ("512MB", "no unit"),
            ("512 apples", "no unit"),
            ("5000", "multiple of 4096"),
            ("99999999T", "64-bit"),
            ("99999999999999999999", "no number"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}

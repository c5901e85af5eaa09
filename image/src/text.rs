//! Text from files, made fit to be shown and handed on.

use alloc::string::String;

/// What stands before the first NUL.
pub(crate) fn up_to_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The text up to the first NUL, if it is printable ASCII without spaces; else `unnamed`.
pub(crate) fn name(bytes: &[u8]) -> String {
    let name = up_to_nul(bytes);
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return "unnamed".into();
    }
    String::from_utf8_lossy(name).into_owned()
}

/// A line as it may be shown to people: up to the first NUL, without the space round it, with
/// control characters escaped, because it ends on terminals.
pub(crate) fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(up_to_nul(bytes));
    let mut line = String::new();
    for char in text.trim().chars() {
        if char.is_control() {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

/// A kernel's command line: up to the first NUL, without the space round it. Control characters,
/// such as the line feed that an editor left, count as spaces. `None` where it is not UTF-8.
pub(crate) fn cmdline(bytes: &[u8]) -> Option<String> {
    let text = core::str::from_utf8(up_to_nul(bytes)).ok()?;
    let spaced: String = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    Some(spaced.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_one_line() {
        assert_eq!(
            cmdline(b" root=/dev/vda\tquiet\n\0junk").unwrap(),
            "root=/dev/vda quiet"
        );
        assert_eq!(cmdline(b"").unwrap(), "");
        assert_eq!(
            cmdline(b"name=\"Gr\xc3\xbc\xc3\x9fe\"").unwrap(),
            "name=\"Grüße\""
        );
        assert_eq!(cmdline(b"root=\xff"), None);
    }

    #[test]
    fn lines_do_nothing_to_a_terminal() {
        assert_eq!(line(b"6.1\x1b[2J\0more"), "6.1\\u{1b}[2J");
        assert_eq!(line(b" \xff\n"), "\u{fffd}");
    }

    #[test]
    fn names_are_words() {
        assert_eq!(name(b"zstd\0\0\0"), "zstd");
        assert_eq!(name(b"\x1b[2J"), "unnamed");
        assert_eq!(name(b""), "unnamed");
    }
}

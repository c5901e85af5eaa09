//! What a kernel's command line sets, as the kernel reads it (Linux `lib/cmdline.c`, `next_arg`, and
//! `kernel/params.c`, `parse_args`).

/// What `name` is set to, the last time where that is several times. What is behind `--` is not for
/// the kernel.
pub(super) fn value<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let settings = words(cmdline).filter_map(|word| {
        let word = word.strip_prefix('"').unwrap_or(word);
        let (key, value) = word.split_once('=')?;
        (key == name).then_some(value)
    });
    let value = settings.last()?;
    let value = value.strip_prefix('"').unwrap_or(value);
    Some(value.strip_suffix('"').unwrap_or(value))
}

/// The words for the kernel; one may have spaces between quotation marks.
fn words(cmdline: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    cmdline
        .split(move |character: char| {
            if character == '"' {
                quoted = !quoted;
            }
            character.is_ascii_whitespace() && !quoted
        })
        .filter(|word| !word.is_empty())
        .take_while(|&word| word != "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_what_is_for_init_does_not() {
        let cmdline = "init=/a  quiet\tinit=/b rdinit ainit=/c -- init=/d";
        assert_eq!(value(cmdline, "init"), Some("/b"));
        assert_eq!(value(cmdline, "rdinit"), None);
        assert_eq!(value("-- rdinit=/a", "rdinit"), None);
        assert_eq!(value("", "init"), None);
        assert_eq!(value("init=", "init"), Some(""));
    }

    #[test]
    fn quotation_marks_keep_words_together() {
        assert_eq!(value("a=\"b c=d\" c=e", "a"), Some("b c=d"));
        assert_eq!(value("a=\"b c=d\" c=e", "c"), Some("e"));
        assert_eq!(value("\"a=b c\" d", "a"), Some("b c"));
        assert_eq!(value("a=\"b", "a"), Some("b"));
    }
}

//! Running other programs.

use crate::failure::{Because, Failure, Outcome};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs `command` to its end and fails if it did. Its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command
        .stdin(Stdio::null())
        .status()
        .because(|| format!("cannot start {}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{} failed: {status}", shown(command))))
    }
}

/// Runs `command` to its end and hands back what it printed; its complaints are part of the
/// failure, if it fails, and are otherwise left out.
pub(crate) fn output_of(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .because(|| format!("cannot start {}", shown(command)))?;
    if output.status.success() {
        return String::from_utf8(output.stdout)
            .because(|| format!("{} printed something else than text", shown(command)));
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "{} failed: {}\n{}",
        shown(command),
        output.status,
        complaints.trim_end()
    )))
}

/// Where `program` is on the search path, where it is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // Debian's ordinary users have no sbin folders in their path.
        .chain([Path::new("/usr/sbin").into(), Path::new("/sbin").into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// `word` as one word of a POSIX shell's command line.
pub(crate) fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_survive_a_shell() {
        for word in [
            "plain",
            "",
            "two words",
            "it's",
            "$HOME `id` \\ \"x\"",
            "a\nb",
        ] {
            let line = format!("printf %s {}", quoted(word));
            let said = output_of(Command::new("sh").args(["-c", &line])).unwrap();
            assert_eq!(said, word, "{line}");
        }
    }

    #[test]
    fn a_failing_command_tells_its_line_and_its_complaint() {
        let failure =
            output_of(Command::new("sh").args(["-c", "echo sorry >&2; exit 3"])).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("sh -c 'echo sorry >&2; exit 3'"), "{text}");
        assert!(text.contains("exit status: 3\nsorry"), "{text}");
    }
}

//! A command that failed: its exit status, and the chain of what failed because of what.

use crate::exit_status::ExitStatus;
use std::error::Error;
use std::fmt;

/// Why the command ends with another status than 0.
#[derive(Debug)]
pub(crate) struct Failure {
    status: ExitStatus,
    chain: Vec<String>,
    hint: Option<&'static str>,
}

impl Failure {
    /// Something that has no deeper cause.
    pub(crate) fn new(status: ExitStatus, what: impl Into<String>) -> Self {
        Self {
            status,
            chain: vec![what.into()],
            hint: None,
        }
    }

    /// What failed, because of `cause` and everything that caused it.
    pub(crate) fn because(
        status: ExitStatus,
        what: impl Into<String>,
        cause: &(dyn Error + 'static),
    ) -> Self {
        let mut failure = Self::of(status, cause);
        failure.chain.insert(0, what.into());
        failure
    }

    /// `error` and everything that caused it.
    pub(crate) fn of(status: ExitStatus, error: &(dyn Error + 'static)) -> Self {
        Self {
            status,
            chain: chain(error),
            hint: None,
        }
    }

    /// The same, with what the person may try instead.
    pub(crate) fn with_hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// The same with another status.
    pub(crate) fn with_status(self, status: ExitStatus) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn status(&self) -> ExitStatus {
        self.status
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = "error: ";
        for message in &self.chain {
            write!(f, "{words}{}", printable(message))?;
            words = "\n  because ";
        }
        if let Some(hint) = self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// What `error` says, and then everything that caused it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    chain
}

/// `text` with what a terminal would obey shown as its escape: file names and kernels are not to
/// be trusted with the terminal. Line ends stay.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_failure_is_told_as_a_chain() {
        let cause = io::Error::other("no such luck");
        let failure = Failure::because(ExitStatus::Host, "cannot read \x1b]0;x", &cause);
        assert_eq!(
            failure.to_string(),
            "error: cannot read \\u{1b}]0;x\n  because no such luck"
        );
    }
}

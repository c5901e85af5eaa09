//! What went wrong in a task, as a chain of plain sentences.

use std::fmt;

/// A task that could not be done, and why.
pub(crate) struct Failure {
    what: String,
    because: Option<String>,
}

/// What a task hands back.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            because: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.because {
            Some(cause) => write!(f, "\n  because {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what was being done when an error came.
pub(crate) trait Because<T> {
    /// The error, put under the sentence that `what` makes.
    fn because(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: fmt::Display> Because<T> for Result<T, E> {
    fn because(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|cause| Failure {
            what: what(),
            because: Some(cause.to_string()),
        })
    }
}

//! What the command's exit status says: the one place where the numbers are.

use std::fmt;
use std::process::ExitCode;

/// Why the command ended. A guest's own status under `--exit-from-guest`, or that of a command in it,
/// is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Done,
    Host,
    Usage,
    Image,
    Plan,
    NoEngine,
    Crashed,
    Panicked,
    Watchdog,
    TimedOut,
    NoCommandStatus,
}

impl ExitStatus {
    /// All of them, as help, manual and documentation list them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Done,
        Self::Host,
        Self::Usage,
        Self::Image,
        Self::Plan,
        Self::NoEngine,
        Self::Crashed,
        Self::Panicked,
        Self::Watchdog,
        Self::TimedOut,
        Self::NoCommandStatus,
    ];

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Host => 1,
            Self::Usage => 2,
            Self::Image => 3,
            Self::Plan => 4,
            Self::NoEngine => 5,
            Self::Crashed => 33,
            Self::Panicked => 34,
            Self::Watchdog => 36,
            Self::TimedOut => 124,
            Self::NoCommandStatus => 125,
        }
    }

    /// The line of the table.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "the guest shut itself down, or reset under --no-reboot; or you left it",
            Self::Host => "the host failed: KVM, memory, files",
            Self::Usage => "wrong usage or configuration",
            Self::Image => "the image cannot be booted",
            Self::Plan => "no sound plan exists: something does not fit or overlaps",
            Self::NoEngine => "no engine can run the guest here",
            Self::Crashed => "the guest crashed",
            Self::Panicked => "the guest's kernel panicked",
            Self::Watchdog => "a watchdog fired",
            Self::TimedOut => "--timeout ran out",
            Self::NoCommandStatus => {
                "the guest ended, or could not go on, without the command's status"
            }
        }
    }

    /// The table as the help shows it.
    pub(crate) fn table() -> String {
        let lines =
            Self::ALL.map(|status| format!("  {:>3}  {}\n", status.code(), status.meaning()));
        format!(
            "Exit status:\n{}\nWith --exit-from-guest the guest's own status is handed on instead, and with -- \
             COMMAND the command's.",
            lines.concat()
        )
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_status() {
        let document = include_str!("../../docs/exit-codes.md");
        for status in ExitStatus::ALL {
            let line = format!("| {status} | {}", status.meaning());
            assert!(
                document.contains(&line),
                "not in docs/exit-codes.md: {line}"
            );
        }
    }
}

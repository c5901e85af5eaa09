//! What is wrong with a command line: all of it, not the first thing only.

use super::is_printable;
use alloc::vec::Vec;
use core::fmt;

/// Something that is wrong with a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The byte of the line where it begins.
    pub at: usize,
    /// How many bytes it concerns; at least 1.
    pub len: usize,
    /// What it is.
    pub kind: ProblemKind,
}

/// What can be wrong with a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A NUL: the kernel reads no further.
    Nul,
    /// A control character. Tabs and line ends part parameters as a space does, the rest becomes
    /// part of one.
    Control,
    /// Bytes that are not ASCII: nothing that the kernel knows has them in its name, and the
    /// console may show something else.
    NotAscii,
    /// A double quote that none closes: all behind it is one parameter.
    OpenQuote,
    /// A parameter without a name, such as `=1`.
    NoName,
    /// The line is longer than the kernel takes; what is behind is cut off.
    PastLimit {
        /// The most bytes that it takes.
        limit: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, len, kind } = self;
        match kind {
            ProblemKind::Nul => write!(f, "a NUL at byte {at} ends it there"),
            ProblemKind::Control => write!(f, "a control character at byte {at}"),
            ProblemKind::NotAscii => write!(f, "{len} bytes from byte {at} on are not ASCII"),
            ProblemKind::OpenQuote => {
                write!(f, "the double quote at byte {at} is never closed")
            }
            ProblemKind::NoName => write!(f, "the parameter at byte {at} has no name"),
            ProblemKind::PastLimit { limit } => write!(
                f,
                "it is {len} bytes longer than the {limit} that the kernel takes"
            ),
        }
    }
}

/// All that is wrong with `line`, which has no NUL at its end, for a kernel that takes `limit`
/// bytes, by ascending position; nothing where it is well.
///
/// ```
/// use firstlight_boot::cmdline::problems;
///
/// let found: Vec<_> = problems(b"quiet =1 \"ro", 8).iter().map(ToString::to_string).collect();
/// assert_eq!(
///     found,
///     [
///         "the parameter at byte 6 has no name",
///         "it is 4 bytes longer than the 8 that the kernel takes",
///         "the double quote at byte 9 is never closed",
///     ]
/// );
/// ```
#[must_use]
pub fn problems(line: &[u8], limit: usize) -> Vec<Problem> {
    let mut found = characters(line);
    let mut quote = None;
    let mut name = Name::Before;
    for (at, &byte) in line.iter().enumerate() {
        if byte == b'"' {
            quote = if quote.is_none() { Some(at) } else { None };
        }
        // As `isspace` of the kernel, whose blanks have no meaning between quotes.
        let is_blank = matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0) && quote.is_none();
        if byte == b'=' && name == Name::Before {
            found.push(Problem {
                at,
                len: 1,
                kind: ProblemKind::NoName,
            });
        }
        name = if is_blank { Name::Before } else { Name::Within };
    }
    found.extend(quote.map(|at| Problem {
        at,
        len: line.len().saturating_sub(at),
        kind: ProblemKind::OpenQuote,
    }));
    let over = line.len().saturating_sub(limit);
    if over > 0 {
        found.push(Problem {
            at: limit,
            len: over,
            kind: ProblemKind::PastLimit { limit },
        });
    }
    found.sort_by_key(|problem| problem.at);
    found
}

/// Whether a byte can begin a parameter, or is inside one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Before,
    Within,
}

/// The characters that do not belong; neighbours that are not ASCII are one problem.
fn characters(line: &[u8]) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for (at, &byte) in line.iter().enumerate() {
        let kind = match byte {
            0 => ProblemKind::Nul,
            byte if is_printable(byte) => continue,
            byte if byte.is_ascii() => ProblemKind::Control,
            _ => ProblemKind::NotAscii,
        };
        match found.last_mut() {
            Some(last)
                if last.kind == ProblemKind::NotAscii
                    && kind == ProblemKind::NotAscii
                    && last.at.checked_add(last.len) == Some(at) =>
            {
                last.len = last.len.saturating_add(1);
            }
            _ => found.push(Problem { at, len: 1, kind }),
        }
    }
    found
}

//! Where results go: standard output, or a file.

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Writes `bytes` to standard output. A reader that has gone away has read enough.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(bytes.as_ref())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::because(
            ExitStatus::Host,
            "cannot write to standard output",
            &error,
        )),
        _ => Ok(()),
    }
}

/// Writes `bytes` to `file`, or to standard output where none is named.
pub(crate) fn write(bytes: impl AsRef<[u8]>, file: Option<&Path>) -> Result<(), Failure> {
    match file {
        None => print(bytes),
        Some(path) => std::fs::write(path, bytes).map_err(|error| {
            let what = format!("cannot write {}", path.display());
            Failure::because(ExitStatus::Host, what, &error)
        }),
    }
}

/// Writes a line to standard error, where one may as well fail: there is nowhere else to say so.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

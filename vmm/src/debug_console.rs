//! Where the bytes of a guest's debug console go.

use crate::DeviceError;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Where the bytes of a guest's debug console go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebugConsole {
    /// To the end of a file, which is made if it is not there. Of a FIFO, somebody has to be at the other
    /// end; what they do not take at once is lost.
    File(PathBuf),
    /// To standard error.
    Stderr,
}

/// An open one.
#[derive(Debug)]
pub(crate) struct DebugOutput {
    file: File,
}

impl DebugConsole {
    pub(crate) fn open(&self) -> Result<DebugOutput, DeviceError> {
        let (opened, path) = match self {
            Self::File(path) => (append(path), path.clone()),
            Self::Stderr => {
                let copy = io::stderr().as_fd().try_clone_to_owned();
                (copy.map(File::from), "/dev/stderr".into())
            }
        };
        match opened {
            Ok(file) => Ok(DebugOutput { file }),
            Err(source) => Err(DeviceError::OpenDebugConsole { path, source }),
        }
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

impl DebugOutput {
    /// Writes as much of `bytes` as is taken: the guest cannot be told that a disk is full, and goes on.
    pub(crate) fn say(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return,
                Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn what_was_said_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let console = DebugConsole::File(path.clone());
        console.open().unwrap().say(b"first\n");
        console.open().unwrap().say(b"second\n");
        assert_eq!(std::fs::read(path).unwrap(), b"first\nsecond\n");
    }

    #[test]
    fn what_cannot_be_written_is_named_and_nobody_waits_for_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [folder.path().join("no/log"), folder.path().to_owned(), fifo] {
            let error = DebugConsole::File(path.clone()).open().unwrap_err();
            assert!(!error.is_usage());
            let shown = path.display().to_string();
            assert!(error.to_string().contains(&shown), "{error}");
        }
    }
}

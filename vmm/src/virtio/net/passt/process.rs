//! The `passt` process: what it inherits, what it says, and that it never outlives us.
//!
//! The one unsafe block is here: code between fork and exec.
#![expect(unsafe_code, reason = "preparing a child between fork and exec")]

use crate::child::begin;
use crate::notebook::Notebook;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::process::getpid;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `passt`. It ends with this value, and with this process, however that ends: the other end
/// of its socket is closed then, too.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    notebook: Notebook,
}

impl Process {
    /// Starts `program`, which talks by `socket`. The terminal and its Ctrl-C are not its business.
    pub(super) fn start(program: &Path, socket: OwnedFd) -> io::Result<Self> {
        let notebook = Notebook::new("passt-stderr")?;
        let mut command = Command::new(program);
        command
            .args(["--foreground", "--quiet", "--fd"])
            .arg(socket.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(notebook.writer()?);
        let parent = getpid();
        let prepare = move || begin(&[&socket], parent);
        // SAFETY: between fork and exec the closure makes system calls only; it neither allocates
        // nor locks, and an error without a message does not allocate either.
        unsafe { command.pre_exec(prepare) };
        // The closure goes with the command, and our copy of its socket with the closure.
        let child = command.spawn()?;
        Ok(Self { child, notebook })
    }

    /// Whether it has not ended.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has said, on one line, without what it says about itself and the host's log.
    pub(super) fn said(&self) -> String {
        let known = |line: &str| line.contains("to syslog") || line.contains("Don't run as root");
        self.notebook.said(|line| !known(line))
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only where it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The `passt` process: what it inherits, what it says, and that it never outlives us.
//!
//! The one unsafe block is here: code between fork and exec.
#![expect(unsafe_code, reason = "preparing a child between fork and exec")]

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal, setsid};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How much of what it says is kept. The guest decides what it complains of, and how often.
const MOST_SAID: usize = 4096;

/// A running `passt`. It ends with this value, and with this process, however that ends: the other end
/// of its socket is closed then, too.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stderr: File,
}

impl Process {
    /// Starts `program`, which talks by `socket`. The terminal and its Ctrl-C are not its business.
    pub(super) fn start(program: &Path, socket: OwnedFd) -> io::Result<Self> {
        let stderr = notebook()?;
        let mut command = Command::new(program);
        command
            .args(["--foreground", "--quiet", "--fd"])
            .arg(socket.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone()?);
        let parent = getpid();
        let prepare = move || {
            fcntl_setfd(&socket, FdFlags::empty())?;
            setsid()?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before it was watched.
            if getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            }
        };
        // SAFETY: between fork and exec the closure makes system calls only; it neither allocates
        // nor locks, and an error without a message does not allocate either.
        unsafe { command.pre_exec(prepare) };
        // The closure goes with the command, and our copy of its socket with the closure.
        let child = command.spawn()?;
        Ok(Self { child, stderr })
    }

    /// Whether it has not ended.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has said, on one line, without what it says about itself and the host's log.
    pub(super) fn said(&self) -> String {
        let mut said = [0; MOST_SAID];
        // What cannot be read was not said.
        let _ = self.stderr.read_at(&mut said, 0);
        let len = said.iter().position(|&byte| byte == 0);
        let said = said.get(..len.unwrap_or(MOST_SAID)).unwrap_or(&[]);
        complaints(&String::from_utf8_lossy(said))
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

/// A file in memory of so many zeros, which no writer makes longer.
fn notebook() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("passt-stderr", flags)?;
    ftruncate(&file, MOST_SAID as u64)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// On one line, and nothing in it that a terminal obeys: the guest may have put it there.
fn complaints(stderr: &str) -> String {
    let known = |line: &&str| !line.contains("to syslog") && !line.contains("Don't run as root");
    let lines: Vec<_> = stderr.lines().map(str::trim).filter(known).collect();
    let harmless = |sign: char| {
        if sign.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            sign
        }
    };
    lines.join("; ").chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn complaints_without_end_take_no_memory() {
        let mut notebook = notebook().unwrap();
        while notebook.write_all(b"no route\n").is_ok() {}
        assert!(notebook.write_all(&[b'x'; 2 * MOST_SAID]).is_err());
        assert_eq!(notebook.metadata().unwrap().len(), MOST_SAID as u64);
        let mut said = [0; 9];
        notebook.read_exact_at(&mut said, 0).unwrap();
        assert_eq!(&said, b"no route\n");
    }

    #[test]
    fn complaints_are_one_line_that_no_terminal_obeys() {
        let said = "Don't run as root.\nname \x1b[2Jevil\r\n \u{9b}x\n";
        assert_eq!(complaints(said), "name \u{fffd}[2Jevil; \u{fffd}x");
    }
}

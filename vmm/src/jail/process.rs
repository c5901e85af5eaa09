//! The process of a device: what it inherits, and that neither outlives the other unnoticed.
//!
//! Unsafe are code between fork and exec, and taking over what was inherited by number.
#![expect(
    unsafe_code,
    reason = "preparing a child between fork and exec, and what it inherits"
)]

use super::{Inmate, JailError, MARK};
use crate::child::begin;
use crate::notebook::Notebook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

/// How long a process may take for its last word.
const MOMENT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// This program, whatever has become of its file.
const SELF: &str = "/proc/self/exe";

/// A device's process. It ends with this value, and with this process, however that ends.
#[derive(Debug)]
pub(crate) struct Process {
    device: String,
    child: Child,
    notebook: Notebook,
}

impl Process {
    /// Starts one for `inmate`, which is called `device` and is `file` on the host; the socket is by which it
    /// serves.
    ///
    /// # Errors
    ///
    /// [`JailError::Start`] where there is none.
    pub(crate) fn start(
        device: &str,
        inmate: Inmate,
        file: OwnedFd,
    ) -> Result<(Self, UnixStream), JailError> {
        let started = Self::spawn(inmate, file);
        let (child, notebook, socket) = started.map_err(|source| JailError::Start {
            device: device.to_owned(),
            source,
        })?;
        let process = Self {
            device: device.to_owned(),
            child,
            notebook,
        };
        Ok((process, socket))
    }

    fn spawn(inmate: Inmate, file: OwnedFd) -> io::Result<(Child, Notebook, UnixStream)> {
        let notebook = Notebook::new("jail-stderr")?;
        let (ours, its) = UnixStream::pair()?;
        let its = OwnedFd::from(its);
        let mut command = Command::new(SELF);
        command
            .arg0(MARK)
            .args(inmate.words())
            .args([&its, &file].map(|fd| fd.as_raw_fd().to_string()))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(notebook.writer()?);
        let parent = getpid();
        let prepare = move || {
            close_others()?;
            begin(&[&its, &file], parent)
        };
        // SAFETY: between fork and exec the closure makes system calls only; it neither allocates nor locks,
        // and an error without a message does not allocate either.
        unsafe { command.pre_exec(prepare) };
        // The closure goes with the command, and our copies of what it inherits with the closure.
        let child = command.spawn()?;
        Ok((child, notebook, ours))
    }

    #[cfg(test)]
    pub(super) fn of(device: &str, child: Child, notebook: Notebook) -> Self {
        let device = device.to_owned();
        Self {
            device,
            child,
            notebook,
        }
    }

    /// How it has ended, where its socket says that it has; one that has not is ended.
    pub(crate) fn bury(&mut self) -> JailError {
        // It has closed its socket, so it ends by itself, and may have a last word.
        self.wait_a_moment();
        let _ = self.child.kill();
        let how = match self.child.wait() {
            Ok(status) => manner(status),
            Err(error) => format!("nobody knows how ({error})"),
        };
        let said = self.notebook.said(|_| true);
        JailError::Ended {
            device: self.device.clone(),
            how,
            said: match said.is_empty() {
                true => said,
                false => format!(": {said}"),
            },
        }
    }
    /// Waits until it has ended, but not for long.
    fn wait_a_moment(&self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(Ok(process)) = id.map(|id| pidfd_open(id, PidfdFlags::empty())) else {
            return;
        };
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        // Where that is interrupted, its last word is not heard.
        let _ = poll(&mut fds, Some(&MOMENT));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only where it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process has ended, to be read behind "has ended,".
fn manner(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(libc::SIGSYS), _) => "killed at a system call that its jail forbids".to_owned(),
        (Some(libc::SIGKILL), _) => "killed".to_owned(),
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, Some(code)) => format!("with status {code}"),
        (None, None) => "nobody knows how".to_owned(),
    }
}

/// Has whatever this process has open closed by exec, whether or not it was to be.
fn close_others() -> io::Result<()> {
    /// Behind standard input, output and error.
    const FIRST: u32 = 3;
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: no descriptor is closed that anybody owns: exec does that.
    let marked = unsafe { libc::close_range(FIRST, u32::MAX, flags) };
    match marked {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The descriptor of that number, which was inherited.
pub(super) fn inherited(number: &str) -> Option<OwnedFd> {
    let number: RawFd = number.parse().ok().filter(|&number| number > 2)?;
    // SAFETY: whoever started this process has given it the descriptor, and nobody here has taken it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC).ok()?;
    Some(descriptor)
}

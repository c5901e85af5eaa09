//! A network without any privilege: `passt` (<https://passt.top>) turns the guest's frames into
//! ordinary sockets of the host's user.
//!
//! Frames go over a stream socket, each behind its length in four bytes, highest first, as QEMU's
//! `-netdev stream` has them.

mod process;
#[cfg(test)]
mod tests;

use super::stream::FrameStream;
use super::{Carrier, Lost};
use firstlight_devices::virtio::net::{Header, Offloads};
use process::Process;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::env;
use std::io;
use std::path::PathBuf;

/// What the program is called.
const PROGRAM: &str = "passt";

/// There is no network by way of `passt`.
#[derive(Debug, thiserror::Error)]
pub enum PasstError {
    /// It is not installed.
    #[error(
        "passt is not installed; install the package passt (Debian 12, Ubuntu 23.04, Fedora, Arch)"
    )]
    Missing,
    /// It cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// What the host said.
        source: io::Error,
    },
    /// It ended as soon as it was started.
    #[error("passt has ended: {said}")]
    Ended {
        /// What it said.
        said: String,
    },
}

/// A running `passt`.
pub(crate) struct Passt {
    stream: FrameStream,
    /// Where it is this process that has started it.
    process: Option<Process>,
}

impl Passt {
    /// Starts the `passt` on the `PATH`.
    ///
    /// # Errors
    ///
    /// [`PasstError`] where it is not installed or cannot be started.
    pub(crate) fn start() -> Result<Self, PasstError> {
        let program = find().ok_or(PasstError::Missing)?;
        let failed = |source: io::Error| PasstError::Start {
            program: program.display().to_string(),
            source,
        };
        let flags = SocketFlags::CLOEXEC;
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| failed(error.into()))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|error| failed(error.into()))?;
        Ok(Self {
            stream: FrameStream::new(ours),
            process: Some(Process::start(&program, its).map_err(failed)?),
        })
    }

    /// Whether it still runs, to be asked before the guest does: it has had some time to find out
    /// that it cannot.
    ///
    /// # Errors
    ///
    /// [`PasstError::Ended`] where it does not.
    pub(crate) fn check(&mut self) -> Result<(), PasstError> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        match process.runs() {
            true => Ok(()),
            false => Err(PasstError::Ended {
                said: process.said(),
            }),
        }
    }

    /// The one at the other end of `socket`, which another process has started.
    pub(super) fn of(socket: OwnedFd) -> Self {
        Self {
            stream: FrameStream::new(socket),
            process: None,
        }
    }
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(PROGRAM))
        .find(|file| file.is_file())
}

impl Carrier for Passt {
    /// It wants checksums made, and makes them.
    fn offloads(&self) -> Offloads {
        Offloads::empty()
    }

    fn is_tap(&self) -> bool {
        false
    }

    fn choose(&mut self, _offloads: Offloads) {}

    fn waits(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Lost> {
        self.stream.send(frame.get(Header::LEN..).unwrap_or(&[]))
    }

    fn is_behind(&self) -> bool {
        self.stream.is_behind()
    }

    fn flush(&mut self) -> Result<(), Lost> {
        self.stream.flush()
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, Lost> {
        let Some((header, bytes)) = frame.split_at_mut_checked(Header::LEN) else {
            return Ok(None);
        };
        header.fill(0);
        let len = self.stream.receive(bytes)?;
        Ok(len.map(|len| Header::LEN + len))
    }

    fn farewell(&mut self) -> String {
        let said = self.process.as_ref().map(Process::said);
        let said = said.unwrap_or_default();
        if said.is_empty() {
            "passt has ended, and the guest's network with it".to_owned()
        } else {
            format!("passt has ended, and the guest's network with it: {said}")
        }
    }
}

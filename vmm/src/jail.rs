//! Devices in processes of their own, which can do nothing but serve them.
//!
//! Such a process is this program once more. It inherits the one file or folder that its device is on the host,
//! and a socket; then it puts [walls] up round itself, and serves the device by the protocol vhost-user. Registers
//! and configuration stay in the process that runs the guest: what a driver asks of its queues by requests that
//! are wrong reaches the other process only.

mod process;
mod system_calls;
#[cfg(test)]
mod tests;
mod walls;

pub(crate) use process::Process;

use crate::signals::Signals;
use crate::virtio::{self, Quota, VirtioDevice};
use crate::{DeviceError, RunError};
use firstlight_devices::virtio::block::Access;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::env;
use std::error::Error;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use walls::Walls;

pub use walls::has_landlock;

/// Where devices are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// In the process that runs the guest, each on a thread.
    #[default]
    Off,
    /// Each in a process of its own that can do nothing else: disks, shared folders and network cards. The program
    /// has to call [`serve_if_jailed`] before anything else, and to open the devices on a thread that stays as long
    /// as they do: when it ends, the processes end.
    On,
}

/// A device's process is not to be had, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// It cannot be started.
    #[error("cannot start a process for {device}")]
    Start {
        /// The device.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// It has ended before its guest.
    #[error("the process of {device} has ended, {how}{said}")]
    Ended {
        /// The device.
        device: String,
        /// How.
        how: String,
        /// What it has said, behind a colon.
        said: String,
    },
}

/// By what such a process is told from others, in the place of its program's name.
const MARK: &str = "firstlight-jail";

/// What a process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inmate {
    /// The disk of that number.
    Disk {
        /// What the driver may do.
        access: Access,
        /// Which disk of the guest it is.
        number: usize,
    },
    /// A network card: frames go to a tap interface, or to passt.
    Card {
        /// Which of them.
        is_tap: bool,
    },
    /// A shared folder.
    Share {
        /// Whether the guest may only read it.
        readonly: bool,
        /// Whether nobody else changes what is in it.
        is_still: bool,
    },
}

impl Inmate {
    /// As words, which [`parse`](Self::parse) reads.
    fn words(self) -> [String; 3] {
        match self {
            Self::Disk { access, number } => {
                let readonly = access == Access::ReadOnly;
                ["disk".to_owned(), readonly.to_string(), number.to_string()]
            }
            Self::Card { is_tap } => ["card".to_owned(), is_tap.to_string(), String::new()],
            Self::Share { readonly, is_still } => {
                let flags = [readonly, is_still].map(|flag| flag.to_string());
                let [readonly, is_still] = flags;
                ["share".to_owned(), readonly, is_still]
            }
        }
    }

    fn parse(words: [&str; 3]) -> Option<Self> {
        match words {
            ["disk", readonly, number] => Some(Self::Disk {
                access: match readonly.parse().ok()? {
                    true => Access::ReadOnly,
                    false => Access::ReadWrite,
                },
                number: number.parse().ok()?,
            }),
            ["card", is_tap, ""] => Some(Self::Card {
                is_tap: is_tap.parse().ok()?,
            }),
            ["share", readonly, is_still] => Some(Self::Share {
                readonly: readonly.parse().ok()?,
                is_still: is_still.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// Serves a device, where this process was started for that, until the guest has ended; `None` in any other, which
/// is to go on. A program whose [`Devices`](crate::Devices) are to be in a [sandbox](Sandbox::On) calls it before
/// anything else, while it has one thread.
#[must_use]
pub fn serve_if_jailed() -> Option<ExitCode> {
    let mut words = env::args_os();
    if words.next()? != MARK {
        return None;
    }
    let words: Vec<_> = words.filter_map(|word| word.into_string().ok()).collect();
    Some(match serve(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // It is read by whoever started this.
            eprintln!("{}", Chain(&error));
            ExitCode::FAILURE
        }
    })
}

/// What keeps a device from being served.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("this program's words are for a device's process, and not understood")]
    Words,
    #[error(transparent)]
    Wall(#[from] walls::WallError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot look at the folder")]
    Folder(#[from] Errno),
    #[error("cannot take signals")]
    Signals(#[source] io::Error),
}

fn serve(words: &[String]) -> Result<(), ServeError> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let [kind, first, second, socket, file] = words[..] else {
        return Err(ServeError::Words);
    };
    let inmate = Inmate::parse([kind, first, second]).ok_or(ServeError::Words)?;
    let [socket, file] = [socket, file].map(process::inherited);
    let (socket, file) = (
        socket.ok_or(ServeError::Words)?,
        file.ok_or(ServeError::Words)?,
    );
    // Whoever ends the guest ends this; a disk that may not grow is the guest's I/O error.
    let _left_to_others = Signals::take().map_err(ServeError::Signals)?;
    let device = admit(inmate, file)?;
    virtio::serve(device, UnixStream::from(socket))?;
    Ok(())
}

/// Puts the walls up, and makes the device within them.
fn admit(inmate: Inmate, file: OwnedFd) -> Result<VirtioDevice, ServeError> {
    match inmate {
        Inmate::Disk { access, number } => {
            Walls::FOR_A_DISK.put_up(None)?;
            Ok(virtio::disk_of(file, access, number)?)
        }
        Inmate::Card { is_tap } => {
            Walls::FOR_A_CARD.put_up(None)?;
            Ok(virtio::network_of(file, is_tap))
        }
        Inmate::Share { readonly, is_still } => {
            // Who asks for limits names a process, which is forbidden then.
            let quota = Quota::of_each(1);
            let grounds = Walls::FOR_A_SHARE.put_up(Some(file))?;
            let grounds = grounds.ok_or(ServeError::Words)?;
            Ok(virtio::share_of(grounds, (readonly, is_still), quota)?)
        }
    }
}

/// An error and what caused it, in one line.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

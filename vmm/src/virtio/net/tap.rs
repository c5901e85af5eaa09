//! A tap interface of the host (Linux, Documentation/networking/tuntap.rst), which is there already
//! and stays: nothing here makes one.

mod ioctl;
#[cfg(test)]
mod tests;

use super::{Carrier, Lost};
use firstlight_devices::virtio::net::Offloads;
pub(crate) use ioctl::TUNSETOFFLOAD as SET_OFFLOADS;
use ioctl::{Flags, TapOffloads};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use std::io;

/// Where taps are had.
const DEVICE: &str = "/dev/net/tun";

/// The longest name of an interface (`IFNAMSIZ` less the zero at its end).
const LONGEST_NAME: usize = 15;

/// A tap interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No interface has that name.
    #[error("there is no network interface {name:?}; make it with: ip tuntap add {name} mode tap")]
    Missing {
        /// The name.
        name: String,
    },
    /// That can be no interface's name.
    #[error("{name:?} is no name of a network interface")]
    Name {
        /// The name.
        name: String,
    },
    /// The interface is something else.
    #[error("the network interface {name} is no tap")]
    NoTap {
        /// Its name.
        name: String,
    },
    /// Somebody else has it.
    #[error("the network interface {name} is in use by another program")]
    InUse {
        /// Its name.
        name: String,
    },
    /// The host lets others have it, but not us.
    #[error(
        "no permission to use the network interface {name}; its owner is set by: \
         ip tuntap add {name} mode tap user NAME"
    )]
    Permission {
        /// Its name.
        name: String,
    },
    /// The host refuses.
    #[error("cannot {doing} for the network interface {name}")]
    Host {
        /// Its name.
        name: String,
        /// What was tried.
        doing: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

/// A tap interface.
#[derive(Debug)]
pub(crate) struct Tap {
    file: OwnedFd,
    name: String,
}

impl Tap {
    /// The interface `name`.
    ///
    /// # Errors
    ///
    /// [`TapError`] where it is not there, is no tap, or is not ours to use.
    pub(crate) fn open(name: &str) -> Result<Self, TapError> {
        let name = name.to_owned();
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains(['/', '\0', '%']) {
            return Err(TapError::Name { name });
        }
        let index = index(&name)?;
        let file = attach(&name)?;
        // Between looking and attaching it may have gone; attaching has made another then, which goes
        // with the file.
        if self::index(&name)? != index {
            return Err(TapError::Missing { name });
        }
        ioctl::set_header_len(&file).map_err(failed(&name, "choose headers"))?;
        Ok(Self { file, name })
    }
}

impl Tap {
    /// The interface that `file` is the far end of, which has been set up by another process.
    pub(super) fn of(file: OwnedFd) -> Self {
        let name = "tap".to_owned();
        Self { file, name }
    }
}

/// The number of the interface `name`.
fn index(name: &str) -> Result<u32, TapError> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(failed(name, "open a socket"))?;
    match netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(index),
        Err(Errno::NODEV) => Err(TapError::Missing {
            name: name.to_owned(),
        }),
        Err(error) => Err(failed(name, "look")(error)),
    }
}

/// A file that is the far end of the interface `name`.
fn attach(name: &str) -> Result<OwnedFd, TapError> {
    let open = || {
        open(
            DEVICE,
            OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let file = open().map_err(failed(name, "open /dev/net/tun"))?;
    let flags = Flags::TAP | Flags::NO_PI | Flags::VNET_HDR;
    let attached = match ioctl::attach(&file, name, flags) {
        // One that was made for several queues has to be told that this is one of them.
        Err(Errno::INVAL) => ioctl::attach(&file, name, flags | Flags::MULTI_QUEUE),
        other => other,
    };
    let name = name.to_owned();
    match attached {
        Ok(()) => Ok(file),
        Err(Errno::INVAL) => Err(TapError::NoTap { name }),
        Err(Errno::BUSY) => Err(TapError::InUse { name }),
        Err(Errno::PERM) => Err(TapError::Permission { name }),
        Err(error) => Err(failed(&name, "attach")(error)),
    }
}

fn failed(name: &str, doing: &'static str) -> impl FnOnce(Errno) -> TapError {
    let name = name.to_owned();
    move |error| match error {
        Errno::ACCESS | Errno::PERM => TapError::Permission { name },
        error => TapError::Host {
            name,
            doing,
            source: error.into(),
        },
    }
}

impl Carrier for Tap {
    fn offloads(&self) -> Offloads {
        Offloads::all()
    }

    fn is_tap(&self) -> bool {
        true
    }

    /// What the host may leave to the guest. What the guest leaves to the host is in each frame's
    /// header.
    fn choose(&mut self, offloads: Offloads) {
        let mut tap = TapOffloads::empty();
        for (offload, meant) in [
            (Offloads::GUEST_CSUM, TapOffloads::CSUM),
            (Offloads::GUEST_TSO4, TapOffloads::TSO4),
            (Offloads::GUEST_TSO6, TapOffloads::TSO6),
            (Offloads::GUEST_ECN, TapOffloads::TSO_ECN),
        ] {
            tap.set(meant, offloads.contains(offload));
        }
        // A host that refuses does it all itself.
        let _ = ioctl::set_offloads(&self.file, tap);
    }

    fn waits(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// An interface that is down, or whose queue is full, loses the frame, as a cable would.
    fn send(&mut self, frame: &[u8]) -> Result<(), Lost> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.file, frame)) {
            Err(Errno::BADFD) => Err(Lost),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn flush(&mut self) -> Result<(), Lost> {
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, Lost> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.file, &mut *frame)) {
            Ok(len) => Ok(Some(len)),
            Err(Errno::AGAIN) => Ok(None),
            // The interface was removed.
            Err(_) => Err(Lost),
        }
    }

    fn farewell(&mut self) -> String {
        format!("the network interface {} has gone", self.name)
    }
}

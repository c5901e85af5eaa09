//! A Unix socket that programs of the host connect to, and its file.

mod address;
#[cfg(test)]
mod tests;

use address::Address;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, fchmod, flock, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// So many connections wait to be accepted, as they do while no driver runs the device.
const BACKLOG: i32 = 128;

/// How often a folder is tried to be locked, which others of us do for a moment.
const LOCK_TRIES: u32 = 50;
/// How long that is waited for between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A socket cannot be there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there already.
    #[error("{} is in use by another program", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// There is something, and it is no socket.
    #[error("{} is there and is no socket", path.display())]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// The file's name is too long for a socket's address with a vsock port behind it.
    #[error("{} has a file name of {bytes} bytes, too long for a socket", path.display())]
    TooLong {
        /// Where.
        path: PathBuf,
        /// How long the last part of it is.
        bytes: usize,
    },
    /// The host refuses.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

/// A socket that listens. Its file goes with it, unless somebody has put another there.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: Address,
    /// The file's device and number.
    file: (u64, u64),
}

impl Listener {
    /// Listens at `path`, in place of a socket at which nobody listens any more; whom the umask lets may connect.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        Self::bind_for(path, None)
    }

    /// The same where nobody may connect but this user, and root.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub fn bind_for_owner(path: &Path) -> Result<Self, ListenError> {
        Self::bind_for(path, Some(Mode::RUSR | Mode::WUSR))
    }

    fn bind_for(path: &Path, mode: Option<Mode>) -> Result<Self, ListenError> {
        let address = Address::new(path)?;
        let failed = |source: Errno| ListenError::Listen {
            path: path.to_owned(),
            source: source.into(),
        };
        // While another of us is between binding and listening, its socket looks as if nobody
        // listened.
        lock(address.folder());
        let bound = Self::bind_locked(&address, mode);
        flock(address.folder(), FlockOperation::Unlock).map_err(failed)?;
        let (socket, file) = bound?;
        Ok(Self {
            socket,
            address,
            file,
        })
    }

    fn bind_locked(
        address: &Address,
        mode: Option<Mode>,
    ) -> Result<(OwnedFd, (u64, u64)), ListenError> {
        let failed = |source: Errno| ListenError::Listen {
            path: address.path().to_owned(),
            source: source.into(),
        };
        let own = address.own().map_err(failed)?;
        let socket = unix_socket().map_err(failed)?;
        if let Some(mode) = mode {
            // The file that bind makes gets it, so that it never has another.
            fchmod(&socket, mode).map_err(failed)?;
        }
        match bind(&socket, &own) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => {
                remove_stale(address)?;
                bind(&socket, &own).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        listen(&socket, BACKLOG).map_err(failed)?;
        let file = file_at(address).map_err(failed)?;
        Ok((socket, file))
    }

    /// The socket once more, which blocks nobody, for those who wait for connections in a way of their own. The file
    /// still goes with this.
    ///
    /// # Errors
    ///
    /// Where the host has no descriptor left.
    pub fn socket(&self) -> io::Result<UnixListener> {
        self.socket.try_clone().map(Into::into)
    }

    /// The next connection, which blocks nobody.
    pub(crate) fn accept(&self) -> Result<OwnedFd, Errno> {
        accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
    }

    /// Connects to the program that serves a vsock's `port` beside this socket.
    pub(crate) fn connect_to(&self, port: u32) -> Result<OwnedFd, Errno> {
        let socket = unix_socket()?;
        // One whose backlog is full is as good as none: there is nobody to wait for it.
        connect(&socket, &self.address.of_port(port)?)?;
        Ok(socket)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if file_at(&self.address) == Ok(self.file) {
            // Where it cannot be removed, whoever comes next finds that nobody listens.
            let _ = unlink(&self.address);
        }
    }
}

/// Connects to whoever listens at `path`, however long that is.
///
/// # Errors
///
/// What connect(2) says.
pub fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let address = Address::new(path).map_err(io::Error::other)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &address.own()?)?;
    Ok(socket.into())
}

/// Locks a folder, and goes on without where somebody else keeps it locked: some do so to keep it
/// from being cleaned.
fn lock(folder: &OwnedFd) {
    for _ in 0..LOCK_TRIES {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::INTR) => thread::sleep(LOCK_PAUSE),
            Ok(()) | Err(_) => return,
        }
    }
}

/// A stream socket that blocks nobody.
fn unix_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Removes a socket at which nobody listens.
fn remove_stale(address: &Address) -> Result<(), ListenError> {
    let path = address.path().to_owned();
    let failed = |source: Errno| ListenError::Listen {
        path: address.path().to_owned(),
        source: source.into(),
    };
    let found = statat(
        address.folder(),
        address.path().file_name().unwrap_or_default(),
        AtFlags::SYMLINK_NOFOLLOW,
    );
    let found = found.map_err(failed)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(ListenError::NoSocket { path });
    }
    let probe = unix_socket().map_err(failed)?;
    match connect(&probe, &address.own().map_err(failed)?) {
        Err(Errno::CONNREFUSED) => unlink(address).map_err(failed),
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::InUse { path }),
        Err(error) => Err(failed(error)),
    }
}

fn unlink(address: &Address) -> Result<(), Errno> {
    let name = address.path().file_name().unwrap_or_default();
    unlinkat(address.folder(), name, AtFlags::empty())
}

/// The device and the number of the file that is there.
fn file_at(address: &Address) -> Result<(u64, u64), Errno> {
    let name = address.path().file_name().unwrap_or_default();
    let found = statat(address.folder(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((found.st_dev, found.st_ino))
}

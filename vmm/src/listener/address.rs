//! Unix sockets' addresses, also where the path is longer than an address.

use super::ListenError;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What is put behind the path for a port: a line and up to ten digits.
const LONGEST_PORT: u32 = u32::MAX;

/// The longest path of an address (unix(7): 108 bytes with the zero at the end).
const LONGEST_PATH: usize = 107;

/// Where a device's sockets are.
#[derive(Debug)]
pub(super) struct Address {
    path: PathBuf,
    name: OsString,
    /// The folder, held so that a long path is short by way of it.
    folder: OwnedFd,
}

impl Address {
    /// The sockets at `path`, whose folder is there.
    pub(super) fn new(path: &Path) -> Result<Self, ListenError> {
        let failed = |source: Errno| ListenError::Listen {
            path: path.to_owned(),
            source: source.into(),
        };
        let name = path.file_name().ok_or_else(|| failed(Errno::ISDIR))?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let address = Self {
            path: path.to_owned(),
            name: name.to_owned(),
            folder: open(folder, flags, Mode::empty()).map_err(failed)?,
        };
        match address.of_port(LONGEST_PORT) {
            Ok(_) => Ok(address),
            Err(_) => Err(ListenError::TooLong {
                path: path.to_owned(),
                bytes: name.len(),
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// The address of the socket that the host's programs connect to.
    pub(super) fn own(&self) -> Result<SocketAddrUnix, Errno> {
        self.with_suffix(OsStr::new(""))
    }

    /// The address of the socket that the guest's programs reach by `port`.
    pub(super) fn of_port(&self, port: u32) -> Result<SocketAddrUnix, Errno> {
        self.with_suffix(OsStr::new(&format!("_{port}")))
    }

    fn with_suffix(&self, suffix: &OsStr) -> Result<SocketAddrUnix, Errno> {
        let with = |path: &OsStr| {
            let mut path = path.to_owned();
            path.push(suffix);
            path
        };
        let path = with(self.path.as_os_str());
        if path.len() <= LONGEST_PATH {
            return SocketAddrUnix::new(path);
        }
        let folder = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        SocketAddrUnix::new(Path::new(&folder).join(with(&self.name)))
    }
}

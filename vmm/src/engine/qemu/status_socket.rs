//! The port on which a guest writes a status of its own, as QEMU hands it to us.

use crate::virtio::StatusLine;
use rustix::fd::{AsFd, BorrowedFd};
use std::io::Read;
use std::os::unix::net::UnixStream;

/// Our end of the port.
pub(super) struct StatusSocket {
    socket: UnixStream,
    line: StatusLine,
}

impl StatusSocket {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            line: StatusLine::default(),
        }
    }

    /// The status, where it has been written.
    pub(super) fn read(&mut self) -> Option<u8> {
        let mut bytes = [0; 64];
        // Where QEMU has closed it, its other sockets tell why.
        while let Ok(len) = (&self.socket).read(&mut bytes)
            && len > 0
        {
            let written = bytes.get(..len).unwrap_or(&[]);
            let status = written.iter().find_map(|&byte| self.line.read(byte));
            if status.is_some() {
                return status;
            }
        }
        None
    }
}

impl AsFd for StatusSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

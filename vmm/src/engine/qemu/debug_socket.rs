//! The debug console, as QEMU hands it to us.

use crate::debug_console::DebugOutput;
use rustix::fd::{AsFd, BorrowedFd};
use std::io::Read;
use std::os::unix::net::UnixStream;

/// Our end of it, and where its bytes go.
pub(super) struct DebugSocket {
    socket: UnixStream,
    output: DebugOutput,
}

impl DebugSocket {
    /// `socket` does not block.
    pub(super) fn new(socket: UnixStream, output: DebugOutput) -> Self {
        Self { socket, output }
    }

    /// Takes what has come.
    pub(super) fn read(&mut self) {
        let mut bytes = [0; 4096];
        // Where QEMU has closed it, its other sockets tell why.
        while let Ok(len) = (&self.socket).read(&mut bytes)
            && len > 0
        {
            self.output.say(bytes.get(..len).unwrap_or_default());
        }
    }
}

impl AsFd for DebugSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

//! A bell: an event that one thread raises and another waits for.

use crate::RunError;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// A bell. Ringing it twice is ringing it once, until it is answered.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> Result<Self, RunError> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(RunError::host("create an event"))
    }

    pub(crate) fn ring(&self) {
        // Fails only where the counter is full, and then the bell rings.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Silences it.
    pub(crate) fn answer(&self) {
        let mut count = [0; 8];
        // Nothing to read where it has been answered before.
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

/// Another process's end of an event.
impl From<OwnedFd> for Bell {
    fn from(event: OwnedFd) -> Self {
        Self(event)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! The thread that makes messages of a device's events, where it interrupts by messages.

use super::VfioError;
use super::host::Event;
use crate::bell::Bell;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A thread that waits for events. It ends when this is dropped.
pub(super) struct Listener {
    stop: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// What it does is little: it takes a lock, and calls the hypervisor.
const STACK: usize = 128 << 10;

impl Listener {
    /// Calls `raise` with the number of each event that is raised.
    pub(super) fn start(
        name: &str,
        events: Arc<[Event]>,
        raise: impl Fn(u16) + Send + 'static,
    ) -> Result<Self, VfioError> {
        let bell = Bell::new().map_err(|error| VfioError::Event(io::Error::other(error)))?;
        let stop = Arc::new(bell);
        let bell = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || listen(&bell, &events, &raise))
            .map_err(VfioError::Event)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

fn listen(stop: &Bell, events: &[Event], raise: &impl Fn(u16)) {
    let bells = [stop.as_fd()].into_iter();
    let fds = bells.chain(events.iter().map(AsFd::as_fd));
    let mut fds: Vec<_> = fds
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    loop {
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            // Without memory for it there is nothing to be done; the guest misses its interrupts.
            Err(_) => return,
        }
        if fds.first().is_none_or(|bell| !bell.revents().is_empty()) {
            return;
        }
        for (event, number) in events.iter().zip(0..) {
            if event.take() {
                raise(number);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.ring();
        let thread = self.thread.take();
        // It may itself be who lets go last of what it is a part of.
        let other = thread.filter(|it| it.thread().id() != thread::current().id());
        if let Some(thread) = other
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

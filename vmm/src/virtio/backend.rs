//! What a virtio device does with its queues, on a thread of its own.

use super::front_end::FrontEndError;
use super::runner::Interrupt;
use crate::bell::Bell;
use firstlight_devices::virtio::queue::ChainError;
use firstlight_devices::virtio::{Cause, Chain, Queue, QueueError, Start};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A virtio device's own half. Its thread lives as long as a driver runs the device.
pub(crate) trait Backend: Send {
    /// The driver is ready: these are the features that it chose.
    fn started(&mut self, _features: u64) {}

    /// Whether somebody else serves its queues: their doorbells are his then.
    fn serves_elsewhere(&self) -> bool {
        false
    }

    /// Has somebody else serve the queues that the driver has set up, and says why he cannot.
    ///
    /// # Errors
    ///
    /// [`FrontEndError`] where he does not, so that the device is broken until it is reset.
    fn hand_over(&mut self, _queues: &Handover<'_>) -> Result<(), FrontEndError> {
        Ok(())
    }

    /// What to wait for beside doorbells; asked before every wait.
    fn waits(&self) -> Vec<PollFd<'_>> {
        Vec::new()
    }

    /// A doorbell of `queue` rang, as it also does once at the start.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the driver made a queue that cannot be served.
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError>;

    /// Some of what is waited for is ready: for what, in the same order.
    ///
    /// # Errors
    ///
    /// [`QueueError`] as for [`rung`](Self::rung).
    fn ready(&mut self, _ready: &[PollFlags], _io: &mut Io<'_>) -> Result<(), QueueError> {
        Ok(())
    }

    /// The driver has let go: whatever is under way is finished or cancelled before this returns.
    fn stopped(&mut self) {}
}

/// Queues that somebody else is to serve.
pub(crate) struct Handover<'a> {
    pub(super) start: &'a Start,
    pub(super) memory: &'a GuestMemory,
    /// A doorbell for each.
    pub(super) bells: &'a [Arc<Bell>],
}

/// What a backend works on: the guest's memory, the queues that the driver enabled, and how the driver
/// is told.
pub(crate) struct Io<'a> {
    pub(super) memory: &'a GuestMemory,
    pub(super) queues: &'a mut [Option<Queue>],
    pub(super) bells: &'a [Arc<Bell>],
    pub(super) interrupt: &'a dyn Interrupt,
    pub(super) stopping: Stopping<'a>,
    /// What was last taken from a queue, kept so that serving does not allocate.
    pub(super) chain: &'a mut Chain,
}

/// Whether a device is to stop, for what takes as long as the guest likes: the rest of it is left then.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stopping<'a> {
    /// Where another thread says so.
    Flag(&'a AtomicBool),
    /// Where a message says so, which may also say something else.
    Message(BorrowedFd<'a>),
}

impl Stopping<'_> {
    /// Whether whoever stops it waits for it.
    pub(crate) fn is_wanted(self) -> bool {
        match self {
            Self::Flag(flag) => flag.load(Ordering::Relaxed),
            Self::Message(socket) => {
                let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
                poll(&mut fds, Some(&Timespec::default())) != Ok(0)
            }
        }
    }
}

/// So many requests are served before anybody looks at anything else.
const TURN: usize = 256;

impl<'a> Io<'a> {
    /// The guest's memory.
    pub(crate) fn memory(&self) -> &'a GuestMemory {
        self.memory
    }

    /// Whether the device is to stop.
    pub(crate) fn stopping(&self) -> Stopping<'a> {
        self.stopping
    }

    /// The queue of that number, where the driver enabled it.
    pub(crate) fn queue(&mut self, queue: usize) -> Option<&mut Queue> {
        self.queues.get_mut(queue)?.as_mut()
    }

    /// Hands every request that waits in `queue` to `serve`, which says how many bytes it wrote, and
    /// tells the driver of each where it wants to know. Behind the request at hand the device can stop:
    /// how long a request takes is up to the guest.
    pub(crate) fn serve(
        &mut self,
        queue: usize,
        mut serve: impl FnMut(&Chain, &GuestMemory) -> Result<u32, ChainError>,
    ) -> Result<(), QueueError> {
        let memory = self.memory;
        let mut left = TURN;
        while !self.stopping.is_wanted()
            && let Some(Some(ring)) = self.queues.get_mut(queue)
        {
            ring.ignore(memory)?;
            if !ring.pop(memory, self.chain)? {
                if ring.listen(memory)? {
                    continue;
                }
                break;
            }
            let written = serve(self.chain, memory)?;
            ring.push(memory, self.chain.token(), written)?;
            self.tell(queue)?;
            left -= 1;
            if left == 0 {
                self.ring(queue);
                break;
            }
        }
        Ok(())
    }

    /// Rings the doorbell of `queue`: what is left to do is for the next turn.
    pub(crate) fn ring(&self, queue: usize) {
        if let Some(bell) = self.bells.get(queue) {
            bell.ring();
        }
    }

    /// Takes the next request of `queue`, if there is one.
    pub(crate) fn pop(&mut self, queue: usize) -> Result<Option<&Chain>, QueueError> {
        let memory = self.memory;
        let Some(Some(ring)) = self.queues.get_mut(queue) else {
            return Ok(None);
        };
        Ok(ring.pop(memory, self.chain)?.then_some(&*self.chain))
    }

    /// Tells the driver of what was given back, where it wants to know.
    pub(crate) fn tell(&mut self, queue: usize) -> Result<(), QueueError> {
        let memory = self.memory;
        let Some(ring) = self.queue(queue) else {
            return Ok(());
        };
        if ring.wants_interrupt(memory)? {
            let queue = u16::try_from(queue).expect("a device has few queues");
            self.interrupt.raise(Cause::Queue(queue));
        }
        Ok(())
    }

    /// Tells the driver that requests of `queue` were given back by somebody else.
    pub(crate) fn interrupt(&self, queue: u16) {
        self.interrupt.raise(Cause::Queue(queue));
    }

    /// The device cannot go on until its driver resets it.
    pub(crate) fn break_down(&self, error: &dyn Error) {
        self.interrupt.break_down(error);
    }

    /// Tells the driver that the device's configuration has changed.
    pub(crate) fn tell_of_configuration(&self) {
        self.interrupt.raise(Cause::Configuration);
    }
}

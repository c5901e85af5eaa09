//! Queues (virtio 1.2 section 2.6): a ring in guest memory through which requests come and go back.
//!
//! The driver may write anything into a ring at any time. Every number is read once and checked
//! before it is used; what is wrong is a [`QueueError`], and the queue then stays broken: it gives
//! no more requests and takes none back.

mod chain;
mod error;

pub use chain::{Chain, ChainError, ChainReader, ChainWriter, Ranges, Token};
pub use error::{QueueError, RingPart};

use firstlight_base::{Gpa, GuestMem};

/// Where a driver says that a queue is, and what it is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSetup {
    /// How many entries it has.
    pub size: u16,
    /// The descriptors: a table, or the packed ring.
    pub descriptors: Gpa,
    /// What the driver writes: the available ring, or when it wants interrupts.
    pub driver: Gpa,
    /// What the device writes: the used ring, or when it wants doorbells.
    pub device: Gpa,
    /// How it is laid out.
    pub layout: Layout,
    /// Whether either side says up to where it wants to hear nothing.
    pub event_idx: bool,
    /// Whether descriptors may lead to tables of descriptors.
    pub indirect: bool,
}

/// How a queue is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A table of descriptors, and a ring for each direction (section 2.7).
    Split,
    /// One ring of descriptors for both directions (section 2.8).
    Packed,
}

/// A running queue.
#[derive(Debug)]
pub struct Queue {}

impl Queue {
    /// Runs the queue that `setup` describes.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where it cannot have that size or be there.
    pub fn start(setup: &QueueSetup, memory: &impl GuestMem) -> Result<Self, QueueError> {
        let _ = (setup, memory);
        Ok(Self {})
    }

    /// Fills `chain` with the next request; false where there is none.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the ring or the request is malformed.
    pub fn pop(&mut self, memory: &impl GuestMem, chain: &mut Chain) -> Result<bool, QueueError> {
        let _ = (memory, chain);
        Ok(false)
    }

    /// Gives a request back, into which `written` bytes were written.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken, or has not given this request.
    pub fn push(
        &mut self,
        memory: &impl GuestMem,
        token: Token,
        written: u32,
    ) -> Result<(), QueueError> {
        let _ = (memory, token, written);
        Ok(())
    }

    /// Whether the driver wants an interrupt for what was pushed since this was last asked.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn wants_interrupt(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        let _ = memory;
        Ok(false)
    }

    /// Asks for doorbells again; true where requests have come meanwhile, for which none may ring:
    /// then go on popping.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn listen(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        let _ = memory;
        Ok(false)
    }

    /// Wants no doorbells for now. Some may still ring.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn ignore(&mut self, memory: &impl GuestMem) -> Result<(), QueueError> {
        let _ = memory;
        Ok(())
    }
}

//! Queues (virtio 1.2 section 2.6): a ring in guest memory through which requests come and go back.
//!
//! The driver may write anything into a ring at any time. Every number is read once and checked
//! before it is used; what is wrong is a [`QueueError`], and the queue then stays broken: it gives
//! no more requests and takes none back.

mod chain;
mod descriptor;
mod error;
mod packed;
mod ram;
mod split;
#[cfg(test)]
mod tests;
mod under_way;

pub use chain::{Chain, ChainError, ChainReader, ChainWriter, Ranges, Token};
pub use error::{QueueError, RingPart};

use firstlight_base::{Gpa, GuestMem};
use packed::Packed;
use split::Split;
use under_way::UnderWay;

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

impl QueueSetup {
    /// The ring, if every byte of it is guest memory and where it can be.
    fn check(&self, memory: &impl GuestMem) -> Result<(), QueueError> {
        let parts = match self.layout {
            Layout::Split => split::parts(self)?,
            Layout::Packed => packed::parts(self)?,
        };
        for part in parts {
            part.check(memory)?;
        }
        Ok(())
    }
}

/// A part of a ring: where it is, how long, and how it must be aligned.
#[derive(Clone, Copy, Debug)]
struct Part {
    part: RingPart,
    at: Gpa,
    len: u64,
    align: u64,
}

impl Part {
    const fn new(part: RingPart, at: Gpa, len: u64, align: u64) -> Self {
        Self {
            part,
            at,
            len,
            align,
        }
    }

    fn check(self, memory: &impl GuestMem) -> Result<(), QueueError> {
        let Self { part, at, .. } = self;
        if !at.is_aligned(self.align) {
            let align = self.align;
            return Err(QueueError::Misaligned { part, at, align });
        }
        match ram::range(memory, at, self.len) {
            Ok(_) => Ok(()),
            Err(outside) => Err(QueueError::RingOutside { part, outside }),
        }
    }
}

/// A request that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which one.
    pub token: Token,
    /// How many bytes were written into it, from its first.
    pub written: u32,
}

/// A running queue.
#[derive(Debug)]
pub struct Queue {
    size: u16,
    ring: Ring,
    under_way: UnderWay,
    /// What went wrong first.
    broken: Option<QueueError>,
}

#[derive(Debug)]
enum Ring {
    Split(Split),
    Packed(Packed),
}

impl Queue {
    /// Runs the queue that `setup` describes.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where it cannot have that size or be there.
    pub fn start(setup: &QueueSetup, memory: &impl GuestMem) -> Result<Self, QueueError> {
        setup.check(memory)?;
        let size = setup.size;
        let (ring, under_way) = match setup.layout {
            Layout::Split => (Ring::Split(Split::new(setup)), UnderWay::heads(size)),
            Layout::Packed => (Ring::Packed(Packed::new(setup)), UnderWay::ids(size)),
        };
        Ok(Self {
            size,
            ring,
            under_way,
            broken: None,
        })
    }

    /// Runs a queue again that was served up to there before: all requests that were taken have been
    /// given back.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where it cannot have that size or be there.
    pub fn resume(
        setup: &QueueSetup,
        memory: &impl GuestMem,
        position: u16,
    ) -> Result<Self, QueueError> {
        let mut queue = Self::start(setup, memory)?;
        if let Ring::Split(split) = &mut queue.ring {
            split.set_position(position);
        }
        Ok(queue)
    }

    /// Up to where it has been served; `None` for a packed ring, which has no such number.
    #[must_use]
    pub const fn position(&self) -> Option<u16> {
        match &self.ring {
            Ring::Split(split) => Some(split.position()),
            Ring::Packed(_) => None,
        }
    }

    /// How many entries it has: more requests than that at one go may never end.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Fills `chain` with the next request; false where there is none. Only the first for a chain
    /// allocates.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the ring or the request is malformed; `chain` is empty then.
    pub fn pop(&mut self, memory: &impl GuestMem, chain: &mut Chain) -> Result<bool, QueueError> {
        chain.clear(self.size);
        self.is_sound()?;
        let popped = match &mut self.ring {
            Ring::Split(split) => split.pop(memory, chain),
            Ring::Packed(packed) => packed.pop(memory, chain),
        };
        let popped = popped.and_then(|is_one| {
            if is_one {
                self.under_way.begin(chain.token())?;
            }
            Ok(is_one)
        });
        if popped.is_err() {
            chain.clear(self.size);
        }
        self.noted(popped)
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
        self.push_together(memory, &[Finished { token, written }])
    }

    /// Gives requests back that the driver sees all at once or not yet.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken, or has not given one of these requests.
    pub fn push_together(
        &mut self,
        memory: &impl GuestMem,
        finished: &[Finished],
    ) -> Result<(), QueueError> {
        self.is_sound()?;
        let mut tokens = finished.iter().map(|one| one.token);
        let ended = tokens.try_for_each(|token| self.under_way.end(token));
        let pushed = ended.and_then(|()| match &mut self.ring {
            Ring::Split(split) => split.push(memory, finished),
            Ring::Packed(packed) => packed.push(memory, finished),
        });
        self.noted(pushed)
    }

    /// Whether the driver wants an interrupt for what was pushed since this was last asked.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn wants_interrupt(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        self.is_sound()?;
        let wants = match &mut self.ring {
            Ring::Split(split) => split.wants_interrupt(memory),
            Ring::Packed(packed) => packed.wants_interrupt(memory),
        };
        self.noted(wants)
    }

    /// Asks for doorbells again; true where requests have come meanwhile, for which none may ring:
    /// then go on popping.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn listen(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        self.is_sound()?;
        let has_come = match &mut self.ring {
            Ring::Split(split) => split.listen(memory),
            Ring::Packed(packed) => packed.listen(memory),
        };
        self.noted(has_come)
    }

    /// Wants no doorbells for now. Some may still ring.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn ignore(&mut self, memory: &impl GuestMem) -> Result<(), QueueError> {
        self.is_sound()?;
        let ignored = match &self.ring {
            Ring::Split(split) => split.ignore(memory),
            Ring::Packed(packed) => packed.ignore(memory),
        };
        self.noted(ignored)
    }

    fn is_sound(&self) -> Result<(), QueueError> {
        self.broken.map_or(Ok(()), Err)
    }

    /// Keeps what went wrong.
    fn noted<T>(&mut self, result: Result<T, QueueError>) -> Result<T, QueueError> {
        self.broken = result.as_ref().err().copied();
        result
    }
}

/// The address `offset` bytes behind a part of a ring, which does not wrap.
fn behind(part: Gpa, offset: u64) -> Gpa {
    Gpa::new(part.get().wrapping_add(offset))
}

fn load(memory: &impl GuestMem, at: Gpa) -> Result<u16, QueueError> {
    memory.load_u16(at).map_err(QueueError::RingGone)
}

fn store(memory: &impl GuestMem, at: Gpa, value: u16) -> Result<(), QueueError> {
    memory.store_u16(at, value).map_err(QueueError::RingGone)
}

//! Frames into the driver's buffers (virtio 1.2 section 5.1.6.4).

use super::{Header, MOST_BYTES, NetFeatures};
use crate::virtio::queue::{Chain, Finished, Queue, QueueError};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use firstlight_base::GuestMem;

/// The most buffers that a frame is spread over. Those that drivers offer where they may be used
/// together hold a whole ordinary frame, so that the longest needs 43.
const MOST_BUFFERS: usize = 64;

/// Puts frames into the buffers that a driver offers.
///
/// Those that were too few for a frame are kept for it, or for the next.
#[derive(Debug)]
pub struct Receiver {
    /// Whether a frame may be spread over several.
    can_merge: bool,
    /// Popped and not used, in order.
    waiting: VecDeque<Chain>,
    /// How many bytes fit into those.
    room: u64,
    /// Not in use.
    spare: Vec<Chain>,
    /// Used for the frame at hand.
    finished: Vec<Finished>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The driver has it.
    Delivered,
    /// There is no room for it until the driver offers more: try again when the doorbell rings.
    NoRoom,
    /// It fits into nothing that this driver offers, and is lost.
    Dropped,
}

impl Receiver {
    /// A receiver for a driver that chose these features.
    #[must_use]
    pub fn new(features: u64) -> Self {
        let can_merge = features & NetFeatures::MRG_RXBUF.bits() != 0;
        Self {
            can_merge,
            waiting: VecDeque::new(),
            room: 0,
            spare: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Puts `frame`, which begins with its header, into the driver's buffers.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn put(
        &mut self,
        queue: &mut Queue,
        memory: &impl GuestMem,
        frame: &[u8],
    ) -> Result<Placed, QueueError> {
        if !(Header::LEN..=MOST_BYTES).contains(&frame.len()) {
            return Ok(Placed::Dropped);
        }
        let len = frame.len() as u64;
        while self.room < len && self.waiting.len() < self.most_buffers(queue) {
            if !self.pop(queue, memory)? {
                return Ok(Placed::NoRoom);
            }
        }
        if self.room < len {
            return Ok(Placed::Dropped);
        }
        self.spread(memory, frame)?;
        queue.push_together(memory, &self.finished)?;
        Ok(Placed::Delivered)
    }

    /// Whether the driver offers anything: only then it is worth while to fetch a frame.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue is broken.
    pub fn has_room(
        &mut self,
        queue: &mut Queue,
        memory: &impl GuestMem,
    ) -> Result<bool, QueueError> {
        Ok(!self.waiting.is_empty() || self.pop(queue, memory)?)
    }

    /// How many buffers a frame can be spread over.
    fn most_buffers(&self, queue: &Queue) -> usize {
        if self.can_merge {
            MOST_BUFFERS.min(queue.size().into())
        } else {
            1
        }
    }

    /// Takes the next buffer that the driver offers; false where there is none.
    fn pop(&mut self, queue: &mut Queue, memory: &impl GuestMem) -> Result<bool, QueueError> {
        let mut chain = self.spare.pop().unwrap_or_default();
        let popped = queue.pop(memory, &mut chain);
        if let Ok(true) = popped {
            self.room += chain.writer(memory).room();
            self.waiting.push_back(chain);
        } else {
            self.spare.push(chain);
        }
        popped
    }

    /// Writes a frame over the buffers that wait, for which there is room.
    fn spread(&mut self, memory: &impl GuestMem, frame: &[u8]) -> Result<(), QueueError> {
        self.finished.clear();
        let header = self.header(memory, frame);
        let body = frame.get(Header::LEN..).unwrap_or(&[]);
        let (mut header, mut body) = (&header[..], body);
        while !(header.is_empty() && body.is_empty()) {
            let Some(chain) = self.waiting.pop_front() else {
                break;
            };
            let mut writer = chain.writer(memory);
            self.room -= writer.room();
            for rest in [&mut header, &mut body] {
                let fitting = usize::try_from(writer.room()).unwrap_or(usize::MAX);
                let (part, behind) = rest.split_at(fitting.min(rest.len()));
                writer.write_all(part)?;
                *rest = behind;
            }
            let (token, written) = (chain.token(), writer.written());
            self.finished.push(Finished { token, written });
            self.spare.push(chain);
        }
        Ok(())
    }

    /// The frame's header, which also says how many buffers it has.
    fn header(&self, memory: &impl GuestMem, frame: &[u8]) -> [u8; Header::LEN] {
        let mut bytes = [0; Header::LEN];
        for (byte, &value) in bytes.iter_mut().zip(frame) {
            *byte = value;
        }
        let mut left = frame.len() as u64;
        let mut buffers = 0;
        for chain in &self.waiting {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(chain.writer(memory).room());
            buffers += 1;
        }
        let header = Header {
            buffers,
            ..Header::from_bytes(bytes)
        };
        header.to_bytes()
    }
}

//! A guest's memory and its driver's side of a queue, to test devices with.
//!
//! The driver keeps to the rules (virtio 1.2 sections 2.7.13, 2.7.14 and 2.8.21); what breaks them
//! is written into the memory by the test.

mod packed;
mod ram;
mod split;

pub use ram::Ram;

use crate::virtio::{Chain, Layout, Queue, QueueSetup};
use alloc::vec::Vec;
use firstlight_base::{Gpa, GuestMem};
use packed::Packed;
use split::Split;

/// A buffer that a driver offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Where it is.
    pub at: Gpa,
    /// How long it is.
    pub len: u32,
    /// Whether the device writes it.
    pub is_writable: bool,
}

impl Buffer {
    /// A buffer that the device reads.
    #[must_use]
    pub const fn readable(at: u64, len: u32) -> Self {
        Self {
            at: Gpa::new(at),
            len,
            is_writable: false,
        }
    }

    /// A buffer that the device writes.
    #[must_use]
    pub const fn writable(at: u64, len: u32) -> Self {
        Self {
            at: Gpa::new(at),
            len,
            is_writable: true,
        }
    }
}

/// A request that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Which one: what [`Driver::offer`] answered.
    pub id: u16,
    /// How many bytes the device says that it wrote.
    pub written: u32,
}

/// A queue whose parts follow one another from `at`, a multiple of 16, without further features.
#[must_use]
pub fn queue_at(at: u64, size: u16, layout: Layout) -> QueueSetup {
    let descriptors = 16 * u64::from(size);
    let driver = match layout {
        Layout::Split => (6 + 2 * u64::from(size)).next_multiple_of(4),
        Layout::Packed => 4,
    };
    QueueSetup {
        size,
        descriptors: Gpa::new(at),
        driver: Gpa::new(at + descriptors),
        device: Gpa::new(at + descriptors + driver),
        layout,
        event_idx: false,
        indirect: false,
    }
}

/// A driver's side of a queue.
#[derive(Debug)]
pub struct Driver {
    ring: Ring,
}

#[derive(Debug)]
enum Ring {
    Split(Split),
    Packed(Packed),
}

impl Driver {
    /// The driver of a queue in memory that is still zeros there.
    #[must_use]
    pub fn new(setup: &QueueSetup) -> Self {
        let ring = match setup.layout {
            Layout::Split => Ring::Split(Split::new(setup)),
            Layout::Packed => Ring::Packed(Packed::new(setup)),
        };
        Self { ring }
    }

    /// Offers a request of these buffers, those to be read first. `None` where the ring has no
    /// descriptors left for it.
    pub fn offer(&mut self, ram: &Ram, buffers: &[Buffer]) -> Option<u16> {
        match &mut self.ring {
            Ring::Split(split) => split.offer(ram, buffers),
            Ring::Packed(packed) => packed.offer(ram, buffers),
        }
    }

    /// The same by a table of descriptors at `table`.
    pub fn offer_indirect(&mut self, ram: &Ram, table: Gpa, buffers: &[Buffer]) -> Option<u16> {
        match &mut self.ring {
            Ring::Split(split) => split.offer_indirect(ram, table, buffers),
            Ring::Packed(packed) => packed.offer_indirect(ram, table, buffers),
        }
    }

    /// Whether the device wants a doorbell for what was offered since this was last asked.
    pub fn is_doorbell_wanted(&mut self, ram: &Ram) -> bool {
        match &mut self.ring {
            Ring::Split(split) => split.is_doorbell_wanted(ram),
            Ring::Packed(packed) => packed.is_doorbell_wanted(ram),
        }
    }

    /// The next request that came back.
    pub fn take_used(&mut self, ram: &Ram) -> Option<Used> {
        match &mut self.ring {
            Ring::Split(split) => split.take_used(ram),
            Ring::Packed(packed) => packed.take_used(ram),
        }
    }

    /// Asks for an interrupt when the next request comes back; true where one has already.
    pub fn listen(&mut self, ram: &Ram) -> bool {
        match &mut self.ring {
            Ring::Split(split) => split.listen(ram),
            Ring::Packed(packed) => packed.listen(ram),
        }
    }

    /// Wants no interrupts for now.
    pub fn ignore(&mut self, ram: &Ram) {
        match &mut self.ring {
            Ring::Split(split) => split.ignore(ram),
            Ring::Packed(packed) => packed.ignore(ram),
        }
    }
}

/// Where [`request`] puts buffers.
const BUFFERS: u64 = 0x1_0000;

/// A memory and in it a request as a device pops it: of a buffer for each of `readable`, with these
/// bytes, and one for each of `writable`, with that much room, filled with 0x55.
///
/// # Panics
///
/// Where that is no buffer, or more than 64.
#[must_use]
pub fn request(readable: &[&[u8]], writable: &[u32]) -> (Ram, Chain) {
    let readable_bytes: usize = readable.iter().map(|bytes| bytes.len() + 1).sum();
    let writable_bytes: u64 = writable.iter().map(|&len| u64::from(len) + 1).sum();
    let ram = Ram::new(BUFFERS + readable_bytes as u64 + writable_bytes);
    let mut at = BUFFERS;
    let mut buffers = Vec::new();
    for bytes in readable {
        let len = u32::try_from(bytes.len()).expect("a buffer is shorter than the memory");
        ram.write(Gpa::new(at), bytes).expect("buffers fit");
        buffers.push(Buffer::readable(at, len));
        // One byte apart, so that they are no whole.
        at += u64::from(len) + 1;
    }
    for &len in writable {
        ram.fill(Gpa::new(at), len, 0x55);
        buffers.push(Buffer::writable(at, len));
        at += u64::from(len) + 1;
    }
    let setup = queue_at(0x1000, 64, Layout::Split);
    let offered = Driver::new(&setup).offer(&ram, &buffers);
    assert_eq!(offered, Some(0), "a request of 1 to 64 buffers");
    let mut queue = Queue::start(&setup, &ram).expect("a queue in memory");
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&ram, &mut chain), Ok(true));
    (ram, chain)
}

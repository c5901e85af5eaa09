//! A driver for tests: split rings in guest memory, and a backend that is called without a thread.

use super::{Backend, Interrupt, Io, Stopping};
use crate::bell::Bell;
use firstlight_base::{Gpa, GpaRange, GuestMem};
use firstlight_devices::virtio::{Cause, Chain, Layout, Queue, QueueSetup};
use firstlight_load::{Backing, GuestMemory};
use rustix::event::{PollFd, Timespec, poll};
use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// How many entries each queue has.
const SIZE: u16 = 64;
/// How many requests can be under way: each has a descriptor for either direction.
const SLOTS: u16 = SIZE / 2;
/// How many bytes a request has at most, in either direction.
const SLOT: u64 = 0x2_0000;
/// Where a queue's parts are, from where the queue is.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x1_0000;
const QUEUE: u64 = BUFFERS + 2 * SLOT * SLOTS as u64;

/// VIRTQ_DESC_F_NEXT and VIRTQ_DESC_F_WRITE (virtio 1.2, section 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A driver with its memory and queues.
pub(super) struct Driver {
    pub(super) memory: GuestMemory,
    queues: Vec<Option<Queue>>,
    rings: Vec<Ring>,
    bells: Vec<Arc<Bell>>,
    pub(super) interrupts: Interrupts,
    pub(super) stopping: Arc<AtomicBool>,
    chain: Chain,
}

/// The driver's side of a queue.
struct Ring {
    at: u64,
    available: u16,
    used: u16,
    free: Vec<u16>,
}

/// The interrupts that came.
#[derive(Default)]
pub(super) struct Interrupts(Mutex<Vec<Cause>>);

impl Interrupt for Interrupts {
    fn raise(&self, cause: Cause) {
        self.0.lock().unwrap().push(cause);
    }

    fn break_down(&self, error: &dyn Error) {
        panic!("the driver plays by the rules: {error}");
    }
}

impl Interrupts {
    pub(super) fn take(&self) -> Vec<Cause> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Driver {
    /// A driver of a device with so many queues.
    pub(super) fn new(queues: u16) -> Self {
        let len = u64::from(queues) * QUEUE;
        let ram = GpaRange::new(Gpa::new(0), len).unwrap();
        let memory = GuestMemory::allocate(&[ram], Backing::Private).unwrap();
        let starts = (0..queues).map(|queue| u64::from(queue) * QUEUE);
        let setups = starts.clone().map(|at| QueueSetup {
            size: SIZE,
            descriptors: Gpa::new(at),
            driver: Gpa::new(at + AVAILABLE),
            device: Gpa::new(at + USED),
            layout: Layout::Split,
            event_idx: false,
            indirect: false,
        });
        Self {
            queues: setups
                .map(|setup| Some(Queue::start(&setup, &memory).unwrap()))
                .collect(),
            rings: starts
                .map(|at| Ring {
                    at,
                    available: 0,
                    used: 0,
                    free: (0..SLOTS).rev().collect(),
                })
                .collect(),
            bells: (0..queues)
                .map(|_| Arc::new(Bell::new().unwrap()))
                .collect(),
            memory,
            interrupts: Interrupts::default(),
            stopping: Arc::default(),
            chain: Chain::new(),
        }
    }

    /// The driver has not enabled this queue.
    pub(super) fn leave_out(&mut self, queue: usize) {
        self.queues[queue] = None;
    }

    /// What a backend is given.
    pub(super) fn io(&mut self) -> Io<'_> {
        Io {
            memory: &self.memory,
            queues: &mut self.queues,
            bells: &self.bells,
            interrupt: &self.interrupts,
            stopping: Stopping::Flag(&self.stopping),
            chain: &mut self.chain,
        }
    }

    /// Whether a request can be made.
    pub(super) fn has_room(&self, queue: usize) -> bool {
        !self.rings[queue].free.is_empty()
    }

    /// How many requests were made and not given back.
    pub(super) fn under_way(&self, queue: usize) -> usize {
        usize::from(SLOTS) - self.rings[queue].free.len()
    }

    /// Makes a request of `bytes` and of room for so many.
    pub(super) fn request(&mut self, queue: usize, bytes: &[u8], room: u32) {
        let ring = &mut self.rings[queue];
        let slot = ring.free.pop().expect("there is room for a request");
        let (to_device, from_device) = ring.buffers(slot);
        self.memory.write(Gpa::new(to_device), bytes).unwrap();
        let first = 2 * slot;
        let len = u32::try_from(bytes.len()).unwrap();
        let parts = [(to_device, len, 0), (from_device, room, WRITE)];
        let parts: Vec<_> = parts.into_iter().filter(|(_, len, _)| *len > 0).collect();
        for (index, (at, len, flags)) in (0..).zip(&parts) {
            let more = usize::from(index) + 1 < parts.len();
            let mut descriptor = Vec::new();
            descriptor.extend(at.to_le_bytes());
            descriptor.extend(len.to_le_bytes());
            descriptor.extend((flags | if more { NEXT } else { 0 }).to_le_bytes());
            descriptor.extend((first + index + 1).to_le_bytes());
            let entry = ring.at + 16 * u64::from(first + index);
            self.memory.write(Gpa::new(entry), &descriptor).unwrap();
        }
        let entry = ring.at + AVAILABLE + 4 + 2 * u64::from(ring.available % SIZE);
        self.memory.store_u16(Gpa::new(entry), first).unwrap();
        ring.available = ring.available.wrapping_add(1);
        let index = Gpa::new(ring.at + AVAILABLE + 2);
        self.memory.store_u16(index, ring.available).unwrap();
    }

    /// Where the room of the request is that was made last.
    pub(super) fn room_of_last(&self, queue: usize) -> Gpa {
        let ring = &self.rings[queue];
        let entry = ring.at + AVAILABLE + 4 + 2 * u64::from(ring.available.wrapping_sub(1) % SIZE);
        let first = self.memory.load_u16(Gpa::new(entry)).unwrap();
        Gpa::new(ring.buffers(first / 2).1)
    }

    /// What came into the requests that were given back, in order.
    pub(super) fn done(&mut self, queue: usize) -> Vec<Vec<u8>> {
        let ring = &mut self.rings[queue];
        let index = self.memory.load_u16(Gpa::new(ring.at + USED + 2)).unwrap();
        let mut done = Vec::new();
        while ring.used != index {
            let mut entry = [0; 8];
            let at = ring.at + USED + 4 + 8 * u64::from(ring.used % SIZE);
            self.memory.read(Gpa::new(at), &mut entry).unwrap();
            let [id, id_high, _, _, len @ ..] = entry;
            let slot = u16::from_le_bytes([id, id_high]) / 2;
            let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
            let (_, from_device) = ring.buffers(slot);
            self.memory.read(Gpa::new(from_device), &mut bytes).unwrap();
            ring.free.push(slot);
            ring.used = ring.used.wrapping_add(1);
            done.push(bytes);
        }
        done
    }

    /// Rings the doorbell of `queue`.
    pub(super) fn ring(&mut self, backend: &mut impl Backend, queue: usize) {
        backend.rung(queue, &mut self.io()).unwrap();
    }

    /// Lets the backend serve what it waits for, where that is ready within so many milliseconds.
    pub(super) fn wait(&mut self, backend: &mut impl Backend, milliseconds: i64) -> bool {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: milliseconds * 1_000_000,
        };
        let mut waits = backend.waits();
        let found = poll(&mut waits, Some(&timeout)).unwrap() > 0;
        let ready: Vec<_> = waits.iter().map(PollFd::revents).collect();
        if found {
            backend.ready(&ready, &mut self.io()).unwrap();
        }
        found
    }
}

impl Ring {
    fn buffers(&self, slot: u16) -> (u64, u64) {
        let to_device = self.at + BUFFERS + 2 * SLOT * u64::from(slot);
        (to_device, to_device + SLOT)
    }
}

//! The driver's side of a packed ring.

use super::{Buffer, Ram, Used};
use crate::virtio::QueueSetup;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{Gpa, GuestMem};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

#[derive(Clone, Copy, Debug)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Place {
    fn advance(&mut self, count: u16, size: u16) {
        self.index += count;
        if self.index >= size {
            self.index -= size;
            self.wrap = !self.wrap;
        }
    }
}

#[derive(Debug)]
pub(super) struct Packed {
    setup: QueueSetup,
    free_ids: Vec<u16>,
    free: u16,
    /// How many descriptors each request under way has.
    under_way: Vec<u16>,
    available: Place,
    /// How many descriptors were made available since the device's wish was looked at, and where.
    new: u32,
    told: Place,
    used: Place,
}

impl Packed {
    pub(super) fn new(setup: &QueueSetup) -> Self {
        let start = Place {
            index: 0,
            wrap: true,
        };
        Self {
            setup: *setup,
            free_ids: (0..setup.size).rev().collect(),
            free: setup.size,
            under_way: vec![0; setup.size.into()],
            available: start,
            new: 0,
            told: start,
            used: start,
        }
    }

    pub(super) fn offer(&mut self, ram: &Ram, buffers: &[Buffer]) -> Option<u16> {
        let descriptors: Vec<_> = buffers.iter().map(|&buffer| (buffer, 0)).collect();
        self.make_available(ram, &descriptors)
    }

    pub(super) fn offer_indirect(
        &mut self,
        ram: &Ram,
        table: Gpa,
        buffers: &[Buffer],
    ) -> Option<u16> {
        for (&buffer, index) in buffers.iter().zip(0..) {
            write(ram, table, index, buffer, (0, 0));
        }
        let leading = Buffer {
            at: table,
            len: 16 * u32::try_from(buffers.len()).expect("a table is short"),
            is_writable: false,
        };
        self.make_available(ram, &[(leading, INDIRECT)])
    }

    /// Makes descriptors available, the first one last (section 2.8.21.1).
    fn make_available(&mut self, ram: &Ram, descriptors: &[(Buffer, u16)]) -> Option<u16> {
        let count = u16::try_from(descriptors.len()).ok()?;
        self.free = self.free.checked_sub(count)?;
        let id = self.free_ids.pop().expect("there are as many numbers");
        self.under_way[usize::from(id)] = count;
        let first = self.available;
        let mut writes = Vec::new();
        for (&(buffer, flags), index) in descriptors.iter().zip(1..) {
            let next = if index < count { NEXT } else { 0 };
            writes.push((self.available, buffer, flags | next));
            self.available.advance(1, self.setup.size);
        }
        for &(place, buffer, flags) in writes.iter().rev() {
            let side = if place.wrap { AVAILABLE } else { USED };
            let table = self.setup.descriptors;
            write(ram, table, place.index, buffer, (id, flags | side));
        }
        assert_eq!(writes.first().map(|first| first.0.index), Some(first.index));
        self.new += u32::from(count);
        Some(id)
    }

    pub(super) fn is_doorbell_wanted(&mut self, ram: &Ram) -> bool {
        let device = self.setup.device.get();
        let (told, new) = (self.told, core::mem::take(&mut self.new));
        self.told = self.available;
        match load(ram, device + 2) {
            0 => new > 0,
            1 => false,
            _ => {
                let place = load(ram, device);
                let mut at = told;
                (0..new).any(|_| {
                    let is_here = place == at.index | u16::from(at.wrap) << 15;
                    at.advance(1, self.setup.size);
                    is_here
                })
            }
        }
    }

    pub(super) fn take_used(&mut self, ram: &Ram) -> Option<Used> {
        if !self.is_used(ram) {
            return None;
        }
        let at = self.setup.descriptors.get() + 16 * u64::from(self.used.index);
        let bytes = ram.bytes(Gpa::new(at + 8), 6);
        let written = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        let id = u16::from_le_bytes(bytes[4..].try_into().expect("two bytes"));
        let has_written = load(ram, at + 14) & WRITE != 0;
        assert_eq!(has_written, written > 0, "section 2.8.3");
        let count = core::mem::take(&mut self.under_way[usize::from(id)]);
        assert!(count > 0, "{id} came back and was not under way");
        self.used.advance(count, self.setup.size);
        self.free += count;
        self.free_ids.push(id);
        Some(Used { id, written })
    }

    fn is_used(&self, ram: &Ram) -> bool {
        let at = self.setup.descriptors.get() + 16 * u64::from(self.used.index);
        let flags = load(ram, at + 14);
        (flags & AVAILABLE != 0) == self.used.wrap && (flags & USED != 0) == self.used.wrap
    }

    pub(super) fn listen(&mut self, ram: &Ram) -> bool {
        let driver = self.setup.driver.get();
        if self.setup.event_idx {
            let place = self.used.index | u16::from(self.used.wrap) << 15;
            ram.put_u16(driver, place);
            ram.put_u16(driver + 2, 2);
        } else {
            ram.put_u16(driver + 2, 0);
        }
        self.is_used(ram)
    }

    pub(super) fn ignore(&self, ram: &Ram) {
        ram.put_u16(self.setup.driver.get() + 2, 1);
    }
}

fn load(ram: &Ram, at: u64) -> u16 {
    ram.load_u16(Gpa::new(at)).expect("the ring is memory")
}

fn write(ram: &Ram, table: Gpa, index: u16, buffer: Buffer, (id, flags): (u16, u16)) {
    let at = table.get() + 16 * u64::from(index);
    let write = if buffer.is_writable { WRITE } else { 0 };
    ram.put_u64(at, buffer.at.get());
    let [len, id, flags] = [
        u64::from(buffer.len),
        u64::from(id),
        u64::from(flags | write),
    ];
    ram.put_u64(at + 8, len | id << 32 | flags << 48);
}

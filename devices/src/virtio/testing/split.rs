//! The driver's side of a split ring.

use super::{Buffer, Ram, Used};
use crate::virtio::QueueSetup;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{Gpa, GuestMem};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

#[derive(Debug)]
pub(super) struct Split {
    setup: QueueSetup,
    free: Vec<u16>,
    /// The descriptors of each request under way, by its first.
    chains: Vec<Vec<u16>>,
    available: u16,
    told: u16,
    used: u16,
}

impl Split {
    pub(super) fn new(setup: &QueueSetup) -> Self {
        Self {
            setup: *setup,
            free: (0..setup.size).rev().collect(),
            chains: vec![Vec::new(); setup.size.into()],
            available: 0,
            told: 0,
            used: 0,
        }
    }

    pub(super) fn offer(&mut self, ram: &Ram, buffers: &[Buffer]) -> Option<u16> {
        let left = self.free.len().checked_sub(buffers.len())?;
        let mut chain = self.free.split_off(left);
        chain.reverse();
        let table = self.setup.descriptors;
        write_chain(ram, table, &chain, buffers);
        self.make_available(ram, chain)
    }

    pub(super) fn offer_indirect(
        &mut self,
        ram: &Ram,
        table: Gpa,
        buffers: &[Buffer],
    ) -> Option<u16> {
        let only = self.free.pop()?;
        let len = u16::try_from(buffers.len()).expect("a table is short");
        let indices: Vec<u16> = (0..len).collect();
        write_chain(ram, table, &indices, buffers);
        let leading = Buffer {
            at: table,
            len: 16 * u32::from(len),
            is_writable: false,
        };
        write(ram, self.setup.descriptors, only, leading, (INDIRECT, 0));
        self.make_available(ram, vec![only])
    }

    fn make_available(&mut self, ram: &Ram, chain: Vec<u16>) -> Option<u16> {
        let &head = chain.first()?;
        self.chains[usize::from(head)] = chain;
        let at = self.setup.driver.get();
        let slot = u64::from(self.available % self.setup.size);
        ram.put_u16(at + 4 + 2 * slot, head);
        self.available = self.available.wrapping_add(1);
        ram.put_u16(at + 2, self.available);
        Some(head)
    }

    pub(super) fn is_doorbell_wanted(&mut self, ram: &Ram) -> bool {
        let new = self.available.wrapping_sub(self.told);
        self.told = self.available;
        if !self.setup.event_idx {
            return new > 0 && load(ram, self.setup.device) & 1 == 0;
        }
        let behind = 4 + 8 * u64::from(self.setup.size);
        let event = load(ram, Gpa::new(self.setup.device.get() + behind));
        self.available.wrapping_sub(event).wrapping_sub(1) < new
    }

    pub(super) fn take_used(&mut self, ram: &Ram) -> Option<Used> {
        if !self.is_used(ram) {
            return None;
        }
        let slot = u64::from(self.used % self.setup.size);
        let entry = ram.bytes(Gpa::new(self.setup.device.get() + 4 + 8 * slot), 8);
        let number = |from: usize| {
            let bytes = entry[from..from + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        };
        let id = u16::try_from(number(0)).expect("a descriptor's number");
        self.used = self.used.wrapping_add(1);
        let chain = core::mem::take(&mut self.chains[usize::from(id)]);
        assert!(!chain.is_empty(), "{id} came back and was not under way");
        self.free.extend(chain);
        Some(Used {
            id,
            written: number(4),
        })
    }

    fn is_used(&self, ram: &Ram) -> bool {
        load(ram, Gpa::new(self.setup.device.get() + 2)) != self.used
    }

    pub(super) fn listen(&mut self, ram: &Ram) -> bool {
        let at = self.setup.driver.get();
        if self.setup.event_idx {
            ram.put_u16(at + 4 + 2 * u64::from(self.setup.size), self.used);
        } else {
            ram.put_u16(at, 0);
        }
        self.is_used(ram)
    }

    pub(super) fn ignore(&self, ram: &Ram) {
        if self.setup.event_idx {
            let far = self.used.wrapping_add(0x8000);
            let at = self.setup.driver.get() + 4 + 2 * u64::from(self.setup.size);
            ram.put_u16(at, far);
        } else {
            ram.put_u16(self.setup.driver.get(), 1);
        }
    }
}

fn load(ram: &Ram, at: Gpa) -> u16 {
    ram.load_u16(at).expect("the ring is memory")
}

/// Writes descriptors at `indices` of `table` that lead from one to the next.
fn write_chain(ram: &Ram, table: Gpa, indices: &[u16], buffers: &[Buffer]) {
    let nexts = indices.iter().skip(1).map(|&next| (NEXT, next));
    let nexts = nexts.chain([(0, 0)]);
    for ((&index, &buffer), link) in indices.iter().zip(buffers).zip(nexts) {
        write(ram, table, index, buffer, link);
    }
}

fn write(ram: &Ram, table: Gpa, index: u16, buffer: Buffer, (flags, next): (u16, u16)) {
    let at = table.get() + 16 * u64::from(index);
    let write = if buffer.is_writable { WRITE } else { 0 };
    ram.put_u64(at, buffer.at.get());
    let [len, flags, next] = [
        u64::from(buffer.len),
        u64::from(flags | write),
        u64::from(next),
    ];
    ram.put_u64(at + 8, len | flags << 32 | next << 48);
}

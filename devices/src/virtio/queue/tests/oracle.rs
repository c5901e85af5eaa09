//! The split ring beside that of rust-vmm's `virtio-queue`: from the same driver both take the same
//! requests, and leave the same memory.

extern crate std;

use super::*;
use proptest::prelude::*;
use virtio_queue::{Queue as Theirs, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Offer { buffers: u8, by_table: bool },
    Pop,
    Push { which: u8, written: u32 },
    Ask,
    Listen,
    Ignore,
    Reap,
    DriverListens,
    DriverIgnores,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => (1..5_u8, any::<bool>()).prop_map(|(buffers, by_table)| Turn::Offer { buffers, by_table }),
        4 => Just(Turn::Pop),
        4 => (any::<u8>(), any::<u32>()).prop_map(|(which, written)| Turn::Push { which, written }),
        2 => Just(Turn::Ask),
        1 => Just(Turn::Listen),
        1 => Just(Turn::Ignore),
        2 => Just(Turn::Reap),
        1 => Just(Turn::DriverListens),
        1 => Just(Turn::DriverIgnores),
    ]
}

const LEN: usize = 0x1_0000;

/// Both queues, and a driver that writes our memory; theirs is made the same.
struct Pair {
    ours: Rig,
    theirs: Theirs,
    memory: GuestMemoryMmap,
    event_idx: bool,
    under_way: Vec<Token>,
    /// How many were pushed since the wish for interrupts was looked at.
    pushed: u32,
    offered: u32,
}

impl Pair {
    fn new(size: u16, event_idx: bool) -> Self {
        let setup = QueueSetup {
            event_idx,
            indirect: true,
            ..setup(Layout::Split, size)
        };
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), LEN)]).unwrap();
        let mut theirs = Theirs::new(64).unwrap();
        theirs.set_size(size);
        let low = |address: Gpa| Some(u32::try_from(address.get()).unwrap());
        theirs.set_desc_table_address(low(setup.descriptors), Some(0));
        theirs.set_avail_ring_address(low(setup.driver), Some(0));
        theirs.set_used_ring_address(low(setup.device), Some(0));
        theirs.set_event_idx(event_idx);
        theirs.set_ready(true);
        assert!(theirs.is_valid(&memory));
        Self {
            ours: Rig::new(&setup),
            theirs,
            memory,
            event_idx,
            under_way: Vec::new(),
            pushed: 0,
            offered: 0,
        }
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Offer { buffers, by_table } => self.offer(buffers.into(), by_table),
            Turn::Pop => self.pop(),
            Turn::Push { which, written } => self.push(which.into(), written),
            Turn::Ask => self.ask(),
            Turn::Listen => {
                let ours = self.ours.queue.listen(&self.ours.ram).unwrap();
                let theirs = self.theirs.enable_notification(&self.memory).unwrap();
                assert_eq!(ours, theirs);
            }
            Turn::Ignore => {
                self.ours.queue.ignore(&self.ours.ram).unwrap();
                self.theirs.disable_notification(&self.memory).unwrap();
            }
            Turn::Reap => while self.ours.driver.take_used(&self.ours.ram).is_some() {},
            Turn::DriverListens => {
                self.ours.driver.listen(&self.ours.ram);
                self.copy();
            }
            Turn::DriverIgnores => {
                self.ours.driver.ignore(&self.ours.ram);
                self.copy();
            }
        }
        let mut theirs = std::vec![0; LEN];
        self.memory
            .read_slice(&mut theirs, GuestAddress(0))
            .unwrap();
        assert!(self.ours.ram.bytes(Gpa::new(0), LEN) == theirs, "{turn:?}");
    }

    fn offer(&mut self, count: u64, by_table: bool) {
        self.offered += 1;
        let at = 0x8000 + u64::from(self.offered % 0x100) * 0x40;
        let buffers: Vec<_> = (0..count)
            .map(|index| match index {
                0 | 1 => Buffer::readable(at + 16 * index, 16),
                _ => Buffer::writable(at + 16 * index, 8),
            })
            .collect();
        let Rig { ram, driver, .. } = &mut self.ours;
        if by_table {
            let table = Gpa::new(0x4000 + u64::from(self.offered % 0x100) * 0x40);
            driver.offer_indirect(ram, table, &buffers);
        } else {
            driver.offer(ram, &buffers);
        }
        self.copy();
    }

    /// Makes their memory the same as ours.
    fn copy(&self) {
        let ours = self.ours.ram.bytes(Gpa::new(0), LEN);
        self.memory.write_slice(&ours, GuestAddress(0)).unwrap();
    }

    fn pop(&mut self) {
        let is_one = self.ours.pop().unwrap();
        let theirs = self.theirs.pop_descriptor_chain(&self.memory);
        let head = theirs.as_ref().map(|chain| chain.head_index());
        if !is_one {
            assert_eq!(head, None);
            return;
        }
        let chain = &self.ours.chain;
        assert_eq!(head, Some(chain.token().id));
        let readable = chain.readable().iter().map(|range| (range, false));
        let writable = chain.writable().iter().map(|range| (range, true));
        let ours: Vec<_> = readable
            .chain(writable)
            .map(|(range, is_writable)| (range.start().get(), range.len(), is_writable))
            .collect();
        let theirs: Vec<_> = theirs
            .unwrap()
            .map(|found| {
                (
                    found.addr().0,
                    u64::from(found.len()),
                    found.is_write_only(),
                )
            })
            .collect();
        assert_eq!(ours, theirs);
        self.under_way.push(chain.token());
    }

    fn push(&mut self, which: usize, written: u32) {
        if self.under_way.is_empty() {
            return;
        }
        let which = which % self.under_way.len();
        let token = self.under_way.swap_remove(which);
        self.ours.push(token, written);
        self.theirs
            .add_used(&self.memory, token.id, written)
            .unwrap();
        self.pushed += 1;
    }

    /// They do not look at the flag that asks for no interrupts.
    fn ask(&mut self) {
        let ours = self.ours.wants_interrupt();
        let theirs = self.theirs.needs_notification(&self.memory).unwrap();
        if self.event_idx {
            assert_eq!(ours, theirs);
        }
        assert!(self.pushed > 0 || !ours);
        self.pushed = 0;
    }
}

proptest! {
    #[test]
    fn both_take_the_same_requests_and_leave_the_same_memory(
        turns in proptest::collection::vec(turn(), 0..150),
        log_size in 2..5_u32,
        event_idx in any::<bool>(),
    ) {
        let mut pair = Pair::new(1 << log_size, event_idx);
        for turn in turns {
            pair.take(turn);
        }
    }
}

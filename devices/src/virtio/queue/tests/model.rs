//! A driver and a device that take turns in any order: every request comes and goes back once.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

extern crate std;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The driver offers a request of so many buffers, by a table where it may.
    Offer {
        buffers: u8,
        by_table: bool,
    },
    /// The driver rings the doorbell if the device wants it.
    Ring,
    /// The device, where the doorbell rang, pops all there is and listens again.
    Serve,
    /// The device gives one of the requests it has back.
    Complete(u8),
    /// The device interrupts if the driver wants it.
    Interrupt,
    /// The driver, where it was interrupted, takes all that came back and listens again.
    Reap,
    /// Either side says that it wants to hear nothing, and will look by itself.
    DeviceIgnores,
    DriverIgnores,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => (1..6_u8, any::<bool>()).prop_map(|(buffers, by_table)| Turn::Offer { buffers, by_table }),
        3 => Just(Turn::Ring),
        3 => Just(Turn::Serve),
        4 => any::<u8>().prop_map(Turn::Complete),
        3 => Just(Turn::Interrupt),
        3 => Just(Turn::Reap),
        1 => Just(Turn::DeviceIgnores),
        1 => Just(Turn::DriverIgnores),
    ]
}

struct Model {
    rig: Rig,
    indirect: bool,
    /// Requests by the address of their first buffer, until the device has popped them.
    offered: HashMap<u16, (u64, usize)>,
    popped: HashSet<u16>,
    tokens: Vec<(Token, u32)>,
    /// What the device wrote, by the driver's number.
    completed: HashMap<u16, u32>,
    serial: u32,
    has_rung: bool,
    has_interrupted: bool,
    /// Whether the side will look by itself.
    device_looks: bool,
    driver_looks: bool,
}

impl Model {
    fn new(setup: &QueueSetup) -> Self {
        let mut rig = Rig::new(setup);
        let device_looks = rig.queue.listen(&rig.ram).unwrap();
        let driver_looks = rig.driver.listen(&rig.ram);
        Self {
            rig,
            indirect: setup.indirect,
            offered: HashMap::new(),
            popped: HashSet::new(),
            tokens: Vec::new(),
            completed: HashMap::new(),
            serial: 0,
            has_rung: false,
            has_interrupted: false,
            device_looks,
            driver_looks,
        }
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Offer { buffers, by_table } => self.offer(buffers.into(), by_table),
            Turn::Ring => self.has_rung |= self.rig.driver.is_doorbell_wanted(&self.rig.ram),
            Turn::Serve => {
                if core::mem::take(&mut self.has_rung) || self.device_looks {
                    self.serve();
                }
            }
            Turn::Complete(which) => self.complete(which.into()),
            Turn::Interrupt => self.has_interrupted |= self.rig.wants_interrupt(),
            Turn::Reap => {
                if core::mem::take(&mut self.has_interrupted) || self.driver_looks {
                    self.reap();
                }
            }
            Turn::DeviceIgnores => {
                self.rig.queue.ignore(&self.rig.ram).unwrap();
                self.device_looks = true;
            }
            Turn::DriverIgnores => {
                self.rig.driver.ignore(&self.rig.ram);
                self.driver_looks = true;
            }
        }
    }

    /// The buffers of a request are at addresses that tell it from all others.
    fn offer(&mut self, count: usize, by_table: bool) {
        self.serial += 1;
        let at = 0x4000 + u64::from(self.serial % 0x400) * 16;
        let buffers: Vec<_> = (0..count)
            .map(|index| match index {
                0 => Buffer::readable(at, 1),
                _ => Buffer::writable(at + index as u64, 1),
            })
            .collect();
        let Rig { ram, driver, .. } = &mut self.rig;
        let id = if by_table && self.indirect {
            let table = Gpa::new(0x9000 + u64::from(self.serial % 0x40) * 0x80);
            driver.offer_indirect(ram, table, &buffers)
        } else {
            driver.offer(ram, &buffers)
        };
        if let Some(id) = id {
            let before = self.offered.insert(id, (at, count));
            assert_eq!(before, None);
        }
    }

    fn serve(&mut self) {
        loop {
            while self.rig.pop().unwrap() {
                self.popped_one();
            }
            if !self.rig.queue.listen(&self.rig.ram).unwrap() {
                break;
            }
        }
        self.device_looks = false;
        assert_eq!(self.popped.len(), self.offered.len(), "all have come");
    }

    fn popped_one(&mut self) {
        let Rig { chain, .. } = &self.rig;
        let token = chain.token();
        let &(at, count) = self.offered.get(&token.id).expect("it was offered");
        assert_eq!(chain.readable(), [range(at, 1)]);
        assert_eq!(chain.writable().len(), count - 1);
        assert!(self.popped.insert(token.id), "it came once");
        let written = u32::try_from(count - 1).unwrap();
        self.tokens.push((token, written));
    }

    fn complete(&mut self, which: usize) {
        if self.tokens.is_empty() {
            return;
        }
        let index = which % self.tokens.len();
        let (token, written) = self.tokens.swap_remove(index);
        self.rig.push(token, written);
        let before = self.completed.insert(token.id, written);
        assert_eq!(before, None);
    }

    fn reap(&mut self) {
        loop {
            while let Some(used) = self.rig.driver.take_used(&self.rig.ram) {
                assert_eq!(self.completed.remove(&used.id), Some(used.written));
                assert!(self.offered.remove(&used.id).is_some());
                assert!(self.popped.remove(&used.id));
            }
            if !self.rig.driver.listen(&self.rig.ram) {
                break;
            }
        }
        self.driver_looks = false;
        assert!(self.completed.is_empty(), "all have come back");
    }

    /// Both sides do what they were told to: then nothing is left.
    fn settle(mut self) {
        for turn in [Turn::Ring, Turn::Serve] {
            self.take(turn);
        }
        assert_eq!(
            self.popped.len(),
            self.offered.len(),
            "a request that no doorbell told of"
        );
        while !self.tokens.is_empty() {
            self.complete(0);
        }
        for turn in [Turn::Interrupt, Turn::Reap] {
            self.take(turn);
        }
        assert!(
            self.completed.is_empty(),
            "a request that no interrupt told of"
        );
        assert!(self.offered.is_empty());
    }
}

proptest! {
    #[test]
    fn every_request_comes_once_and_goes_back_once(
        turns in proptest::collection::vec(turn(), 0..300),
        log_size in 0..5_u32,
        is_packed in any::<bool>(),
        event_idx in any::<bool>(),
        indirect in any::<bool>(),
    ) {
        let layout = if is_packed { Layout::Packed } else { Layout::Split };
        let size = 1_u16 << log_size;
        // A packed ring need not be a power of two; a chain may be as long as the queue.
        let size = if is_packed { size + size / 2 } else { size };
        let setup = QueueSetup { event_idx, indirect, ..queue_at(0x1000, size, layout) };
        let mut model = Model::new(&setup);
        for turn in turns {
            let turn = match turn {
                Turn::Offer { buffers, by_table } => Turn::Offer {
                    buffers: buffers.min(u8::try_from(size).unwrap()),
                    by_table,
                },
                other => other,
            };
            model.take(turn);
        }
        model.settle();
    }
}

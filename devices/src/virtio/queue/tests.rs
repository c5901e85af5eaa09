mod hostile;
mod hostile_packed;
mod hostile_split;
mod model;
mod oracle;

use super::*;
use crate::virtio::testing::{Buffer, Driver, Ram, Used, queue_at};
use alloc::vec::Vec;
use firstlight_base::{GpaRange, OutsideRam};

/// A queue in the first 64 KiB of a memory, and its driver.
struct Rig {
    ram: Ram,
    driver: Driver,
    queue: Queue,
    chain: Chain,
}

impl Rig {
    fn new(setup: &QueueSetup) -> Self {
        let ram = Ram::new(0x1_0000);
        let queue = Queue::start(setup, &ram).unwrap();
        Self {
            driver: Driver::new(setup),
            ram,
            queue,
            chain: Chain::new(),
        }
    }

    fn offer(&mut self, buffers: &[Buffer]) -> u16 {
        self.driver.offer(&self.ram, buffers).unwrap()
    }

    fn pop(&mut self) -> Result<bool, QueueError> {
        self.queue.pop(&self.ram, &mut self.chain)
    }

    fn push(&mut self, token: Token, written: u32) {
        self.queue.push(&self.ram, token, written).unwrap();
    }

    /// Offers a buffer, pops and pushes it.
    fn serve_one(&mut self) {
        let id = self.offer(&[Buffer::readable(0x8000, 1)]);
        assert_eq!(self.pop(), Ok(true));
        self.push(self.chain.token(), 0);
        let used = Used { id, written: 0 };
        assert_eq!(self.driver.take_used(&self.ram), Some(used));
    }

    fn wants_interrupt(&mut self) -> bool {
        self.queue.wants_interrupt(&self.ram).unwrap()
    }
}

const LAYOUTS: [Layout; 2] = [Layout::Split, Layout::Packed];

fn setup(layout: Layout, size: u16) -> QueueSetup {
    queue_at(0x1000, size, layout)
}

fn range(at: u64, len: u64) -> GpaRange {
    GpaRange::new(Gpa::new(at), len).unwrap()
}

#[test]
fn a_request_comes_with_its_ranges_and_goes_back_with_its_length() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&setup(layout, 8));
        assert_eq!(rig.pop(), Ok(false));
        let id = rig.offer(&[
            Buffer::readable(0x8000, 0x10),
            Buffer::readable(0x9000, 0x20),
            Buffer::writable(0xa000, 0x30),
        ]);
        assert_eq!(rig.pop(), Ok(true));
        assert_eq!(
            rig.chain.readable(),
            [range(0x8000, 0x10), range(0x9000, 0x20)]
        );
        assert_eq!(rig.chain.writable(), [range(0xa000, 0x30)]);
        let token = rig.chain.token();
        assert_eq!(rig.pop(), Ok(false));
        assert!(rig.chain.readable().is_empty() && rig.chain.writable().is_empty());
        assert_eq!(rig.driver.take_used(&rig.ram), None);
        rig.push(token, 0x22);
        let used = Used { id, written: 0x22 };
        assert_eq!(rig.driver.take_used(&rig.ram), Some(used));
        assert_eq!(rig.driver.take_used(&rig.ram), None);
    }
}

#[test]
fn requests_may_come_back_in_any_order() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&setup(layout, 8));
        let mut offered = Vec::new();
        let mut tokens = Vec::new();
        for buffers in 1..=3 {
            let buffers: Vec<_> = (0..buffers)
                .map(|at| Buffer::writable(0x8000 + at, 1))
                .collect();
            offered.push(rig.offer(&buffers));
            assert_eq!(rig.pop(), Ok(true));
            tokens.push(rig.chain.token());
        }
        for index in [1, 2, 0] {
            rig.push(tokens[index], 1);
        }
        for index in [1, 2, 0] {
            let used = rig.driver.take_used(&rig.ram).unwrap();
            assert_eq!(used.id, offered[index]);
        }
    }
}

#[test]
fn a_table_of_descriptors_is_one_request() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&QueueSetup {
            indirect: true,
            ..setup(layout, 8)
        });
        let buffers = [
            Buffer::readable(0x8000, 1),
            Buffer::readable(0x9000, 2),
            Buffer::writable(0xa000, 3),
        ];
        for _ in 0..20 {
            let table = Gpa::new(0xb000);
            let id = rig.driver.offer_indirect(&rig.ram, table, &buffers);
            assert_eq!(rig.pop(), Ok(true));
            assert_eq!(rig.chain.readable(), [range(0x8000, 1), range(0x9000, 2)]);
            assert_eq!(rig.chain.writable(), [range(0xa000, 3)]);
            rig.push(rig.chain.token(), 3);
            let used = rig.driver.take_used(&rig.ram).unwrap();
            assert_eq!(Some(used.id), id);
        }
    }
}

#[test]
fn a_chain_may_fill_the_queue_and_wrap_in_it() {
    for layout in LAYOUTS {
        for size in [4, 8, 16] {
            let mut rig = Rig::new(&setup(layout, size));
            rig.serve_one();
            let buffers: Vec<_> = (0..size)
                .map(|index| Buffer::writable(0x8000 + 16 * u64::from(index), 16))
                .collect();
            for _ in 0..3 {
                rig.offer(&buffers);
                assert_eq!(rig.pop(), Ok(true));
                assert_eq!(rig.chain.writable().len(), usize::from(size));
                rig.push(rig.chain.token(), 0);
                assert!(rig.driver.take_used(&rig.ram).is_some());
            }
        }
    }
}

#[test]
fn a_packed_ring_need_not_be_a_power_of_two() {
    let mut rig = Rig::new(&setup(Layout::Packed, 7));
    for _ in 0..40 {
        rig.serve_one();
    }
    let seven = setup(Layout::Split, 7);
    let refusal = QueueError::Size {
        size: 7,
        layout: Layout::Split,
    };
    assert_eq!(Queue::start(&seven, &rig.ram).unwrap_err(), refusal);
}

#[test]
fn only_the_first_request_allocates() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&setup(layout, 8));
        rig.serve_one();
        let room = rig.chain.readable().as_ptr();
        for count in [8, 1, 8, 3] {
            let buffers: Vec<_> = (0..count).map(|at| Buffer::readable(at, 1)).collect();
            rig.offer(&buffers);
            assert_eq!(rig.pop(), Ok(true));
            assert_eq!(rig.chain.readable().as_ptr(), room);
            rig.push(rig.chain.token(), 0);
            assert!(rig.driver.take_used(&rig.ram).is_some());
        }
    }
}

#[test]
fn the_largest_queues_work() {
    for layout in LAYOUTS {
        let setup = queue_at(0x1_0000, 0x8000, layout);
        let ram = Ram::new(0x20_0000);
        let mut queue = Queue::start(&setup, &ram).unwrap();
        let mut driver = Driver::new(&setup);
        let mut chain = Chain::new();
        let all: Vec<_> = (0..0x8000).map(|at| Buffer::writable(at, 1)).collect();
        for buffers in [&all[..1], &all, &all, &all[..1]] {
            driver.offer(&ram, buffers).unwrap();
            assert_eq!(queue.pop(&ram, &mut chain), Ok(true));
            assert_eq!(chain.writable().len(), buffers.len());
            queue.push(&ram, chain.token(), 0).unwrap();
            assert!(driver.take_used(&ram).is_some());
            assert_eq!(driver.take_used(&ram), None);
        }
    }
}

#[test]
fn indices_wrap() {
    for layout in LAYOUTS {
        for event_idx in [false, true] {
            let mut rig = Rig::new(&QueueSetup {
                event_idx,
                ..setup(layout, 4)
            });
            for round in 0..70_000 {
                assert!(!rig.driver.listen(&rig.ram));
                assert!(!rig.queue.listen(&rig.ram).unwrap());
                let token = {
                    rig.offer(&[Buffer::readable(0x8000, 1)]);
                    assert!(rig.driver.is_doorbell_wanted(&rig.ram), "{round}");
                    assert_eq!(rig.pop(), Ok(true));
                    rig.chain.token()
                };
                rig.push(token, 0);
                assert!(rig.wants_interrupt(), "{round}");
                assert!(rig.driver.take_used(&rig.ram).is_some());
            }
        }
    }
}

#[test]
fn buffers_without_bytes_are_no_ranges() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&setup(layout, 8));
        // They need not be anywhere.
        rig.offer(&[
            Buffer::readable(u64::MAX, 0),
            Buffer::readable(0x8000, 1),
            Buffer::writable(0xffff_0000_0000, 0),
        ]);
        assert_eq!(rig.pop(), Ok(true));
        assert_eq!(rig.chain.readable(), [range(0x8000, 1)]);
        assert_eq!(rig.chain.writable(), []);
    }
}

#[test]
fn a_ring_and_a_buffer_may_end_with_memory() {
    for layout in LAYOUTS {
        for event_idx in [false, true] {
            let mut at_end = QueueSetup {
                event_idx,
                ..setup(layout, 8)
            };
            let (_, driver, device) = lens(&at_end);
            at_end.device = Gpa::new(0x1_0000 - device.next_multiple_of(4));
            at_end.driver = Gpa::new((0x1_0000 - device - driver) & !3);
            at_end.descriptors = Gpa::new(0x1_0000 - 0x180);
            let mut rig = Rig::new(&at_end);
            rig.serve_one();
        }
        let mut rig = Rig::new(&setup(layout, 8));
        rig.offer(&[
            Buffer::readable(0xffff, 1),
            Buffer::writable(0xf000, 0x1000),
        ]);
        assert_eq!(rig.pop(), Ok(true));
        rig.offer(&[Buffer::readable(0xffff, 2)]);
        let outside = OutsideRam {
            at: Gpa::new(0xffff),
            len: 2,
        };
        assert_eq!(rig.pop(), Err(QueueError::BufferOutside(outside)));
    }
}

/// How long the parts of a ring are (sections 2.7 and 2.8.10).
fn lens(setup: &QueueSetup) -> (u64, u64, u64) {
    let size = u64::from(setup.size);
    let event = if setup.event_idx { 2 } else { 0 };
    match setup.layout {
        Layout::Split => (16 * size, 4 + 2 * size + event, 4 + 8 * size + event),
        Layout::Packed => (16 * size, 4, 4),
    }
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    for layout in LAYOUTS {
        for event_idx in [false, true] {
            let mut rig = Rig::new(&QueueSetup {
                event_idx,
                ..setup(layout, 8)
            });
            assert!(!rig.wants_interrupt(), "nothing has come back");
            rig.driver.ignore(&rig.ram);
            rig.serve_one();
            assert!(!rig.wants_interrupt());
            assert!(!rig.driver.listen(&rig.ram));
            rig.serve_one();
            assert!(rig.wants_interrupt());
            assert!(!rig.wants_interrupt(), "it was told");
        }
    }
}

#[test]
fn an_interrupt_comes_at_the_place_that_the_driver_waits_for() {
    for layout in LAYOUTS {
        let setup = QueueSetup {
            event_idx: true,
            ..setup(layout, 8)
        };
        let mut rig = Rig::new(&setup);
        // It waits for the third, and then for nothing else.
        let place = match layout {
            Layout::Split => setup.driver.get() + 4 + 16,
            Layout::Packed => setup.driver.get(),
        };
        let third = match layout {
            Layout::Split => 2,
            Layout::Packed => 2 | 0x8000,
        };
        if layout == Layout::Packed {
            rig.ram.put_u16(setup.driver.get() + 2, 2);
        }
        rig.ram.put_u16(place, third);
        let mut told = Vec::new();
        for _ in 0..6 {
            rig.serve_one();
            told.push(rig.wants_interrupt());
        }
        assert_eq!(told, [false, false, true, false, false, false]);
        if layout == Layout::Packed {
            rig.ram.put_u16(place, 1);
            let told = (0..4).map(|_| {
                rig.serve_one();
                rig.wants_interrupt()
            });
            // 6, 7, then 0 and 1 of the next round.
            assert_eq!(told.collect::<Vec<_>>(), [false, false, false, true]);
        }
    }
}

#[test]
fn several_that_come_back_at_once_are_one_interrupt() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&QueueSetup {
            event_idx: true,
            ..setup(layout, 8)
        });
        rig.driver.listen(&rig.ram);
        for _ in 0..3 {
            rig.serve_one();
        }
        assert!(rig.wants_interrupt());
        assert!(!rig.wants_interrupt());
    }
}

#[test]
fn a_device_that_wants_no_doorbells_says_so() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&setup(layout, 8));
        rig.queue.ignore(&rig.ram).unwrap();
        rig.offer(&[Buffer::readable(0x8000, 1)]);
        assert!(!rig.driver.is_doorbell_wanted(&rig.ram));
        assert_eq!(rig.queue.listen(&rig.ram), Ok(true), "one has come");
        assert_eq!(rig.pop(), Ok(true));
        assert_eq!(rig.queue.listen(&rig.ram), Ok(false));
        rig.offer(&[Buffer::readable(0x8000, 1)]);
        assert!(rig.driver.is_doorbell_wanted(&rig.ram));
    }
}

#[test]
fn with_event_idx_only_the_first_request_rings() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&QueueSetup {
            event_idx: true,
            ..setup(layout, 8)
        });
        assert_eq!(rig.queue.listen(&rig.ram), Ok(false));
        let rings = [0; 3].map(|_| {
            rig.offer(&[Buffer::readable(0x8000, 1)]);
            rig.driver.is_doorbell_wanted(&rig.ram)
        });
        assert_eq!(rings, [true, false, false]);
        for _ in 0..3 {
            assert_eq!(rig.pop(), Ok(true));
        }
        assert_eq!(rig.queue.listen(&rig.ram), Ok(false));
    }
}

#[test]
fn cursors_go_over_a_requests_bytes_across_its_buffers() {
    let (ram, chain) = crate::virtio::testing::request(&[b"ab", b"cde", b"f"], &[2, 3]);
    let mut reader = chain.reader(&ram);
    assert_eq!(reader.len(), 6);
    let mut first = [0; 3];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"abc");
    let [_, second, third] = [0, 1, 2].map(|index| chain.readable()[index]);
    let rest: Vec<_> = reader.ranges(3).unwrap().collect();
    let part = range(second.start().get() + 1, 2);
    assert_eq!(rest, [part, third]);
    let one: Vec<_> = reader.ranges(1).unwrap().collect();
    assert_eq!(one, [range(part.start().get(), 1)]);
    reader.skip(2).unwrap();
    let short = ChainError::Short { wanted: 2, left: 1 };
    assert_eq!(reader.read_exact(&mut [0; 2]), Err(short));
    assert_eq!(reader.skip(2), Err(short));
    assert!(matches!(reader.ranges(2), Err(error) if error == short));
    let mut last = [0];
    reader.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"f");
    assert!(reader.is_empty());
    reader.read_exact(&mut []).unwrap();

    let mut writer = chain.writer(&ram);
    assert_eq!((writer.room(), writer.written()), (5, 0));
    assert!(writer.write_all(b"sixsix").is_err());
    writer.write_all(b"xyz").unwrap();
    assert_eq!((writer.room(), writer.written()), (2, 3));
    let left: Vec<_> = writer.ranges(2).unwrap().collect();
    let [first, second] = [0, 1].map(|index| chain.writable()[index]);
    assert_eq!(left, [range(second.start().get() + 1, 2)]);
    writer.advance(1).unwrap();
    assert_eq!((writer.room(), writer.written()), (1, 4));
    assert_eq!(ram.bytes(first.start(), 2), b"xy");
    assert_eq!(ram.bytes(second.start(), 3), b"z\x55\x55");
    assert!(writer.advance(2).is_err());
}

#[test]
fn requests_that_go_back_together_are_seen_together() {
    /// A memory that counts how many requests its driver sees whenever a number is stored.
    struct Watched<'a> {
        ram: &'a Ram,
        seen: core::cell::RefCell<Vec<bool>>,
        is_used: &'a dyn Fn() -> bool,
    }

    impl GuestMem for Watched<'_> {
        fn holds(&self, range: GpaRange) -> bool {
            self.ram.holds(range)
        }

        fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
            self.ram.read(at, into)
        }

        fn write(&self, at: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
            self.ram.write(at, from)?;
            self.seen.borrow_mut().push((self.is_used)());
            Ok(())
        }

        fn load_u16(&self, at: Gpa) -> Result<u16, OutsideRam> {
            self.ram.load_u16(at)
        }

        fn store_u16(&self, at: Gpa, value: u16) -> Result<(), OutsideRam> {
            self.seen.borrow_mut().push((self.is_used)());
            self.ram.store_u16(at, value)
        }
    }

    for layout in LAYOUTS {
        let mut rig = Rig::new(&setup(layout, 8));
        let mut finished = Vec::new();
        for written in 1..=3 {
            rig.offer(&[Buffer::writable(0x8000, 4)]);
            assert_eq!(rig.pop(), Ok(true));
            let token = rig.chain.token();
            finished.push(Finished { token, written });
        }
        let ram = &rig.ram;
        // Either the used index or the flags of the first descriptor.
        let is_used = || match layout {
            Layout::Split => ram.load_u16(Gpa::new(0x109a)).unwrap() != 0,
            Layout::Packed => ram.load_u16(Gpa::new(0x100e)).unwrap() & 0x8000 != 0,
        };
        let watched = Watched {
            ram,
            seen: core::cell::RefCell::default(),
            is_used: &is_used,
        };
        rig.queue.push_together(&watched, &finished).unwrap();
        let seen = watched.seen.take();
        assert!(seen.len() > 3 && seen.iter().all(|&is_seen| !is_seen));
        assert!(is_used());
        for written in 1..=3 {
            let used = rig.driver.take_used(&rig.ram).unwrap();
            assert_eq!(used.written, written);
        }
        assert_eq!(rig.queue.push_together(&rig.ram, &[]), Ok(()));
    }
}

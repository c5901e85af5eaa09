//! A virtio queue in memory that its driver writes at any time, and what disks and network cards make
//! of its requests.

use crate::knobs::Knobs;
use crate::{Reached, Seed, Target};
use firstlight_base::{Gpa, GpaRange, GuestMem};
use firstlight_devices::virtio::block::{Access, BlockSize, Command, Disk, Request, Status};
use firstlight_devices::virtio::net::{MOST_BYTES, Receiver, gather};
use firstlight_devices::virtio::testing::{Buffer, Driver, Ram, queue_at};
use firstlight_devices::virtio::{Chain, Layout, Queue, QueueError, QueueSetup, Token, rng};
use std::collections::HashSet;

/// The target.
pub const TARGET: Target = Target {
    name: "virtqueue",
    what: "a virtio queue that its driver writes at any time: requests in memory or a named error",
    run,
    seeds,
};

/// What the first byte says of the queue.
const PACKED: u8 = 1;
const EVENT_IDX: u8 = 2;
const INDIRECT: u8 = 4;
/// And of what its requests are for.
const RECEIVES: u8 = 8;

/// Where the queue is.
const AT: u64 = 0x100;
/// The memory: the driver's bytes begin the first piece.
const PIECES: [(u64, u64); 2] = [(0, 0x1000), (0x2000, 0x1000)];

/// One thing that device or driver does. Each is three bytes: which, and a number.
const POP: u8 = 0;
const PUSH: u8 = 1;
const ASK: u8 = 2;
const LISTEN: u8 = 3;
const IGNORE: u8 = 4;
/// The driver changes 16 bits: the number says where, and its highest digit how.
const WRITE: u8 = 5;
const KINDS: u8 = 6;

/// A disk of a mebibyte.
const DISK: Disk = Disk {
    sectors: 2048,
    access: Access::ReadWrite,
    block_size: BlockSize::Bytes512,
    serial: *b"a disk to be fuzzed ",
};

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let flags = knobs.u8();
    let setup = setup(flags, knobs.u8());
    let count = usize::from(knobs.u8());
    let actions: Vec<_> = (0..count).map(|_| (knobs.u8(), knobs.u16())).collect();
    let ram = memory(knobs.rest());
    let Ok(queue) = Queue::start(&setup, &ram) else {
        return Reached::Refusal;
    };
    let mut device = Device {
        ram,
        queue,
        chain: Chain::new(),
        receiver: Receiver::new(1 << 15),
        under_way: Vec::new(),
        receives: flags & RECEIVES != 0,
    };
    for action in actions {
        if let Err(error) = device.act(action) {
            device.is_broken_for_good(error);
            return Reached::Refusal;
        }
    }
    Reached::End
}

fn setup(flags: u8, size: u8) -> QueueSetup {
    let layout = if flags & PACKED == 0 {
        Layout::Split
    } else {
        Layout::Packed
    };
    QueueSetup {
        event_idx: flags & EVENT_IDX != 0,
        indirect: flags & INDIRECT != 0,
        ..queue_at(AT, size.into(), layout)
    }
}

fn memory(bytes: &[u8]) -> Ram {
    let ranges = PIECES.map(|(start, len)| {
        GpaRange::new(Gpa::new(start), len).expect("a piece of memory has bytes")
    });
    let ram = Ram::of(&ranges);
    let first = bytes.get(..0x1000).unwrap_or(bytes);
    ram.write(Gpa::new(0), first).expect("it fits");
    ram
}

/// A device that runs a queue.
struct Device {
    ram: Ram,
    queue: Queue,
    chain: Chain,
    receiver: Receiver,
    under_way: Vec<(Token, u32)>,
    receives: bool,
}

impl Device {
    fn act(&mut self, (kind, number): (u8, u16)) -> Result<(), QueueError> {
        let Self { ram, queue, .. } = self;
        match kind % KINDS {
            POP if self.receives => {
                let frame = [7; 0x400];
                let len = 12 + usize::from(number) % 0x300;
                self.receiver.put(queue, ram, &frame[..len])?;
                Ok(())
            }
            POP => self.pop(),
            PUSH if !self.under_way.is_empty() => {
                let which = usize::from(number) % self.under_way.len();
                let (token, written) = self.under_way.swap_remove(which);
                queue.push(ram, token, written)
            }
            ASK => queue.wants_interrupt(ram).map(drop),
            LISTEN => queue.listen(ram).map(drop),
            IGNORE => queue.ignore(ram),
            WRITE => {
                let [what, at] = [number >> 12, number & 0xffe];
                // A few bits where flags and indices are.
                let old = ram.load_u16(Gpa::new(at.into())).expect("it is memory");
                let bits = [
                    0, 1, 2, 3, 4, 5, 7, 8, 0x80, 0x8000, 0x8080, 0xffff, 0x10, 0x100,
                ];
                let new = match bits.get(usize::from(what)) {
                    Some(bits) => old ^ bits,
                    None => old.wrapping_add(1),
                };
                ram.store_u16(Gpa::new(at.into()), new)
                    .expect("it is memory");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn pop(&mut self) -> Result<(), QueueError> {
        if !self.queue.pop(&self.ram, &mut self.chain)? {
            return Ok(());
        }
        let Self { ram, chain, .. } = self;
        let ranges = chain.readable().iter().chain(chain.writable());
        assert!(ranges.clone().count() <= self.queue.size().into());
        for range in ranges {
            let len = usize::try_from(range.len()).expect("it is short");
            let mut bytes = vec![0; len];
            ram.read(range.start(), &mut bytes).expect("it is memory");
        }
        let written = serve(ram, chain)?;
        let token = chain.token();
        self.under_way.push((token, written));
        let tokens: HashSet<_> = self.under_way.iter().map(|(token, _)| token).collect();
        assert_eq!(tokens.len(), self.under_way.len());
        assert!(tokens.len() <= self.queue.size().into());
        Ok(())
    }

    fn is_broken_for_good(&mut self, error: QueueError) {
        assert!(!error.to_string().is_empty());
        // A request that the disk could not answer is for its keeper to tell.
        if !matches!(error, QueueError::Request(_)) {
            assert_eq!(self.queue.listen(&self.ram), Err(error));
            assert_eq!(self.queue.pop(&self.ram, &mut self.chain), Err(error));
        }
    }
}

/// What devices make of a request; returns how much a disk writes.
fn serve(ram: &Ram, chain: &Chain) -> Result<u32, QueueError> {
    let mut buffer = vec![0; MOST_BYTES];
    if let Some(frame) = gather(chain, ram, &mut buffer) {
        assert_eq!(frame.len() as u64, chain.reader(ram).len());
    }
    let room = chain.writer(ram).room();
    let random = rng::answer(chain, ram, |piece| piece.fill(4))?;
    assert_eq!(u64::from(random), room.min(0x1_0000));
    let Request { command, reply } = Request::parse(chain, ram, &DISK)?;
    let is_inside = |offset: u64, len: u64| {
        let end = offset.checked_add(len).expect("it does not wrap");
        assert!(end <= DISK.sectors * 512);
    };
    let status = match command {
        Command::Read { offset, ranges } | Command::Write { offset, ranges } => {
            is_inside(offset, ranges.bytes());
            assert_eq!(
                ranges.clone().map(GpaRange::len).sum::<u64>(),
                ranges.bytes()
            );
            Status::Ok
        }
        Command::Discard(segments) | Command::WriteZeroes(segments) => {
            for segment in segments.as_slice() {
                is_inside(segment.offset, segment.len);
            }
            Status::Ok
        }
        Command::Flush => Status::Ok,
        Command::TellSerial => return Ok(reply.finish_with_serial(ram, &DISK)?),
        Command::Refuse(status) => status,
    };
    let written = reply.finish(ram, status).expect("the status is in memory");
    assert!(u64::from(written) <= room);
    Ok(written)
}

fn seeds() -> Vec<Seed> {
    let header = Buffer::readable(0xc00, 16);
    let read = [
        header,
        Buffer::writable(0x2000, 512),
        Buffer::writable(0xfff, 1),
    ];
    let outside = [header, Buffer::writable(0xfff, 2)];
    let wrapping = [header, Buffer::writable(u64::MAX - 0xff, 512)];
    let backwards = [Buffer::writable(0x2000, 1), header];
    let no_room = [header];
    let frames = [Buffer::writable(0x2000, 0x1000)];
    let mut seeds = Vec::new();
    for (layout, name) in [(0, "split"), (PACKED, "packed")] {
        let mut seed = |suffix: &str, flags, buffers| {
            seeds.push(seed(&suffix.replace('*', name), layout | flags, buffers));
        };
        seed("*", 0, &read[..]);
        seed("*-event-idx", EVENT_IDX, &read);
        seed("*-table", INDIRECT, &read);
        seed("*-frames", RECEIVES, &frames);
        seed("no-*-outside", 0, &outside);
        seed("no-*-wrapping", 0, &wrapping);
        seed("no-*-backwards", 0, &backwards);
        seed("no-*-room", 0, &no_room);
    }
    seeds
}

/// Three requests of these buffers, what a device does with them, and a memory.
fn seed(name: &str, flags: u8, buffers: &[Buffer]) -> Seed {
    const SIZE: u8 = 16;
    let ram = memory(&[]);
    let mut driver = Driver::new(&setup(flags, SIZE));
    for _ in 0..3 {
        let offered = if flags & INDIRECT == 0 {
            driver.offer(&ram, buffers)
        } else {
            driver.offer_indirect(&ram, Gpa::new(0x800), buffers)
        };
        offered.expect("the ring is large enough");
    }
    driver.listen(&ram);
    // A read of the second sector.
    ram.put_u64(0xc08, 1);
    let does = [LISTEN, POP, POP, PUSH, ASK, IGNORE, POP, PUSH, PUSH, ASK];
    let len = u8::try_from(does.len()).expect("it is short");
    let mut bytes = vec![flags, SIZE, len];
    for action in does {
        bytes.extend([action, 0, 0]);
    }
    bytes.extend(ram.bytes(Gpa::new(0), 0xc10));
    Seed::new(name, bytes)
}

//! Streams in both directions under random credit, partial reads and writes, and few buffers.

use super::*;
use alloc::collections::VecDeque;
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest's program writes so many bytes.
    GuestWrites(u32),
    /// The guest's program reads so many.
    GuestReads(u32),
    /// The host's program writes so many.
    HostWrites(u32),
    /// The host's program reads so many.
    HostReads(u32),
    /// The guest gives a buffer with this much room for bytes.
    Buffer(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..50_000u32).prop_map(Step::GuestWrites),
        (0..50_000u32).prop_map(Step::GuestReads),
        (0..50_000u32).prop_map(Step::HostWrites),
        (0..50_000u32).prop_map(Step::HostReads),
        (1..5_000u32).prop_map(Step::Buffer),
    ]
}

/// The numbers of the bytes of a stream stand for the bytes.
#[derive(Debug, Default)]
struct Stream {
    written: u32,
    /// On the way, or held: ranges in the order in which they came.
    held: VecDeque<u8>,
    arrived: u32,
}

fn byte(number: u32) -> u8 {
    u8::try_from(number % 251).unwrap()
}

impl Stream {
    fn push(&mut self, from: u32, len: u32) {
        self.held.extend((from..from + len).map(byte));
    }

    /// Reads up to `len`, which are the right ones; how many there were.
    fn read(&mut self, len: u32) -> u32 {
        let mut read = 0;
        while read < len
            && let Some(found) = self.held.pop_front()
        {
            assert_eq!(found, byte(self.arrived));
            self.arrived += 1;
            read += 1;
        }
        read
    }
}

/// A guest with one connection, and its host.
struct World {
    connections: Connections,
    pair: Pair,
    to_host: Stream,
    to_guest: Stream,
    /// What the guest's driver has sent and taken.
    guest_sent: u32,
    guest_taken: u32,
    guest_forwarded: u32,
    guest_buffer: u32,
    /// What it knows of the host.
    host_forwarded: u32,
    host_buffer: u32,
    /// What the host's half has sent.
    host_sent: u32,
}

impl World {
    fn new(guest_buffer: u32) -> Self {
        let mut world = Self {
            connections: connections(),
            pair: pair(52, 1000),
            to_host: Stream::default(),
            to_guest: Stream::default(),
            guest_sent: 0,
            guest_taken: 0,
            guest_forwarded: 0,
            guest_buffer,
            host_forwarded: 0,
            host_buffer: 0,
            host_sent: 0,
        };
        world.send(Operation::Request, 0);
        world.connections.accept(world.pair);
        world.take_packet(5000);
        assert_eq!(world.host_buffer, BUFFER);
        world
    }

    /// The guest's driver sends a packet, with bytes if there are some.
    fn send(&mut self, operation: Operation, len: u32) {
        let header = Header {
            len,
            buffer: self.guest_buffer,
            forwarded: self.guest_forwarded,
            ..packet(self.pair, operation)
        };
        let expected = match operation {
            Operation::Request => Received::Call(self.pair),
            _ if len > 0 => Received::Bytes(self.pair, len),
            _ => Received::Nothing,
        };
        let received = self.connections.receive(&header, len.into());
        assert_eq!(received, expected);
    }

    /// The guest's driver sends as much as it may.
    fn guest_sends(&mut self) {
        let free = self.host_buffer - (self.guest_sent - self.host_forwarded);
        let len = free.min(self.to_host.written - self.guest_sent);
        if len > 0 {
            self.send(Operation::Bytes, len);
            self.to_host.push(self.guest_sent, len);
            self.guest_sent += len;
        }
    }

    fn host_reads(&mut self, len: u32) {
        let read = self.to_host.read(len);
        assert!(!self.connections.forwarded(self.pair, read));
    }

    fn guest_reads(&mut self, len: u32) {
        let read = self.to_guest.read(len);
        self.guest_forwarded += read;
        if read > 0 {
            self.send(Operation::CreditUpdate, 0);
        }
    }

    /// The host's half sees that there are bytes.
    fn host_polls(&mut self) {
        if self.host_sent < self.to_guest.written && self.connections.wants_bytes(self.pair) {
            self.connections.has_bytes(self.pair);
        }
    }

    /// A buffer comes to the guest, where something waits for one; whether something did.
    fn take_packet(&mut self, room: u32) -> bool {
        let header = match self.connections.next_turn() {
            None => return false,
            Some(Turn::Packet(header)) => header,
            Some(Turn::Bytes(pair, most)) => {
                let there = self.to_guest.written - self.host_sent;
                let len = most.min(room).min(there);
                if len == 0 {
                    self.connections.drained(pair);
                    return true;
                }
                let header = self.connections.sent(pair, len).unwrap();
                self.to_guest.push(self.host_sent, len);
                self.host_sent += len;
                header
            }
        };
        self.guest_takes(&header);
        true
    }

    fn guest_takes(&mut self, header: &Header) {
        assert_eq!(header.source_cid, HOST);
        assert_eq!(header.destination_cid, u64::from(CID));
        self.host_buffer = header.buffer;
        self.host_forwarded = header.forwarded;
        self.guest_taken += header.len;
        let held = self.guest_taken - self.guest_forwarded;
        assert!(held <= self.guest_buffer, "more than there was room for");
        if header.operation == Operation::CreditRequest {
            self.send(Operation::CreditUpdate, 0);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::GuestWrites(len) => self.to_host.written += len,
            Step::GuestReads(len) => self.guest_reads(len),
            Step::HostWrites(len) => self.to_guest.written += len,
            Step::HostReads(len) => self.host_reads(len),
            Step::Buffer(room) => {
                self.take_packet(room);
            }
        }
        self.guest_sends();
        self.host_polls();
    }

    /// Everybody goes on until nothing is left to do. However small the room is, in some rounds a byte
    /// arrives.
    fn finish(&mut self) {
        const ROUNDS: u32 = 100;
        let arrived = |world: &Self| (world.to_host.arrived, world.to_guest.arrived);
        let written = (self.to_host.written, self.to_guest.written);
        let (mut last, mut idle) = (arrived(self), 0);
        while arrived(self) != written {
            self.step(Step::Buffer(4000));
            self.step(Step::HostReads(5000));
            self.step(Step::GuestReads(5000));
            idle = if arrived(self) == last { idle + 1 } else { 0 };
            last = arrived(self);
            assert!(
                idle < ROUNDS,
                "stuck: {:?} {:?}",
                self.to_host,
                self.to_guest
            );
        }
    }
}

proptest! {
    #[test]
    fn bytes_arrive_in_order_whatever_the_credit(
        guest_buffer in 1..100_000u32,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new(guest_buffer);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }

    /// Room for a byte is enough, if it takes long.
    #[test]
    fn the_smallest_room_is_enough(len in 5000..6000u32) {
        let mut world = World::new(1);
        world.step(Step::HostWrites(len));
        world.finish();
    }

    /// Whatever comes: nothing panics, and no more is held for a connection than there is room for.
    #[test]
    fn no_packet_is_a_surprise(packets in prop::collection::vec(
        (any::<[u8; Header::LEN]>(), 0..3u32, 0..4u32, 0..9u16, any::<bool>(), 0..100_000u32),
        0..200,
    )) {
        let mut connections = connections();
        let mut held = alloc::collections::BTreeMap::new();
        for (random, host, guest, operation, valid, len) in packets {
            let mut header = Header::parse(&random);
            if valid {
                header = Header {
                    flags: header.flags,
                    len,
                    buffer: header.buffer,
                    ..packet(pair(host, guest), Operation::from(operation))
                };
            }
            match connections.receive(&header, 70_000) {
                Received::Call(pair) if !header.flags.is_multiple_of(3) => connections.accept(pair),
                Received::Call(pair) => connections.reset(pair),
                Received::Bytes(pair, len) => *held.entry(pair).or_insert(0) += len,
                Received::Gone(pair) => { held.remove(&pair); }
                Received::Nothing | Received::Taken(_) | Received::ShutDown(..) => {}
            }
            prop_assert!(held.values().all(|held| *held <= BUFFER));
            connections.has_bytes(pair(host, guest));
            if header.flags.is_multiple_of(5) {
                match connections.next_turn() {
                    Some(Turn::Bytes(pair, most)) => {
                        prop_assert!(connections.sent(pair, most).is_some());
                    }
                    Some(Turn::Packet(_)) | None => {}
                }
            }
        }
    }
}

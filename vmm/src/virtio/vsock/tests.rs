//! The socket device between real Unix sockets and a guest that plays by the rules.

mod traffic;

use super::*;
use crate::virtio::testing::Driver;
use firstlight_devices::virtio::Cause;
use firstlight_devices::virtio::vsock::{Operation, Pair, Shutdown, SocketType};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use tempfile::TempDir;

const CID: u32 = 42;

/// A guest with its device, in a folder of its own.
struct World {
    folder: TempDir,
    backend: VsockBackend,
    driver: Driver,
    /// How large the guest's buffers for packets are.
    room: u32,
    /// What it says of its own side's room, and what it has read.
    buffer: u32,
    forwarded: u32,
}

/// A packet that came to the guest.
#[derive(Debug)]
struct Packet {
    header: Header,
    bytes: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cid = GuestCid::new(CID).unwrap();
        let backend = VsockBackend::new(cid, &folder.path().join("v.sock")).unwrap();
        let mut world = Self {
            folder,
            backend,
            driver: Driver::new(3),
            room: 4096,
            buffer: 1 << 18,
            forwarded: 0,
        };
        world.give_buffers();
        world
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("v.sock")
    }

    /// A program on the host that serves a port.
    fn serve(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.folder.path().join(format!("v.sock_{port}"))).unwrap()
    }

    /// A program on the host that connects to the device, and says this.
    fn program(&mut self, words: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.write_all(words.as_bytes()).unwrap();
        stream
    }

    fn give_buffers(&mut self) {
        while self.driver.has_room(RECEIVE) {
            self.driver.request(RECEIVE, &[], self.room);
        }
        self.driver.ring(&mut self.backend, RECEIVE);
    }

    fn send(&mut self, pair: Pair, operation: Operation, bytes: &[u8]) {
        self.send_with_flags(pair, operation, 0, bytes);
    }

    fn send_with_flags(&mut self, pair: Pair, operation: Operation, flags: u32, bytes: &[u8]) {
        let header = Header {
            source_cid: CID.into(),
            destination_cid: 2,
            source_port: pair.guest,
            destination_port: pair.host,
            len: u32::try_from(bytes.len()).unwrap(),
            socket_type: SocketType::STREAM,
            operation,
            flags,
            buffer: self.buffer,
            forwarded: self.forwarded,
        };
        self.driver
            .request(TRANSMIT, &[&header.emit()[..], bytes].concat(), 0);
        self.driver.ring(&mut self.backend, TRANSMIT);
        self.driver.done(TRANSMIT);
    }

    /// Everything that can happen happens, and these packets came to the guest meanwhile.
    fn settle(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        loop {
            let served = self.driver.wait(&mut self.backend, 0);
            let came = self.driver.done(RECEIVE);
            if !served && came.is_empty() {
                return packets;
            }
            for bytes in came {
                let (header, bytes) = bytes.split_first_chunk().unwrap();
                let header = Header::parse(header);
                assert_eq!(header.len as usize, bytes.len());
                assert_eq!(header.destination_cid, u64::from(CID));
                packets.push(Packet {
                    header,
                    bytes: bytes.to_vec(),
                });
            }
            self.give_buffers();
        }
    }

    /// The one packet that comes to the guest.
    fn one(&mut self, operation: Operation) -> Packet {
        let mut packets = self.settle();
        assert_eq!(operations(&packets), [operation]);
        packets.pop().unwrap()
    }

    /// A connection that a program of the host asked for.
    fn connected(&mut self) -> (UnixStream, Pair) {
        let mut program = self.program("CONNECT 80\n");
        let request = self.one(Operation::Request);
        let pair = pair_of(&request);
        assert_eq!(pair.host, 1_073_741_824);
        self.send(pair, Operation::Response, &[]);
        let mut line = [0; 14];
        program.read_exact(&mut line).unwrap();
        assert_eq!(line, *b"OK 1073741824\n");
        (program, pair)
    }
}

fn operations(packets: &[Packet]) -> Vec<Operation> {
    packets.iter().map(|it| it.header.operation).collect()
}

fn pair_of(packet: &Packet) -> Pair {
    Pair {
        host: packet.header.source_port,
        guest: packet.header.destination_port,
    }
}

fn all_bytes(packets: &[Packet]) -> Vec<u8> {
    packets.iter().flat_map(|it| it.bytes.clone()).collect()
}

fn read_there(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
    bytes
}

fn is_at_end(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

/// Bytes of which no two neighbouring stretches are alike.
fn noise(len: usize) -> Vec<u8> {
    (0..len)
        .map(|number| u8::try_from(number * 7 % 251).unwrap())
        .collect()
}

#[test]
fn a_program_on_the_host_reaches_a_port_of_the_guest() {
    let mut world = World::new();
    let (mut program, pair) = world.connected();
    assert_eq!(pair.guest, 80);
    program.write_all(b"hello").unwrap();
    assert_eq!(world.one(Operation::Bytes).bytes, b"hello");
    world.send(pair, Operation::Bytes, b"good day");
    assert_eq!(read_there(&mut program), b"good day");
    let raised = world.driver.interrupts.take();
    assert!(raised.contains(&Cause::Queue(0)) && raised.contains(&Cause::Queue(1)));
}

#[test]
fn a_program_that_the_guest_refuses_finds_its_connection_closed() {
    let mut world = World::new();
    let mut program = world.program("CONNECT 80\n");
    let request = world.one(Operation::Request);
    assert!(!is_at_end(&mut program));
    world.send(pair_of(&request), Operation::Reset, &[]);
    assert!(is_at_end(&mut program));
    assert!(world.settle().is_empty());
}

#[test]
fn a_program_that_talks_nonsense_finds_its_connection_closed() {
    let long = "C".repeat(40);
    for words in [
        "\n",
        "CONNECT\n",
        "CONNECT x\n",
        "CONNECT 80 81\n",
        "CONNECT 4294967296\n",
        "CONNECT -1\n",
        "GET / HTTP/1.1\n",
        "\u{fffd}\n",
        &long,
    ] {
        let mut world = World::new();
        let mut program = world.program(words);
        assert!(world.settle().is_empty(), "{words}");
        assert!(is_closed(&mut program), "{words}");
    }
}

/// Closed with bytes unread counts, too.
fn is_closed(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_line_may_come_in_pieces_and_what_follows_is_the_guests() {
    let mut world = World::new();
    let mut program = world.program("conn");
    assert!(world.settle().is_empty());
    program.write_all(b"ect 8").unwrap();
    assert!(world.settle().is_empty());
    program.write_all(b"0\r\nand more").unwrap();
    let request = world.one(Operation::Request);
    assert_eq!(request.header.destination_port, 80);
    world.send(pair_of(&request), Operation::Response, &[]);
    assert_eq!(world.one(Operation::Bytes).bytes, b"and more");
}

#[test]
fn a_program_that_goes_before_the_guest_answers_is_taken_back() {
    let mut world = World::new();
    let program = world.program("CONNECT 80\n");
    let request = world.one(Operation::Request);
    drop(program);
    world.one(Operation::Reset);
    world.send(pair_of(&request), Operation::Response, &[]);
    world.one(Operation::Reset);
}

#[test]
fn the_guest_reaches_a_program_that_serves_a_port() {
    let mut world = World::new();
    let listener = world.serve(52);
    let pair = Pair {
        host: 52,
        guest: 1000,
    };
    world.send(pair, Operation::Request, &[]);
    world.one(Operation::Response);
    let (mut program, _) = listener.accept().unwrap();
    program.set_nonblocking(true).unwrap();
    world.send(pair, Operation::Bytes, b"is anybody there?");
    assert_eq!(read_there(&mut program), b"is anybody there?");
    program.write_all(b"yes").unwrap();
    assert_eq!(world.one(Operation::Bytes).bytes, b"yes");
}

#[test]
fn the_guest_is_refused_where_nobody_serves_the_port() {
    let mut world = World::new();
    for port in [0, 52, u32::MAX] {
        let pair = Pair {
            host: port,
            guest: 1000,
        };
        world.send(pair, Operation::Request, &[]);
        world.one(Operation::Reset);
    }
}

#[test]
fn a_slow_program_holds_the_guest_back_and_loses_nothing() {
    let mut world = World::new();
    let (mut program, pair) = world.connected();
    let all = noise(2_000_000);
    let (mut sent, mut acknowledged, mut buffer) = (0, 0, BUFFER as usize);
    let mut read = Vec::new();
    let mut most_unread = 0;
    while read.len() < all.len() {
        // The guest sends all that it may.
        loop {
            let free = buffer - (sent - acknowledged);
            let len = free.min(10_000).min(all.len() - sent);
            if len == 0 {
                break;
            }
            world.send(pair, Operation::Bytes, &all[sent..sent + len]);
            sent += len;
            for packet in world.settle() {
                assert_eq!(packet.header.operation, Operation::CreditUpdate);
                acknowledged = packet.header.forwarded as usize;
                buffer = packet.header.buffer as usize;
            }
        }
        most_unread = most_unread.max(sent - read.len());
        let mut some = [0; 30_000];
        let len = program.read(&mut some).unwrap();
        read.extend_from_slice(&some[..len]);
        for packet in world.settle() {
            acknowledged = packet.header.forwarded as usize;
        }
    }
    assert!(read == all);
    assert!(most_unread > BUFFER as usize, "the host's buffer was full");
    assert!(most_unread < 1_000_000, "the guest was held back");
}

#[test]
fn what_a_guest_sent_before_it_went_is_read_to_its_end() {
    for ends in [Operation::Shutdown, Operation::Reset] {
        let mut world = World::new();
        let (mut program, pair) = world.connected();
        let all = noise(400_000);
        let mut sent = 0;
        let mut acknowledged = 0;
        while sent - acknowledged < BUFFER as usize {
            let len = (BUFFER as usize - (sent - acknowledged)).min(10_000);
            world.send(pair, Operation::Bytes, &all[sent..sent + len]);
            sent += len;
            for packet in world.settle() {
                acknowledged = packet.header.forwarded as usize;
            }
        }
        world.send_with_flags(pair, ends, Shutdown::all().bits(), &[]);
        assert!(world.settle().is_empty());
        let mut read = Vec::new();
        let mut resets = 0;
        while read.len() < sent {
            read.extend(read_there(&mut program));
            resets += world.settle().len();
        }
        assert!(read == all[..sent] && is_at_end(&mut program));
        assert_eq!(resets, usize::from(ends == Operation::Shutdown));
    }
}

#[test]
fn what_a_program_wrote_before_it_went_comes_to_the_guest() {
    let mut world = World::new();
    let (mut program, pair) = world.connected();
    let all = noise(100_000);
    program.write_all(&all).unwrap();
    drop(program);
    let packets = world.settle();
    assert!(all_bytes(&packets) == all);
    let last = packets.last().unwrap().header;
    assert_eq!(last.operation, Operation::Shutdown);
    assert_eq!(last.flags, Shutdown::all().bits());
    // What is on the way to the program is nobody's.
    world.send(pair, Operation::Bytes, b"too late");
    world.send(pair, Operation::Reset, &[]);
    assert!(world.settle().is_empty());
}

#[test]
fn a_program_that_went_while_the_guest_had_no_room_is_not_lost() {
    let mut world = World::new();
    world.buffer = 1000;
    let (mut program, pair) = world.connected();
    let all = noise(10_000);
    program.write_all(&all).unwrap();
    let packets = world.settle();
    assert_eq!(
        operations(&packets),
        [Operation::Bytes, Operation::CreditRequest]
    );
    let mut came = all_bytes(&packets);
    assert_eq!(came.len(), 1000);
    drop(program);
    let shut = world.one(Operation::Shutdown);
    assert_eq!(shut.header.flags, Shutdown::RECEIVE.bits());
    while came.len() < all.len() {
        world.forwarded = u32::try_from(came.len()).unwrap();
        world.send(pair, Operation::CreditUpdate, &[]);
        came.extend(all_bytes(&world.settle()));
    }
    world.forwarded = u32::try_from(came.len()).unwrap();
    world.send(pair, Operation::CreditUpdate, &[]);
    assert_eq!(
        world.one(Operation::Shutdown).header.flags,
        Shutdown::all().bits()
    );
    assert!(came == all);
}

#[test]
fn either_side_may_close_one_direction() {
    let mut world = World::new();
    let (mut program, pair) = world.connected();
    program.shutdown(std::net::Shutdown::Write).unwrap();
    let shut = world.one(Operation::Shutdown);
    assert_eq!(shut.header.flags, Shutdown::SEND.bits());
    world.send(pair, Operation::Bytes, b"still");
    assert_eq!(read_there(&mut program), b"still");
    world.send_with_flags(pair, Operation::Shutdown, Shutdown::SEND.bits(), &[]);
    assert!(is_at_end(&mut program));
    drop(program);
    world.settle();
    world.send_with_flags(pair, Operation::Shutdown, Shutdown::all().bits(), &[]);
    world.one(Operation::Reset);
}

#[test]
fn a_program_that_reads_no_more_may_still_write() {
    let mut world = World::new();
    let (mut program, pair) = world.connected();
    program.shutdown(std::net::Shutdown::Read).unwrap();
    world.send(pair, Operation::Bytes, b"nobody reads this");
    let shut = world.one(Operation::Shutdown);
    assert_eq!(shut.header.flags, Shutdown::RECEIVE.bits());
    program.write_all(b"all the same").unwrap();
    assert_eq!(world.one(Operation::Bytes).bytes, b"all the same");
    drop(program);
    let shut = world.one(Operation::Shutdown);
    assert_eq!(shut.header.flags, Shutdown::all().bits());
}

#[test]
fn a_guest_that_receives_no_more_stops_the_program() {
    let mut world = World::new();
    let (mut program, pair) = world.connected();
    world.send_with_flags(pair, Operation::Shutdown, Shutdown::RECEIVE.bits(), &[]);
    let error = program.write_all(b"?").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    world.send(pair, Operation::Bytes, b"but");
    assert_eq!(read_there(&mut program), b"but");
}

#[test]
fn a_driver_that_lets_go_ends_the_connections() {
    let mut world = World::new();
    let (mut program, _) = world.connected();
    let mut caller = world.program("CONNECT 81\n");
    world.one(Operation::Request);
    world.backend.stopped();
    assert!(is_at_end(&mut program));
    assert!(is_at_end(&mut caller));
}

#[test]
fn a_guest_that_takes_no_answers_is_heard_when_it_does() {
    let mut world = World::new();
    world.settle();
    // 32 answers fill its buffers, and 256 wait: the rest is not taken.
    let stray = Pair { host: 1, guest: 1 };
    for _ in 0..300 {
        world.send(stray, Operation::CreditRequest, &[]);
    }
    assert_eq!(world.driver.under_way(TRANSMIT), 300 - 32 - 256);
    assert_eq!(world.settle().len(), 300);
    world.driver.done(TRANSMIT);
    assert_eq!(world.driver.under_way(TRANSMIT), 0);
}

#[test]
fn buffers_too_small_for_anything_go_back_empty() {
    let mut world = World::new();
    world.room = 44;
    world.driver = Driver::new(3);
    world.backend.stopped();
    world.give_buffers();
    let pair = Pair { host: 1, guest: 1 };
    world.send(pair, Operation::CreditRequest, &[]);
    let came = world.driver.done(RECEIVE);
    assert!(!came.is_empty() && came.iter().all(Vec::is_empty));
}

#[test]
fn packets_too_short_for_a_header_are_none() {
    let mut world = World::new();
    for len in [1, 43] {
        world.driver.request(TRANSMIT, &vec![0; len], 0);
    }
    world.driver.request(TRANSMIT, &[], 100);
    world.driver.ring(&mut world.backend, TRANSMIT);
    assert_eq!(world.driver.done(TRANSMIT).len(), 3);
    assert!(world.settle().is_empty());
}

#[test]
fn many_programs_talk_at_once() {
    let mut world = World::new();
    let mut programs = Vec::new();
    for number in 0..100 {
        programs.push(world.program(&format!("CONNECT {number}\n")));
    }
    let requests = world.settle();
    assert_eq!(requests.len(), 100);
    for request in &requests {
        world.send(pair_of(request), Operation::Response, &[]);
    }
    for (number, program) in programs.iter_mut().enumerate() {
        program.write_all(&noise(10_000 + number)).unwrap();
    }
    let packets = world.settle();
    for number in 0..100 {
        let mine: Vec<u8> = packets
            .iter()
            .filter(|it| it.header.destination_port == number)
            .flat_map(|it| it.bytes.clone())
            .collect();
        assert!(mine == noise(10_000 + number as usize));
    }
}

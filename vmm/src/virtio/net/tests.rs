//! A network card between a driver and a wire.

use super::stream::FrameStream;
use super::*;
use crate::virtio::testing::Driver;
use firstlight_devices::virtio::Cause;
use firstlight_devices::virtio::net::Header;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::sync::Mutex;

const RECEIVE_QUEUE: usize = 0;
const TRANSMIT_QUEUE: usize = 1;

/// A wire that a test has the other end of.
struct Wire(FrameStream);

impl Carrier for Wire {
    fn is_tap(&self) -> bool {
        false
    }

    fn offloads(&self) -> Offloads {
        Offloads::empty()
    }

    fn choose(&mut self, _offloads: Offloads) {}

    fn waits(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Lost> {
        self.0.send(&frame[Header::LEN..])
    }

    fn is_behind(&self) -> bool {
        self.0.is_behind()
    }

    fn flush(&mut self) -> Result<(), Lost> {
        self.0.flush()
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, Lost> {
        let (header, bytes) = frame.split_at_mut(Header::LEN);
        header.fill(0);
        let len = self.0.receive(bytes)?;
        Ok(len.map(|len| Header::LEN + len))
    }

    fn farewell(&mut self) -> String {
        "the wire is cut".to_owned()
    }
}

struct World {
    driver: Driver,
    backend: NetBackend<Wire>,
    card: Card,
    end: OwnedFd,
    said: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, end) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let link = Arc::new(AtomicBool::new(true));
        let said = Arc::new(Mutex::new(Vec::new()));
        let port = Port {
            mac: [2, 0, 0, 0, 0, 1],
            mtu: None,
            offloads: Offloads::empty(),
        };
        let card = Card::new(port, &link);
        let hear = Arc::clone(&said);
        let say = Box::new(move |text: &str| hear.lock().unwrap().push(text.to_owned()));
        let mut backend = NetBackend::new(Wire(FrameStream::new(ours)), link, say);
        backend.started(0);
        Self {
            driver: Driver::new(2),
            backend,
            card,
            end,
            said,
        }
    }

    fn status(&self) -> u8 {
        let mut status = [0xff; 2];
        self.card.read_config(6, &mut status);
        status[0]
    }

    /// A frame comes over the wire.
    fn comes(&self, frame: &[u8]) {
        let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
        let bytes = [&len[..], frame].concat();
        assert_eq!(rustix::io::write(&self.end, &bytes), Ok(bytes.len()));
    }

    fn settle(&mut self) {
        while self.driver.wait(&mut self.backend, 0) {}
    }

    /// The driver sends a frame.
    fn send(&mut self, frame: &[u8]) {
        let bytes = [&[0; Header::LEN][..], frame].concat();
        self.driver.request(TRANSMIT_QUEUE, &bytes, 0);
        self.driver.ring(&mut self.backend, TRANSMIT_QUEUE);
    }

    /// What has gone over the wire.
    fn went(&self) -> Vec<u8> {
        let mut went = Vec::new();
        let mut some = [0; 65536];
        while let Ok(len) = rustix::io::read(&self.end, &mut some) {
            went.extend_from_slice(&some[..len]);
        }
        went
    }
}

#[test]
fn frames_go_both_ways() {
    let mut world = World::new();
    let frame = [7; 60];
    world.send(&frame);
    assert_eq!(world.driver.done(TRANSMIT_QUEUE), [b""]);
    assert_eq!(world.went(), [&[0, 0, 0, 60][..], &frame].concat());
    world.driver.request(RECEIVE_QUEUE, &[], 2000);
    world.comes(&frame);
    world.settle();
    let done = world.driver.done(RECEIVE_QUEUE);
    assert_eq!(done[0][Header::LEN..], frame);
    assert_eq!(done[0][..10], [0; 10]);
    let raised = world.driver.interrupts.take();
    assert_eq!(raised, [Cause::Queue(1), Cause::Queue(0)]);
}

#[test]
fn what_is_no_frame_is_not_sent() {
    let mut world = World::new();
    world.driver.request(TRANSMIT_QUEUE, &[0; 13], 0);
    world.driver.request(TRANSMIT_QUEUE, &[0; 100_000], 0);
    world.driver.ring(&mut world.backend, TRANSMIT_QUEUE);
    assert_eq!(world.driver.done(TRANSMIT_QUEUE).len(), 2);
    assert!(world.went().is_empty());
}

#[test]
fn frames_wait_in_order_while_the_driver_has_no_room() {
    let mut world = World::new();
    for number in 1..=5 {
        world.comes(&[number; 100]);
    }
    world.settle();
    for number in 1..=5 {
        world.driver.request(RECEIVE_QUEUE, &[], 2000);
        world.driver.ring(&mut world.backend, RECEIVE_QUEUE);
        world.settle();
        let done = world.driver.done(RECEIVE_QUEUE);
        assert_eq!(done.len(), 1);
        assert_eq!(done[0][Header::LEN..], [number; 100]);
    }
}

#[test]
fn a_driver_that_makes_no_room_is_not_asked_again_and_again() {
    let mut world = World::new();
    world.comes(&[1; 100]);
    world.settle();
    assert!(!world.driver.wait(&mut world.backend, 0));
    world.driver.request(RECEIVE_QUEUE, &[], 2000);
    world.driver.ring(&mut world.backend, RECEIVE_QUEUE);
    assert_eq!(world.driver.done(RECEIVE_QUEUE).len(), 1);
}

#[test]
fn a_wire_that_is_full_holds_the_driver_back_and_loses_nothing() {
    let mut world = World::new();
    let frames: Vec<Vec<u8>> = (0..30).map(|number| vec![number; 60_000]).collect();
    for frame in &frames {
        world.send(frame);
    }
    let gone = world.driver.done(TRANSMIT_QUEUE).len();
    assert!(gone < 30, "{gone} frames fit into a socket");
    let mut went = Vec::new();
    loop {
        let some = world.went();
        went.extend_from_slice(&some);
        world.settle();
        if some.is_empty() {
            break;
        }
    }
    let expected: Vec<u8> = frames
        .iter()
        .flat_map(|frame| [&60_000u32.to_be_bytes()[..], frame].concat())
        .collect();
    assert!(went == expected);
    world.driver.done(TRANSMIT_QUEUE);
    assert_eq!(world.driver.under_way(TRANSMIT_QUEUE), 0);
}

#[test]
fn a_wire_that_is_cut_takes_the_link_down_and_everything_else_goes_on() {
    for sends in [true, false] {
        let mut world = World::new();
        assert_eq!(world.status(), 1);
        world.driver.request(RECEIVE_QUEUE, &[], 2000);
        world.comes(&[9; 60]);
        world.end = rustix::pipe::pipe().unwrap().0;
        if sends {
            world.send(&[1; 60]);
        }
        world.settle();
        assert_eq!(world.status(), 0);
        assert_eq!(*world.said.lock().unwrap(), ["the wire is cut"]);
        let raised = world.driver.interrupts.take();
        assert!(raised.contains(&Cause::Configuration));
        world.send(&[1; 60]);
        world.driver.done(TRANSMIT_QUEUE);
        assert_eq!(world.driver.under_way(TRANSMIT_QUEUE), 0);
        world.driver.ring(&mut world.backend, RECEIVE_QUEUE);
        assert!(world.backend.waits().is_empty());
    }
}

#[test]
fn frames_that_the_driver_has_no_queue_for_keep_nobody_busy() {
    let mut world = World::new();
    world.driver.leave_out(RECEIVE_QUEUE);
    world.comes(&[1; 60]);
    assert!(world.driver.wait(&mut world.backend, 0));
    assert!(!world.driver.wait(&mut world.backend, 0));
    world.end = rustix::pipe::pipe().unwrap().0;
    assert!(world.driver.wait(&mut world.backend, 0));
    assert!(world.backend.waits().is_empty());
    assert_eq!(world.status(), 0);
}

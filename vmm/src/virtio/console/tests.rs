//! A console device and a driver that sets it up.

use super::*;
use crate::testing::Person;
use crate::virtio::testing::Driver;
use firstlight_devices::virtio::Cause;
use std::sync::Mutex;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;
const NAMED_TRANSMIT: usize = 5;
const MULTIPORT: u64 = 2;

const SCREEN: ScreenSize = ScreenSize {
    columns: 80,
    rows: 25,
};

struct World {
    driver: Driver,
    backend: ConsoleBackend,
    line: Arc<ConsoleLine>,
    room: Arc<crate::bell::Bell>,
    /// What came through the named port.
    named: Arc<Mutex<Vec<u8>>>,
}

impl World {
    fn new(features: u64) -> Self {
        let room = Arc::new(crate::bell::Bell::new().unwrap());
        let line = ConsoleLine::new(Some(SCREEN), &room).unwrap();
        let named = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&named);
        let port = NamedPort {
            name: "a.name".to_owned(),
            take: Box::new(move |bytes| taken.lock().unwrap().extend_from_slice(bytes)),
        };
        let mut backend = ConsoleBackend::new(&line, vec![port]);
        backend.started(features);
        Self {
            driver: Driver::new(6),
            backend,
            line,
            room,
            named,
        }
    }

    fn say(&mut self, id: u8, event: u8, value: u8) {
        let message = [id, 0, 0, 0, event, 0, value, 0];
        self.driver.request(CONTROL_TRANSMIT, &message, 0);
        self.ring(CONTROL_TRANSMIT);
    }

    fn ring(&mut self, queue: usize) {
        self.driver.ring(&mut self.backend, queue);
    }
}

fn has_rung(bell: &crate::bell::Bell) -> bool {
    let mut fds = [PollFd::new(bell, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() > 0
}

#[test]
fn what_the_guest_prints_is_printed() {
    let mut world = World::new(MULTIPORT);
    let (console, person) = Person::at_a_console();
    world.line.connect(console.output());
    world.driver.request(TRANSMIT, b"good morning\n", 0);
    world.driver.request(TRANSMIT, &[b'x'; 10_000], 0);
    world.driver.request(TRANSMIT, b"\n", 0);
    world.ring(TRANSMIT);
    assert_eq!(world.driver.done(TRANSMIT), [b""; 3]);
    drop((console, world));
    let expected = format!("good morning\n{}\n", "x".repeat(10_000));
    assert_eq!(person.saw(), expected);
}

#[test]
fn a_port_of_a_name_hands_its_bytes_on() {
    let mut world = World::new(MULTIPORT);
    world.driver.request(NAMED_TRANSMIT, b"four", 0);
    world.driver.request(NAMED_TRANSMIT, b"two\n", 0);
    world.ring(NAMED_TRANSMIT);
    assert_eq!(*world.named.lock().unwrap(), b"fourtwo\n");
}

#[test]
fn the_driver_is_told_of_ports_as_it_has_room() {
    let mut world = World::new(MULTIPORT);
    world.say(0, 0, 1);
    world.driver.request(CONTROL_RECEIVE, &[], 100);
    world.ring(CONTROL_RECEIVE);
    assert_eq!(world.driver.done(CONTROL_RECEIVE).len(), 1);
    world.driver.request(CONTROL_RECEIVE, &[], 100);
    world.driver.request(CONTROL_RECEIVE, &[], 100);
    world.ring(CONTROL_RECEIVE);
    let added = [1, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(world.driver.done(CONTROL_RECEIVE), [added]);
    world.driver.request(CONTROL_RECEIVE, &[], 100);
    world.say(1, 3, 1);
    let told = world.driver.done(CONTROL_RECEIVE);
    assert_eq!(told[0][8..], *b"a.name");
    assert_eq!(told[1], [1, 0, 0, 0, 6, 0, 1, 0]);
}

#[test]
fn what_is_typed_waits_until_the_guest_opens_its_console() {
    let mut world = World::new(MULTIPORT);
    assert_eq!(world.line.send(b"early"), 5);
    for _ in 0..3 {
        world.driver.request(RECEIVE, &[], 4);
    }
    world.ring(RECEIVE);
    assert!(world.driver.wait(&mut world.backend, 0));
    assert!(world.driver.done(RECEIVE).is_empty());
    world.say(0, 0, 1);
    world.say(0, 3, 1);
    world.say(0, 6, 1);
    assert_eq!(world.driver.done(RECEIVE), [&b"earl"[..], b"y"]);
    world.line.send(b"late");
    assert!(world.driver.wait(&mut world.backend, 0));
    assert_eq!(world.driver.done(RECEIVE), [b"late"]);
}

#[test]
fn a_driver_that_knows_one_port_is_typed_to_at_once() {
    let mut world = World::new(0);
    world.line.send(b"ls\n");
    world.driver.request(RECEIVE, &[], 100);
    world.ring(RECEIVE);
    assert_eq!(world.driver.done(RECEIVE), [b"ls\n"]);
}

#[test]
fn what_is_typed_and_not_taken_is_bounded_and_asked_for_when_there_is_room() {
    let mut world = World::new(0);
    assert_eq!(world.line.send(&[b'x'; 5000]), 4096);
    assert_eq!(world.line.send(b"more"), 0);
    assert!(!has_rung(&world.room));
    world.driver.request(RECEIVE, &[], 100);
    world.ring(RECEIVE);
    assert!(has_rung(&world.room));
    assert_eq!(world.line.send(&[b'y'; 5000]), 100);
}

#[test]
fn a_driver_that_starts_anew_hears_of_the_ports_again() {
    let mut world = World::new(MULTIPORT);
    for _ in 0..2 {
        world.backend.started(MULTIPORT);
        for _ in 0..3 {
            world.driver.request(CONTROL_RECEIVE, &[], 100);
        }
        world.say(0, 0, 1);
        assert_eq!(world.driver.done(CONTROL_RECEIVE).len(), 2);
    }
}

#[test]
fn the_driver_is_told_of_another_size_in_either_way() {
    let mut world = World::new(MULTIPORT);
    let device = console(&world.line, Vec::new());
    for _ in 0..8 {
        world.driver.request(CONTROL_RECEIVE, &[], 100);
    }
    world.say(0, 0, 1);
    world.say(0, 3, 1);
    world.driver.done(CONTROL_RECEIVE);
    world.driver.interrupts.take();
    world.line.resize(ScreenSize {
        columns: 132,
        rows: 50,
    });
    assert!(world.driver.wait(&mut world.backend, 0));
    let told = world.driver.done(CONTROL_RECEIVE);
    assert_eq!(told, [[0, 0, 0, 0, 5, 0, 1, 0, 132, 0, 50, 0]]);
    let raised = world.driver.interrupts.take();
    assert_eq!(raised, [Cause::Configuration, Cause::Queue(2)]);
    let mut data = [0; 4];
    device.chip.read_config(0, &mut data);
    assert_eq!(data, [132, 0, 50, 0]);
    world.line.send(b"x");
    assert!(world.driver.wait(&mut world.backend, 0));
    assert!(world.driver.interrupts.take().is_empty());
}

#[test]
fn a_device_that_is_to_stop_leaves_the_rest_of_a_long_request() {
    let mut driver = Driver::new(6);
    let stopping = Arc::clone(&driver.stopping);
    let (take, taken) = std::sync::mpsc::channel();
    let port = NamedPort {
        name: "a.name".to_owned(),
        take: Box::new(move |bytes| {
            take.send(bytes.len()).unwrap();
            stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        }),
    };
    let room = Arc::new(crate::bell::Bell::new().unwrap());
    let line = ConsoleLine::new(None, &room).unwrap();
    let mut backend = ConsoleBackend::new(&line, vec![port]);
    backend.started(MULTIPORT);
    driver.request(NAMED_TRANSMIT, &[0; 10 * CHUNK], 0);
    driver.request(NAMED_TRANSMIT, &[0; 10 * CHUNK], 0);
    driver.ring(&mut backend, NAMED_TRANSMIT);
    assert_eq!(taken.try_iter().collect::<Vec<_>>(), [CHUNK]);
    assert_eq!(driver.done(NAMED_TRANSMIT).len(), 1);
}

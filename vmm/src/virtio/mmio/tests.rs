//! A device in memory, driven by threads as by vCPUs.

use super::*;
use crate::virtio::{Backend, Io};
use firstlight_base::{GpaRange, GuestMem, Irq, MIB};
use firstlight_devices::virtio::QueueError;
use firstlight_devices::virtio::rng::Rng;
use firstlight_hv::script::Script;
use firstlight_hv::{Hypervisor, Vm};
use firstlight_load::Backing;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

// Registers (virtio 1.2, section 4.2.2).
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SELECT: u64 = 0x024;
const QUEUE_SELECT: u64 = 0x030;
const QUEUE_SIZE: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const STATUS: u64 = 0x070;
const QUEUE_DESCRIPTORS: u64 = 0x080;
const QUEUE_DRIVER: u64 = 0x090;
const QUEUE_DEVICE: u64 = 0x0a0;

const ACKNOWLEDGE_DRIVER: u32 = 3;
const FEATURES_OK: u32 = 11;
const DRIVER_OK: u32 = 15;
const NEEDS_RESET: u32 = 64;

/// Counts what it serves and how often it was stopped.
#[derive(Default)]
struct Counts {
    served: AtomicU32,
    stopped: AtomicU32,
}

struct Counting(Arc<Counts>);

impl Backend for Counting {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |_request, _memory| {
            self.0.served.fetch_add(1, Ordering::Relaxed);
            Ok(0)
        })
    }

    fn stopped(&mut self) {
        self.0.stopped.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    transport: Arc<Transport>,
    memory: Arc<GuestMemory>,
    counts: Arc<Counts>,
}

impl World {
    fn new() -> Self {
        Self::of(|counts| Box::new(Counting(counts)))
    }

    fn of(backend: impl FnOnce(Arc<Counts>) -> Box<dyn Backend>) -> Self {
        let ram = GpaRange::new(Gpa::new(0), MIB).unwrap();
        let memory = Arc::new(GuestMemory::allocate(&[ram], Backing::Private).unwrap());
        let vm = Script::new().create_vm().unwrap();
        let counts = Arc::<Counts>::default();
        let device = VirtioDevice {
            name: "counting".to_owned(),
            chip: Box::new(Rng::new()),
            backend: backend(Arc::clone(&counts)),
        };
        let wiring = Wiring {
            registers: Gpa::new(0x1000_0000),
            line: Box::new(vm.irq_line(Irq(5)).unwrap()),
            interconnect: vm.interconnect(),
            memory: &memory,
        };
        Self {
            transport: Transport::new(device, wiring).unwrap(),
            memory,
            counts,
        }
    }

    fn set(&self, register: u64, value: u32) {
        assert_eq!(self.transport.write(register, &value.to_le_bytes()), None);
    }

    fn status(&self) -> u32 {
        let mut data = [0xff; 4];
        self.transport.read(STATUS, &mut data);
        u32::from_le_bytes(data)
    }

    /// What a driver does from reset to the device's running.
    fn drive(&self, descriptors: u32) {
        self.set(STATUS, 0);
        self.set(STATUS, ACKNOWLEDGE_DRIVER);
        self.set(DRIVER_FEATURES_SELECT, 1);
        self.set(DRIVER_FEATURES, 1);
        self.set(STATUS, FEATURES_OK);
        self.set(QUEUE_SELECT, 0);
        self.set(QUEUE_SIZE, 8);
        self.set(QUEUE_DESCRIPTORS, descriptors);
        self.set(QUEUE_DRIVER, 0x2000);
        self.set(QUEUE_DEVICE, 0x3000);
        self.set(QUEUE_READY, 1);
        self.set(STATUS, DRIVER_OK);
    }

    /// Makes requests of nothing, of which there are now so many.
    fn offer(&self, count: u16) {
        let index = Gpa::new(0x2002);
        self.memory.store_u16(index, count).unwrap();
        self.set(Mmio::QUEUE_NOTIFY, 0);
    }

    fn used(&self) -> u16 {
        self.memory.load_u16(Gpa::new(0x3002)).unwrap()
    }
}

fn eventually(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < end, "it takes too long");
        thread::yield_now();
    }
}

#[test]
fn a_device_serves_from_its_start_to_its_reset() {
    let world = World::new();
    world.drive(0x1000);
    assert_eq!(world.status(), DRIVER_OK);
    world.offer(5);
    eventually(|| world.used() == 5);
    world.set(STATUS, 0);
    assert_eq!(world.status(), 0);
    assert_eq!(world.counts.stopped.load(Ordering::Relaxed), 1);
    world.offer(8);
    assert_eq!(world.counts.served.load(Ordering::Relaxed), 5);
}

#[test]
fn a_queue_outside_memory_breaks_the_device_until_it_is_reset() {
    let world = World::new();
    world.drive(0x7fff_0000);
    eventually(|| world.status() == DRIVER_OK | NEEDS_RESET);
    world.set(STATUS, 0);
    world.drive(0x1000);
    assert_eq!(world.status(), DRIVER_OK);
}

#[test]
fn a_malformed_ring_breaks_the_device_and_it_can_still_be_stopped() {
    let world = World::new();
    world.drive(0x1000);
    // More requests than the queue has entries.
    world.offer(1000);
    eventually(|| world.status() == DRIVER_OK | NEEDS_RESET);
    world.set(STATUS, 0);
    assert_eq!(world.status(), 0);
}

#[test]
fn vcpus_that_start_and_reset_a_device_at_once_bring_nothing_down() {
    let world = World::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for turn in 0..200_u16 {
                    world.drive(0x1000);
                    world.offer(turn % 8);
                    world.set(STATUS, if turn % 3 == 0 { DRIVER_OK } else { 0 });
                }
            });
        }
    });
    world.set(STATUS, 0);
    assert_eq!(world.status(), 0);
    world.transport.retire();
}

#[test]
fn what_has_been_retired_is_not_started_again() {
    let world = World::new();
    world.drive(0x1000);
    world.transport.retire();
    assert_eq!(Arc::strong_count(&world.counts), 1, "it has let go");
    world.drive(0x1000);
    world.offer(3);
    assert_eq!(world.counts.served.load(Ordering::Relaxed), 0);
}

/// Is done with a request when it is to stop.
struct Lasting(Arc<Counts>);

impl Backend for Lasting {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        let stopping = io.stopping();
        io.serve(queue, |_request, _memory| {
            self.0.served.fetch_add(1, Ordering::Relaxed);
            while !stopping.is_wanted() {
                thread::yield_now();
            }
            Ok(0)
        })
    }
}

#[test]
fn a_device_stops_behind_the_request_at_hand() {
    let world = World::of(|counts| Box::new(Lasting(counts)));
    for served in 1..=2 {
        world.drive(0x1000);
        world.memory.store_u16(Gpa::new(0x3002), 0).unwrap();
        world.offer(5);
        eventually(|| world.counts.served.load(Ordering::Relaxed) == served);
        world.set(STATUS, 0);
        assert_eq!(world.status(), 0);
        assert_eq!(world.used(), 1);
        assert_eq!(world.counts.served.load(Ordering::Relaxed), served);
    }
}

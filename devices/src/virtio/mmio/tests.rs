use super::*;
use crate::virtio::{DeviceKind, Layout, read_bytes};
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::Gpa;
use proptest::prelude::*;

/// One queue, and eight bytes of configuration of which every write is told.
#[derive(Debug)]
struct Toy([u8; 8]);

impl Device for Toy {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn features(&self) -> u64 {
        1 << 5
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 8]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.0, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        for (&value, at) in data.iter().zip(offset..) {
            let byte = usize::try_from(at).ok().and_then(|at| self.0.get_mut(at));
            if let Some(byte) = byte {
                *byte = value;
            }
        }
        true
    }
}

fn mmio() -> Mmio {
    Mmio::new(Box::new(Toy([1, 2, 3, 4, 5, 6, 7, 8])))
}

fn get(mmio: &Mmio, offset: u64) -> u32 {
    let mut data = [0; 4];
    mmio.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn set(mmio: &mut Mmio, offset: u64, value: u32) -> Option<Event> {
    mmio.write(offset, &value.to_le_bytes())
}

/// What a driver writes until it is ready, with the first queue.
const TO_BE_READY: [(u64, u32); 14] = [
    (0x070, 1),
    (0x070, 3),
    (0x024, 0),
    (0x020, 1 << 29),
    (0x024, 1),
    (0x020, 1),
    (0x070, 11),
    (0x030, 0),
    (0x038, 16),
    (0x080, 0x1000),
    (0x090, 0x2000),
    (0x0a0, 0x3000),
    (0x0a4, 1),
    (0x044, 1),
];

fn ready() -> Mmio {
    let mut mmio = mmio();
    for (offset, value) in TO_BE_READY {
        assert_eq!(set(&mut mmio, offset, value), None);
    }
    assert!(matches!(set(&mut mmio, 0x070, 15), Some(Event::Start(_))));
    mmio
}

#[test]
fn a_driver_finds_out_what_the_device_is() {
    let mut mmio = mmio();
    assert_eq!(get(&mmio, 0x000), 0x7472_6976);
    assert_eq!(get(&mmio, 0x004), 2);
    assert_eq!(get(&mmio, 0x008), 4);
    assert_eq!(get(&mmio, 0x010), 0x3000_0020);
    set(&mut mmio, 0x014, 1);
    assert_eq!(get(&mmio, 0x010), 0x5);
    for (queue, most) in [(0, 64), (1, 8), (2, 0), (0x1_0000, 0), (u32::MAX, 0)] {
        set(&mut mmio, 0x030, queue);
        assert_eq!(get(&mmio, 0x034), most);
        assert_eq!(get(&mmio, 0x044), 0);
    }
    assert_eq!(get(&mmio, 0x0b0), u32::MAX, "no shared memory");
    assert_eq!(get(&mmio, 0x0b4), u32::MAX);
}

#[test]
fn a_driver_that_is_ready_starts_the_device() {
    let mut mmio = mmio();
    for (offset, value) in TO_BE_READY {
        assert_eq!(set(&mut mmio, offset, value), None);
    }
    assert_eq!(get(&mmio, 0x044), 1);
    let Some(Event::Start(start)) = set(&mut mmio, 0x070, 15) else {
        panic!("did not start");
    };
    assert_eq!(start.features, 1 << 32 | 1 << 29);
    let setup = start.queues[0].unwrap();
    assert_eq!(setup.size, 16);
    assert_eq!(setup.descriptors, Gpa::new(0x1000));
    assert_eq!(setup.driver, Gpa::new(0x2000));
    assert_eq!(setup.device, Gpa::new(0x1_0000_3000));
    assert_eq!(setup.layout, Layout::Split);
    assert_eq!(start.queues[1], None);
    assert_eq!(set(&mut mmio, 0x050, 0), Some(Event::Notify(0)));
    assert_eq!(set(&mut mmio, 0x050, 1), None, "it is not enabled");
}

#[test]
fn a_queue_that_was_set_up_in_the_wrong_way_is_taken_back() {
    let mut mmio = mmio();
    for (offset, value) in TO_BE_READY {
        set(&mut mmio, offset, value);
    }
    set(&mut mmio, 0x044, 2);
    assert_eq!(get(&mmio, 0x044), 1);
    set(&mut mmio, 0x044, 0);
    assert_eq!(get(&mmio, 0x044), 0);
    let Some(Event::Start(start)) = set(&mut mmio, 0x070, 15) else {
        panic!("did not start");
    };
    assert_eq!(start.queues, [None, None]);
}

#[test]
fn the_line_is_asserted_until_every_cause_is_acknowledged() {
    let mut mmio = ready();
    assert!(!mmio.irq());
    mmio.raise(Cause::Queue(0));
    mmio.raise(Cause::Configuration);
    assert!(mmio.irq());
    assert_eq!(get(&mmio, 0x060), 3);
    set(&mut mmio, 0x060, 0);
    set(&mut mmio, 0x064, 0xffff_fffe);
    assert_eq!(get(&mmio, 0x060), 1);
    assert!(mmio.irq());
    set(&mut mmio, 0x064, 1);
    assert!(!mmio.irq());
}

#[test]
fn a_driver_that_is_not_ready_is_not_interrupted() {
    let mut mmio = mmio();
    let generation = get(&mmio, 0x0fc);
    mmio.raise(Cause::Queue(0));
    mmio.configuration_changed();
    assert!(!mmio.irq());
    assert_ne!(get(&mmio, 0x0fc), generation);
    mmio.break_down();
    assert!(!mmio.irq());
    assert_eq!(get(&mmio, 0x070), 0x40);
}

#[test]
fn a_broken_device_tells_its_driver_and_says_nothing_more() {
    let mut mmio = ready();
    mmio.break_down();
    assert_eq!(get(&mmio, 0x060), 2);
    assert_eq!(get(&mmio, 0x070), 0x4f);
    set(&mut mmio, 0x064, 2);
    mmio.break_down();
    mmio.raise(Cause::Queue(0));
    assert!(!mmio.irq());
    assert_eq!(set(&mut mmio, 0x050, 0), None);
}

#[test]
fn a_reset_ends_with_the_device_and_leaves_nothing() {
    let mut mmio = ready();
    mmio.raise(Cause::Queue(0));
    assert_eq!(set(&mut mmio, 0x070, 0x100), None, "no reset");
    assert_eq!(set(&mut mmio, 0x070, 0), Some(Event::Stop));
    assert_eq!(get(&mmio, 0x070), 15);
    mmio.raise(Cause::Queue(0));
    mmio.stopped();
    assert_eq!(get(&mmio, 0x070), 0);
    assert_eq!(get(&mmio, 0x044), 0);
    assert!(!mmio.irq());
    for (offset, value) in TO_BE_READY {
        set(&mut mmio, offset, value);
    }
    assert!(matches!(set(&mut mmio, 0x070, 15), Some(Event::Start(_))));
}

#[test]
fn registers_are_words_and_the_configuration_is_bytes() {
    let mut mmio = ready();
    for (offset, width) in [
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 8),
        (2, 4),
        (1, 1),
        (0x6e, 4),
        (0xfe, 4),
    ] {
        let mut data = [0x55; 8];
        mmio.read(offset, &mut data[..width]);
        assert!(
            data[..width].iter().all(|&byte| byte == 0xff),
            "{offset:#x}"
        );
        assert_eq!(mmio.write(offset, &[0; 8][..width]), None);
    }
    assert_eq!(mmio.write(0x070, &[0]), None, "a byte resets nothing");
    assert_eq!(mmio.write(0x070, &[0; 8]), None);
    assert_eq!(get(&mmio, 0x070), 15);
    for (offset, width, expected) in [
        (0x100, 8, &[1, 2, 3, 4, 5, 6, 7, 8][..]),
        (0x103, 2, &[4, 5]),
        (0x105, 4, &[6, 7, 8, 0xff]),
        (0x108, 2, &[0xff, 0xff]),
    ] {
        let mut data = [0x55; 8];
        mmio.read(offset, &mut data[..width]);
        assert_eq!(&data[..width], expected);
    }
    assert_eq!(mmio.write(0x107, &[9, 9]), Some(Event::Configured));
    assert_eq!(get(&mmio, 0x104), 0x0907_0605);
}

#[test]
fn what_is_written_only_reads_as_ones() {
    let mmio = ready();
    let only_written = (0..0x100).step_by(4).filter(|&offset| {
        let is_hole = Register::at(offset).is_none();
        !is_hole && get(&mmio, offset) == u32::MAX
    });
    assert_eq!(
        only_written.collect::<Vec<u64>>(),
        [
            0x14, 0x20, 0x24, 0x30, 0x38, 0x50, 0x64, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4
        ]
    );
}

/// The transport in every state that the status tells apart.
fn in_every_state() -> Vec<Mmio> {
    let mut states = Vec::new();
    for steps in 0..=TO_BE_READY.len() {
        let mut mmio = mmio();
        for &(offset, value) in &TO_BE_READY[..steps] {
            set(&mut mmio, offset, value);
        }
        states.push(mmio);
    }
    states.push(ready());
    for then in [0, 0x80] {
        let mut mmio = ready();
        set(&mut mmio, 0x070, then);
        states.push(mmio);
    }
    let mut broken = ready();
    broken.break_down();
    states.push(broken);
    states
}

#[test]
fn every_access_in_every_state_is_survived() {
    let offsets = (0..Mmio::LEN + 16).chain([u64::MAX - 15, u64::MAX]);
    for offset in offsets {
        for mut mmio in in_every_state() {
            for width in [1, 2, 3, 4, 8, 16] {
                for value in [0, 1, 2, 0x0f, 0x55, 0x80, 0xff] {
                    let event = mmio.write(offset, &[value; 16][..width]);
                    if offset < CONFIG && width != 4 {
                        assert_eq!(event, None);
                    }
                    let mut data = [value; 16];
                    mmio.read(offset, &mut data[..width]);
                    assert!(data[width..].iter().all(|&byte| byte == value));
                }
            }
            mmio.stopped();
        }
    }
}

proptest! {
    /// Queues never change behind the back of whoever runs them, and start once for each reset.
    #[test]
    fn whatever_is_written_the_device_starts_and_stops_by_turns(
        writes in proptest::collection::vec((prop_oneof![
            Just(0x014_u64), Just(0x020), Just(0x024), Just(0x030), Just(0x038), Just(0x044),
            Just(0x050), Just(0x064), Just(0x070), Just(0x080), Just(0x100),
        ], prop_oneof![0..16_u32, Just(64), Just(0x80), any::<u32>()]), 0..200),
        skips in proptest::collection::vec(any::<bool>(), 0..8),
    ) {
        let mut mmio = mmio();
        let mut runs = false;
        let mut skips = skips.into_iter();
        for (offset, value) in writes {
            // Now and then the driver does what leads on.
            if offset == 0x014 && !skips.next().unwrap_or(true) {
                for (offset, value) in TO_BE_READY {
                    set(&mut mmio, offset, value);
                }
            }
            match set(&mut mmio, offset, value) {
                Some(Event::Start(start)) => {
                    prop_assert!(!runs);
                    prop_assert!(start.features & 1 << 32 != 0);
                    for setup in start.queues.iter().flatten() {
                        prop_assert!((1..=64).contains(&setup.size));
                    }
                    runs = true;
                }
                Some(Event::Stop) => {
                    prop_assert!(runs);
                    prop_assert!(get(&mmio, 0x070) != 0);
                    mmio.stopped();
                    prop_assert_eq!(get(&mmio, 0x070), 0);
                    runs = false;
                }
                Some(Event::Notify(queue)) => prop_assert!(runs && queue < 2),
                Some(Event::Configured) => prop_assert!(runs),
                None => {}
            }
        }
    }
}

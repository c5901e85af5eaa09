mod common_config;
mod interrupts;
mod window;

use super::*;
use crate::pci::ConfigSpace;
use crate::virtio::{Start, read_bytes};
use firstlight_base::GpaRange;
use proptest::prelude::*;

/// Two queues, of 256 and 64 entries, and eight bytes of configuration.
#[derive(Debug)]
struct Toy {
    kind: DeviceKind,
    config: [u8; 8],
}

impl Device for Toy {
    fn kind(&self) -> DeviceKind {
        self.kind
    }

    fn features(&self) -> u64 {
        1 << 3
    }

    fn queue_sizes(&self) -> &[u16] {
        &[256, 64]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        let at = usize::try_from(offset).unwrap();
        for (byte, &value) in self.config.iter_mut().skip(at).zip(data) {
            *byte = value;
        }
        true
    }
}

// Where the regions are for two queues.
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const PBA: u64 = 0x5000;
const BAR_LEN: u64 = 0x8000;

// Common configuration.
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_VECTOR: u64 = 0x10;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_DESCRIPTORS: u64 = 0x20;

/// Where MSI-X is in configuration space: behind the PCI Express capability.
const MSIX_CONTROL: u16 = 0x7e;

fn toy(kind: DeviceKind, attachment: Attachment) -> VirtioPci {
    let config = [1, 2, 3, 4, 5, 6, 7, 8];
    VirtioPci::new(Box::new(Toy { kind, config }), attachment)
}

/// At 0x12_0000_0000, and allowed everything.
fn function() -> VirtioPci {
    let mut function = toy(DeviceKind::Block, Attachment::Slot);
    function.set_config(0x10, 0);
    function.set_config(0x14, 0x12);
    function.set_config(0x04, 0x0006);
    function
}

/// Of which the driver uses the first queue.
fn running() -> VirtioPci {
    let mut function = function();
    function.set(STATUS, 1_u8);
    function.set(STATUS, 3_u8);
    function.set(DRIVER_FEATURE_SELECT, 1_u32);
    function.set(DRIVER_FEATURE, 1_u32);
    function.set(STATUS, 11_u8);
    function.set(QUEUE_SIZE, 16_u16);
    function.set(QUEUE_VECTOR, 1_u16);
    function.set(QUEUE_DESCRIPTORS, 0x1_0000_1000_u64);
    function.set(QUEUE_DESCRIPTORS + 8, 0x2000_u64);
    function.set(QUEUE_DESCRIPTORS + 16, 0x3000_u64);
    function.set(QUEUE_ENABLE, 1_u16);
    let event = function.bar_write(STATUS, &[15]);
    assert!(matches!(event, Some(Event::Start(_))));
    function
}

/// A number that a driver writes.
trait Number {
    fn bytes(self) -> Vec<u8>;
}

macro_rules! number {
    ($($number:ty)*) => {$(
        impl Number for $number {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().into()
            }
        }
    )*};
}

number!(u8 u16 u32 u64);

impl VirtioPci {
    fn set_config(&mut self, register: u16, value: u32) {
        assert_eq!(self.config_write(register, &value.to_le_bytes()), None);
    }

    fn get_config(&mut self, register: u16) -> u32 {
        let mut data = [0; 4];
        self.config_read(register, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, offset: u64, value: impl Number) {
        assert_eq!(self.bar_write(offset, &value.bytes()), None);
    }

    fn get(&mut self, offset: u64, width: usize) -> u64 {
        let mut data = [0; 8];
        self.bar_read(offset, &mut data[..width]);
        u64::from_le_bytes(data)
    }

    fn select(&mut self, queue: u16) {
        self.set(QUEUE_SELECT, queue);
    }

    fn status(&mut self) -> u64 {
        self.get(STATUS, 1)
    }
}

#[test]
fn a_function_says_which_device_it_is() {
    for (kind, device, class) in [
        (DeviceKind::Net, 0x1041, 0x02_0000),
        (DeviceKind::Block, 0x1042, 0x01_8000),
        (DeviceKind::Console, 0x1043, 0x07_8000),
        (DeviceKind::Rng, 0x1044, 0x00_ff00),
        (DeviceKind::Balloon, 0x1045, 0x00_ff00),
        (DeviceKind::Vsock, 0x1053, 0x07_8000),
        (DeviceKind::Fs, 0x105a, 0x01_8000),
    ] {
        let mut function = toy(kind, Attachment::RootComplex);
        assert_eq!(function.get_config(0x00), device << 16 | 0x1af4);
        assert_eq!(function.get_config(0x08), class << 8 | 1);
        assert_eq!(function.get_config(0x2c), 0x1100_1af4);
        assert_eq!(function.get_config(0x3c), 0x0100);
    }
}

#[test]
fn capabilities_are_those_of_a_function_in_its_place() {
    let kinds = [
        (Attachment::RootComplex, 0x92, 0),
        (Attachment::Slot, 0x02, 0x11),
    ];
    for (attachment, kind, link) in kinds {
        let mut function = toy(DeviceKind::Net, attachment);
        let found = function.config.walk();
        let ids: Vec<u8> = found.iter().map(|&(id, _)| id).collect();
        assert_eq!(ids, [0x10, 0x11, 9, 9, 9, 9, 9]);
        assert_eq!(function.get_config(0x42) & 0xffff, kind);
        assert_eq!(function.get_config(0x4c), link);
    }
}

/// The regions that the vendor-specific capabilities name: kind, BAR, offset, length.
fn regions(config: &ConfigSpace) -> Vec<(u8, u8, u32, u32)> {
    let found = config.walk().into_iter().filter(|&(id, _)| id == 9);
    found
        .map(|(_, at)| {
            let [_, _, len, kind] = config.u32_at(at).to_le_bytes();
            let [bar, ..] = config.u32_at(at + 4).to_le_bytes();
            assert_eq!(len, if matches!(kind, 2 | 5) { 20 } else { 16 });
            (kind, bar, config.u32_at(at + 8), config.u32_at(at + 12))
        })
        .collect()
}

#[test]
fn capabilities_name_every_region_within_the_bar() {
    let function = function();
    assert_eq!(
        regions(&function.config),
        [
            (1, 0, 0x0000, 0x3c),
            (3, 0, 0x1000, 1),
            (4, 0, 0x2000, 0x1000),
            (2, 0, 0x3000, 8),
            (5, 0, 0, 0),
        ]
    );
    assert_eq!(function.config.u32_at(0x7c) >> 16, 2, "three vectors");
    assert_eq!(function.config.u32_at(0x80), 0x4000);
    assert_eq!(function.config.u32_at(0x84), 0x5000);
}

#[test]
fn the_bar_tells_its_size_and_moves() {
    let mut function = function();
    let at = |at| GpaRange::new(Gpa::new(at), BAR_LEN);
    assert_eq!(function.bar(), at(0x12_0000_0000));
    assert_eq!(function.bar_len(), BAR_LEN);
    function.set_config(0x04, 0);
    assert_eq!((function.bar(), function.notify_address(0)), (None, None));
    function.set_config(0x10, u32::MAX);
    function.set_config(0x14, u32::MAX);
    assert_eq!(function.get_config(0x10), 0xffff_800c);
    assert_eq!(function.get_config(0x14), u32::MAX);
    function.set_config(0x04, 2);
    assert_eq!(function.bar(), None, "it would wrap");
    function.set_config(0x10, 0xc000_8000);
    function.set_config(0x14, 0);
    assert_eq!(function.bar(), at(0xc000_8000));
}

#[test]
fn doorbells_are_where_the_bar_is() {
    let mut function = function();
    let at = |at| Some(Gpa::new(at));
    assert_eq!(function.notify_address(0), at(0x12_0000_3000));
    assert_eq!(function.notify_address(1), at(0x12_0000_3004));
    for queue in 2..=u16::MAX {
        assert_eq!(function.notify_address(queue), None);
    }
    function.set_config(0x14, 0x13);
    assert_eq!(function.notify_address(1), at(0x13_0000_3004));
}

#[test]
fn a_doorbell_is_heard_of_a_queue_that_runs() {
    let mut function = running();
    for data in [&[0_u8; 2][..], &[9; 4], &[7]] {
        assert_eq!(function.bar_write(NOTIFY, data), Some(Event::Notify(0)));
    }
    let second = function.bar_write(NOTIFY + 4, &[1, 0]);
    assert_eq!(second, None, "it is not enabled");
    assert_eq!(function.bar_write(NOTIFY + 8, &[0, 0]), None);
    assert_eq!(function.get(NOTIFY, 2), 0xffff);
}

#[test]
fn the_devices_configuration_is_a_region_of_its_own() {
    let mut function = running();
    assert_eq!(function.get(DEVICE + 1, 4), 0x0504_0302);
    assert_eq!(function.get(DEVICE + 6, 4), 0xffff_0807);
    let event = function.bar_write(DEVICE + 2, &[9, 9]);
    assert_eq!(event, Some(Event::Configured));
    assert_eq!(function.get(DEVICE, 4), 0x0909_0201);
}

#[test]
fn a_reset_of_the_function_forgets_all_that_was_set() {
    let mut function = running();
    function.set_config(MSIX_CONTROL - 2, 0x8000_0000);
    assert_eq!(function.reset(), Some(Event::Stop));
    assert_eq!((function.bar(), function.is_bus_master()), (None, false));
    assert_eq!(function.status(), 15, "it has not stopped");
    function.stopped();
    assert_eq!((function.status(), function.get(QUEUE_ENABLE, 2)), (0, 0));
    assert_eq!(function.reset(), None);
}

/// Reads and writes everything of a function everywhere.
fn survives_every_access(mut function: VirtioPci) {
    let identity = function.get_config(0);
    let ids = function.config.walk();
    let places = (0..0x60).chain(
        [ISR, DEVICE, NOTIFY, TABLE, PBA]
            .iter()
            .flat_map(|at| (at - 8..at + 0x48).collect::<Vec<_>>()),
    );
    for offset in places.chain([BAR_LEN - 4, BAR_LEN, u64::MAX - 7, u64::MAX]) {
        for width in [1, 2, 3, 4, 8] {
            for value in [0, 1, 2, 3, 11, 15, 0x80, 0xff] {
                let _ = function.bar_write(offset, &[value; 8][..width]);
                let mut data = [0x33; 9];
                function.bar_read(offset, &mut data[..width]);
                assert!(data[width..].iter().all(|&byte| byte == 0x33));
            }
        }
    }
    for register in (0..0x110).chain([0xffc, 0xfff, 0x1000, u16::MAX]) {
        for width in [1, 2, 3, 4, 8] {
            for value in [0, 1, 2, 4, 0x0f, 0xff] {
                let _ = function.config_write(register, &[value; 8][..width]);
                let mut data = [0x33; 9];
                function.config_read(register, &mut data[..width]);
                assert!(data[width..].iter().all(|&byte| byte == 0x33));
                let _ = (function.irq(), function.bar(), function.take_message());
            }
        }
    }
    assert_eq!(function.get_config(0), identity);
    assert_eq!(function.config.walk(), ids);
}

#[test]
fn every_access_is_survived() {
    survives_every_access(function());
    survives_every_access(running());
}

#[derive(Clone, Debug)]
enum Step {
    Config(u16, u64, usize),
    Bar(u64, u64, usize),
    Raise(u16),
    Change,
    BreakDown,
    Stopped,
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop_oneof![any::<u64>(), 0..20_u64];
    let bar = prop_oneof![
        0..0x40_u64,
        TABLE..TABLE + 0x30,
        NOTIFY..NOTIFY + 8,
        0..BAR_LEN
    ];
    prop_oneof![
        2 => (0..0xd0_u16, value(), 1..9_usize)
            .prop_map(|(at, value, width)| Step::Config(at, value, width)),
        8 => (bar, value(), 1..9_usize).prop_map(|(at, value, width)| Step::Bar(at, value, width)),
        2 => any::<u16>().prop_map(|queue| Step::Raise(queue % 4)),
        1 => Just(Step::Change),
        1 => Just(Step::BreakDown),
        1 => Just(Step::Stopped),
    ]
}

proptest! {
    /// What the driver writes while the device runs changes nothing that it runs by.
    #[test]
    fn whatever_a_driver_writes_the_queues_that_run_keep_still(
        steps in prop::collection::vec(step(), 0..128),
    ) {
        let mut function = running();
        for step in steps {
            let runs = function.status() & 4 != 0;
            let before: Vec<_> = queues(&mut function);
            match step {
                Step::Config(at, value, width) => {
                    let _ = function.config_write(at, &value.to_le_bytes()[..width]);
                    let _ = function.get_config(at);
                }
                Step::Bar(at, value, width) => {
                    let event = function.bar_write(at, &value.to_le_bytes()[..width]);
                    prop_assert!(!runs || !matches!(event, Some(Event::Start(_))));
                    function.get(at, width);
                }
                Step::Raise(queue) => {
                    let _ = function.raise(Cause::Queue(queue));
                }
                Step::Change => {
                    let _ = function.configuration_changed();
                }
                Step::BreakDown => {
                    let _ = function.break_down();
                }
                Step::Stopped => function.stopped(),
            }
            if runs && function.status() != 0 {
                prop_assert_eq!(before, queues(&mut function));
            }
            let has_message = function.take_message().is_some();
            prop_assert!(!has_message || !function.irq());
        }
    }
}

/// The fields of both queues that a device runs by.
fn queues(function: &mut VirtioPci) -> Vec<u64> {
    let selected = u16::try_from(function.get(QUEUE_SELECT, 2)).unwrap();
    let mut fields = Vec::new();
    for queue in [0, 1] {
        function.select(queue);
        fields.extend([QUEUE_SIZE, QUEUE_ENABLE].map(|at| function.get(at, 2)));
        fields.extend([0, 8, 16].map(|at| function.get(QUEUE_DESCRIPTORS + at, 8)));
    }
    function.select(selected);
    fields
}

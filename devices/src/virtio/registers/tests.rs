use super::*;
use crate::virtio::{DeviceKind, Start};

/// Two queues, of 256 and 64 entries, four bytes of configuration and one feature.
#[derive(Debug, Default)]
struct Toy {
    config: [u8; 4],
}

const TOY_FEATURE: u64 = 1 << 3;
const TOY_NEEDS: u64 = 1 << 4;

impl Device for Toy {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Console
    }

    fn features(&self) -> u64 {
        TOY_FEATURE | TOY_NEEDS
    }

    fn accepts(&self, features: u64) -> bool {
        features & TOY_NEEDS == 0 || features & TOY_FEATURE != 0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[256, 64]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::virtio::read_bytes(&self.config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        let at = usize::try_from(offset).unwrap();
        for (byte, &value) in self.config.iter_mut().skip(at).zip(data) {
            *byte = value;
        }
        true
    }

    fn reset(&mut self) {
        self.config = [0; 4];
    }
}

fn registers() -> Registers {
    Registers::new(Box::new(Toy::default()))
}

fn choose(registers: &mut Registers, features: u64) {
    for (select, value) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
        registers.driver_features_select = select;
        registers.write_driver_features(u32::try_from(value).unwrap());
    }
}

/// As far as the features.
fn agreed(features: u64) -> Registers {
    let mut registers = registers();
    registers.write_status(1);
    registers.write_status(3);
    choose(&mut registers, features);
    assert_eq!(registers.write_status(11), None);
    registers
}

const VERSION_1: u64 = 1 << 32;

/// With the first queue.
fn running() -> Registers {
    let mut registers = agreed(VERSION_1);
    registers.write_queue_size(16);
    registers.write_queue_address(Part::Descriptors, Half::Low, 0x1000);
    registers.write_queue_address(Part::Driver, Half::Low, 0x2000);
    registers.write_queue_address(Part::Device, Half::High, 3);
    registers.enable_queue();
    assert!(matches!(registers.write_status(15), Some(Event::Start(_))));
    registers
}

#[test]
fn a_driver_that_is_ready_starts_the_queues_it_enabled() {
    let mut registers = agreed(VERSION_1 | TOY_FEATURE | 1 << 29);
    registers.queue_select = 1;
    registers.write_queue_size(16);
    registers.write_queue_address(Part::Descriptors, Half::Low, 0x1000);
    registers.write_queue_address(Part::Driver, Half::Low, 0x2000);
    registers.write_queue_address(Part::Device, Half::Low, 0x3000);
    registers.write_queue_address(Part::Device, Half::High, 1);
    registers.enable_queue();
    let setup = QueueSetup {
        size: 16,
        descriptors: Gpa::new(0x1000),
        driver: Gpa::new(0x2000),
        device: Gpa::new(0x1_0000_3000),
        layout: Layout::Split,
        event_idx: true,
        indirect: false,
    };
    let start = Start {
        features: VERSION_1 | TOY_FEATURE | 1 << 29,
        queues: [None, Some(setup)].into(),
    };
    assert_eq!(registers.write_status(15), Some(Event::Start(start)));
    assert_eq!(registers.status(), 15);
    assert_eq!(registers.write_status(15), None, "it has started already");
}

#[test]
fn packed_rings_and_indirect_tables_are_for_drivers_that_chose_them() {
    let mut registers = agreed(VERSION_1 | 1 << 34 | 1 << 28);
    registers.enable_queue();
    let Some(Event::Start(start)) = registers.write_status(15) else {
        panic!("did not start");
    };
    let setup = start.queues[0].unwrap();
    assert_eq!(setup.layout, Layout::Packed);
    assert!(setup.indirect && !setup.event_idx);
    assert_eq!(setup.size, 256);
}

#[test]
fn a_driver_of_old_is_refused() {
    let registers = agreed(TOY_FEATURE);
    assert_eq!(registers.status(), 3);
}

#[test]
fn features_that_were_not_offered_or_lack_another_are_refused_until_they_are_mended() {
    for wrong in [VERSION_1 | 1, VERSION_1 | 1 << 63, VERSION_1 | TOY_NEEDS] {
        let mut registers = agreed(wrong);
        assert_eq!(registers.status(), 3, "{wrong:#x}");
        assert_eq!(registers.write_status(15), None);
        assert_eq!(registers.status(), 3);
        choose(&mut registers, VERSION_1);
        registers.write_status(11);
        assert_eq!(registers.status(), 11);
    }
}

#[test]
fn features_keep_still_once_they_are_agreed() {
    let mut registers = agreed(VERSION_1);
    choose(&mut registers, u64::MAX);
    registers.driver_features_select = 1;
    assert_eq!(registers.driver_features(), 1);
    registers.driver_features_select = 0;
    assert_eq!(registers.driver_features(), 0);
}

#[test]
fn features_behind_the_second_word_are_none() {
    let mut registers = registers();
    let mut offered = 0;
    for select in [0, 1] {
        registers.device_features_select = select;
        offered |= u64::from(registers.device_features()) << (32 * select);
    }
    assert_eq!(offered, 0x5_3000_0018);
    for select in [2, 3, 0x8000_0000, u32::MAX] {
        registers.device_features_select = select;
        registers.driver_features_select = select;
        registers.write_driver_features(u32::MAX);
        assert_eq!(registers.device_features(), 0);
        assert_eq!(registers.driver_features(), 0);
    }
}

#[test]
fn a_driver_that_is_ready_before_its_features_are_agreed_is_not_heard() {
    let mut registers = registers();
    assert_eq!(registers.write_status(7), None);
    assert_eq!(registers.status(), 3);
}

#[test]
fn status_bits_are_added_and_only_a_reset_takes_them() {
    let mut registers = running();
    assert_eq!(registers.write_status(1), None);
    assert_eq!(registers.status(), 15);
    registers.write_status(0x80);
    assert_eq!(registers.status(), 0x8f);
    assert_eq!(registers.write_status(0x40 | 0x30), None);
    assert_eq!(
        registers.status(),
        0x8f,
        "only the device says that it needs a reset"
    );
}

#[test]
fn a_queue_keeps_still_once_it_is_enabled_and_all_do_once_the_driver_is_ready() {
    let mut registers = agreed(VERSION_1);
    registers.write_queue_size(32);
    registers.enable_queue();
    let before = *registers.queue().unwrap();
    registers.write_queue_size(16);
    registers.write_queue_address(Part::Driver, Half::Low, 7);
    assert_eq!(*registers.queue().unwrap(), before);
    registers.disable_queue();
    registers.write_queue_size(16);
    assert_eq!(registers.queue().unwrap().size, 16);

    let mut registers = running();
    for queue in [0, 1] {
        registers.queue_select = queue;
        let before = *registers.queue().unwrap();
        registers.write_queue_size(8);
        registers.disable_queue();
        registers.enable_queue();
        for part in [Part::Descriptors, Part::Driver, Part::Device] {
            registers.write_queue_address(part, Half::Low, 0x5555_5555);
        }
        assert_eq!(*registers.queue().unwrap(), before);
    }
}

#[test]
fn a_size_that_a_queue_cannot_have_is_dropped() {
    let mut registers = agreed(VERSION_1);
    for size in [0, 257, 0x1_0000, 0x1_0010, u32::MAX] {
        registers.write_queue_size(size);
        assert_eq!(registers.queue().unwrap().size, 256, "{size:#x}");
    }
    registers.write_queue_size(100);
    assert_eq!(registers.queue().unwrap().size, 100);
}

#[test]
fn a_queue_that_is_none_has_no_fields() {
    let mut registers = agreed(VERSION_1);
    assert_eq!(registers.queue_count(), 2);
    for select in (2..=u32::from(u16::MAX)).chain([0x1_0000, u32::MAX]) {
        registers.queue_select = select;
        assert_eq!(registers.queue(), None);
        registers.write_queue_size(1);
        registers.write_queue_address(Part::Device, Half::High, 1);
        registers.enable_queue();
        registers.disable_queue();
    }
    let Some(Event::Start(start)) = registers.write_status(15) else {
        panic!("did not start");
    };
    assert_eq!(start.queues, [None, None]);
}

#[test]
fn doorbells_are_heard_while_their_queue_runs() {
    let mut registers = agreed(VERSION_1);
    registers.enable_queue();
    assert_eq!(registers.notify(0), None);
    registers.write_status(15);
    assert_eq!(registers.notify(0), Some(Event::Notify(0)));
    for queue in [1, 2, 0x1_0000, u32::MAX] {
        assert_eq!(registers.notify(queue), None, "{queue:#x}");
    }
    registers.break_down();
    assert_eq!(registers.notify(0), None);
}

#[test]
fn a_reset_is_over_when_the_device_has_stopped() {
    let mut registers = running();
    assert_eq!(registers.write_config(0, &[9]), Some(Event::Configured));
    assert_eq!(registers.write_status(0), Some(Event::Stop));
    assert_eq!(registers.write_status(0), None, "one reset is enough");
    assert_eq!(registers.write_status(15), None);
    assert_eq!(registers.write_config(1, &[9]), None);
    assert_eq!(registers.notify(0), None);
    assert_eq!(registers.status(), 15);
    registers.stopped();
    assert_eq!(registers.status(), 0);
    assert_eq!(*registers.queue().unwrap(), QueueFields::new(256));
    let mut config = [0x55; 4];
    registers.read_config(0, &mut config);
    assert_eq!(config, [0; 4]);
    assert_eq!(registers.driver_features(), 0);
    registers.write_status(1);
    registers.stopped();
    assert_eq!(registers.status(), 1, "nobody had asked");
}

#[test]
fn before_the_driver_is_ready_a_reset_takes_no_time() {
    let mut registers = agreed(VERSION_1);
    registers.queue_select = 1;
    registers.enable_queue();
    assert_eq!(registers.write_status(0), None);
    assert_eq!(registers.status(), 0);
    assert_eq!(registers.queue_select, 0);
    registers.queue_select = 1;
    assert!(!registers.queue().unwrap().is_enabled);
}

#[test]
fn a_broken_device_says_so_once_and_works_again_after_a_reset() {
    let mut registers = running();
    assert!(registers.break_down());
    assert!(!registers.break_down());
    assert_eq!(registers.status(), 0x4f);
    assert!(!registers.configuration_changed());
    assert_eq!(registers.write_status(0), Some(Event::Stop));
    registers.break_down();
    registers.stopped();
    assert_eq!(registers.status(), 0);
    for status in [1, 3] {
        registers.write_status(status);
    }
    choose(&mut registers, VERSION_1);
    registers.write_status(11);
    assert!(matches!(registers.write_status(15), Some(Event::Start(_))));
}

#[test]
fn a_device_that_broke_before_the_driver_was_ready_does_not_start() {
    let mut registers = agreed(VERSION_1);
    assert!(!registers.break_down());
    assert_eq!(registers.write_status(15), None);
    assert_eq!(registers.status(), 0x4f);
}

#[test]
fn a_change_of_the_configuration_changes_its_generation() {
    let mut registers = agreed(VERSION_1);
    let before = registers.generation();
    assert!(!registers.configuration_changed());
    assert_ne!(registers.generation(), before);
    registers.write_status(15);
    assert!(registers.configuration_changed());
}

#[test]
fn the_configuration_ends_in_ones() {
    let mut registers = running();
    registers.write_config(2, &[1, 2, 3, 4]);
    let mut data = [0x55; 8];
    registers.read_config(1, &mut data);
    assert_eq!(data, [0, 1, 2, 0xff, 0xff, 0xff, 0xff, 0xff]);
}

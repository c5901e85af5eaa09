use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x5678,
    class: 0x0a_0b0c,
    revision: 0x0d,
    subsystem_vendor: 0x9abc,
    subsystem: 0xdef0,
};

fn bar(kind: BarKind, len: u64) -> Bar {
    Bar::new(kind, len).unwrap()
}

fn config() -> ConfigSpace {
    let mut config = ConfigSpace::new(&IDENTITY);
    config.add_bar(0, bar(BarKind::Memory32, 0x1000));
    config.add_bar(2, bar(BarKind::Memory64, 0x4000));
    config.add_bar(4, bar(BarKind::Memory64Prefetchable, 1 << 40));
    config.add_interrupt_pin();
    config
}

impl ConfigSpace {
    fn set(&mut self, at: u8, value: u32) {
        self.write(at.into(), &value.to_le_bytes());
    }

    /// The ids of the capabilities, in the order in which a driver finds them.
    pub(crate) fn walk(&self) -> Vec<(u8, u8)> {
        let mut found = Vec::new();
        let [mut at, _] = self.u16_at(CAPABILITIES).to_le_bytes();
        while at != 0 {
            assert!(at >= HEADER_END && at % 4 == 0, "{at:#x}");
            assert!(found.len() < 48, "the list is finite");
            let [id, next] = self.u16_at(at).to_le_bytes();
            found.push((id, at));
            at = next;
        }
        found
    }
}

/// Writes everything everywhere, and sees to it that only what may change does.
pub(in crate::pci) fn survives_every_access(
    read: impl Fn(u16, &mut [u8]),
    mut write: impl FnMut(u16, &[u8]),
) {
    let fixed = |at: u16, len: usize| {
        let mut data = [0; 4];
        read(at, &mut data[..len]);
        data
    };
    let identity = (fixed(0, 4), fixed(8, 4), fixed(0xe, 1), fixed(0x34, 1));
    for offset in (0..0x110)
        .chain(0xff0..0x1010)
        .chain([u16::MAX - 1, u16::MAX])
    {
        for width in [1, 2, 3, 4, 8] {
            for value in [0, 1, 0x55, 0xaa, 0xff] {
                write(offset, &[value; 8][..width]);
                let mut data = [0x33; 9];
                read(offset, &mut data[..width]);
                assert!(data[width..].iter().all(|&byte| byte == 0x33));
                if offset >= 0x1000 {
                    assert!(data[..width].iter().all(|&byte| byte == 0xff));
                }
            }
        }
    }
    let after = (fixed(0, 4), fixed(8, 4), fixed(0xe, 1), fixed(0x34, 1));
    assert_eq!(identity, after);
}

#[test]
fn a_function_says_what_it_is() {
    let config = config();
    assert_eq!(config.u32_at(0x00), 0x5678_1234);
    assert_eq!(config.u32_at(0x08), 0x0a0b_0c0d);
    assert_eq!(config.u32_at(0x0c), 0);
    assert_eq!(config.u32_at(0x2c), 0xdef0_9abc);
    assert_eq!(config.u32_at(0x3c), 0x0100);
}

#[test]
fn the_command_register_keeps_what_there_is_to_switch() {
    let mut config = config();
    config.set(0x04, u32::MAX);
    assert_eq!(config.u32_at(0x04), 0x0546);
    assert!(config.is_bus_master() && config.is_intx_disabled());
    config.set(0x04, 0);
    assert!(!config.is_bus_master() && !config.is_intx_disabled());
}

#[test]
fn ones_written_to_bars_tell_their_sizes() {
    let mut config = config();
    for register in (0x10..0x28).step_by(4) {
        config.set(register, u32::MAX);
    }
    assert_eq!(config.u32_at(0x10), 0xffff_f000);
    assert_eq!(config.u32_at(0x14), 0);
    assert_eq!(config.u32_at(0x18), 0xffff_c004);
    assert_eq!(config.u32_at(0x1c), 0xffff_ffff);
    assert_eq!(config.u32_at(0x20), 0x0000_000c);
    assert_eq!(config.u32_at(0x24), 0xffff_ff00);
    // There is no ROM.
    config.set(0x30, u32::MAX);
    assert_eq!(config.u32_at(0x30), 0);
}

#[test]
fn bars_of_impossible_sizes_are_refused() {
    for len in [0, 1, 8, 24, (1 << 20) + 1] {
        assert_eq!(Bar::new(BarKind::Memory64, len), None);
    }
    assert_eq!(Bar::new(BarKind::Memory32, 1 << 32), None);
    assert!(Bar::new(BarKind::Memory32, 1 << 31).is_some());
    assert!(Bar::new(BarKind::Memory64, 1 << 63).is_some());
}

#[test]
fn a_bar_answers_where_it_was_put_while_memory_is_decoded() {
    let mut config = config();
    config.set(0x18, 0x0001_0000);
    config.set(0x1c, 0x12);
    assert_eq!(config.bar(2), None);
    config.set(0x04, 2);
    let at = |at, len| GpaRange::new(Gpa::new(at), len);
    assert_eq!(config.bar(2), at(0x12_0001_0000, 0x4000));
    config.set(0x1c, 0x34);
    assert_eq!(config.bar(2), at(0x34_0001_0000, 0x4000));
    config.set(0x10, 0xffff_ffff);
    assert_eq!(config.bar(0), at(0xffff_f000, 0x1000));
    assert_eq!(
        [1, 3, 4, 5, 6, usize::MAX].map(|index| config.bar(index)),
        [None; 6]
    );
    config.set(0x04, 0);
    assert_eq!(config.bar(2), None);
}

#[test]
fn a_bar_at_addresses_that_wrap_or_at_zero_answers_nowhere() {
    let mut config = config();
    config.set(0x04, 2);
    assert_eq!(config.bar(2), None);
    config.set(0x18, u32::MAX);
    config.set(0x1c, u32::MAX);
    assert_eq!(config.bar(2), None);
    config.set(0x1c, u32::MAX - 1);
    assert!(config.bar(2).is_some());
}

#[test]
fn capabilities_are_found_in_the_order_in_which_they_were_added() {
    let mut config = config();
    assert_eq!((config.walk(), config.u16_at(0x06)), (Vec::new(), 0));
    assert_eq!(config.add_capability(0x09, &[3]), 0x40);
    assert_eq!(config.add_capability(0x10, &[4, 5, 6]), 0x44);
    assert_eq!(config.add_capability(0x11, &[]), 0x4c);
    assert_eq!(config.walk(), [(0x09, 0x40), (0x10, 0x44), (0x11, 0x4c)]);
    assert_eq!(config.u16_at(0x06), 0x10);
    assert_eq!(config.u32_at(0x44), 0x0504_4c10);
}

#[test]
#[should_panic(expected = "fits")]
fn a_capability_for_which_there_is_no_room_is_our_mistake() {
    let mut config = config();
    config.add_capability(9, &[0; 0xbe]);
    config.add_capability(9, &[]);
}

#[test]
#[should_panic(expected = "BAR 3 is free")]
fn the_second_half_of_a_bar_is_taken() {
    config().add_bar(3, bar(BarKind::Memory32, 0x1000));
}

#[test]
fn bits_that_are_cleared_by_ones_stay_for_zeros() {
    let mut config = config();
    config.make_clearable(0x50, &[0x0f]);
    config.update(0x50, &[0xff]);
    config.write(0x50, &[0xf1]);
    config.write(0x50, &[0x00]);
    assert_eq!(config.u16_at(0x50), 0xfe);
}

#[test]
fn reset_gives_back_what_was_defined() {
    let mut config = config();
    let before = config.clone().bytes;
    config.write(0, &[0xff; LEN]);
    config.show_interrupt(true);
    assert_ne!(config.bytes, before);
    config.reset();
    assert_eq!(config.bytes, before);
}

#[test]
fn the_interrupt_is_shown_in_the_status() {
    let mut config = config();
    config.add_capability(9, &[]);
    config.show_interrupt(true);
    assert_eq!(config.u16_at(0x06), 0x18);
    config.write(0x06, &[0xff, 0xff]);
    assert_eq!(config.u16_at(0x06), 0x18);
    config.show_interrupt(false);
    assert_eq!(config.u16_at(0x06), 0x10);
}

#[test]
fn extended_configuration_space_has_no_capability() {
    let config = config();
    let mut data = [0xff; 4];
    config.read(0x100, &mut data);
    assert_eq!(data, [0; 4]);
    config.read(0xffe, &mut data);
    assert_eq!(data, [0, 0, 0xff, 0xff]);
}

#[test]
fn every_access_is_survived() {
    let config = core::cell::RefCell::new(config());
    survives_every_access(
        |at, data| config.borrow().read(at, data),
        |at, data| config.borrow_mut().write(at, data),
    );
}

proptest! {
    #[test]
    fn a_wide_write_is_a_write_of_each_byte(
        register in 0..0x120_u16,
        data in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let (mut wide, mut bytes) = (config(), config());
        wide.write(register, &data);
        for (&byte, at) in data.iter().zip(register..) {
            bytes.write(at, &[byte]);
        }
        prop_assert_eq!(wide.bytes, bytes.bytes);
    }

    #[test]
    fn no_bit_changes_that_is_not_writable(
        writes in prop::collection::vec((0..0x120_u16, any::<u64>(), 1..9_usize), 1..32),
    ) {
        let mut config = config();
        for (register, value, width) in writes {
            config.write(register, &value.to_le_bytes()[..width]);
        }
        for at in 0..LEN {
            let changed = config.bytes[at] ^ config.initial[at];
            prop_assert_eq!(changed & !config.writable[at], 0);
        }
    }
}

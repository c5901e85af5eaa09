mod model;

use super::*;
use crate::irqchip::apic_message::{DeliveryMode, Destination};
use alloc::vec::Vec;

const PIN: IoApicPin = IoApicPin(4);
const OTHER: IoApicPin = IoApicPin(23);

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;

impl IoApic {
    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put(&mut self, offset: u64, value: u32) {
        assert_eq!(self.write(offset, &value.to_le_bytes()), None);
    }

    fn get_selected(&mut self, index: u32) -> u32 {
        self.put(0, index);
        self.get(0x10)
    }

    fn put_selected(&mut self, index: u32, value: u32) {
        self.put(0, index);
        self.put(0x10, value);
    }

    fn low(&mut self, pin: IoApicPin) -> u32 {
        self.get_selected(0x10 + 2 * pin.0)
    }

    fn put_low(&mut self, pin: IoApicPin, value: u32) {
        self.put_selected(0x10 + 2 * pin.0, value);
    }

    fn with(pins: &[(IoApicPin, u32)]) -> Self {
        let mut ioapic = Self::new();
        for &(pin, low) in pins {
            ioapic.put_low(pin, low);
        }
        ioapic
    }

    /// The vectors of all that is sent.
    fn sent(&mut self) -> Vec<u8> {
        let mut vectors = Vec::new();
        while let Some(message) = self.next_message() {
            vectors.push(message.vector);
            assert!(vectors.len() < 100, "an interrupt storm");
        }
        vectors
    }
}

#[test]
fn after_reset_every_pin_is_masked() {
    let mut ioapic = IoApic::new();
    assert_eq!(ioapic.get_selected(0), 0);
    assert_eq!(ioapic.get_selected(1), 0x0017_0020);
    for pin in (0..24).map(IoApicPin) {
        ioapic.set(pin, true);
        assert_eq!(ioapic.low(pin), MASKED);
        assert_eq!(ioapic.get_selected(0x11 + 2 * pin.0), 0);
        assert_eq!(ioapic.route(pin), None);
    }
    assert_eq!(ioapic.sent(), []);
    assert!(!ioapic.take_changed());
}

#[test]
fn the_arbitration_id_is_loaded_with_the_id() {
    let mut ioapic = IoApic::new();
    ioapic.put_selected(0, u32::MAX);
    assert_eq!(ioapic.get_selected(0), 0x0f00_0000);
    assert_eq!(ioapic.get_selected(2), 0x0f00_0000);
    ioapic.put_selected(2, 0);
    ioapic.put_selected(1, 0);
    assert_eq!(ioapic.get_selected(2), 0x0f00_0000);
    assert_eq!(ioapic.get_selected(1), 0x0017_0020);
}

#[test]
fn an_entry_has_what_it_says_sent() {
    let mut ioapic = IoApic::new();
    ioapic.put_selected(0x11 + 8, 0x0300_0000);
    ioapic.put_low(PIN, 0x0000_0931);
    let wanted = ApicMessage {
        vector: 0x31,
        mode: DeliveryMode::LowestPriority,
        level: false,
        destination: Destination::Logical(3),
    };
    assert_eq!(ioapic.route(PIN), Some(wanted));
    ioapic.set(PIN, true);
    assert_eq!(ioapic.next_message(), Some(wanted));
    assert_eq!(ioapic.next_message(), None);
}

#[test]
fn only_what_can_be_written_is() {
    let mut ioapic = IoApic::new();
    ioapic.put_low(PIN, u32::MAX);
    assert_eq!(ioapic.low(PIN), 0x0001_afff);
    ioapic.put_selected(0x11 + 8, u32::MAX);
    assert_eq!(ioapic.get_selected(0x11 + 8), 0xfffe_0000);
}

#[test]
fn fifteen_bits_of_destination_are_had() {
    let mut ioapic = IoApic::with(&[(PIN, 0x31)]);
    ioapic.put_selected(0x11 + 8, 0x34 << 24 | 0x12 << 17);
    let route = ioapic.route(PIN).unwrap();
    assert_eq!(route.destination, Destination::Physical(0x1234));
}

#[test]
fn an_edge_is_sent_once() {
    let mut ioapic = IoApic::with(&[(PIN, 0x31)]);
    ioapic.set(PIN, true);
    ioapic.set(PIN, true);
    assert_eq!(ioapic.sent(), [0x31]);
    ioapic.set(PIN, false);
    ioapic.end_of_interrupt(0x31);
    assert_eq!(ioapic.sent(), []);
    ioapic.set(PIN, true);
    assert_eq!(ioapic.sent(), [0x31], "without any end");
    assert_eq!(ioapic.low(PIN), 0x31, "and with no remote IRR");
}

#[test]
fn an_edge_on_a_masked_pin_is_sent_when_it_is_unmasked() {
    let mut ioapic = IoApic::with(&[(PIN, MASKED | 0x31)]);
    ioapic.pulse(PIN);
    ioapic.pulse(PIN);
    assert_eq!(ioapic.sent(), []);
    ioapic.put_low(PIN, 0x32);
    assert_eq!(ioapic.sent(), [0x32]);
}

#[test]
fn a_level_is_sent_again_at_its_end_as_long_as_it_lasts() {
    let mut ioapic = IoApic::with(&[(PIN, LEVEL | 0x31)]);
    ioapic.set(PIN, true);
    assert!(ioapic.route(PIN).unwrap().level);
    assert_eq!(ioapic.sent(), [0x31]);
    assert_eq!(ioapic.low(PIN), LEVEL | REMOTE_IRR | 0x31);
    ioapic.set(PIN, false);
    ioapic.set(PIN, true);
    assert_eq!(ioapic.sent(), [], "the one before has not ended");
    ioapic.end_of_interrupt(0x31);
    assert_eq!(ioapic.sent(), [0x31]);
    ioapic.set(PIN, false);
    ioapic.end_of_interrupt(0x31);
    assert_eq!(ioapic.sent(), []);
    assert_eq!(ioapic.low(PIN), LEVEL | 0x31);
}

#[test]
fn a_level_on_a_masked_pin_counts_only_if_it_lasts() {
    let mut ioapic = IoApic::with(&[(PIN, MASKED | LEVEL | 0x31)]);
    ioapic.set(PIN, true);
    ioapic.set(PIN, false);
    ioapic.put_low(PIN, LEVEL | 0x31);
    assert_eq!(ioapic.sent(), []);
    ioapic.put_low(PIN, MASKED | LEVEL | 0x31);
    ioapic.set(PIN, true);
    ioapic.put_low(PIN, LEVEL | 0x31);
    assert_eq!(ioapic.sent(), [0x31]);
}

#[test]
fn a_pulse_on_a_pin_of_a_level_waits_for_the_end() {
    let mut ioapic = IoApic::with(&[(PIN, LEVEL | 0x31)]);
    ioapic.pulse(PIN);
    assert_eq!(ioapic.sent(), [0x31]);
    ioapic.pulse(PIN);
    ioapic.pulse(PIN);
    assert_eq!(ioapic.sent(), []);
    ioapic.end_of_interrupt(0x31);
    assert_eq!(ioapic.sent(), [0x31]);
    ioapic.end_of_interrupt(0x31);
    assert_eq!(ioapic.sent(), []);
}

#[test]
fn the_eoi_register_ends_all_levels_of_its_vector_and_no_others() {
    let entries = [
        (PIN, LEVEL | 0x31),
        (OTHER, LEVEL | 0x31),
        (IoApicPin(9), LEVEL | 0x41),
    ];
    let mut ioapic = IoApic::with(&entries);
    for (pin, _) in entries {
        ioapic.set(pin, true);
    }
    assert_eq!(ioapic.sent(), [0x31, 0x41, 0x31]);
    ioapic.put(0x40, 0x32);
    assert_eq!(ioapic.sent(), []);
    ioapic.put(0x40, 0x31);
    assert_eq!(ioapic.sent(), [0x31, 0x31]);
    assert_eq!(ioapic.get(0x40), 0, "it is only written");
}

#[test]
fn an_entry_that_is_made_one_of_an_edge_has_no_remote_irr() {
    let mut ioapic = IoApic::with(&[(PIN, LEVEL | 0x31)]);
    ioapic.set(PIN, true);
    assert_eq!(ioapic.sent(), [0x31]);
    // `__eoi_ioapic_pin` of Linux, where there is no EOI register.
    ioapic.put_low(PIN, MASKED | 0x31);
    assert_eq!(ioapic.low(PIN), MASKED | 0x31);
    ioapic.put_low(PIN, LEVEL | 0x31);
    assert_eq!(ioapic.sent(), [0x31], "the line is still high");
}

#[test]
fn masking_keeps_remote_irr_and_its_end_is_seen() {
    let mut ioapic = IoApic::with(&[(PIN, LEVEL | 0x31)]);
    ioapic.set(PIN, true);
    assert_eq!(ioapic.sent(), [0x31]);
    ioapic.put_low(PIN, MASKED | LEVEL | 0x31);
    assert_eq!(ioapic.low(PIN), MASKED | LEVEL | REMOTE_IRR | 0x31);
    ioapic.put_low(PIN, LEVEL | 0x31);
    assert_eq!(ioapic.sent(), []);
    ioapic.put_low(PIN, MASKED | LEVEL | 0x31);
    ioapic.end_of_interrupt(0x31);
    assert_eq!(ioapic.sent(), []);
    ioapic.put_low(PIN, LEVEL | 0x31);
    assert_eq!(ioapic.sent(), [0x31]);
}

#[test]
fn remote_irr_cannot_be_written() {
    let mut ioapic = IoApic::with(&[(PIN, LEVEL | REMOTE_IRR | 0x31)]);
    assert_eq!(ioapic.low(PIN), LEVEL | 0x31);
}

#[test]
fn an_edge_of_before_is_not_one_of_a_level() {
    let mut ioapic = IoApic::new();
    ioapic.pulse(PIN);
    ioapic.put_low(PIN, LEVEL | 0x31);
    assert_eq!(ioapic.sent(), []);
    ioapic.set(PIN, true);
    assert_eq!(ioapic.sent(), [0x31]);
    ioapic.put_low(PIN, 0x31);
    assert_eq!(ioapic.sent(), [], "nor a level one of an edge");
}

#[test]
fn modes_without_an_end_are_edges_whatever_the_entry_says() {
    for (bits, mode) in [
        (2, DeliveryMode::Smi),
        (4, DeliveryMode::Nmi),
        (5, DeliveryMode::Init),
        (7, DeliveryMode::ExtInt),
    ] {
        let mut ioapic = IoApic::with(&[(PIN, LEVEL | bits << 8)]);
        for _ in 0..2 {
            ioapic.set(PIN, true);
            let message = ioapic.next_message().unwrap();
            assert_eq!((message.mode, message.level), (mode, false));
            assert_eq!(ioapic.next_message(), None);
            assert_eq!(ioapic.low(PIN) & REMOTE_IRR, 0);
            ioapic.set(PIN, false);
        }
    }
}

#[test]
fn reserved_modes_reach_nobody_and_hold_up_no_other() {
    for bits in [3, 6] {
        for trigger in [0, LEVEL] {
            let mut ioapic = IoApic::with(&[(PIN, trigger | bits << 8 | 0x31), (OTHER, 0x41)]);
            ioapic.set(PIN, true);
            ioapic.set(OTHER, true);
            assert_eq!(ioapic.route(PIN), None);
            assert_eq!(ioapic.sent(), [0x41]);
        }
    }
}

#[test]
fn changes_of_routes_are_told_once_and_nothing_else_is() {
    let mut ioapic = IoApic::new();
    ioapic.put_low(PIN, MASKED | 0x31);
    assert!(!ioapic.take_changed(), "it is masked as before");
    ioapic.put_low(PIN, LEVEL | 0x31);
    assert!(ioapic.take_changed());
    assert!(!ioapic.take_changed());
    ioapic.put_low(PIN, LEVEL | 0x31);
    ioapic.put_selected(0, 0x0500_0000);
    ioapic.set(PIN, true);
    assert_eq!(ioapic.sent(), [0x31]);
    ioapic.end_of_interrupt(0x31);
    assert!(!ioapic.take_changed());
    ioapic.put_selected(0x11 + 8, 0x0100_0000);
    assert!(ioapic.take_changed());
    ioapic.put_low(PIN, MASKED | LEVEL | 0x31);
    assert!(ioapic.take_changed());
}

#[test]
fn ends_of_what_was_never_raised_change_nothing() {
    let mut ioapic = IoApic::with(&[(PIN, 0x31), (OTHER, LEVEL | 0x41)]);
    let before = ioapic.clone().entries;
    for vector in 0..=255 {
        ioapic.end_of_interrupt(vector);
        ioapic.put(0x40, vector.into());
    }
    assert_eq!(ioapic.entries, before);
    assert_eq!(ioapic.sent(), []);
}

#[test]
fn pins_that_are_not_there_are_cut() {
    let mut ioapic = IoApic::with(&[(PIN, 0x31)]);
    for pin in [24, 31, 32, 32 + 4, 0xff, u32::MAX].map(IoApicPin) {
        ioapic.set(pin, true);
        ioapic.pulse(pin);
        assert_eq!(ioapic.route(pin), None);
    }
    assert_eq!(ioapic.sent(), []);
}

#[test]
fn registers_that_are_not_there_read_zero() {
    let mut ioapic = IoApic::new();
    for index in (3..0x10).chain(0x40..0x100) {
        ioapic.put_selected(index, u32::MAX);
        assert_eq!(ioapic.get_selected(index), 0, "{index:#x}");
    }
    for offset in [4, 0x14, 0x20, 0x100, 0xffc] {
        ioapic.put(offset, u32::MAX);
        assert_eq!(ioapic.get(offset), 0, "{offset:#x}");
    }
    ioapic.put(0, 0x1234_5601);
    assert_eq!(ioapic.get(0), 1, "one byte selects");
}

#[test]
fn a_million_pulses_are_one_message_a_pin() {
    let mut ioapic = IoApic::new();
    for pin in (0..24).map(IoApicPin) {
        ioapic.put_low(pin, if pin.0 % 2 == 0 { 0x30 } else { LEVEL | 0x31 });
    }
    for pulse in 0..1_000_000 {
        ioapic.pulse(IoApicPin(pulse % 24));
    }
    assert_eq!(ioapic.sent().len(), 24);
    ioapic.end_of_interrupt(0x31);
    assert_eq!(ioapic.sent(), []);
}

#[test]
fn every_access_is_survived() {
    let mut ioapic = IoApic::new();
    crate::chip::tests::survives_every_access(&mut ioapic, IoApic::EXTENT);
    for index in 0..=0xff {
        ioapic.put(0, index);
        for width in [1, 2, 3, 4, 8, 16] {
            for value in [0, 0x31, 0x80, 0xff] {
                assert_eq!(ioapic.write(0x10, &[value; 16][..width]), None);
                ioapic.put(0, index);
                let mut data = [0; 16];
                ioapic.read(0x10, &mut data[..width]);
            }
        }
    }
    assert!(ioapic.sent().len() <= 24);
}

use super::*;
use crate::chip::tests::survives_every_access;
use core::cell::Cell;

const TIME_LOW: u64 = 0x00;
const TIME_HIGH: u64 = 0x04;
const ALARM_LOW: u64 = 0x08;
const ALARM_HIGH: u64 = 0x0c;
const IRQ_ENABLED: u64 = 0x10;
const CLEAR_ALARM: u64 = 0x14;
const ALARM_STATUS: u64 = 0x18;
const CLEAR_INTERRUPT: u64 = 0x1c;

/// A second before the low half of the nanoseconds overflows.
const NOW: u64 = 0x18ea_0000_0000_0000 - 1_000_000_000;

/// The host's clock, to be set.
struct Host(Cell<u64>);

impl Host {
    fn new() -> Self {
        Self(Cell::new(NOW))
    }

    fn chip(&self) -> GoldfishRtc<impl FnMut() -> UnixTime + use<'_>> {
        GoldfishRtc::new(|| UnixTime(Duration::from_nanos(self.0.get())))
    }

    fn passes(&self, nanoseconds: u64) {
        self.0.set(self.0.get() + nanoseconds);
    }
}

fn get(chip: &mut impl Chip, offset: u64) -> u32 {
    let mut data = [0; 4];
    chip.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn set(chip: &mut impl Chip, offset: u64, value: u32) {
    assert_eq!(chip.write(offset, &value.to_le_bytes()), None);
}

/// As Linux's `goldfish_rtc_read_time` reads it.
fn time(chip: &mut impl Chip) -> u64 {
    let low = get(chip, TIME_LOW);
    joined(low, get(chip, TIME_HIGH))
}

/// As Linux sets time and alarm: the high half first.
fn set_both(chip: &mut impl Chip, low_register: u64, value: u64) {
    let (low, high) = halves(value);
    set(chip, low_register + 4, high);
    set(chip, low_register, low);
}

#[test]
fn it_tells_the_hosts_nanoseconds() {
    let host = Host::new();
    let mut chip = host.chip();
    assert_eq!(time(&mut chip), NOW);
    host.passes(123_456_789);
    assert_eq!(time(&mut chip), NOW + 123_456_789);
}

#[test]
fn the_high_half_is_that_of_when_the_low_half_was_read() {
    let host = Host::new();
    let mut chip = host.chip();
    let low = get(&mut chip, TIME_LOW);
    host.passes(2_000_000_000);
    assert_eq!(joined(low, get(&mut chip, TIME_HIGH)), NOW);
    assert_eq!(time(&mut chip), NOW + 2_000_000_000);
}

#[test]
fn one_wide_read_is_the_whole_time() {
    let host = Host::new();
    let mut data = [0; 8];
    host.chip().read(TIME_LOW, &mut data);
    assert_eq!(u64::from_le_bytes(data), NOW);
}

#[test]
fn a_time_that_the_guest_sets_goes_on_from_there() {
    let host = Host::new();
    let mut chip = host.chip();
    for wanted in [0, 1, NOW - 1, NOW + 1, u64::MAX] {
        set_both(&mut chip, TIME_LOW, wanted);
        assert_eq!(time(&mut chip), wanted);
        host.passes(7);
        assert_eq!(time(&mut chip), wanted.wrapping_add(7));
    }
}

#[test]
fn an_alarm_as_linux_sets_it_comes_in_its_time_and_is_told_before() {
    let host = Host::new();
    let mut chip = host.chip();
    set_both(&mut chip, ALARM_LOW, NOW + 5_000_000_000);
    assert_eq!(chip.irq_in(), None, "interrupts are off");
    set(&mut chip, IRQ_ENABLED, 1);
    assert_eq!(chip.irq_in(), Some(Duration::from_secs(5)));
    assert_eq!(get(&mut chip, ALARM_STATUS), 1);
    host.passes(4_999_999_999);
    assert!(!chip.irq());
    host.passes(1);
    assert!(chip.irq());
    assert_eq!(chip.irq_in(), None);
    assert_eq!(get(&mut chip, ALARM_STATUS), 0);
    set(&mut chip, CLEAR_INTERRUPT, 1);
    assert!(!chip.irq());
    host.passes(u64::from(u32::MAX));
    assert!(!chip.irq(), "once");
    let alarm = joined(get(&mut chip, ALARM_LOW), get(&mut chip, ALARM_HIGH));
    assert_eq!(alarm, NOW + 5_000_000_000);
}

#[test]
fn an_alarm_that_is_cleared_never_comes() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, IRQ_ENABLED, 1);
    set_both(&mut chip, ALARM_LOW, NOW + 10);
    set(&mut chip, CLEAR_ALARM, 1);
    assert_eq!((get(&mut chip, ALARM_STATUS), chip.irq_in()), (0, None));
    host.passes(20);
    assert!(!chip.irq());
}

#[test]
fn only_the_low_half_sets_an_alarm() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, IRQ_ENABLED, 1);
    set(&mut chip, ALARM_HIGH, 0);
    assert_eq!(get(&mut chip, ALARM_STATUS), 0);
    assert!(!chip.irq());
    set(&mut chip, ALARM_LOW, 0);
    assert!(chip.irq(), "an alarm of the past rings at once");
}

#[test]
fn what_came_while_interrupts_were_off_shows_when_they_are_on() {
    let host = Host::new();
    let mut chip = host.chip();
    set_both(&mut chip, ALARM_LOW, NOW + 1);
    host.passes(1);
    assert!(!chip.irq());
    set(&mut chip, IRQ_ENABLED, !1);
    assert_eq!((get(&mut chip, IRQ_ENABLED), chip.irq()), (0, false));
    set(&mut chip, IRQ_ENABLED, 1);
    assert!(chip.irq());
}

#[test]
fn clearing_an_alarm_that_came_meanwhile_leaves_its_interrupt() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, IRQ_ENABLED, 1);
    set_both(&mut chip, ALARM_LOW, NOW + 1);
    host.passes(1);
    set(&mut chip, CLEAR_ALARM, 1);
    assert!(chip.irq());
}

#[test]
fn an_alarm_is_in_the_guests_time() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, IRQ_ENABLED, 1);
    set_both(&mut chip, TIME_LOW, 1000);
    set_both(&mut chip, ALARM_LOW, 5000);
    assert_eq!(chip.irq_in(), Some(Duration::from_nanos(4000)));
    set_both(&mut chip, TIME_LOW, 5000);
    assert!(chip.irq());
}

#[test]
fn every_access_is_survived_at_every_time() {
    for time in [Duration::ZERO, Duration::from_nanos(NOW), Duration::MAX] {
        let mut chip = GoldfishRtc::new(|| UnixTime(time));
        survives_every_access(&mut chip, 0x20);
        chip.irq();
        chip.irq_in();
    }
}

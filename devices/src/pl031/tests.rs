use super::*;
use crate::chip::tests::survives_every_access;
use core::cell::Cell;

const DR: u64 = 0x00;
const MR: u64 = 0x04;
const LR: u64 = 0x08;
const CR: u64 = 0x0c;
const IMSC: u64 = 0x10;
const RIS: u64 = 0x14;
const MIS: u64 = 0x18;
const ICR: u64 = 0x1c;

/// 2026-11-21 23:59:58 UTC, and a bit.
const NOW: UnixTime = UnixTime(Duration::from_millis(1_795_305_598_250));
const SECONDS: u32 = 1_795_305_598;

/// The host's clock, to be set.
struct Host(Cell<UnixTime>);

impl Host {
    fn new() -> Self {
        Self(Cell::new(NOW))
    }

    fn chip(&self) -> Pl031<impl FnMut() -> UnixTime + use<'_>> {
        Pl031::new(|| self.0.get())
    }

    fn passes(&self, time: Duration) {
        self.0.set(UnixTime(self.0.get().0 + time));
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

#[test]
fn an_amba_bus_finds_a_pl031_of_arms() {
    let host = Host::new();
    let mut chip = host.chip();
    let mut number = |at: u64| {
        (0..4).fold(0, |id, byte| {
            id | get(&mut chip, at + 4 * byte) << (8 * byte)
        })
    };
    assert_eq!(number(0xfe0) & 0x000f_ffff, 0x0004_1031);
    assert_eq!(number(0xff0), 0xb105_f00d);
}

#[test]
fn it_tells_the_hosts_seconds_and_was_started_before() {
    let host = Host::new();
    let mut chip = host.chip();
    assert_eq!(get(&mut chip, DR), SECONDS);
    assert_eq!(get(&mut chip, CR), 1);
    host.passes(Duration::from_millis(750));
    assert_eq!(get(&mut chip, DR), SECONDS + 1);
    set(&mut chip, CR, 0);
    host.passes(Duration::from_secs(9));
    assert_eq!(get(&mut chip, DR), SECONDS + 10);
}

#[test]
fn a_time_that_the_guest_sets_goes_on_from_there() {
    let host = Host::new();
    let mut chip = host.chip();
    for time in [0, 1, SECONDS - 1, SECONDS + 1, u32::MAX] {
        set(&mut chip, LR, time);
        assert_eq!((get(&mut chip, DR), get(&mut chip, LR)), (time, time));
        host.passes(Duration::from_secs(3));
        assert_eq!(get(&mut chip, DR), time.wrapping_add(3));
        assert_eq!(get(&mut chip, LR), time);
    }
}

#[test]
fn after_2106_the_seconds_begin_again() {
    let mut chip = Pl031::new(|| UnixTime::from_secs(0x1_0000_0005));
    assert_eq!(get(&mut chip, DR), 5);
}

#[test]
fn an_alarm_as_linux_sets_it_comes_in_its_second_and_is_told_before() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, MR, SECONDS + 5);
    set(&mut chip, ICR, 1);
    assert_eq!(chip.irq_in(), None, "it is masked");
    set(&mut chip, IMSC, 1);
    assert_eq!(chip.irq_in(), Some(Duration::from_millis(4750)));
    host.passes(Duration::from_millis(4749));
    assert!(!chip.irq());
    assert_eq!(chip.irq_in(), Some(Duration::from_millis(1)));
    host.passes(Duration::from_millis(1));
    assert!(chip.irq());
    assert_eq!(chip.irq_in(), None);
    assert_eq!((get(&mut chip, MIS), get(&mut chip, RIS)), (1, 1));
    set(&mut chip, ICR, 1);
    assert!(!chip.irq());
    host.passes(Duration::from_secs(100));
    assert!(!chip.irq(), "once");
}

#[test]
fn an_alarm_passes_behind_a_mask_and_shows_when_it_goes() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, MR, SECONDS + 1);
    host.passes(Duration::from_secs(2));
    assert_eq!((get(&mut chip, RIS), get(&mut chip, MIS)), (1, 0));
    assert!(!chip.irq());
    set(&mut chip, IMSC, 1);
    assert!(chip.irq());
    set(&mut chip, IMSC, 0);
    assert!(!chip.irq());
}

#[test]
fn an_alarm_that_came_meanwhile_outlives_the_next() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, MR, SECONDS + 1);
    host.passes(Duration::from_secs(2));
    set(&mut chip, MR, SECONDS + 100);
    assert_eq!(get(&mut chip, RIS), 1);
}

#[test]
fn an_alarm_for_now_is_due_and_one_for_the_past_in_136_years() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, IMSC, 1);
    set(&mut chip, MR, SECONDS);
    assert!(chip.irq());
    set(&mut chip, ICR, 1);
    set(&mut chip, MR, SECONDS - 1);
    assert!(!chip.irq());
    let wait = chip.irq_in().unwrap();
    assert_eq!(
        wait,
        Duration::from_millis((u64::from(u32::MAX)) * 1000 - 250)
    );
}

#[test]
fn an_alarm_is_in_the_guests_time() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, IMSC, 1);
    set(&mut chip, MR, 1000);
    set(&mut chip, LR, 990);
    assert_eq!(chip.irq_in(), Some(Duration::from_millis(9750)));
    set(&mut chip, LR, 1000);
    assert!(chip.irq(), "the time was set to it");
}

#[test]
fn clearing_needs_the_bit() {
    let host = Host::new();
    let mut chip = host.chip();
    set(&mut chip, MR, SECONDS);
    set(&mut chip, ICR, !1);
    assert_eq!(get(&mut chip, RIS), 1);
    set(&mut chip, ICR, 1);
    assert_eq!(get(&mut chip, RIS), 0);
    assert_eq!(get(&mut chip, ICR), 0);
}

#[test]
fn every_access_is_survived_at_every_time() {
    for time in [Duration::ZERO, NOW.0, Duration::MAX] {
        let mut chip = Pl031::new(|| UnixTime(time));
        survives_every_access(&mut chip, 0x1000);
        chip.irq();
        chip.irq_in();
    }
}

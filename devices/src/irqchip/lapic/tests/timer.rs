//! The timer.

use super::*;
use core::time::Duration;
use proptest::prelude::*;

const INITIAL: u64 = 0x380;
const CURRENT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;
const BY_1: u32 = 0xb;
const PERIODIC: u32 = 1 << 17;
const DEADLINE_MODE: u32 = 2 << 17;
const TSC_DEADLINE: u32 = 0x6e0;

const fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn at(nanos: u64) -> ApicTime {
    ApicTime {
        now: ns(nanos),
        tsc: nanos * 3,
    }
}

impl LocalApic {
    fn with_timer(lvt: u32) -> Self {
        let mut apic = Self::enabled();
        apic.put(DIVIDE, BY_1);
        apic.put(LVT_TIMER, lvt);
        apic
    }

    /// Whether the timer has interrupted, once.
    fn fired(&mut self) -> bool {
        let fired = self.pending().is_some();
        if fired {
            self.acknowledge();
            self.put(EOI, 0);
        }
        fired
    }
}

#[test]
fn it_counts_down_and_interrupts_once() {
    let mut apic = LocalApic::with_timer(0xec);
    apic.set_time(at(1_000));
    apic.put(INITIAL, 500);
    assert_eq!(apic.get(CURRENT), 500);
    assert_eq!(apic.deadline(), Some(ns(1_500)));
    apic.set_time(at(1_499));
    assert_eq!(apic.get(CURRENT), 1);
    assert!(!apic.fired());
    apic.set_time(at(1_500));
    assert_eq!(apic.get(CURRENT), 0);
    assert!(apic.fired());
    apic.set_time(at(9_000));
    assert!(!apic.fired());
    assert_eq!((apic.deadline(), apic.get(INITIAL)), (None, 500));
}

#[test]
fn counts_are_divided() {
    for (bits, divisor) in [0u32, 1, 2, 3, 8, 9, 10, 11]
        .into_iter()
        .zip([2, 4, 8, 16, 32, 64, 128, 1])
    {
        let mut apic = LocalApic::with_timer(0xec);
        apic.put(DIVIDE, bits);
        apic.put(INITIAL, 10);
        assert_eq!(apic.deadline(), Some(ns(10 * divisor)), "{bits}");
        apic.set_time(at(divisor));
        assert_eq!(apic.get(CURRENT), 9);
        apic.set_time(at(divisor + 1));
        assert_eq!(apic.get(CURRENT), if divisor == 1 { 8 } else { 9 });
    }
}

#[test]
fn another_divisor_goes_on_from_the_count() {
    let mut apic = LocalApic::with_timer(0xec);
    apic.put(INITIAL, 1_000);
    apic.set_time(at(400));
    apic.put(DIVIDE, 0);
    assert_eq!(apic.get(CURRENT), 600);
    assert_eq!(apic.deadline(), Some(ns(1_600)));
}

#[test]
fn a_period_does_not_drift_however_late_it_is_heard() {
    let mut apic = LocalApic::with_timer(PERIODIC | 0xec);
    apic.put(INITIAL, 1_000_000);
    for lateness in [0, 1, 999_999, 17, 400_000] {
        let due = apic.deadline().unwrap();
        assert_eq!(due.subsec_nanos() % 1_000_000, 0);
        apic.set_time(at(u64::try_from(due.as_nanos()).unwrap() + lateness));
        assert!(apic.fired());
        assert!(!apic.fired());
    }
    assert_eq!(apic.deadline(), Some(ns(6_000_000)));
}

#[test]
fn periods_that_were_missed_are_one_interrupt() {
    let mut apic = LocalApic::with_timer(PERIODIC | 0xec);
    apic.put(INITIAL, 1_000_000);
    apic.set_time(at(1_000_000_000_300));
    assert!(apic.fired());
    assert!(!apic.fired());
    assert_eq!(apic.deadline(), Some(ns(1_000_001_000_000)));
    assert_eq!(apic.get(CURRENT), 999_700);
}

#[test]
fn the_shortest_period_neither_hangs_nor_asks_too_often() {
    let mut apic = LocalApic::with_timer(PERIODIC | 0xec);
    apic.put(INITIAL, 1);
    let mut interrupts = 0;
    let mut now = Duration::ZERO;
    while let Some(due) = apic.deadline().filter(|due| *due <= Duration::from_secs(1)) {
        assert!(due > now);
        now = due;
        apic.set_time(at(u64::try_from(due.as_nanos()).unwrap()));
        interrupts += u32::from(apic.fired());
        assert_eq!(apic.get(CURRENT), 1);
    }
    assert_eq!(interrupts, 5_000);
    apic.set_time(at(u64::MAX / 4));
    assert!(apic.fired());
}

#[test]
fn short_periods_skip_whole_ones() {
    let mut apic = LocalApic::with_timer(PERIODIC | 0xec);
    apic.put(INITIAL, 70_000);
    assert_eq!(apic.deadline(), Some(ns(210_000)));
    apic.set_time(at(70_001));
    assert_eq!(apic.get(CURRENT), 69_999);
    assert!(!apic.fired());
}

#[test]
fn zero_stops_it() {
    for mode in [0, PERIODIC] {
        let mut apic = LocalApic::with_timer(mode | 0xec);
        apic.put(INITIAL, 500_000);
        apic.put(INITIAL, 0);
        assert_eq!((apic.deadline(), apic.get(CURRENT)), (None, 0));
        apic.set_time(at(1_000_000));
        assert!(!apic.fired());
    }
}

#[test]
fn masked_it_counts_and_interrupts_nobody() {
    let mut apic = LocalApic::with_timer(MASKED | 0xec);
    apic.put(INITIAL, 500);
    assert_eq!(apic.deadline(), None);
    apic.set_time(at(200));
    assert_eq!(apic.get(CURRENT), 300);
    apic.set_time(at(600));
    apic.put(LVT_TIMER, 0xec);
    assert!(!apic.fired(), "what expired while masked is lost");
    assert_eq!(apic.deadline(), None);
}

#[test]
fn a_vector_below_16_is_an_error() {
    let mut apic = LocalApic::with_timer(0x05);
    apic.put(INITIAL, 1);
    apic.set_time(at(1));
    assert_eq!(apic.pending(), None);
    assert_eq!(apic.errors(), 0x40);
}

#[test]
fn time_does_not_go_back() {
    let mut apic = LocalApic::with_timer(0xec);
    apic.set_time(at(1_000));
    apic.put(INITIAL, 100);
    apic.set_time(at(5));
    assert_eq!(apic.get(CURRENT), 100);
    apic.set_time(at(1_100));
    assert!(apic.fired());
}

#[test]
fn the_time_stamp_counter_has_deadlines() {
    let mut apic = LocalApic::with_timer(DEADLINE_MODE | 0xec);
    apic.set_time(at(1_000));
    apic.write_msr(TSC_DEADLINE, 3_301).unwrap();
    assert_eq!(apic.read_msr(TSC_DEADLINE), Ok(3_301));
    assert_eq!(apic.deadline(), Some(ns(1_101)), "not before it");
    apic.set_time(at(1_100));
    assert!(!apic.fired());
    apic.set_time(at(1_101));
    assert!(apic.fired());
    assert_eq!(apic.read_msr(TSC_DEADLINE), Ok(0));
    assert_eq!(apic.deadline(), None);
}

#[test]
fn a_deadline_that_has_passed_interrupts_at_once_and_zero_disarms() {
    let mut apic = LocalApic::with_timer(DEADLINE_MODE | 0xec);
    apic.set_time(at(1_000));
    apic.write_msr(TSC_DEADLINE, 1).unwrap();
    assert!(apic.fired());
    apic.write_msr(TSC_DEADLINE, 4_000).unwrap();
    apic.write_msr(TSC_DEADLINE, 0).unwrap();
    assert_eq!(apic.deadline(), None);
    apic.set_time(at(9_000));
    assert!(!apic.fired());
    apic.write_msr(TSC_DEADLINE, u64::MAX).unwrap();
    assert!(apic.deadline().is_some());
}

#[test]
fn counts_and_deadlines_do_not_mix() {
    let mut apic = LocalApic::with_timer(0xec);
    apic.write_msr(TSC_DEADLINE, 1).unwrap();
    assert_eq!(apic.read_msr(TSC_DEADLINE), Ok(0));
    assert!(!apic.fired());
    apic.put(INITIAL, 100);
    apic.put(LVT_TIMER, DEADLINE_MODE | 0xec);
    assert_eq!((apic.deadline(), apic.get(INITIAL)), (None, 0));
    apic.put(INITIAL, 100);
    assert_eq!((apic.get(INITIAL), apic.get(CURRENT)), (0, 0));
    apic.write_msr(TSC_DEADLINE, 3_000).unwrap();
    apic.put(LVT_TIMER, PERIODIC | 0xec);
    assert_eq!(apic.deadline(), None);
    apic.set_time(at(5_000));
    assert!(!apic.fired());
}

#[test]
fn a_count_goes_on_as_a_period() {
    let mut apic = LocalApic::with_timer(0xec);
    apic.put(INITIAL, 1_000_000);
    apic.put(LVT_TIMER, PERIODIC | 0xec);
    apic.set_time(at(1_000_000));
    assert!(apic.fired());
    assert_eq!(apic.deadline(), Some(ns(2_000_000)));
}

#[test]
fn init_stops_it() {
    let mut apic = LocalApic::with_timer(PERIODIC | 0xec);
    apic.put(INITIAL, 1_000_000);
    apic.accept(&message(DeliveryMode::Init, 0, false));
    assert_eq!(apic.deadline(), None);
}

#[test]
fn the_oddest_clocks_and_times_are_survived() {
    for hz in [1, 3, 999_999_999, u64::MAX] {
        let hz = NonZeroU64::new(hz).unwrap();
        let clock = ApicClock {
            bus_hz: hz,
            tsc_hz: hz,
        };
        for mode in [0, PERIODIC, DEADLINE_MODE] {
            let mut apic = LocalApic::new(0, clock);
            apic.put(SVR, 0x1ff);
            apic.put(LVT_TIMER, mode | 0xec);
            for (now, tsc) in [
                (Duration::ZERO, 0),
                (Duration::from_secs(1), u64::MAX),
                (Duration::MAX, 0),
                (Duration::MAX, u64::MAX),
            ] {
                apic.put(INITIAL, u32::MAX);
                apic.put(DIVIDE, 10);
                apic.write_msr(TSC_DEADLINE, u64::MAX).unwrap();
                apic.set_time(ApicTime { now, tsc });
                let _ = (apic.get(CURRENT), apic.deadline());
            }
        }
    }
}

proptest! {
    /// Asked when it says, and now and then in between, it interrupts at every multiple of its
    /// period and at nothing else.
    #[test]
    fn every_period_is_one_interrupt(
        count in 1_600_000..2_000_000u32,
        divide in 0..4u32,
        asks in prop::collection::vec(0..3_000_000u64, 1..60),
    ) {
        let mut apic = LocalApic::with_timer(PERIODIC | 0xec);
        apic.put(DIVIDE, divide);
        apic.put(INITIAL, count);
        let period = u64::from(count) << (divide + 1);
        let (mut now, mut interrupts) = (0, 0);
        for ask in asks {
            let due = u64::try_from(apic.deadline().unwrap().as_nanos()).unwrap();
            now = due.min(now + ask);
            apic.set_time(at(now));
            interrupts += u64::from(apic.fired());
            prop_assert_eq!(interrupts, now / period);
            let left = period - now % period;
            prop_assert_eq!(u64::from(apic.get(CURRENT)), left.div_ceil(1 << (divide + 1)));
        }
    }

    #[test]
    fn asked_at_its_deadline_it_interrupts(
        count in 1..=u32::MAX,
        hz in 1_000..10_000_000_000u64,
        start in 0..1_000_000_000_000u64,
        periodic in any::<bool>(),
    ) {
        let hz = NonZeroU64::new(hz).unwrap();
        let mut apic = LocalApic::new(1, ApicClock { bus_hz: hz, tsc_hz: hz });
        apic.put(SVR, 0x1ff);
        apic.put(DIVIDE, BY_1);
        apic.put(LVT_TIMER, 0xec | if periodic { PERIODIC } else { 0 });
        apic.set_time(at(start));
        apic.put(INITIAL, count);
        for _ in 0..3 {
            let Some(due) = apic.deadline() else {
                prop_assert!(!periodic);
                break;
            };
            let before = due.saturating_sub(ns(1));
            apic.set_time(ApicTime { now: before, tsc: 0 });
            // A nanosecond may be many counts.
            if hz.get() <= 1_000_000_000 && before > ns(start) {
                prop_assert!(!apic.fired());
            }
            apic.set_time(ApicTime { now: due, tsc: 0 });
            prop_assert!(apic.fired() || hz.get() > 1_000_000_000);
        }
    }
}

//! What Linux' driver does with the watchdog, and what a hostile guest may try.

use super::*;
use alloc::rc::Rc;
use core::cell::Cell;

/// A watchdog and its clock, in milliseconds.
struct Bench {
    clock: Rc<Cell<u64>>,
    chip: I6300esb<alloc::boxed::Box<dyn FnMut() -> Duration>>,
}

impl Bench {
    fn new() -> Self {
        let clock = Rc::new(Cell::new(5));
        let hand = Rc::clone(&clock);
        let now = alloc::boxed::Box::new(move || Duration::from_millis(hand.get()));
        Self {
            clock,
            chip: I6300esb::new(now),
        }
    }

    fn unlock(&mut self) {
        self.chip.bar_write(RELOAD, &[0x80, 0]);
        self.chip.bar_write(RELOAD, &[0x86, 0]);
    }

    fn reload(&mut self, bits: u16) {
        self.unlock();
        self.chip.bar_write(RELOAD, &bits.to_le_bytes());
    }

    /// `esb_initdevice`, `esb_timer_set_heartbeat` and `esb_timer_start` of Linux' driver.
    fn start(&mut self, seconds: u32) {
        self.chip.config_write(CONFIG, &3_u16.to_le_bytes());
        self.chip.config_write(LOCK, &[0]);
        self.reload(0x300);
        for timer in [TIMER_1, TIMER_2] {
            self.unlock();
            self.chip.bar_write(timer, &(seconds << 9).to_le_bytes());
        }
        self.reload(0x100);
        self.chip.config_write(LOCK, &[2]);
    }

    /// Whether it has fired after so many more milliseconds.
    fn after(&mut self, milliseconds: u64) -> bool {
        self.clock.set(self.clock.get() + milliseconds);
        self.chip.has_fired()
    }

    fn has_fired_before(&self) -> bool {
        let mut word = [0xff; 2];
        self.chip.bar_read(RELOAD, &mut word);
        u16::from_le_bytes(word) & 0x200 != 0
    }
}

#[test]
fn a_watchdog_that_nobody_feeds_fires_after_both_times() {
    let mut bench = Bench::new();
    bench.start(30);
    let half = bench.chip.due_in().unwrap().as_millis();
    assert!((15_000..15_400).contains(&half), "{half}");
    assert!(!bench.after(15_400));
    let rest = bench.chip.due_in().unwrap().as_millis();
    assert!((14_900..15_300).contains(&rest), "{rest}");
    assert!(!bench.after(14_500));
    assert!(bench.after(1_000));
    assert!(bench.has_fired_before());
    assert_eq!(bench.chip.due_in(), None);
}

#[test]
fn whoever_asks_late_finds_that_it_has_fired() {
    let mut bench = Bench::new();
    bench.start(1);
    assert!(bench.after(1_000_000));
    assert!(!bench.after(1_000_000));
}

#[test]
fn a_watchdog_that_is_fed_does_not_fire() {
    let mut bench = Bench::new();
    bench.start(2);
    for _ in 0..100 {
        assert!(!bench.after(1_900));
        bench.reload(0x100);
    }
    assert!(!bench.has_fired_before());
}

#[test]
fn a_watchdog_that_is_turned_off_does_not_fire() {
    let mut bench = Bench::new();
    bench.start(2);
    bench.chip.config_write(LOCK, &[0]);
    assert!(!bench.after(1_000_000));
    assert_eq!(bench.chip.due_in(), None);
    bench.reload(0x100);
    assert_eq!(bench.chip.due_in(), None);
}

#[test]
fn a_locked_watchdog_stays_on_until_reset() {
    let mut bench = Bench::new();
    bench.start(2);
    bench.chip.config_write(LOCK, &[3]);
    bench.chip.config_write(LOCK, &[0]);
    let mut lock = [0];
    bench.chip.config_read(LOCK, &mut lock);
    assert_eq!(lock, [3]);
    assert!(bench.after(10_000));
}

#[test]
fn without_the_key_nothing_is_written() {
    let mut bench = Bench::new();
    bench.start(2);
    bench.after(1_900);
    bench.chip.bar_write(RELOAD, &[0, 1]);
    bench.chip.bar_write(RELOAD, &[0x86, 0]);
    bench.chip.bar_write(RELOAD, &[0, 1]);
    bench.chip.bar_write(TIMER_2, &[0xff; 4]);
    assert!(bench.after(500));
}

#[test]
fn a_driver_learns_once_that_it_has_fired() {
    let mut bench = Bench::new();
    bench.start(1);
    assert!(bench.after(5_000));
    bench.chip.reset();
    assert!(bench.has_fired_before());
    bench.reload(0x300);
    assert!(!bench.has_fired_before());
}

#[test]
fn one_that_resets_nothing_counts_anew_where_it_runs_free() {
    let mut bench = Bench::new();
    bench.start(1);
    bench.chip.config_write(CONFIG, &0x23_u16.to_le_bytes());
    bench.chip.config_write(LOCK, &[6]);
    assert!(!bench.after(1_100));
    assert!(bench.chip.due_in().is_some());
    bench.chip.config_write(LOCK, &[2]);
    assert!(!bench.after(5_000));
    assert_eq!(bench.chip.due_in(), None);
}

#[test]
fn the_function_is_found_and_its_registers_placed() {
    let mut bench = Bench::new();
    let mut id = [0; 4];
    bench.chip.config_read(0, &mut id);
    assert_eq!(id, [0x86, 0x80, 0xab, 0x25]);
    bench
        .chip
        .config_write(0x10, &0xc000_1000_u32.to_le_bytes());
    bench.chip.config_write(4, &[2, 0]);
    let bar = bench.chip.bar().unwrap();
    assert_eq!((bar.start().get(), bar.len()), (0xc000_1000, 16));
}

#[test]
fn every_access_is_survived() {
    let mut bench = Bench::new();
    for offset in 0..0x110_u16 {
        for width in [0, 1, 2, 3, 4, 8, 16] {
            for value in [0, 0x80, 0x86, 0xff] {
                let mut data = [value; 16];
                bench.chip.config_write(offset, &data[..width]);
                bench.chip.bar_write(offset.into(), &data[..width]);
                bench.chip.config_read(offset, &mut data[..width]);
                bench.chip.bar_read(offset.into(), &mut data[..width]);
                bench.after(100_000_000);
                let _ = bench.chip.due_in();
            }
        }
    }
}

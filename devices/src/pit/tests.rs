use super::*;
use crate::Chip;
use crate::chip::tests::survives_every_access;
use core::cell::Cell;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// A timer whose time is what the test says.
fn timer(time: &Cell<Duration>) -> Pit<impl FnMut() -> Duration> {
    Pit::new(|| time.get())
}

fn write(pit: &mut impl Chip, bytes: &[(u64, u8)]) {
    for &(offset, byte) in bytes {
        pit.write(offset, &[byte]);
    }
}

fn read(pit: &mut impl Chip, offset: u64) -> u8 {
    let mut data = [0];
    pit.read(offset, &mut data);
    data[0]
}

fn read_count(pit: &mut impl Chip, counter: u64) -> u16 {
    u16::from_le_bytes([read(pit, counter), read(pit, counter)])
}

/// Counter 0 in a mode, by both bytes.
fn program(mode: u8, count: u16) -> [(u64, u8); 3] {
    let [low, high] = count.to_le_bytes();
    [(3, 0x30 | mode << 1), (0, low), (0, high)]
}

#[test]
fn linux_has_250_ticks_a_second_without_drift() {
    let time = Cell::new(Duration::from_nanos(123));
    let mut pit = timer(&time);
    // PIT_LATCH for HZ=250.
    write(&mut pit, &program(2, 4773));
    let mut ticks = 0;
    while let Some(wait) = pit.tick_in().filter(|_| ticks < 250_000) {
        time.set(time.get() + wait);
        assert_eq!(pit.take_ticks(), 1);
        ticks += 1;
    }
    // 250000 periods of 4773 clocks.
    let expected = time_of(clocks_in(Duration::from_nanos(123)) + 250_000 * 4773);
    assert_eq!(time.get(), expected);
    assert_eq!(pit.take_ticks(), 0);
}

#[test]
fn ticks_that_nobody_asked_for_are_counted_and_none_is_counted_twice() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &program(3, 11_932));
    time.set(SECOND);
    assert_eq!(pit.take_ticks(), 99);
    assert_eq!(pit.take_ticks(), 0);
}

#[test]
fn a_new_count_waits_for_the_end_of_the_period() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &program(2, 1000));
    time.set(time_of(2500));
    assert_eq!(pit.take_ticks(), 2);
    write(&mut pit, &[(0, 100), (0, 0)]);
    assert_eq!(pit.tick_in(), Some(time_of(3000) - time_of(2500)));
    time.set(time_of(3000));
    assert_eq!(pit.take_ticks(), 1);
    assert_eq!(pit.tick_in(), Some(time_of(3100) - time_of(3000)));
}

#[test]
fn one_shots_tick_once() {
    for (mode, clocks) in [(0, 500), (4, 501)] {
        let time = Cell::new(Duration::ZERO);
        let mut pit = timer(&time);
        write(&mut pit, &program(mode, 500));
        assert_eq!(pit.tick_in(), Some(time_of(clocks)), "mode {mode}");
        time.set(time_of(clocks));
        assert_eq!(pit.take_ticks(), 1);
        assert_eq!(pit.tick_in(), None);
        time.set(SECOND);
        assert_eq!(pit.take_ticks(), 0);
        // The next one.
        write(&mut pit, &[(0, 10), (0, 0)]);
        time.set(SECOND * 2);
        assert_eq!(pit.take_ticks(), 1);
    }
}

#[test]
fn the_first_byte_of_a_count_stops_a_counter_in_mode_0() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &program(0, 500));
    write(&mut pit, &[(0, 10)]);
    time.set(SECOND);
    assert_eq!((pit.take_ticks(), pit.tick_in()), (0, None));
}

#[test]
fn kernels_calibrate_by_the_third_counter_and_its_gate() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    // As in Linux: gate on, speaker off; mode 0; wait until the output is high.
    write(&mut pit, &[(SPEAKER, 1), (3, 0xb0), (2, 0x9c), (2, 0x2e)]);
    assert_eq!(read(&mut pit, SPEAKER) & 0b10_0011, 1);
    time.set(time_of(0x2e9c - 1));
    assert_eq!(read(&mut pit, SPEAKER) & OUTPUT, 0);
    assert_eq!(read_count(&mut pit, 2), 1);
    time.set(time_of(0x2e9c));
    assert_eq!(read(&mut pit, SPEAKER) & OUTPUT, OUTPUT);
    // It goes on counting from the top.
    time.set(time_of(0x2e9c + 0x10));
    assert_eq!(read_count(&mut pit, 2), 0xfff0);
}

#[test]
fn a_low_gate_holds_the_count() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &[(SPEAKER, 1), (3, 0xb0), (2, 0xe8), (2, 3)]);
    time.set(time_of(400));
    write(&mut pit, &[(SPEAKER, 0)]);
    time.set(time_of(4000));
    assert_eq!(read_count(&mut pit, 2), 600);
    write(&mut pit, &[(SPEAKER, 1)]);
    time.set(time_of(4599));
    assert_eq!(read(&mut pit, SPEAKER) & OUTPUT, 0);
    time.set(time_of(4600));
    assert_eq!(read(&mut pit, SPEAKER) & OUTPUT, OUTPUT);
}

#[test]
fn a_gate_that_rises_starts_the_modes_that_wait_for_it() {
    for (mode, end) in [(1, 1000), (5, 1001)] {
        let time = Cell::new(Duration::ZERO);
        let mut pit = timer(&time);
        write(&mut pit, &[(3, 0xb0 | mode << 1), (2, 0xe8), (2, 3)]);
        time.set(time_of(5000));
        assert_eq!(read(&mut pit, SPEAKER) & OUTPUT, OUTPUT, "mode {mode}");
        write(&mut pit, &[(SPEAKER, 1)]);
        time.set(time_of(5000 + 1000));
        let at_end = read(&mut pit, SPEAKER) & OUTPUT;
        assert_eq!(at_end != 0, mode == 1);
        time.set(time_of(5000 + end));
        assert_eq!(read(&mut pit, SPEAKER) & OUTPUT, OUTPUT);
    }
}

#[test]
fn a_latched_count_stays_until_both_bytes_are_read() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &program(2, 0x1234));
    time.set(time_of(0x34));
    write(&mut pit, &[(3, 0)]);
    time.set(time_of(0x200));
    // A second latch before the first was read is ignored.
    write(&mut pit, &[(3, 0)]);
    assert_eq!(read_count(&mut pit, 0), 0x1200);
    assert_eq!(read_count(&mut pit, 0), 0x1034);
}

#[test]
fn the_read_back_command_gives_status_before_count() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &[(3, 0x34)]);
    write(&mut pit, &[(3, 0xe2)]);
    // Output high, no count yet, both bytes, mode 2.
    assert_eq!(read(&mut pit, 0), 0b1111_0100);
    write(&mut pit, &[(0, 0), (0, 1), (3, 0xc2)]);
    assert_eq!(read(&mut pit, 0), 0b1011_0100);
    assert_eq!(read_count(&mut pit, 0), 0x100);
}

#[test]
fn counts_in_decimal_are_decimal() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &[(3, 0x35), (0, 0x00), (0, 0x10)]);
    assert_eq!(pit.tick_in(), Some(time_of(1000)));
    time.set(time_of(1));
    assert_eq!(read_count(&mut pit, 0), 0x999);
}

#[test]
fn a_square_wave_is_high_for_the_longer_half_and_counts_by_two() {
    let time = Cell::new(Duration::ZERO);
    let mut pit = timer(&time);
    write(&mut pit, &[(SPEAKER, 1), (3, 0xb6), (2, 5), (2, 0)]);
    let levels = [0, 1, 2, 3, 4, 5].map(|clock| {
        time.set(time_of(clock));
        read(&mut pit, SPEAKER) & OUTPUT != 0
    });
    assert_eq!(levels, [true, true, true, false, false, true]);
    write(&mut pit, &[(3, 0xb6), (2, 100), (2, 0)]);
    let start = time.get();
    time.set(start + time_of(10));
    assert_eq!(read_count(&mut pit, 2), 80);
}

#[test]
fn every_access_is_survived() {
    let time = Cell::new(SECOND);
    survives_every_access(&mut timer(&time), Pit::<fn() -> Duration>::PORTS);
}

proptest! {
    /// Whatever is written when, as many ticks come as there is room for, and the next one is never past.
    #[test]
    fn no_program_stops_time(
        accesses in prop::collection::vec((0..4_u64, any::<u8>(), 0..2_000_000_u64), 1..60)
    ) {
        let time = Cell::new(Duration::ZERO);
        let mut pit = timer(&time);
        for (offset, byte, wait) in accesses {
            write(&mut pit, &[(offset, byte)]);
            time.set(time.get() + Duration::from_nanos(wait));
            read(&mut pit, offset);
            let most = clocks_in(Duration::from_nanos(wait)) + 1;
            prop_assert!(u128::from(pit.take_ticks()) <= most);
            if let Some(wait) = pit.tick_in() {
                let next = clocks_in(time.get() + wait);
                prop_assert!(next > clocks_in(time.get()));
                prop_assert!(next <= clocks_in(time.get()) + (1 << 16) + 1);
            }
        }
    }
}

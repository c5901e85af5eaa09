use super::*;
use crate::chip::tests::survives_every_access;
use core::cell::Cell;

/// 2026-11-21 23:59:58 UTC, a Saturday.
const LATE: UnixTime = UnixTime::from_secs(1_795_305_598);

fn get(cmos: &mut Cmos<impl FnMut() -> UnixTime>, index: u8) -> u8 {
    cmos.write_byte(0, index);
    cmos.read_byte(1)
}

#[test]
fn the_time_is_told_in_bcd_and_24_hours_first() {
    let mut cmos = Cmos::new(|| LATE);
    let fields = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32];
    let told = fields.map(|index| get(&mut cmos, index));
    assert_eq!(told, [0x58, 0x59, 0x23, 0x07, 0x21, 0x11, 0x26, 0x20]);
}

#[test]
fn register_b_asks_for_binary_and_for_12_hours() {
    let mut cmos = Cmos::new(|| LATE);
    cmos.write_byte(0, 0x0b);
    cmos.write_byte(1, StatusB::BINARY.bits());
    assert_eq!(get(&mut cmos, 0x00), 58);
    assert_eq!(get(&mut cmos, 0x04), PM | 11);
    assert_eq!(get(&mut cmos, 0x0b), StatusB::BINARY.bits());
    let mut midnight = Cmos::new(|| UnixTime::from_secs(0));
    midnight.write_byte(0, 0x0b);
    midnight.write_byte(1, 0);
    assert_eq!(get(&mut midnight, 0x04), 0x12);
}

#[test]
fn fields_read_across_the_end_of_a_second_belong_together() {
    let now = Cell::new(UnixTime::from_secs(LATE.secs() + 1));
    let mut cmos = Cmos::new(|| now.get());
    assert_eq!(get(&mut cmos, 0x00), 0x59);
    now.set(UnixTime::from_secs(LATE.secs() + 2));
    assert_eq!(get(&mut cmos, 0x02), 0x59);
    assert_eq!(get(&mut cmos, 0x07), 0x21);
    assert_eq!(get(&mut cmos, 0x00), 0x00);
    assert_eq!(get(&mut cmos, 0x02), 0x00);
    assert_eq!(get(&mut cmos, 0x07), 0x22);
}

#[test]
fn a_field_read_later_is_of_that_time() {
    let now = Cell::new(LATE);
    let mut cmos = Cmos::new(|| now.get());
    assert_eq!(get(&mut cmos, 0x02), 0x59);
    now.set(UnixTime::from_secs(LATE.secs() + 60));
    assert_eq!(get(&mut cmos, 0x02), 0x00);
    // The host's clock can be set back.
    now.set(LATE);
    assert_eq!(get(&mut cmos, 0x02), 0x59);
}

#[test]
fn a_kernel_that_probes_never_waits() {
    let mut cmos = Cmos::new(|| LATE);
    for _ in 0..100 {
        assert_eq!(get(&mut cmos, 0x0a) & 0x80, 0, "no update in progress");
    }
    assert_eq!(get(&mut cmos, 0x0c), 0, "no interrupt pending");
    assert_eq!(get(&mut cmos, 0x0d), 0x80, "valid memory and time");
}

#[test]
fn memory_is_kept_and_the_time_cannot_be_set() {
    let mut cmos = Cmos::new(|| LATE);
    for (index, value) in [(0x0f, 0x05), (0x7f, 0xaa), (0x00, 0x11), (0x32, 0x99)] {
        cmos.write_byte(0, index);
        cmos.write_byte(1, value);
    }
    assert_eq!(get(&mut cmos, 0x0f), 0x05);
    assert_eq!(get(&mut cmos, 0x7f | 0x80), 0xaa, "bit 7 masks the NMI");
    assert_eq!(get(&mut cmos, 0x00), 0x58);
    assert_eq!(get(&mut cmos, 0x32), 0x20);
}

#[test]
fn every_access_is_survived() {
    for index in 0..=u8::MAX {
        let mut cmos = Cmos::new(|| UnixTime::from_secs(u64::MAX));
        cmos.write_byte(0, index);
        survives_every_access(&mut cmos, 2);
    }
}

use super::*;
use core::cell::RefCell;

type Log = RefCell<Vec<(u64, Vec<u8>)>>;

fn two_neighbours_and_one_apart() -> Bus<Log> {
    let mut bus = Bus::new();
    bus.attach(0x74, 2, Log::default()).unwrap();
    bus.attach(0x70, 2, Log::default()).unwrap();
    bus.attach(0x72, 2, Log::default()).unwrap();
    bus.attach(0x80, 1, Log::default()).unwrap();
    bus
}

fn write(bus: &Bus<Log>, at: u64, data: &[u8]) -> Option<u64> {
    bus.write(at, data, |log, offset, data| {
        log.borrow_mut().push((offset, data.into()));
        Some(offset)
    })
}

fn read(bus: &Bus<Log>, at: u64, data: &mut [u8]) {
    bus.read(at, data, |_, offset, data| {
        data.fill(u8::try_from(offset).unwrap());
    });
}

#[test]
fn no_address_has_two_chips() {
    let mut bus = two_neighbours_and_one_apart();
    for (at, len) in [
        (0x6f, 2),
        (0x71, 1),
        (0x70, 0x20),
        (0x7f, 2),
        (0, u64::MAX),
        (u64::MAX, 2),
        (0x100, 0),
    ] {
        let refused = bus.attach(at, len, Log::default());
        assert_eq!(refused, Err(Overlap { at, len }));
    }
    bus.attach(u64::MAX, 1, Log::default()).unwrap();
    bus.attach(0x76, 0xa, Log::default()).unwrap();
}

#[test]
fn what_nobody_claims_reads_all_ones_and_drops_writes() {
    let bus = two_neighbours_and_one_apart();
    let mut data = [0; 8];
    read(&bus, 0x90, &mut data);
    assert_eq!(data, [0xff; 8]);
    assert_eq!(write(&bus, 0x90, &data), None);
    read(&bus, u64::MAX, &mut data);
    assert_eq!(data, [0xff; 8]);
}

#[test]
fn an_access_across_borders_is_divided_there() {
    let bus = two_neighbours_and_one_apart();
    let mut data = [0x55; 8];
    read(&bus, 0x6f, &mut data);
    assert_eq!(data, [0xff, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(write(&bus, 0x71, &[1, 2, 3, 4]), Some(1));
    let of = |index: usize| bus.slots[index].chip.borrow().clone();
    assert_eq!(of(0), [(1, [1].to_vec())]);
    assert_eq!(of(1), [(0, [2, 3].to_vec())]);
    assert_eq!(of(2), [(0, [4].to_vec())]);
}

#[test]
fn a_gap_inside_an_access_reads_all_ones() {
    let bus = two_neighbours_and_one_apart();
    let mut data = [0; 16];
    read(&bus, 0x75, &mut data);
    assert_eq!(data[0], 1);
    assert_eq!(data[1..11], [0xff; 10]);
    assert_eq!(data[11], 0);
    assert_eq!(data[12..], [0xff; 4]);
}

//! What a driver can get wrong in a packed ring only.

use super::*;

/// A ring of 4 at 0x1000; the driver's event suppression is at 0x1040, the device's at 0x1044.
fn rig() -> Rig {
    Rig::new(&setup(Layout::Packed, 4))
}

const NEXT: u16 = 1;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

fn descriptor(ram: &Ram, index: u64, id: u16, flags: u16) {
    ram.put_u64(0x1000 + 16 * index, 0x8000);
    let rest = 1 | u64::from(id) << 32 | u64::from(flags) << 48;
    ram.put_u64(0x1008 + 16 * index, rest);
}

#[test]
fn only_a_descriptor_of_this_round_is_available() {
    for (flags, is_available) in [
        (0, false),
        (AVAILABLE, true),
        (USED, false),
        (AVAILABLE | USED, false),
        (0x7f78 | AVAILABLE, true),
        (0x7f7f & !AVAILABLE, false),
    ] {
        let mut rig = rig();
        descriptor(&rig.ram, 0, 0, flags);
        let listened = rig.queue.listen(&rig.ram);
        assert_eq!(listened, Ok(is_available), "{flags:#x}");
        assert_eq!(rig.pop(), Ok(is_available), "{flags:#x}");
    }
}

#[test]
fn in_the_second_round_the_bits_are_the_other_way_round() {
    for (flags, is_available) in [
        (0, false),
        (AVAILABLE, false),
        (USED, true),
        (AVAILABLE | USED, false),
    ] {
        let mut rig = rig();
        for _ in 0..4 {
            rig.serve_one();
        }
        descriptor(&rig.ram, 0, 0, flags);
        assert_eq!(rig.pop(), Ok(is_available), "{flags:#x}");
    }
}

#[test]
fn a_chain_without_an_end_breaks_the_queue() {
    let mut rig = rig();
    for index in 0..4 {
        descriptor(&rig.ram, index, 0, AVAILABLE | NEXT);
    }
    assert_eq!(rig.pop(), Err(QueueError::ChainLength { most: 4 }));
}

#[test]
fn a_request_is_known_by_the_number_in_its_last_descriptor() {
    let mut rig = rig();
    descriptor(&rig.ram, 0, 0x1111, AVAILABLE | NEXT);
    descriptor(&rig.ram, 1, 0xffff, AVAILABLE);
    assert_eq!(rig.pop(), Ok(true));
    rig.push(rig.chain.token(), 0);
    let used = rig.ram.bytes(Gpa::new(0x1008), 8);
    assert_eq!(used, [0, 0, 0, 0, 0xff, 0xff, 0x80, 0x80]);
}

#[test]
fn a_request_that_comes_twice_breaks_the_queue() {
    let mut rig = rig();
    descriptor(&rig.ram, 0, 7, AVAILABLE);
    descriptor(&rig.ram, 1, 7, AVAILABLE);
    assert_eq!(rig.pop(), Ok(true));
    assert_eq!(rig.pop(), Err(QueueError::UnderWay { id: 7 }));
}

#[test]
fn a_round_that_overtakes_the_device_breaks_the_queue() {
    let mut rig = rig();
    for index in 0..4 {
        descriptor(&rig.ram, index, u16::try_from(index).unwrap(), AVAILABLE);
        assert_eq!(rig.pop(), Ok(true));
    }
    descriptor(&rig.ram, 0, 4, USED);
    let error = QueueError::TooManyUnderWay { size: 4 };
    assert_eq!(rig.pop(), Err(error));
}

#[test]
fn a_table_longer_than_the_queue_breaks_it() {
    let mut rig = Rig::new(&QueueSetup {
        indirect: true,
        ..setup(Layout::Packed, 4)
    });
    descriptor(&rig.ram, 0, 0, AVAILABLE | 4);
    rig.ram.put_u16(0x1008, 16 * 5);
    assert_eq!(rig.pop(), Err(QueueError::ChainLength { most: 4 }));
}

#[test]
fn in_a_table_only_whether_a_buffer_is_written_counts() {
    let mut rig = Rig::new(&QueueSetup {
        indirect: true,
        ..setup(Layout::Packed, 4)
    });
    descriptor(&rig.ram, 0, 3, AVAILABLE | 4);
    rig.ram.put_u16(0x1008, 16);
    rig.ram.put_u64(0x8000, 0x9000);
    rig.ram.put_u64(0x8008, 2 | 0xffff << 48 | 0xeeee << 32);
    assert_eq!(rig.pop(), Ok(true));
    assert_eq!(rig.chain.writable(), [range(0x9000, 2)]);
    assert_eq!(rig.chain.token().id, 3);
}

#[test]
fn garbage_in_the_drivers_wish_means_an_interrupt() {
    for event_idx in [false, true] {
        // The place is none, or the wish is reserved.
        for (place, wish) in [(4, 2), (0x7fff, 2), (0xffff, 2), (0, 3), (9, 0xfffc)] {
            let mut rig = Rig::new(&QueueSetup {
                event_idx,
                ..setup(Layout::Packed, 4)
            });
            rig.ram.put_u16(0x1040, place);
            rig.ram.put_u16(0x1042, wish);
            rig.serve_one();
            assert!(rig.wants_interrupt());
            assert!(!rig.wants_interrupt());
        }
    }
}

#[test]
fn a_place_that_was_not_negotiated_is_not_waited_for() {
    for event_idx in [false, true] {
        let mut rig = Rig::new(&QueueSetup {
            event_idx,
            ..setup(Layout::Packed, 4)
        });
        rig.ram.put_u16(0x1040, 0x8002);
        rig.ram.put_u16(0x1042, 2);
        rig.serve_one();
        assert_eq!(rig.wants_interrupt(), !event_idx);
    }
}

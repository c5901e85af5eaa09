//! What a driver can get wrong in a split ring only.

use super::*;

/// A ring of 4 at 0x1000: the available ring is at 0x1040, the used one at 0x1050.
fn rig() -> Rig {
    Rig::new(&setup(Layout::Split, 4))
}

const AVAILABLE: u64 = 0x1040;

fn descriptor(ram: &Ram, index: u64, flags: u16, next: u16) {
    ram.put_u64(0x1000 + 16 * index, 0x8000);
    let rest = 1 | u64::from(flags) << 32 | u64::from(next) << 48;
    ram.put_u64(0x1008 + 16 * index, rest);
}

fn make_available(ram: &Ram, heads: &[u16]) {
    for (&head, slot) in heads.iter().zip(0..) {
        ram.put_u16(AVAILABLE + 4 + 2 * slot, head);
    }
    ram.put_u16(AVAILABLE + 2, u16::try_from(heads.len()).unwrap());
}

#[test]
fn an_index_too_far_ahead_breaks_the_queue() {
    for index in [5, 6, 0x7fff, 0x8000, 0xffff] {
        let mut rig = rig();
        rig.ram.put_u16(AVAILABLE + 2, index);
        let error = QueueError::AvailableIndex {
            index,
            next: 0,
            size: 4,
        };
        assert_eq!(rig.pop(), Err(error));
        let mut rig = self::rig();
        rig.ram.put_u16(AVAILABLE + 2, index);
        assert_eq!(rig.queue.listen(&rig.ram), Err(error));
    }
}

#[test]
fn an_index_that_goes_back_breaks_the_queue() {
    let mut rig = rig();
    for _ in 0..3 {
        rig.serve_one();
    }
    rig.ram.put_u16(AVAILABLE + 2, 2);
    let error = QueueError::AvailableIndex {
        index: 2,
        next: 3,
        size: 4,
    };
    assert_eq!(rig.pop(), Err(error));
}

#[test]
fn a_descriptor_that_is_none_breaks_the_queue() {
    for index in [4, 5, 0xffff] {
        let error = QueueError::Index {
            index: index.into(),
            len: 4,
        };
        let mut rig = rig();
        make_available(&rig.ram, &[index]);
        assert_eq!(rig.pop(), Err(error));
        let mut rig = self::rig();
        descriptor(&rig.ram, 0, 1, index);
        make_available(&rig.ram, &[0]);
        assert_eq!(rig.pop(), Err(error));
    }
}

#[test]
fn a_chain_without_an_end_breaks_the_queue() {
    for next in 0..4 {
        let mut rig = rig();
        for index in 0..3 {
            descriptor(&rig.ram, index, 1, u16::try_from(index + 1).unwrap());
        }
        descriptor(&rig.ram, 3, 1, next);
        make_available(&rig.ram, &[0]);
        let error = QueueError::ChainLength { most: 4 };
        assert_eq!(rig.pop(), Err(error));
    }
}

#[test]
fn a_table_without_an_end_breaks_the_queue() {
    let mut rig = Rig::new(&QueueSetup {
        indirect: true,
        ..setup(Layout::Split, 4)
    });
    descriptor(&rig.ram, 0, 4, 0);
    rig.ram.put_u16(0x1008, 32);
    rig.ram.put_u64(0x8008, 1 << 32 | 1 << 48);
    rig.ram.put_u64(0x8018, 1 << 32);
    make_available(&rig.ram, &[0]);
    assert_eq!(rig.pop(), Err(QueueError::ChainLength { most: 4 }));
}

#[test]
fn a_table_leads_to_its_own_descriptors_only() {
    let mut rig = Rig::new(&QueueSetup {
        indirect: true,
        ..setup(Layout::Split, 4)
    });
    descriptor(&rig.ram, 0, 4, 0);
    rig.ram.put_u16(0x1008, 32);
    rig.ram.put_u64(0x8008, 1 << 32 | 2 << 48);
    make_available(&rig.ram, &[0]);
    assert_eq!(rig.pop(), Err(QueueError::Index { index: 2, len: 2 }));
}

#[test]
fn a_table_outside_memory_breaks_the_queue() {
    for at in [0xfff8, 0x1_0000, u64::MAX - 15, u64::MAX - 7] {
        let mut rig = Rig::new(&QueueSetup {
            indirect: true,
            ..setup(Layout::Split, 4)
        });
        descriptor(&rig.ram, 0, 4, 0);
        rig.ram.put_u64(0x1000, at);
        rig.ram.put_u16(0x1008, 16);
        make_available(&rig.ram, &[0]);
        let outside = OutsideRam {
            at: Gpa::new(at),
            len: 16,
        };
        assert_eq!(rig.pop(), Err(QueueError::BufferOutside(outside)));
    }
}

#[test]
fn a_request_that_comes_twice_breaks_the_queue() {
    let mut rig = rig();
    descriptor(&rig.ram, 2, 0, 0);
    make_available(&rig.ram, &[2, 2]);
    assert_eq!(rig.pop(), Ok(true));
    assert_eq!(rig.pop(), Err(QueueError::UnderWay { id: 2 }));
}

#[test]
fn a_malformed_request_is_taken_once_and_what_is_behind_it_never() {
    let mut rig = rig();
    descriptor(&rig.ram, 0, 0, 0);
    make_available(&rig.ram, &[0, 9, 1]);
    assert_eq!(rig.pop(), Ok(true));
    let token = rig.chain.token();
    let error = QueueError::Index { index: 9, len: 4 };
    assert_eq!(rig.pop(), Err(error));
    assert_eq!(rig.pop(), Err(error));
    assert_eq!(rig.queue.push(&rig.ram, token, 0), Err(error));
    let used = rig.ram.load_u16(Gpa::new(0x1052)).unwrap();
    assert_eq!(used, 0);
}

#[test]
fn a_used_ring_over_the_descriptors_harms_the_driver_only() {
    let ram = Ram::new(0x1_0000);
    let overlapping = QueueSetup {
        device: Gpa::new(0x1000),
        ..setup(Layout::Split, 4)
    };
    let mut queue = Queue::start(&overlapping, &ram).unwrap();
    let mut chain = Chain::new();
    for head in 0..4 {
        descriptor(&ram, head, 0, 0);
    }
    make_available(&ram, &[0, 1, 2, 3]);
    let mut came = 0;
    while let Ok(true) = queue.pop(&ram, &mut chain) {
        queue.push(&ram, chain.token(), u32::MAX).unwrap();
        came += 1;
    }
    assert!(came <= 4);
}

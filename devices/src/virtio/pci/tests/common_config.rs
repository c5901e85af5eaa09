//! The common configuration: what a driver may write when, and what it reads back.

use super::*;
use crate::virtio::{Layout, QueueSetup};

#[test]
fn a_driver_by_the_book_starts_its_queues() {
    let mut function = function();
    function.set(STATUS, 0_u8);
    assert_eq!(function.status(), 0);
    function.set(STATUS, 1_u8);
    function.set(STATUS, 3_u8);
    let mut offered = 0;
    for half in [0, 1_u32] {
        function.set(0x00, half);
        offered |= function.get(0x04, 4) << (32 * half);
    }
    assert_eq!(offered, 1 << 3 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 34);
    for (half, features) in [(0, 1 << 29), (1_u32, 1_u32)] {
        function.set(DRIVER_FEATURE_SELECT, half);
        function.set(DRIVER_FEATURE, features);
    }
    function.set(STATUS, 11_u8);
    assert_eq!((function.status(), function.get(0x12, 2)), (11, 2));
    function.select(1);
    assert_eq!(function.get(QUEUE_SIZE, 2), 64);
    assert_eq!(function.get(0x1e, 2), 1, "the doorbell");
    function.set(QUEUE_SIZE, 32_u16);
    for (index, at) in [(0, 0x1000), (1, 0x2000), (2, 0x3000_u32)] {
        function.set(QUEUE_DESCRIPTORS + 8 * index, at);
        function.set(QUEUE_DESCRIPTORS + 8 * index + 4, 5_u32);
    }
    function.set(QUEUE_ENABLE, 1_u16);
    assert_eq!(function.get(QUEUE_ENABLE, 2), 1);
    let setup = QueueSetup {
        size: 32,
        descriptors: Gpa::new(0x5_0000_1000),
        driver: Gpa::new(0x5_0000_2000),
        device: Gpa::new(0x5_0000_3000),
        layout: Layout::Split,
        event_idx: true,
        indirect: false,
    };
    let start = Start {
        features: 1 << 29 | 1 << 32,
        queues: [None, Some(setup)].into(),
    };
    assert_eq!(function.bar_write(STATUS, &[15]), Some(Event::Start(start)));
    assert_eq!(function.status(), 15);
}

#[test]
fn parts_of_a_register_are_read_and_written_as_such() {
    let mut function = function();
    function.set(QUEUE_DESCRIPTORS, 0x0807_0605_0403_0201_u64);
    assert_eq!(function.get(QUEUE_DESCRIPTORS + 3, 4), 0x0706_0504);
    function.set(QUEUE_DESCRIPTORS + 3, 0xbbaa_u16);
    assert_eq!(function.get(QUEUE_DESCRIPTORS, 8), 0x0807_06bb_aa03_0201);
    // Behind the last register.
    assert_eq!(function.get(0x3a, 4), 0xffff_0000);
    assert_eq!(function.bar_write(0x3c, &[1; 4]), None);
}

#[test]
fn a_queue_keeps_still_once_the_driver_is_ready() {
    for status in [0_u8, 1, 3, 11, 15] {
        for width in [1, 2, 3, 4, 8] {
            for value in [0_u8, 1, 2, 16, 0x7f, 0xff] {
                let mut function = in_status(status);
                let before = queues(&mut function);
                for at in (0..0x3c).filter(|at| at + width <= STATUS || *at > STATUS) {
                    let data = [value; 8];
                    let width = usize::try_from(width).unwrap();
                    assert_eq!(function.bar_write(at, &data[..width]), None);
                    function.select(0);
                }
                let kept = before == queues(&mut function);
                assert!(kept || status != 15, "{width} {value:#x}");
                assert_eq!(function.status(), u64::from(status));
            }
        }
    }
}

/// A function that a driver has brought so far.
fn in_status(status: u8) -> VirtioPci {
    if status == 15 {
        return running();
    }
    let mut function = function();
    function.set(DRIVER_FEATURE_SELECT, 1_u32);
    function.set(DRIVER_FEATURE, 1_u32);
    for step in [1, 3, 11] {
        if step <= status {
            function.set(STATUS, step);
        }
    }
    assert_eq!(function.status(), u64::from(status));
    function
}

#[test]
fn every_status_can_be_written_in_every_status() {
    for from in [0_u8, 1, 3, 11, 15] {
        for to in 0..=u8::MAX {
            let mut function = in_status(from);
            let event = function.bar_write(STATUS, &[to]);
            let after = u8::try_from(function.status()).unwrap();
            match event {
                Some(Event::Start(_)) => assert_eq!((from < 15, after & 4), (true, 4)),
                Some(Event::Stop) => assert_eq!((from, to, after), (15, 0, 15)),
                other => assert_eq!(other, None),
            }
            assert!(after & from == from || to == 0, "{from} {to} {after}");
            assert_eq!(after & 64, 0, "the device has not broken down");
        }
    }
}

#[test]
fn an_enabled_queue_cannot_be_disabled_by_a_zero() {
    let mut function = in_status(11);
    for value in [0_u16, 2, 0xffff] {
        function.set(QUEUE_ENABLE, value);
        assert_eq!(function.get(QUEUE_ENABLE, 2), 0);
    }
    function.set(QUEUE_ENABLE, 1_u16);
    function.set(QUEUE_ENABLE, 0_u16);
    assert_eq!(function.get(QUEUE_ENABLE, 2), 1);
}

#[test]
fn a_queue_that_there_is_not_has_no_size_and_takes_nothing() {
    let mut function = in_status(11);
    for queue in 0..=u16::MAX {
        function.select(queue);
        assert_eq!(function.get(QUEUE_SELECT, 2), u64::from(queue));
        function.set(QUEUE_VECTOR, 1_u16);
        function.set(QUEUE_SIZE, 8_u16);
        function.set(QUEUE_DESCRIPTORS, u64::MAX);
        function.set(QUEUE_ENABLE, 1_u16);
        let read = [QUEUE_SIZE, QUEUE_VECTOR, QUEUE_ENABLE, 0x1e].map(|at| function.get(at, 2));
        let wanted = match queue {
            0 | 1 => [8, 1, 1, queue.into()],
            _ => [0, 0xffff, 0, 0],
        };
        assert_eq!(read, wanted, "{queue:#x}");
        let address = function.get(QUEUE_DESCRIPTORS, 8);
        assert_eq!(address, if queue < 2 { u64::MAX } else { 0 });
    }
}

#[test]
fn a_vector_that_there_is_not_reads_back_as_none() {
    let mut function = in_status(11);
    for at in [CONFIG_VECTOR, QUEUE_VECTOR] {
        assert_eq!(function.get(at, 2), 0xffff);
        for vector in 0..=u16::MAX {
            function.set(at, vector);
            let wanted = if vector < 3 { vector } else { 0xffff };
            assert_eq!(function.get(at, 2), u64::from(wanted));
        }
    }
}

#[test]
fn a_reset_is_over_when_the_device_has_stopped() {
    let mut function = running();
    function.set(CONFIG_VECTOR, 2_u16);
    assert_eq!(function.bar_write(STATUS, &[0]), Some(Event::Stop));
    assert_eq!(function.bar_write(STATUS, &[0]), None);
    assert_eq!((function.status(), function.get(CONFIG_VECTOR, 2)), (15, 2));
    assert_eq!(function.bar_write(NOTIFY, &[0, 0]), None);
    function.stopped();
    assert_eq!(function.status(), 0);
    assert_eq!(function.get(CONFIG_VECTOR, 2), 0xffff);
    assert_eq!(function.get(QUEUE_VECTOR, 2), 0xffff);
    function.set(CONFIG_VECTOR, 1_u16);
    function.stopped();
    assert_eq!(function.get(CONFIG_VECTOR, 2), 1, "nothing was to stop");
}

#[test]
fn the_generation_changes_with_the_configuration() {
    let mut function = running();
    let before = function.get(0x15, 1);
    assert_eq!(function.configuration_changed(), Raised::Line(true));
    assert_ne!(function.get(0x15, 1), before);
    for _ in 0..0x200 {
        let _ = function.configuration_changed();
    }
}

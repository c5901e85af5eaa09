//! A balloon and a driver that fills it.

use super::*;
use crate::virtio::testing::Driver;
use firstlight_base::{Gpa, GuestMem};
use firstlight_devices::virtio::Cause;
use firstlight_devices::virtio::balloon::{DEFLATE, PAGE};

/// Where pages are that belong to no queue's requests under way: those of the last slots.
const FIRST: u64 = 0x20_0000;

fn world() -> (Driver, BalloonBackend) {
    let driver = Driver::new(5);
    for page in 0..10 {
        let at = Gpa::new(FIRST + page * PAGE);
        driver.memory.write(at, &[0xaa; 4096]).unwrap();
    }
    let changed = Arc::new(Bell::new().unwrap());
    (driver, BalloonBackend { changed })
}

/// Which of the ten pages still have what was in them.
fn kept(driver: &Driver) -> Vec<u64> {
    let is_kept = |page: &u64| {
        let mut bytes = [0; 4096];
        let at = Gpa::new(FIRST + page * PAGE);
        driver.memory.read(at, &mut bytes).unwrap();
        assert!(bytes == [0; 4096] || bytes == [0xaa; 4096]);
        bytes[0] != 0
    };
    (0..10).filter(is_kept).collect()
}

fn numbers(pages: &[u64]) -> Vec<u8> {
    let number = |page: &u64| u32::try_from(FIRST / PAGE + page).unwrap().to_le_bytes();
    pages.iter().flat_map(number).collect()
}

#[test]
fn pages_in_the_balloon_are_given_back_to_the_host() {
    let (mut driver, mut backend) = world();
    driver.request(INFLATE, &numbers(&[3, 2, 1, 7, 8, 5]), 0);
    driver.ring(&mut backend, INFLATE);
    assert_eq!(kept(&driver), [0, 4, 6, 9]);
    assert_eq!(driver.done(INFLATE), [b""]);
    driver.request(DEFLATE, &numbers(&[3, 4]), 0);
    driver.ring(&mut backend, DEFLATE);
    assert_eq!(driver.done(DEFLATE), [b""]);
    assert_eq!(kept(&driver), [0, 4, 6, 9]);
}

#[test]
fn pages_that_are_no_memory_are_passed_over() {
    let (mut driver, mut backend) = world();
    let mut pages = vec![0xff; 4];
    pages.extend(numbers(&[1]));
    pages.extend(0x0fff_ffffu32.to_le_bytes());
    pages.extend(numbers(&[2]));
    pages.extend([1, 2, 3]);
    driver.request(INFLATE, &pages, 0);
    driver.ring(&mut backend, INFLATE);
    assert_eq!(kept(&driver), [0, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn more_pages_than_are_looked_at_at_once_are_given_back() {
    let (mut driver, mut backend) = world();
    let mut pages = vec![0xff; 2 * NUMBERS];
    pages.extend(numbers(&[9]));
    driver.request(INFLATE, &pages, 0);
    driver.ring(&mut backend, INFLATE);
    assert_eq!(kept(&driver), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

/// The requests' room is what is reported, and of it the whole pages.
#[test]
fn memory_that_is_reported_free_is_given_back() {
    for queue in 2..5 {
        let (mut driver, mut backend) = world();
        driver.request(queue, &[], 3 * 4096 + 1);
        let at = driver.room_of_last(queue);
        driver.memory.write(at, &[0xaa; 4 * 4096]).unwrap();
        driver.ring(&mut backend, queue);
        let mut bytes = [0; 4 * 4096];
        driver.memory.read(at, &mut bytes).unwrap();
        assert!(bytes[..3 * 4096] == [0; 3 * 4096]);
        assert!(bytes[3 * 4096..] == [0xaa; 4096]);
    }
}

#[test]
fn the_driver_is_told_when_the_host_asks_for_more() {
    let (device, control) = balloon(1000).unwrap();
    let mut chip = device.chip;
    let (mut driver, mut backend) = world();
    backend.changed = Arc::clone(&control.changed);
    control.set_target(600);
    assert!(driver.wait(&mut backend, 0));
    assert_eq!(driver.interrupts.take(), [Cause::Configuration]);
    control.set_target(600);
    assert!(!driver.wait(&mut backend, 0));
    let mut data = [0; 8];
    chip.read_config(0, &mut data);
    assert_eq!(data, [0x58, 2, 0, 0, 0, 0, 0, 0]);
    chip.write_config(4, &[0xff; 4]);
    assert_eq!((control.target(), control.actual()), (600, 1000));
    chip.reset();
    assert_eq!(control.actual(), 0);
    assert_eq!(chip.queue_sizes().len(), 5);
}

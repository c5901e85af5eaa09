//! Memory that is a file.

use super::*;
use crate::virtio::testing::Driver;
use firstlight_base::{GIB, Gpa, GuestMem, MIB};
use std::fs;
use std::path::{Path, PathBuf};

const START: Gpa = Gpa::new(4 * GIB);
const ROOM: u64 = 2 * MIB;

fn file(len: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pmem.img");
    File::create(&path).unwrap().set_len(len).unwrap();
    (folder, path)
}

fn disk(path: &Path, readonly: bool) -> Disk {
    Disk {
        path: path.into(),
        readonly,
    }
}

fn place(len: u64) -> Option<GpaRange> {
    GpaRange::new(START, len)
}

/// The answer to a request of that type (virtio 1.2, section 5.19.6).
fn asked(device: &mut VirtioDevice, kind: u32) -> u32 {
    let mut driver = Driver::new(1);
    driver.request(0, &kind.to_le_bytes(), 4);
    device.backend.rung(0, &mut driver.io()).unwrap();
    let answer = driver.done(0).remove(0);
    u32::from_le_bytes(answer.try_into().unwrap())
}

#[test]
fn what_is_written_is_in_the_file_and_a_flush_says_so() {
    let (_folder, path) = file(ROOM);
    fs::write(&path, vec![7; 2 << 20]).unwrap();
    let (mut device, mapped) = pmem(&disk(&path, false), 0, place(ROOM)).unwrap();
    let mut memory = GuestMemory::allocate(&[], Backing::Private).unwrap();
    mapped.add_to(&mut memory).unwrap();
    let mut byte = [0];
    memory
        .read(START.checked_add(ROOM - 1).unwrap(), &mut byte)
        .unwrap();
    assert_eq!(byte, [7]);
    memory.write(START, b"kept").unwrap();
    assert_eq!(asked(&mut device, 0), 0);
    assert_eq!(fs::read(&path).unwrap()[..5], *b"kept\x07");
    assert_eq!(asked(&mut device, 1), 1);
}

#[test]
fn one_that_is_only_read_stays_as_it_is_and_no_flush_says_otherwise() {
    let (_folder, path) = file(0);
    fs::write(&path, [7; 5000]).unwrap();
    let (mut device, mapped) = pmem(&disk(&path, true), 0, place(ROOM)).unwrap();
    let mut memory = GuestMemory::allocate(&[], Backing::Private).unwrap();
    mapped.add_to(&mut memory).unwrap();
    let mut bytes = [1; 2];
    memory
        .read(START.checked_add(4999).unwrap(), &mut bytes)
        .unwrap();
    assert_eq!(bytes, [7, 0]);
    memory
        .read(START.checked_add(ROOM - 2).unwrap(), &mut bytes)
        .unwrap();
    assert_eq!(bytes, [0, 0]);
    memory.write(START, b"lost").unwrap();
    assert_eq!(asked(&mut device, 0), 1);
    assert_eq!(fs::read(&path).unwrap(), [7; 5000]);
}

#[test]
fn one_that_is_written_has_whole_subsections_and_one_that_is_read_any_bytes() {
    for len in [1, MIB, ROOM + 4096, 3 * MIB] {
        let (_folder, path) = file(len);
        let refused = room(&disk(&path, false)).unwrap_err();
        assert!(refused.is_usage());
        assert!(refused.to_string().contains(&format!("has {len} bytes")));
        let room = room(&disk(&path, true)).unwrap();
        assert_eq!(room, len.next_multiple_of(ROOM));
    }
    let (_folder, path) = file(2 * ROOM);
    assert_eq!(room(&disk(&path, false)).unwrap(), 2 * ROOM);
    let (folder, path) = file(0);
    for wrong in [&*path, folder.path(), Path::new("/dev/null")] {
        assert!(room(&disk(wrong, true)).unwrap_err().is_usage());
    }
}

#[test]
fn one_that_has_changed_since_it_was_planned_is_refused() {
    let (_folder, path) = file(ROOM);
    for planned in [None, place(2 * ROOM)] {
        let error = pmem(&disk(&path, false), 0, planned).err().unwrap();
        assert!(
            error.to_string().contains("the plan has no room"),
            "{error}"
        );
    }
}

#[test]
fn one_that_can_be_written_is_one_guests_alone_and_still_measured() {
    let (_folder, path) = file(ROOM);
    let _held = pmem(&disk(&path, false), 0, place(ROOM)).unwrap();
    let again = pmem(&disk(&path, true), 1, place(ROOM));
    assert!(matches!(again.err(), Some(DeviceError::DiskInUse { .. })));
    assert_eq!(room(&disk(&path, false)).unwrap(), ROOM);
}

#[test]
fn memory_is_added_behind_all_that_is_there() {
    let ram = GpaRange::new(START, 4096).unwrap();
    let (_folder, path) = file(ROOM);
    let (_device, mapped) = pmem(&disk(&path, false), 0, place(ROOM)).unwrap();
    let mut memory = GuestMemory::allocate(&[ram], Backing::Private).unwrap();
    assert!(mapped.add_to(&mut memory).is_err());
    assert_eq!(memory.regions().len(), 1);
}

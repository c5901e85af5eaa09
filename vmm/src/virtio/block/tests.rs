//! Disks on the host's file system.

use super::*;
use crate::virtio::testing::Driver;
use firstlight_base::{GuestMem, MIB};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn wanted(path: &Path) -> Disk {
    Disk {
        path: path.into(),
        readonly: false,
    }
}

fn file(len: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    File::create(&path).unwrap().set_len(len).unwrap();
    (folder, path)
}

fn refusal(path: &Path) -> String {
    disk(&wanted(path), 0).unwrap_err().to_string()
}

#[test]
fn what_is_no_disk_is_called_what_it_is() {
    let (folder, _) = file(512);
    assert!(refusal(folder.path()).contains("is a folder"));
    assert!(refusal(Path::new("/dev/null")).contains("a character device"));
    let missing = folder.path().join("missing.img");
    assert!(refusal(&missing).contains("cannot open the disk"));
}

#[test]
fn a_disk_has_whole_sectors_and_at_least_one() {
    for len in [0, 1, 511, 513, 1 << 20 | 1] {
        let (_folder, path) = file(len);
        assert!(refusal(&path).contains(&format!("has {len} bytes")));
    }
    let (_folder, path) = file(512);
    disk(&wanted(&path), 0).unwrap();
}

#[test]
fn a_disk_that_can_be_written_is_one_guests_alone() {
    let (_folder, path) = file(512);
    let readonly = Disk {
        readonly: true,
        ..wanted(&path)
    };
    let first = disk(&wanted(&path), 0).unwrap();
    assert!(refusal(&path).contains("in use by a guest"));
    assert!(disk(&readonly, 0).is_err());
    drop(first);
    let _reader = disk(&readonly, 0).unwrap();
    let _another = disk(&readonly, 1).unwrap();
    assert!(disk(&wanted(&path), 0).is_err());
}

/// Types of requests (virtio 1.2, section 5.2.6).
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const SERIAL: u32 = 8;
const DISCARD: u32 = 11;
const ZEROES: u32 = 13;

/// A driver and the disk that it drives, which has the numbers of its sectors in them.
struct World {
    driver: Driver,
    store: Store,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    fn of(sectors: u8, readonly: bool) -> Self {
        let (folder, path) = file(0);
        let bytes: Vec<u8> = (0..sectors).flat_map(|sector| [sector; 512]).collect();
        fs::write(&path, bytes).unwrap();
        let wanted = Disk {
            path: path.clone(),
            readonly,
        };
        Self {
            driver: Driver::new(1),
            store: Store::open(&wanted, 7).unwrap(),
            path,
            _folder: folder,
        }
    }

    /// Makes a request, and tells what came back: data, and the status behind it.
    fn ask(&mut self, kind: u32, sector: u64, data: &[u8], room: u32) -> (Vec<u8>, u8) {
        let mut bytes = Vec::from(kind.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(sector.to_le_bytes());
        bytes.extend(data);
        self.driver.request(0, &bytes, room + 1);
        let at = self.driver.room_of_last(0);
        self.driver.ring(&mut self.store, 0);
        let done = self.driver.done(0);
        assert_eq!(done.len(), 1, "a request is given back once");
        let mut answer = vec![0; usize::try_from(room).unwrap() + 1];
        self.driver.memory.read(at, &mut answer).unwrap();
        let status = answer.pop().unwrap();
        (answer, status)
    }

    fn sector(&self, sector: usize) -> Vec<u8> {
        let bytes = fs::read(&self.path).unwrap();
        bytes[512 * sector..][..512].to_vec()
    }
}

fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = Vec::from(sector.to_le_bytes());
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[test]
fn what_is_written_is_in_the_file_and_is_read_again() {
    let mut world = World::of(8, false);
    assert_eq!(
        world.ask(READ, 3, &[], 1024),
        ([[3; 512], [4; 512]].concat(), 0)
    );
    assert_eq!(world.ask(WRITE, 3, &[0xaa; 1024], 0), (vec![], 0));
    assert_eq!(world.ask(FLUSH, 0, &[], 0), (vec![], 0));
    assert_eq!(world.sector(2), [2; 512]);
    assert_eq!(world.sector(4), [0xaa; 512]);
    assert_eq!(world.sector(5), [5; 512]);
    assert_eq!(world.ask(READ, 4, &[], 512), (vec![0xaa; 512], 0));
}

#[test]
fn nothing_reaches_beyond_the_end_and_the_file_does_not_grow() {
    let mut world = World::of(8, false);
    for (sector, len) in [
        (8, 512),
        (7, 1024),
        (u64::MAX, 512),
        (1 << 55, 512),
        (0, 511),
    ] {
        assert_eq!(world.ask(WRITE, sector, &vec![1; len], 0).1, 1);
        assert_eq!(
            world.ask(READ, sector, &[], u32::try_from(len).unwrap()).1,
            1
        );
    }
    assert_eq!(fs::metadata(&world.path).unwrap().len(), 8 * 512);
    assert_eq!(world.sector(7), [7; 512]);
}

#[test]
fn a_read_only_disk_is_read_and_nothing_else() {
    let mut world = World::of(8, true);
    assert_eq!(world.ask(READ, 1, &[], 512), (vec![1; 512], 0));
    assert_eq!(world.ask(WRITE, 1, &[0xaa; 512], 0).1, 1);
    assert_ne!(world.ask(ZEROES, 0, &segment(1, 1, 0), 0).1, 0);
    assert_ne!(world.ask(DISCARD, 0, &segment(1, 1, 0), 0).1, 0);
    assert_eq!(world.sector(1), [1; 512]);
}

#[test]
fn sectors_become_zeros_and_their_neighbours_stay() {
    let mut world = World::of(8, false);
    for (first, flags) in [(1, 0), (4, 1)] {
        assert_eq!(world.ask(ZEROES, 0, &segment(first, 2, flags), 0).1, 0);
    }
    assert_eq!(world.ask(DISCARD, 0, &segment(7, 1, 0), 0).1, 0);
    for (sector, byte) in [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 3),
        (4, 0),
        (5, 0),
        (6, 6),
        (7, 0),
    ] {
        assert_eq!(world.sector(sector), [byte; 512], "{sector}");
    }
    assert_eq!(fs::metadata(&world.path).unwrap().len(), 8 * 512);
}

#[test]
fn disks_are_told_apart_by_their_serial_numbers() {
    let (serial, status) = World::of(1, false).ask(SERIAL, 0, &[], 20);
    assert_eq!(status, 0);
    assert!(serial.starts_with(b"firstlight-7\0"));
}

#[test]
fn a_file_that_was_cut_short_is_an_error_in_the_guest_alone() {
    let mut world = World::of(8, false);
    let file = File::options().write(true).open(&world.path).unwrap();
    file.set_len(4 * 512 + 100).unwrap();
    assert_eq!(world.ask(READ, 4, &[], 512).1, 1);
    assert_eq!(world.ask(READ, 2, &[], 512), (vec![2; 512], 0));
}

#[test]
fn a_driver_that_will_not_flush_has_every_write_kept() {
    let mut world = World::of(8, false);
    world.store.started(0);
    assert!(!world.store.is_cached);
    assert_eq!(world.ask(WRITE, 0, &[1; 512], 0).1, 0);
    world.store.started(BlockFeatures::FLUSH.bits());
    assert!(world.store.is_cached);
}

#[test]
fn what_nobody_knows_is_unsupported() {
    let mut world = World::of(8, false);
    for kind in [2, 3, 5, 14, u32::MAX] {
        assert_eq!(world.ask(kind, 0, &[0; 512], 0).1, 2, "{kind}");
    }
}

#[test]
fn zeros_that_have_to_be_written_end_where_the_disk_is_to_stop() {
    let (_folder, path) = file(MIB);
    let store = Store::open(&wanted(&path), 0).unwrap();
    let segment = Segment {
        offset: 0,
        len: MIB,
        may_unmap: false,
    };
    let stopping = AtomicBool::new(false);
    store
        .write_zeros(&segment, Stopping::Flag(&stopping))
        .unwrap();
    stopping.store(true, Ordering::Relaxed);
    let left = store.write_zeros(&segment, Stopping::Flag(&stopping));
    assert_eq!(left.unwrap_err().kind(), io::ErrorKind::Interrupted);
}

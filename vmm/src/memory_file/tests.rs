//! Files in a folder, and memory that is kept in them.

use super::*;
use firstlight_base::{Gpa, MIB};
use firstlight_load::Backing;
use tempfile::TempDir;

const LEN: u64 = 0x1_0000;

struct Place {
    folder: TempDir,
    wanted: MemoryFile,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let wanted = MemoryFile {
            purpose: MemoryFilePurpose::CrashLog,
            path: folder.path().join("log"),
            range: GpaRange::new(Gpa::new(MIB), LEN).unwrap(),
            initial: Vec::new(),
        };
        Self { folder, wanted }
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.wanted.path).unwrap()
    }
}

fn memory(backing: Backing) -> GuestMemory {
    let ram = GpaRange::new(Gpa::new(0), 2 * MIB).unwrap();
    GuestMemory::allocate(&[ram], backing).unwrap()
}

#[test]
fn what_a_guest_writes_is_in_the_file_at_once() {
    let place = Place::new();
    let log = place.wanted.open().unwrap();
    let first = memory(Backing::Private);
    log.share(&first).unwrap();
    first.write(Gpa::new(MIB + 5), b"the end").unwrap();
    first.write(Gpa::new(MIB - 1), b"x").unwrap();
    first.write(Gpa::new(MIB + LEN), b"x").unwrap();
    let mut expected = vec![0; usize::try_from(LEN).unwrap()];
    expected[5..12].copy_from_slice(b"the end");
    assert_eq!(place.bytes(), expected);
    drop((first, log));

    let log = place.wanted.open().unwrap();
    let next = memory(Backing::Private);
    log.share(&next).unwrap();
    let mut seen = [0; 7];
    next.read(Gpa::new(MIB + 5), &mut seen).unwrap();
    assert_eq!(&seen, b"the end");
}

#[test]
fn memory_of_another_program_is_copied_both_ways() {
    let place = Place::new();
    let log = place.wanted.open().unwrap();
    let first = memory(Backing::Shared);
    log.load(&first).unwrap();
    first.write(Gpa::new(MIB + 5), b"the end").unwrap();
    log.save(&first).unwrap();
    assert_eq!(&place.bytes()[5..12], b"the end");
    let next = memory(Backing::Shared);
    log.load(&next).unwrap();
    let mut seen = [0; 7];
    next.read(Gpa::new(MIB + 5), &mut seen).unwrap();
    assert_eq!(&seen, b"the end");
}

#[test]
fn a_log_is_one_guests_alone() {
    let place = Place::new();
    let first = place.wanted.open().unwrap();
    let second = place.wanted.open();
    assert!(matches!(second, Err(MemoryFileError::InUse { .. })));
    drop(first);
    place.wanted.open().unwrap();
}

#[test]
fn what_is_no_crash_log_stays_as_it_is() {
    let place = Place::new();
    std::fs::write(&place.wanted.path, b"a letter").unwrap();
    let error = place.wanted.open().unwrap_err().to_string();
    assert!(
        error.ends_with("has 0x8 bytes, and was to have 0x10000"),
        "{error}"
    );
    assert_eq!(place.bytes(), b"a letter");
    let there = |path: PathBuf| MemoryFile {
        purpose: place.wanted.purpose,
        path,
        range: place.wanted.range,
        initial: Vec::new(),
    };
    let folder = there(place.folder.path().to_owned()).open();
    assert!(matches!(folder, Err(MemoryFileError::Open { .. })));
    let device = there("/dev/null".into()).open();
    assert!(matches!(device, Err(MemoryFileError::NoFile { .. })));
    let nowhere = there(place.folder.path().join("none/log")).open();
    assert!(matches!(nowhere, Err(MemoryFileError::Open { .. })));
}

#[test]
fn a_new_file_begins_as_it_is_to_and_one_that_is_there_is_not_made_so() {
    let mut place = Place::new();
    place.wanted.initial = b"new".to_vec();
    drop(place.wanted.open().unwrap());
    let len = usize::try_from(LEN).unwrap();
    assert_eq!(place.bytes()[..5], *b"new\0\0");
    assert_eq!(place.bytes().len(), len);
    std::fs::write(&place.wanted.path, vec![7; len]).unwrap();
    drop(place.wanted.open().unwrap());
    assert_eq!(place.bytes(), vec![7; len]);
}

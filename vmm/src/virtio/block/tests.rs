//! Disks on the host's file system.

use super::*;
use std::path::{Path, PathBuf};

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

//! All that is in a cache: to be shown, to be removed, and to be kept below a bound.

use super::{Cache, CacheError, DATA, LINK, LOCK, NEW, remove};
use crate::kept::{Header, Kind};
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Something that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it was made from.
    pub kind: Kind,
    /// Where the source file was; a path of more than 2048 bytes is cut there.
    pub source: PathBuf,
    /// Whether the source file is still there, and still the same.
    pub current: bool,
    /// How many bytes it takes on the disk.
    pub on_disk: u64,
    /// How many bytes it has, holes and all.
    pub len: u64,
    /// When it was made.
    pub made: SystemTime,
    /// When it was used last, as exactly as the filesystem keeps the times of access: within a
    /// day, usually.
    pub used: SystemTime,
}

/// What was removed from a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// How many entries, leftovers of unfinished ones included.
    pub entries: u64,
    /// How many bytes on the disk.
    pub on_disk: u64,
}

impl Cache {
    /// What is kept, the most recently used first.
    ///
    /// # Errors
    ///
    /// [`CacheError`] where the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, CacheError> {
        let found = scan(&self.folder).map_err(CacheError::host("read", &self.folder))?;
        let mut entries: Vec<Entry> = found.iter().filter_map(Found::entry).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        Ok(entries)
    }

    /// Removes everything that is kept. Guests that run from it go on: what they have mapped stays
    /// until they end.
    ///
    /// # Errors
    ///
    /// [`CacheError`] where something cannot be removed.
    pub fn clear(&self) -> Result<Cleared, CacheError> {
        let failed = CacheError::host("clear", &self.folder);
        let mut cleared = Cleared::default();
        for found in scan(&self.folder).map_err(&failed)? {
            if found.is_being_written() {
                continue;
            }
            cleared.entries += 1;
            cleared.on_disk += found.on_disk;
            found.remove().map_err(&failed)?;
        }
        Ok(cleared)
    }
}

/// Removes what was used least recently until no more than `bound` bytes are on the disk; never
/// `newest`, which has just been written.
pub(super) fn shrink(folder: &Path, bound: u64, newest: &Path) -> io::Result<()> {
    let mut found = scan(folder)?;
    let mut all: u64 = found.iter().map(|found| found.on_disk).sum();
    found.sort_by_key(|found| found.used);
    for found in found {
        if all <= bound {
            break;
        }
        if found.name != newest && !found.is_being_written() {
            found.remove()?;
            all -= found.on_disk;
        }
    }
    Ok(())
}

/// The files of one entry, finished or not.
#[derive(Debug)]
struct Found {
    name: PathBuf,
    on_disk: u64,
    used: Option<SystemTime>,
}

/// All entries in `folder`. Files of others are not looked at.
fn scan(folder: &Path) -> io::Result<Vec<Found>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.path().with_extension("");
        if is_ours(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names.into_iter().map(Found::of).collect())
}

/// Whether the name is such as the cache gives.
fn is_ours(name: &Path) -> bool {
    let name = name.file_name().map(OsStr::as_bytes).unwrap_or_default();
    matches!(name, [b'k' | b'i', b'0'..=b'9', ..]) && name.contains(&b'-')
}

impl Found {
    fn of(name: PathBuf) -> Self {
        let metadata = |path: &Path| fs::symlink_metadata(path).ok();
        let data = metadata(&name.with_extension(DATA));
        let new = metadata(&name.with_extension(NEW));
        let link = metadata(&name);
        let blocks = |file: &Option<Metadata>| file.as_ref().map_or(0, MetadataExt::blocks);
        // The link is read for every use, the data mapped: whatever the filesystem notes of it.
        let times = |file: &Metadata| [file.accessed().ok(), file.modified().ok()];
        let used = [&link, &data]
            .into_iter()
            .flatten()
            .flat_map(times)
            .flatten()
            .max();
        Self {
            on_disk: 512 * (blocks(&data) + blocks(&new)),
            used,
            name,
        }
    }

    fn entry(&self) -> Option<Entry> {
        let path = self.name.with_extension(DATA);
        let mut file = super::open_data(&path).ok()?;
        let metadata = file.metadata().ok()?;
        let mut page = Vec::new();
        (&mut file).take(0x1000).read_to_end(&mut page).ok()?;
        let header = Header::read(&page).ok().flatten()?;
        let source = PathBuf::from(std::ffi::OsString::from_vec(header.path.to_vec()));
        let now = fs::metadata(&source).ok();
        Some(Entry {
            kind: header.kind,
            current: now.is_some_and(|now| crate::stamp::Stamp::of(&now) == header.source),
            source,
            on_disk: self.on_disk,
            len: metadata.len(),
            made: metadata.modified().ok()?,
            used: self.used?,
        })
    }

    /// Whether somebody holds the lock.
    fn is_being_written(&self) -> bool {
        let Ok(file) = File::open(self.name.with_extension(LOCK)) else {
            return false;
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    /// The link first: without it, nobody looks for the data.
    fn remove(&self) -> io::Result<()> {
        remove(&self.name)?;
        for ending in [DATA, NEW, LINK, LOCK] {
            remove(&self.name.with_extension(ending))?;
        }
        Ok(())
    }
}

//! What a guest has open.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::sync::Arc;

/// Open files and folders, by the handles that the guest was given.
pub(super) struct Files {
    open: HashMap<u64, Open>,
    /// The next handle: none is given out twice.
    next: u64,
    most: usize,
}

enum Open {
    File {
        file: OwnedFd,
        is_writable: bool,
    },
    Folder {
        folder: Arc<OwnedFd>,
        reading: Reading,
    },
    /// A folder with nothing in it.
    Hollow,
}

/// How far a folder has been read. Where the next part is asked for, the host is not asked to go back:
/// not all of its file systems find the same place again when something has been removed.
#[derive(Default)]
pub(super) struct Reading {
    /// Where the guest's list goes on.
    pub(super) at: u64,
    /// What the host has told, and the guest has not been.
    pub(super) waiting: VecDeque<Found>,
}

/// Something in a folder.
pub(super) struct Found {
    pub(super) ino: u64,
    pub(super) next: u64,
    pub(super) kind: u8,
    pub(super) name: CString,
}

impl Files {
    /// No files, of which there can be so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            open: HashMap::new(),
            next: 1,
            most,
        }
    }

    /// Whether one more can be opened.
    pub(super) fn has_room(&self) -> Result<(), Errno> {
        match self.open.len() < self.most {
            true => Ok(()),
            false => Err(Errno::NFILE),
        }
    }

    pub(super) fn add_file(&mut self, file: OwnedFd, is_writable: bool) -> Result<u64, Errno> {
        self.add(Open::File { file, is_writable })
    }

    pub(super) fn add_folder(&mut self, folder: OwnedFd) -> Result<u64, Errno> {
        self.add(Open::Folder {
            folder: Arc::new(folder),
            reading: Reading::default(),
        })
    }

    pub(super) fn add_hollow(&mut self) -> Result<u64, Errno> {
        self.add(Open::Hollow)
    }

    fn add(&mut self, open: Open) -> Result<u64, Errno> {
        self.has_room()?;
        let handle = self.next;
        self.next += 1;
        self.open.insert(handle, open);
        Ok(handle)
    }

    pub(super) fn close(&mut self, handle: u64) {
        self.open.remove(&handle);
    }

    /// The file of that handle.
    pub(super) fn file(&self, handle: u64) -> Result<&OwnedFd, Errno> {
        match self.open.get(&handle) {
            Some(Open::File { file, .. }) => Ok(file),
            Some(Open::Folder { .. } | Open::Hollow) => Err(Errno::ISDIR),
            None => Err(Errno::BADF),
        }
    }

    /// The file of that handle, if it was opened to be written.
    pub(super) fn writable(&self, handle: u64) -> Result<&OwnedFd, Errno> {
        match self.open.get(&handle) {
            Some(Open::File { file, is_writable }) if *is_writable => Ok(file),
            Some(_) | None => Err(Errno::BADF),
        }
    }

    /// The folder of that handle; `None` for one with nothing in it.
    pub(super) fn folder(&self, handle: u64) -> Result<Option<&Arc<OwnedFd>>, Errno> {
        match self.open.get(&handle) {
            Some(Open::Folder { folder, .. }) => Ok(Some(folder)),
            Some(Open::Hollow) => Ok(None),
            Some(Open::File { .. }) => Err(Errno::NOTDIR),
            None => Err(Errno::BADF),
        }
    }
    /// How far the folder of that handle has been read, which is to be put back.
    pub(super) fn take_reading(&mut self, handle: u64) -> Reading {
        match self.open.get_mut(&handle) {
            Some(Open::Folder { reading, .. }) => std::mem::take(reading),
            Some(Open::File { .. } | Open::Hollow) | None => Reading::default(),
        }
    }

    pub(super) fn put_reading(&mut self, handle: u64, now: Reading) {
        if let Some(Open::Folder { reading, .. }) = self.open.get_mut(&handle) {
            *reading = now;
        }
    }
}

//! Files that guests' memory is kept in: what kernels say when they die, and what firmware has to remember.

use firstlight_base::{GpaRange, GuestMem};
use firstlight_load::GuestMemory;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, ftruncate};
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that memory is kept in, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFile {
    /// What it is for.
    pub purpose: MemoryFilePurpose,
    /// The file, which is made if it is not there.
    pub path: PathBuf,
    /// Where the guest has its bytes.
    pub range: GpaRange,
    /// What a new file begins with; the rest of it is zeros.
    pub initial: Vec<u8>,
}

/// What memory in a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFilePurpose {
    /// What the guest's kernel says when it dies; the range must be reserved in the plan.
    CrashLog,
    /// What firmware has to remember; the range is a bank of the machine's flash.
    FlashVariables,
}

impl fmt::Display for MemoryFilePurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CrashLog => "crash log",
            Self::FlashVariables => "flash for variables",
        })
    }
}

/// Memory cannot be kept in a file.
#[derive(Debug, thiserror::Error)]
pub enum MemoryFileError {
    /// The file is not to be had.
    #[error("cannot open the {purpose} {}", path.display())]
    Open {
        /// What it is for.
        purpose: MemoryFilePurpose,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no file.
    #[error("{} is no file, which a {purpose} has to be", path.display())]
    NoFile {
        /// What it is for.
        purpose: MemoryFilePurpose,
        /// Which.
        path: PathBuf,
    },
    /// It holds something else, or is of another size.
    #[error("the {purpose} {} has {len:#x} bytes, and was to have {wanted:#x}", path.display())]
    Length {
        /// What it is for.
        purpose: MemoryFilePurpose,
        /// Which.
        path: PathBuf,
        /// How long it is.
        len: u64,
        /// How long it was to be.
        wanted: u64,
    },
    /// A guest has it.
    #[error("the {purpose} {} is in use by a guest", path.display())]
    InUse {
        /// What it is for.
        purpose: MemoryFilePurpose,
        /// Which.
        path: PathBuf,
    },
    /// There is no room for it.
    #[error("cannot make room for {len:#x} bytes of the {purpose} {}", path.display())]
    Room {
        /// What it is for.
        purpose: MemoryFilePurpose,
        /// Which.
        path: PathBuf,
        /// How long it was to be.
        len: u64,
        /// Why.
        source: io::Error,
    },
    /// The guest's memory cannot be kept in it.
    #[error("cannot keep the guest's memory in the {purpose} {}", path.display())]
    Keep {
        /// What it is for.
        purpose: MemoryFilePurpose,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl MemoryFileError {
    /// Whether it is what was asked for that is wrong, and not the host.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::NoFile { .. } | Self::Length { .. } => true,
            Self::Open { .. } | Self::InUse { .. } | Self::Room { .. } | Self::Keep { .. } => false,
        }
    }
}

/// Such a file, open: no other guest has it as long as this value is there.
#[derive(Debug)]
pub(crate) struct OpenMemoryFile {
    file: File,
    wanted: MemoryFile,
}

impl MemoryFile {
    /// Opens one that may have been asked for.
    pub(crate) fn open_if(
        wanted: Option<&Self>,
    ) -> Result<Option<OpenMemoryFile>, MemoryFileError> {
        wanted.map(Self::open).transpose()
    }

    /// Opens it, with all its room on the host's disk.
    pub(crate) fn open(&self) -> Result<OpenMemoryFile, MemoryFileError> {
        let purpose = self.purpose;
        let path = || self.path.clone();
        let open = |source: io::Error| MemoryFileError::Open {
            purpose,
            path: path(),
            source,
        };
        let file = open_file(&self.path).map_err(open)?;
        let metadata = file.metadata().map_err(open)?;
        if !metadata.is_file() {
            return Err(MemoryFileError::NoFile {
                purpose,
                path: path(),
            });
        }
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(MemoryFileError::InUse {
                purpose,
                path: path(),
            });
        }
        let (len, wanted) = (metadata.len(), self.range.len());
        if len != 0 && len != wanted {
            return Err(MemoryFileError::Length {
                purpose,
                path: path(),
                len,
                wanted,
            });
        }
        let filled = match len {
            0 => file.write_all_at(&self.initial, 0),
            _ => Ok(()),
        };
        let room = filled.and_then(|()| Ok(make_room(&file, wanted)?));
        room.map_err(|source| {
            if len == 0 {
                // Else it would be taken for one of another size.
                let _ = ftruncate(&file, 0);
            }
            MemoryFileError::Room {
                purpose,
                path: path(),
                len: wanted,
                source,
            }
        })?;
        Ok(OpenMemoryFile {
            file,
            wanted: self.clone(),
        })
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // What a guest has said is nobody else's business, and nobody may be at the other end of a FIFO.
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Has the host keep `len` bytes for `file`: nothing can be said of a full disk when the guest writes.
fn make_room(file: &File, len: u64) -> Result<(), Errno> {
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        // Not on every file system.
        Err(Errno::OPNOTSUPP) => ftruncate(file, len),
        other => other,
    }
}

impl OpenMemoryFile {
    /// The file, for a program that keeps memory in it by itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Lets the guest's memory be the file.
    pub(crate) fn share(&self, memory: &GuestMemory) -> Result<(), MemoryFileError> {
        let shared = memory.share_file(self.wanted.range, &self.file);
        shared.map_err(|errno| self.cannot_keep(errno.into()))
    }

    /// Copies what the file holds into the guest's memory, where that belongs to another program.
    pub(crate) fn load(&self, memory: &GuestMemory) -> Result<(), MemoryFileError> {
        let mut bytes = self.buffer();
        let read = self.file.read_exact_at(&mut bytes, 0);
        read.map_err(|error| self.cannot_keep(error))?;
        let written = memory.write(self.wanted.range.start(), &bytes);
        written.map_err(|error| self.cannot_keep(io::Error::other(error)))
    }

    /// Copies what the guest's memory holds into the file.
    pub(crate) fn save(&self, memory: &GuestMemory) -> Result<(), MemoryFileError> {
        let mut bytes = self.buffer();
        let saved = memory
            .read(self.wanted.range.start(), &mut bytes)
            .map_err(io::Error::other)
            .and_then(|()| self.file.write_all_at(&bytes, 0));
        saved.map_err(|error| self.cannot_keep(error))
    }

    /// Room for all of it.
    fn buffer(&self) -> Vec<u8> {
        let len = usize::try_from(self.wanted.range.len());
        vec![0; len.expect("it is a part of memory that is mapped")]
    }

    fn cannot_keep(&self, source: io::Error) -> MemoryFileError {
        MemoryFileError::Keep {
            purpose: self.wanted.purpose,
            path: self.wanted.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;

//! Answers to what a driver asks (`include/uapi/linux/fuse.h`, protocol 7.31).

use super::request::InitFlags;
use crate::virtio::queue::{Chain, ChainError, ChainWriter, Ranges};
use alloc::vec::Vec;
use core::time::Duration;
use firstlight_base::GuestMem;

/// The bytes of the header that every answer begins with (`struct fuse_out_header`).
const HEADER: u64 = 16;
/// `EINVAL`
const NO_ROOM: i32 = 22;

/// The room that a request has for its answer.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    header: Ranges<'a>,
    room: Ranges<'a>,
    unique: u64,
}

impl<'a> Reply<'a> {
    /// The room of the request in `chain`; `None` where not even the header fits, and nothing can be
    /// answered.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where it is no longer memory.
    pub fn of(
        chain: &'a Chain,
        memory: &'a impl GuestMem,
        unique: u64,
    ) -> Result<Option<Self>, ChainError> {
        let mut writer = chain.writer(memory);
        if writer.room() < HEADER {
            return Ok(None);
        }
        let header = writer.ranges(HEADER)?;
        writer.advance(HEADER)?;
        let room = writer.ranges(writer.room())?;
        Ok(Some(Self {
            header,
            room,
            unique,
        }))
    }

    /// How many bytes fit behind the header.
    #[must_use]
    pub const fn room(&self) -> u64 {
        self.room.bytes()
    }

    /// Where the first bytes behind the header are, as many as there are of `most`.
    ///
    /// # Errors
    ///
    /// [`ChainError`] never: there are as many.
    pub fn ranges(&self, most: u64) -> Result<Ranges<'a>, ChainError> {
        self.room.first(most.min(self.room()))
    }

    /// Answers with an error, Linux' number, and says how much of the request was written.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where it is no longer memory.
    pub fn refuse(&self, memory: &impl GuestMem, errno: i32) -> Result<u32, ChainError> {
        self.write_header(memory, 0, errno.saturating_neg())
    }

    /// Answers with `bytes`; where they do not fit, with an error.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where it is no longer memory.
    pub fn finish(&self, memory: &impl GuestMem, bytes: &[u8]) -> Result<u32, ChainError> {
        if bytes.len() as u64 > self.room() {
            return self.refuse(memory, NO_ROOM);
        }
        ChainWriter::over(memory, self.room.clone()).write_all(bytes)?;
        self.finish_filled(memory, bytes.len() as u64)
    }

    /// Answers with so many bytes that are in the room already.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where it is no longer memory.
    pub fn finish_filled(&self, memory: &impl GuestMem, bytes: u64) -> Result<u32, ChainError> {
        self.write_header(memory, bytes.min(self.room()), 0)
    }

    fn write_header(
        &self,
        memory: &impl GuestMem,
        bytes: u64,
        error: i32,
    ) -> Result<u32, ChainError> {
        let len = u32::try_from(HEADER + bytes).unwrap_or(u32::MAX);
        let mut header = Vec::new();
        header.extend(len.to_le_bytes());
        header.extend(error.to_le_bytes());
        header.extend(self.unique.to_le_bytes());
        ChainWriter::over(memory, self.header.clone()).write_all(&header)?;
        Ok(len)
    }
}

/// A time: seconds since 1970, which may be before that, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanoseconds: u32,
}

/// What a file is like (`struct fuse_attr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Its number, for programs in the guest.
    pub ino: u64,
    /// Its length.
    pub size: u64,
    /// How many blocks of 512 bytes it takes.
    pub blocks: u64,
    /// When it was read.
    pub atime: Time,
    /// When it was written.
    pub mtime: Time,
    /// When it was changed.
    pub ctime: Time,
    /// What it is, and its permissions.
    pub mode: u32,
    /// How many names it has.
    pub nlink: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Which device it is, if it is one.
    pub rdev: u32,
    /// How it is best read.
    pub blksize: u32,
}

impl Attr {
    fn put(&self, bytes: &mut Vec<u8>) {
        let times = [self.atime, self.mtime, self.ctime];
        for word in [self.ino, self.size, self.blocks] {
            bytes.extend(word.to_le_bytes());
        }
        for time in times {
            bytes.extend(time.seconds.to_le_bytes());
        }
        for time in times {
            bytes.extend(time.nanoseconds.to_le_bytes());
        }
        let rest = [
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.rdev,
            self.blksize,
            // Flags.
            0,
        ];
        for word in rest {
            bytes.extend(word.to_le_bytes());
        }
    }

    /// The answer to what a file is like (`struct fuse_attr_out`), which holds for so long.
    #[must_use]
    pub fn to_bytes(self, valid: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(valid.as_secs().to_le_bytes());
        bytes.extend(valid.subsec_nanos().to_le_bytes());
        bytes.extend([0; 4]);
        self.put(&mut bytes);
        bytes
    }
}

/// A file that a name stands for (`struct fuse_entry_out`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number by which the driver speaks of it; 0 tells of none.
    pub node: u64,
    /// So long the name stands for it, and it is like that.
    pub valid: Duration,
    /// What it is like.
    pub attr: Attr,
}

impl Entry {
    fn put(&self, bytes: &mut Vec<u8>) {
        let seconds = self.valid.as_secs();
        let nanoseconds = self.valid.subsec_nanos();
        // Numbers are not used again, so that they have no generations.
        for word in [self.node, 0, seconds, seconds] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(nanoseconds.to_le_bytes());
        bytes.extend(nanoseconds.to_le_bytes());
        self.attr.put(bytes);
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put(&mut bytes);
        bytes
    }

    /// Those of a file that is open, too (`struct fuse_open_out`).
    #[must_use]
    pub fn to_bytes_opened(self, handle: u64, flags: OpenFlags) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        bytes.extend(flags.to_bytes(handle));
        bytes
    }
}

bitflags::bitflags! {
    /// What a driver may do with an open file (`FOPEN_` flags).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// What it knows of the contents is still right.
        const KEEP_CACHE = 1 << 1;
        /// It may keep a folder's list.
        const CACHE_DIR = 1 << 3;
    }
}

impl OpenFlags {
    /// The answer to an open (`struct fuse_open_out`).
    #[must_use]
    pub fn to_bytes(self, handle: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(handle.to_le_bytes());
        bytes.extend(self.bits().to_le_bytes());
        bytes.extend([0; 4]);
        bytes
    }
}

/// How full a file system is (`struct fuse_kstatfs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Blocks of `frsize` bytes.
    pub blocks: u64,
    /// Those that are free.
    pub bfree: u64,
    /// Those that are free for everybody.
    pub bavail: u64,
    /// Files.
    pub files: u64,
    /// Those that there is room for.
    pub ffree: u64,
    /// How many bytes are best moved at once.
    pub bsize: u32,
    /// The longest name.
    pub namelen: u32,
    /// The bytes of a block.
    pub frsize: u32,
}

impl StatFs {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [self.blocks, self.bfree, self.bavail, self.files, self.ffree] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [self.bsize, self.namelen, self.frsize] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([0; 28]);
        bytes
    }
}

/// What a driver is told at the beginning (`struct fuse_init_out`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitReply {
    /// How far it may read ahead.
    pub max_readahead: u32,
    /// What both can do.
    pub flags: InitFlags,
    /// The longest write, in bytes.
    pub max_write: u32,
}

impl InitReply {
    /// The protocol that is spoken.
    pub const MAJOR: u32 = 7;
    /// Its version.
    pub const MINOR: u32 = 31;

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        /// So many requests may wait that nobody waits for, and with so many of them the driver makes
        /// fewer.
        const BACKGROUND: [u16; 2] = [128, 96];
        const PAGE: u32 = 4096;
        let pages = u16::try_from(self.max_write / PAGE).unwrap_or(u16::MAX);
        let mut bytes = Vec::new();
        for word in [
            Self::MAJOR,
            Self::MINOR,
            self.max_readahead,
            self.flags.bits(),
        ] {
            bytes.extend(word.to_le_bytes());
        }
        for word in BACKGROUND {
            bytes.extend(word.to_le_bytes());
        }
        // Times are exact to the nanosecond.
        for word in [self.max_write, 1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(pages.to_le_bytes());
        bytes.extend([0; 34]);
        bytes
    }
}

/// A folder's entry, as its list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The file's number, for programs in the guest.
    pub ino: u64,
    /// Where the list goes on behind it.
    pub next: u64,
    /// What the file is: the upper four of the sixteen bits of its mode.
    pub kind: u8,
    /// Its name.
    pub name: &'a [u8],
}

/// A part of a folder's list, of bounded length (`struct fuse_dirent` and `struct fuse_direntplus`).
#[derive(Debug)]
pub struct Listing {
    bytes: Vec<u8>,
    most: usize,
}

impl Listing {
    /// A list with room for so many bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }

    /// Whether an entry with a name of so many bytes fits, with all that is known of it.
    #[must_use]
    pub const fn fits_with_entry(&self, name: usize) -> bool {
        /// The bytes of an [`Entry`].
        const ENTRY: usize = 128;
        self.bytes.len() + ENTRY + Self::len_of(name) <= self.most
    }

    /// Adds an entry; false where it does not fit.
    pub fn push(&mut self, entry: &DirEntry<'_>) -> bool {
        if self.bytes.len() + Self::len_of(entry.name.len()) > self.most {
            return false;
        }
        let len = u32::try_from(entry.name.len()).unwrap_or(0);
        self.bytes.extend(entry.ino.to_le_bytes());
        self.bytes.extend(entry.next.to_le_bytes());
        self.bytes.extend(len.to_le_bytes());
        self.bytes.extend(u32::from(entry.kind).to_le_bytes());
        self.bytes.extend_from_slice(entry.name);
        let end = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(end, 0);
        true
    }

    /// Adds an entry with all that is known of it; false where it does not fit.
    pub fn push_with_entry(&mut self, known: &Entry, entry: &DirEntry<'_>) -> bool {
        if !self.fits_with_entry(entry.name.len()) {
            return false;
        }
        known.put(&mut self.bytes);
        self.push(entry)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    const fn len_of(name: usize) -> usize {
        (24 + name).next_multiple_of(8)
    }
}

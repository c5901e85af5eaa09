//! What a driver asks for (`include/uapi/linux/fuse.h`, protocol 7.31).

use crate::virtio::queue::{Chain, ChainError, Ranges};
use alloc::vec::Vec;
use core::ffi::CStr;
use firstlight_base::{GuestMem, KIB, Reader};

/// The bytes of the header that every request begins with (`struct fuse_in_header`).
pub const HEADER: usize = 40;
/// The bytes between it and the data of a write (`struct fuse_write_in`).
const WRITE: usize = 40;
/// The most bytes behind the header of what is no write: two paths, and more.
const MOST: u64 = 16 * KIB;
/// The longest name of a file (`NAME_MAX`).
const NAME: usize = 255;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What the answer must say that it answers.
    pub unique: u64,
    /// The file that it is about, by the number that the driver was given for it.
    pub node: u64,
    /// Whose request it is: user and group in the guest.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// What is asked for, or what is wrong with it.
    pub operation: Result<Operation<'a>, Wrong>,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not served, which drivers are prepared for.
    Unknown,
    /// It is cut short, or too long, or names what cannot be in a folder.
    Malformed,
    /// A name is longer than names are.
    LongName,
}

impl Wrong {
    /// Linux' number for it.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::Unknown => 38,
            Self::Malformed => 22,
            Self::LongName => 36,
        }
    }
}

/// The name of something in a folder: not empty, without `/`, and neither `.` nor `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// The name, if it is one.
    ///
    /// # Errors
    ///
    /// [`Wrong`] where it leads elsewhere, or is too long.
    pub fn new(name: &'a CStr) -> Result<Self, Wrong> {
        match name.to_bytes() {
            b"" | b"." | b".." => Err(Wrong::Malformed),
            bytes if bytes.contains(&b'/') => Err(Wrong::Malformed),
            bytes if bytes.len() > NAME => Err(Wrong::LongName),
            _ => Ok(Self(name)),
        }
    }

    /// Its text.
    #[must_use]
    pub const fn get(self) -> &'a CStr {
        self.0
    }
}

/// What a driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// What a name in a folder stands for.
    Lookup(Name<'a>),
    /// The driver knows a file no longer by so many of the answers that told it. There is no answer.
    Forget(u64),
    /// The same of several files.
    ForgetAll(Forgotten<'a>),
    /// What a file is like, by a handle where there is one.
    GetAttr(Option<u64>),
    /// A file is to be like that.
    SetAttr(Setting),
    /// Where a symbolic link leads.
    ReadLink,
    /// A new symbolic link.
    Symlink(Name<'a>, &'a CStr),
    /// A new file that is no folder.
    MkNod(Name<'a>, u32),
    /// A new folder.
    MkDir(Name<'a>, u32),
    /// A name is to go.
    Unlink(Name<'a>),
    /// A folder is to go.
    RmDir(Name<'a>),
    /// A file is to have another name.
    Rename(Rename<'a>),
    /// A file, of this number, is to have one more name.
    Link(u64, Name<'a>),
    /// A file is opened.
    Open(Access),
    /// A part of a file.
    Read(Part),
    /// New bytes for a part of a file: [`Request::data`].
    Write(Part),
    /// How full the file system is.
    StatFs,
    /// A handle is to be closed.
    Release(u64),
    /// What was written by a handle is to be kept; true where its times and the like may wait.
    FSync(u64, bool),
    /// The beginning of it all: what the driver can do.
    Init {
        /// The protocol's number.
        major: u32,
        /// Its version.
        minor: u32,
        /// How far the driver reads ahead.
        max_readahead: u32,
        /// What it can do beside.
        flags: InitFlags,
    },
    /// A folder is opened.
    OpenDir,
    /// What is in a folder from there on.
    ReadDir(Part),
    /// The same, with all that is to be known of each.
    ReadDirPlus(Part),
    /// A folder's handle is to be closed.
    ReleaseDir(u64),
    /// What changed in a folder is to be kept.
    FSyncDir(u64),
    /// A new file, which is opened.
    Create(Creation<'a>),
    /// A file is given room on the disk, or loses some.
    Fallocate(Room),
    /// Where data or a hole begins: the handle, from where, and which of the two (`lseek(2)`).
    Lseek(u64, u64, u32),
    /// The driver has ended.
    Destroy,
    /// A request need not be answered any more. There is no answer.
    Interrupt,
}

/// How a file is opened (`include/uapi/asm-generic/fcntl.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What is done with it may read it.
    pub reads: bool,
    /// What is done with it may write it.
    pub writes: bool,
    /// It is emptied.
    pub truncates: bool,
    /// It must not be there yet.
    pub exclusive: bool,
}

impl Access {
    const fn of(flags: u32) -> Option<Self> {
        let (reads, writes) = match flags & 3 {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => return None,
        };
        Some(Self {
            reads,
            writes,
            truncates: flags & 0o1000 != 0,
            exclusive: flags & 0o200 != 0,
        })
    }
}

/// A part of an open file, or of a folder's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The handle.
    pub handle: u64,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u32,
}

/// A file that is made and opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creation<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// Its permissions.
    pub mode: u32,
    /// How it is opened.
    pub access: Access,
}

/// A name that is to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rename<'a> {
    /// What it is.
    pub from: Name<'a>,
    /// The folder that it goes to, by number.
    pub folder: u64,
    /// What it is to be.
    pub to: Name<'a>,
    /// How (`renameat2(2)`).
    pub flags: u32,
}

/// Room for a file (`fallocate(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The handle.
    pub handle: u64,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// What is to become of it.
    pub mode: u32,
}

/// What is to change of a file (`struct fuse_setattr_in`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// The handle by which it is open.
    pub handle: Option<u64>,
    /// Its permissions.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Its length.
    pub size: Option<u64>,
    /// When it was read.
    pub atime: Option<SettingTime>,
    /// When it was written.
    pub mtime: Option<SettingTime>,
}

/// A time that a file is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingTime {
    /// The host's own.
    Now,
    /// Seconds since 1970, and nanoseconds.
    At(u64, u32),
}

/// Files that the driver knows no longer, and by how many answers each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten<'a>(&'a [u8]);

impl Forgotten<'_> {
    /// The bytes of one (`struct fuse_forget_one`).
    const ONE: usize = 16;

    /// The number of each, and by how many answers it was known.
    pub fn each(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.chunks_exact(Self::ONE).filter_map(|one| {
            let one = Reader::new(one);
            Some((one.u64_le(0).ok()?, one.u64_le(8).ok()?))
        })
    }
}

bitflags::bitflags! {
    /// What the two sides can do (`FUSE_INIT` flags).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InitFlags: u32 {
        /// Reads may overtake one another.
        const ASYNC_READ = 1 << 0;
        /// Writes may be longer than a page.
        const BIG_WRITES = 1 << 5;
        /// What is kept of a file is dropped when its time of change is another.
        const AUTO_INVAL_DATA = 1 << 12;
        /// [`Operation::ReadDirPlus`] is served.
        const DO_READDIRPLUS = 1 << 13;
        /// The driver asks by it where that pays.
        const READDIRPLUS_AUTO = 1 << 14;
        /// Requests about one folder may overtake one another.
        const PARALLEL_DIROPS = 1 << 18;
        /// Requests may have more than 32 pages.
        const MAX_PAGES = 1 << 22;
    }
}

impl<'a> Request<'a> {
    /// The request in `chain`, of which `buffer` takes what is no data; `None` where it is shorter than
    /// a header.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where it is no longer memory.
    pub fn gather(
        chain: &Chain,
        memory: &impl GuestMem,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<Self>, ChainError> {
        let mut reader = chain.reader(memory);
        let whole = reader.len();
        if whole < HEADER as u64 {
            return Ok(None);
        }
        buffer.clear();
        buffer.resize(HEADER, 0);
        reader.read_exact(buffer)?;
        let most = match Reader::new(buffer).u32_le(4) {
            Ok(opcode::WRITE) => WRITE as u64,
            _ => MOST,
        };
        let rest = usize::try_from(reader.len().min(most)).unwrap_or(0);
        buffer.resize(HEADER + rest, 0);
        reader.read_exact(buffer.get_mut(HEADER..).unwrap_or_default())?;
        let buffer: &'a [u8] = buffer;
        Ok(Self::parse(buffer, whole))
    }

    fn parse(bytes: &'a [u8], whole: u64) -> Option<Self> {
        let header = Reader::new(bytes);
        let opcode = header.u32_le(4).ok()?;
        let body = Body {
            bytes: bytes.get(HEADER..)?,
            left: whole.checked_sub(bytes.len() as u64)?,
        };
        let is_whole = u64::from(header.u32_le(0).ok()?) == whole;
        Some(Self {
            unique: header.u64_le(8).ok()?,
            node: header.u64_le(16).ok()?,
            uid: header.u32_le(24).ok()?,
            gid: header.u32_le(28).ok()?,
            operation: match is_whole {
                true => body.operation(opcode),
                false => Err(Wrong::Malformed),
            },
        })
    }

    /// Where the bytes of a write are, which must be as many as it says.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there are not.
    pub fn data<'c>(
        chain: &'c Chain,
        memory: &'c impl GuestMem,
        size: u32,
    ) -> Result<Ranges<'c>, ChainError> {
        let mut reader = chain.reader(memory);
        reader.skip((HEADER + WRITE) as u64)?;
        reader.ranges(size.into())
    }
}

/// The numbers of operations (`enum fuse_opcode`).
mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const READLINK: u32 = 5;
    pub(super) const SYMLINK: u32 = 6;
    pub(super) const MKNOD: u32 = 8;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const RENAME: u32 = 12;
    pub(super) const LINK: u32 = 13;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const FSYNCDIR: u32 = 30;
    pub(super) const CREATE: u32 = 35;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const FALLOCATE: u32 = 43;
    pub(super) const READDIRPLUS: u32 = 44;
    pub(super) const RENAME2: u32 = 45;
    pub(super) const LSEEK: u32 = 46;
}

/// What is behind the header, from front to back.
struct Body<'a> {
    bytes: &'a [u8],
    /// How many more bytes there are that were not looked at.
    left: u64,
}

impl<'a> Body<'a> {
    fn operation(mut self, code: u32) -> Result<Operation<'a>, Wrong> {
        if self.left > 0 && code != opcode::WRITE {
            return Err(Wrong::Malformed);
        }
        Ok(match code {
            opcode::LOOKUP => Operation::Lookup(self.name()?),
            opcode::FORGET => Operation::Forget(self.u64()?),
            opcode::BATCH_FORGET => Operation::ForgetAll(self.forgotten()?),
            opcode::GETATTR => Operation::GetAttr(self.handle_to_ask()?),
            opcode::SETATTR => Operation::SetAttr(self.setting()?),
            opcode::READLINK => Operation::ReadLink,
            opcode::SYMLINK => Operation::Symlink(self.name()?, self.text()?),
            opcode::MKNOD => {
                let [mode, _device, _umask, _] = self.u32s()?;
                Operation::MkNod(self.name()?, mode)
            }
            opcode::MKDIR => {
                let [mode, _umask] = self.u32s()?;
                Operation::MkDir(self.name()?, mode)
            }
            opcode::UNLINK => Operation::Unlink(self.name()?),
            opcode::RMDIR => Operation::RmDir(self.name()?),
            opcode::RENAME => {
                let folder = self.u64()?;
                Operation::Rename(self.rename(folder, 0)?)
            }
            opcode::RENAME2 => {
                let folder = self.u64()?;
                let [flags, _] = self.u32s()?;
                Operation::Rename(self.rename(folder, flags)?)
            }
            opcode::LINK => Operation::Link(self.u64()?, self.name()?),
            opcode::OPEN => Operation::Open(Access::of(self.u32()?).ok_or(Wrong::Malformed)?),
            opcode::READ => Operation::Read(self.part()?),
            opcode::WRITE => Operation::Write(self.part()?),
            opcode::STATFS => Operation::StatFs,
            opcode::RELEASE => Operation::Release(self.u64()?),
            opcode::FSYNC => Operation::FSync(self.u64()?, self.u32()? & 1 != 0),
            opcode::INIT => {
                let [major, minor, max_readahead, flags] = self.u32s()?;
                Operation::Init {
                    major,
                    minor,
                    max_readahead,
                    flags: InitFlags::from_bits_truncate(flags),
                }
            }
            opcode::OPENDIR => Operation::OpenDir,
            opcode::READDIR => Operation::ReadDir(self.part()?),
            opcode::READDIRPLUS => Operation::ReadDirPlus(self.part()?),
            opcode::RELEASEDIR => Operation::ReleaseDir(self.u64()?),
            opcode::FSYNCDIR => Operation::FSyncDir(self.u64()?),
            opcode::CREATE => {
                let [flags, mode, _umask, _] = self.u32s()?;
                Operation::Create(Creation {
                    name: self.name()?,
                    mode,
                    access: Access::of(flags).ok_or(Wrong::Malformed)?,
                })
            }
            opcode::FALLOCATE => Operation::Fallocate(Room {
                handle: self.u64()?,
                offset: self.u64()?,
                length: self.u64()?,
                mode: self.u32()?,
            }),
            opcode::LSEEK => Operation::Lseek(self.u64()?, self.u64()?, self.u32()?),
            opcode::DESTROY => Operation::Destroy,
            opcode::INTERRUPT => Operation::Interrupt,
            _ => return Err(Wrong::Unknown),
        })
    }
    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(Wrong::Malformed)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32s<const N: usize>(&mut self) -> Result<[u32; N], Wrong> {
        let mut all = [0; N];
        for one in &mut all {
            *one = self.u32()?;
        }
        Ok(all)
    }

    /// The bytes up to a NUL.
    fn text(&mut self) -> Result<&'a CStr, Wrong> {
        let text = CStr::from_bytes_until_nul(self.bytes);
        let Ok(text) = text else {
            return Err(Wrong::Malformed);
        };
        let behind = text.to_bytes_with_nul().len();
        self.bytes = self.bytes.get(behind..).unwrap_or_default();
        Ok(text)
    }

    fn name(&mut self) -> Result<Name<'a>, Wrong> {
        Name::new(self.text()?)
    }

    /// `struct fuse_read_in` and `struct fuse_write_in`, as far as they are alike.
    fn part(&mut self) -> Result<Part, Wrong> {
        let part = Part {
            handle: self.u64()?,
            offset: self.u64()?,
            size: self.u32()?,
        };
        // Flags and the owner of a lock.
        let _: [u8; 20] = self.array()?;
        Ok(part)
    }

    fn rename(&mut self, folder: u64, flags: u32) -> Result<Rename<'a>, Wrong> {
        Ok(Rename {
            from: self.name()?,
            folder,
            to: self.name()?,
            flags,
        })
    }

    fn handle_to_ask(&mut self) -> Result<Option<u64>, Wrong> {
        /// `FUSE_GETATTR_FH`
        const BY_HANDLE: u32 = 1;
        let [flags, _] = self.u32s()?;
        let handle = self.u64()?;
        Ok((flags & BY_HANDLE != 0).then_some(handle))
    }

    fn forgotten(&mut self) -> Result<Forgotten<'a>, Wrong> {
        let [count, _] = self.u32s()?;
        let len = usize::try_from(count).ok();
        let len = len.and_then(|count| count.checked_mul(Forgotten::ONE));
        let all = len.and_then(|len| self.bytes.get(..len));
        all.map(Forgotten).ok_or(Wrong::Malformed)
    }

    fn setting(&mut self) -> Result<Setting, Wrong> {
        // `FATTR_` flags.
        let [valid, _] = self.u32s()?;
        let has = |bit: u32| valid & 1 << bit != 0;
        let handle = self.u64()?;
        let size = self.u64()?;
        let _lock_owner = self.u64()?;
        let [atime, mtime, _ctime] = [self.u64()?, self.u64()?, self.u64()?];
        let [atime_ns, mtime_ns, _ctime_ns, mode] = self.u32s()?;
        let [_unused, uid, gid, _] = self.u32s()?;
        let time = |is_set, is_now, seconds, nanoseconds| match (is_set, is_now) {
            (false, _) => None,
            (true, true) => Some(SettingTime::Now),
            (true, false) => Some(SettingTime::At(seconds, nanoseconds)),
        };
        Ok(Setting {
            handle: has(6).then_some(handle),
            mode: has(0).then_some(mode),
            uid: has(1).then_some(uid),
            gid: has(2).then_some(gid),
            size: has(3).then_some(size),
            atime: time(has(4), has(7), atime, atime_ns),
            mtime: time(has(5), has(8), mtime, mtime_ns),
        })
    }
}

//! Folders of the host as virtio file systems.
//!
//! The guest speaks of files by numbers that it was given, and of names in folders. Whatever it asks,
//! nothing outside of the folder is reached: a name is one step down, no symbolic link is ever followed
//! here, and what may be written is decided here and not in the guest.

mod files;
mod host;
mod listing;
#[cfg(test)]
mod tests;
mod tree;

use super::jailed::Jailed;
use super::{Backend, Io, VirtioDevice};
use crate::jail::Inmate;
use crate::reports::Reports;
use crate::{DeviceError, Share, Tag};
use files::Files;
use firstlight_base::{GpaRange, MIB};
use firstlight_devices::virtio::fs::{
    Access, Creation, Entry, Fs, InitFlags, InitReply, Name, OpenFlags, Operation, Part, Rename,
    Reply, Request, Room, Setting, SettingTime, StatFs,
};
use firstlight_devices::virtio::queue::ChainError;
use firstlight_devices::virtio::{Chain, QueueError};
use firstlight_load::GuestMemory;
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, chownat, fallocate, fdatasync, fstatfs, fsync, ftruncate, linkat,
    mkdirat, mknodat, readlinkat, renameat_with, seek, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use std::io;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use tree::Grounds;
use tree::Tree;

/// The file system of `share`, one of so many that the guest has.
///
/// # Errors
///
/// [`DeviceError`] where that is no folder, or not to be had.
pub(crate) fn share(share: &Share, number: usize, of: usize) -> Result<VirtioDevice, DeviceError> {
    let server = Server::open(share, Quota::of_each(of))?;
    let chip = Fs::new(share.tag);
    Ok(VirtioDevice::new(format!("share {number}"), chip, server))
}

/// The same, served by a process in a jail.
///
/// # Errors
///
/// [`DeviceError`] as for [`share`], and where there is no such process.
pub(crate) fn jailed_share(
    share: &Share,
    number: usize,
    reports: &Arc<Reports>,
) -> Result<VirtioDevice, DeviceError> {
    let Grounds { root, .. } = Grounds::open(share)?;
    let inmate = Inmate::Share {
        readonly: share.readonly,
        is_still: share.is_still,
    };
    let (name, chip) = (format!("share {number}"), Fs::new(share.tag));
    let jailed = Jailed::start((&name, &chip), (inmate, root), reports)?;
    Ok(VirtioDevice::new(name, chip, jailed))
}

/// The file system on `grounds`, in that process: whether it can only be read, and whether it stays as it is.
///
/// # Errors
///
/// The host's, where the folder cannot be looked at.
pub(crate) fn share_of(
    grounds: Grounds,
    how: (bool, bool),
    quota: Quota,
) -> Result<VirtioDevice, Errno> {
    let server = Server::new(grounds, how, quota)?;
    // The name by which it is mounted is told elsewhere.
    let tag = Tag::new("share").expect("a short tag");
    Ok(VirtioDevice::new("share", Fs::new(tag), server))
}

/// How much of the host a share may take, whatever its guest does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Files that the guest has numbers of.
    nodes: usize,
    /// Descriptors that are kept for those.
    handles: usize,
    /// Files that the guest has open.
    files: usize,
}

impl Quota {
    /// What each of so many shares may take of the descriptors that this process can have.
    pub(crate) fn of_each(of: usize) -> Self {
        /// What they cost is well below a GiB.
        const NODES: usize = 1 << 20;
        const MOST: u64 = 1 << 13;
        let limit = getrlimit(Resource::Nofile);
        // Where that is refused, there are as many as there are.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        );
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let each = (limit / 4).min(MOST) / u64::try_from(of.max(1)).unwrap_or(u64::MAX);
        let each = usize::try_from(each).unwrap_or(usize::MAX).max(8);
        Self {
            nodes: NODES / of.max(1),
            handles: each,
            files: each,
        }
    }
}

/// So long a guest may rely on what it was told of a file that the host may change meanwhile.
const FRESH: Duration = Duration::from_secs(1);
/// And of one that nobody changes.
const STILL: Duration = Duration::from_secs(3600);

/// The most bytes that a request moves, and without many pages to a request.
const LONGEST: u64 = MIB;
const LONGEST_OF_FEW_PAGES: u32 = 32 * 4096;

/// Modes that would make a program somebody else's than who runs it (`S_ISUID`, `S_ISGID`).
const SET_ID: u32 = 0o6000;
/// `S_IFMT`
const KIND: u32 = 0o170_000;

/// What is behind a share.
pub(crate) struct Server {
    tree: Tree,
    files: Files,
    quota: Quota,
    readonly: bool,
    valid: Duration,
    /// New files are to be the guest's users' own, which the host lets root do.
    gives_away: bool,
    /// Kept from request to request, so that they do not allocate.
    buffer: Vec<u8>,
    ranges: Vec<GpaRange>,
}

/// What a request comes to.
enum Answer {
    Bytes(Vec<u8>),
    /// So many bytes are in their place.
    Filled(u64),
    Done,
    /// Nothing is said.
    Silence,
}

impl Backend for Server {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |chain, memory| self.answer(chain, memory))
    }

    fn stopped(&mut self) {
        // The next driver has been told nothing.
        self.forget_all();
    }
}

impl Server {
    fn open(share: &Share, quota: Quota) -> Result<Self, DeviceError> {
        let grounds = Grounds::open(share)?;
        let how = (share.readonly, share.is_still);
        let server = Self::new(grounds, how, quota);
        server.map_err(|errno| DeviceError::OpenShare {
            path: share.path.clone(),
            source: errno.into(),
        })
    }

    fn new(
        grounds: Grounds,
        (readonly, is_still): (bool, bool),
        quota: Quota,
    ) -> Result<Self, Errno> {
        Ok(Self {
            tree: Tree::new(grounds, quota)?,
            files: Files::new(quota.files),
            quota,
            readonly,
            valid: if is_still { STILL } else { FRESH },
            gives_away: geteuid().is_root(),
            buffer: Vec::new(),
            ranges: Vec::new(),
        })
    }

    fn forget_all(&mut self) {
        self.tree.forget_all();
        self.files = Files::new(self.quota.files);
    }

    /// Does what is asked for, and says how many bytes of the request were written.
    fn answer(&mut self, chain: &Chain, memory: &GuestMemory) -> Result<u32, ChainError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = match Request::gather(chain, memory, &mut buffer)? {
            Some(request) => self.answer_request(&request, chain, memory),
            None => Ok(0),
        };
        self.buffer = buffer;
        written
    }

    fn answer_request(
        &mut self,
        request: &Request<'_>,
        chain: &Chain,
        memory: &GuestMemory,
    ) -> Result<u32, ChainError> {
        let reply = Reply::of(chain, memory, request.unique)?;
        let answer = match request.operation {
            Err(wrong) => Err(Errno::from_raw_os_error(wrong.errno())),
            Ok(operation) if self.readonly && changes(&operation) => Err(Errno::ROFS),
            Ok(Operation::Read(part)) => self.read(part, reply.as_ref(), memory),
            Ok(Operation::Write(part)) => self.write(part, chain, memory),
            Ok(Operation::ReadDir(part)) => self.list(request.node, part, reply.as_ref(), false),
            Ok(Operation::ReadDirPlus(part)) => self.list(request.node, part, reply.as_ref(), true),
            Ok(operation) => self.carry_out(request, operation),
        };
        let Some(reply) = reply else {
            return Ok(0);
        };
        match answer {
            Ok(Answer::Bytes(bytes)) => reply.finish(memory, &bytes),
            Ok(Answer::Filled(bytes)) => reply.finish_filled(memory, bytes),
            Ok(Answer::Done) => reply.finish(memory, &[]),
            Ok(Answer::Silence) => Ok(0),
            Err(errno) => reply.refuse(memory, errno.raw_os_error()),
        }
    }

    /// What has no data of its own.
    fn carry_out(
        &mut self,
        request: &Request<'_>,
        operation: Operation<'_>,
    ) -> Result<Answer, Errno> {
        let node = request.node;
        match operation {
            Operation::Lookup(name) => self.entry(node, name),
            Operation::Forget(times) => {
                self.tree.forget(node, times);
                Ok(Answer::Silence)
            }
            Operation::ForgetAll(all) => {
                for (node, times) in all.each() {
                    self.tree.forget(node, times);
                }
                Ok(Answer::Silence)
            }
            Operation::GetAttr(handle) => self.attr(node, handle),
            Operation::SetAttr(setting) => self.set(node, &setting),
            Operation::ReadLink => self.read_link(node),
            Operation::Symlink(name, target) => {
                let folder = self.tree.folder(node)?;
                symlinkat(target, &*folder, name.get())?;
                self.made(request, name)
            }
            Operation::MkNod(name, mode) => self.make_node(request, name, mode),
            Operation::MkDir(name, mode) => {
                let folder = self.tree.folder(node)?;
                // A folder's group bit only says whose new files are.
                mkdirat(&*folder, name.get(), Mode::from_raw_mode(mode & 0o3777))?;
                self.made(request, name)
            }
            Operation::Unlink(name) => self.remove(node, name, AtFlags::empty()),
            Operation::RmDir(name) => self.remove(node, name, AtFlags::REMOVEDIR),
            Operation::Rename(rename) => self.rename(node, &rename),
            Operation::Link(other, name) => self.link(request, other, name),
            Operation::Open(access) => self.open_file(node, access),
            Operation::Create(creation) => self.create(request, &creation),
            Operation::StatFs => self.fullness(node),
            Operation::Release(handle) | Operation::ReleaseDir(handle) => {
                self.files.close(handle);
                Ok(Answer::Done)
            }
            Operation::FSync(handle, data_only) => {
                let file = self.files.file(handle)?;
                if data_only {
                    fdatasync(file)?;
                } else {
                    fsync(file)?;
                }
                Ok(Answer::Done)
            }
            Operation::FSyncDir(handle) => {
                if let Some(folder) = self.files.folder(handle)? {
                    fsync(folder)?;
                }
                Ok(Answer::Done)
            }
            Operation::Init {
                major,
                max_readahead,
                flags,
                minor: _,
            } => Ok(self.begin(major, max_readahead, flags)),
            Operation::OpenDir => self.open_folder(node),
            Operation::Fallocate(room) => self.allocate(&room),
            Operation::Lseek(handle, offset, whence) => self.seek(handle, offset, whence),
            Operation::Destroy => {
                self.forget_all();
                Ok(Answer::Done)
            }
            Operation::Interrupt => Ok(Answer::Silence),
            Operation::Read(_)
            | Operation::Write(_)
            | Operation::ReadDir(_)
            | Operation::ReadDirPlus(_) => unreachable!("they are done where their data is"),
        }
    }

    fn begin(&mut self, major: u32, max_readahead: u32, flags: InitFlags) -> Answer {
        // To a driver of another protocol only the number of ours is told: it asks again.
        if major == InitReply::MAJOR {
            self.forget_all();
        }
        let flags = flags.intersection(InitFlags::all());
        let longest = match flags.contains(InitFlags::MAX_PAGES) {
            true => u32::try_from(LONGEST).unwrap_or(LONGEST_OF_FEW_PAGES),
            false => LONGEST_OF_FEW_PAGES,
        };
        let reply = InitReply {
            max_readahead,
            flags,
            max_write: longest,
        };
        Answer::Bytes(reply.to_bytes())
    }

    /// What a name stands for, which the guest knows from now on.
    fn entry(&mut self, folder: u64, name: Name<'_>) -> Result<Answer, Errno> {
        let entry = self.look_up(folder, name)?;
        Ok(Answer::Bytes(entry.to_bytes()))
    }

    fn look_up(&mut self, folder: u64, name: Name<'_>) -> Result<Entry, Errno> {
        let (node, attr) = self.tree.look_up(folder, name.get())?;
        Ok(Entry {
            node,
            valid: self.valid,
            attr,
        })
    }

    fn attr(&mut self, node: u64, handle: Option<u64>) -> Result<Answer, Errno> {
        let open = handle.and_then(|handle| self.files.file(handle).ok());
        let attr = match open {
            Some(file) => self.tree.attr_of(file)?,
            None => self.tree.attr(node)?,
        };
        Ok(Answer::Bytes(attr.to_bytes(self.valid)))
    }

    fn read_link(&mut self, node: u64) -> Result<Answer, Errno> {
        if self.tree.kind(node)? != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let link = self.tree.handle(node)?;
        let target = readlinkat(&*link, c"", Vec::new())?;
        Ok(Answer::Bytes(target.into_bytes()))
    }

    fn set(&mut self, node: u64, setting: &Setting) -> Result<Answer, Errno> {
        let Setting {
            handle,
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        } = *setting;
        let kind = self.tree.kind(node)?;
        let path = self.tree.changeable(node)?;
        if let Some(mode) = mode {
            refuse_set_id(kind, mode)?;
            host::set_mode(self.tree.descriptors(), &path, mode & 0o7777)?;
        }
        if uid.is_some() || gid.is_some() {
            chownat(
                &*path,
                c"",
                uid.map(rustix::fs::Uid::from_raw),
                gid.map(rustix::fs::Gid::from_raw),
                AtFlags::EMPTY_PATH,
            )?;
        }
        if let Some(size) = size {
            let open = handle.and_then(|handle| self.files.writable(handle).ok());
            match open {
                Some(file) => ftruncate(file, size)?,
                None => ftruncate(self.tree.reopen(node, OFlags::WRONLY)?, size)?,
            }
        }
        if atime.is_some() || mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(atime),
                last_modification: timespec(mtime),
            };
            let name = host::number(&path);
            utimensat(self.tree.descriptors(), name, &times, AtFlags::empty())?;
        }
        let attr = self.tree.attr(node)?;
        Ok(Answer::Bytes(attr.to_bytes(self.valid)))
    }

    /// Devices are the host's: one that a guest could make would be opened by nobody good.
    fn make_node(
        &mut self,
        request: &Request<'_>,
        name: Name<'_>,
        mode: u32,
    ) -> Result<Answer, Errno> {
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Fifo => FileType::Fifo,
            FileType::Socket => FileType::Socket,
            FileType::RegularFile => FileType::RegularFile,
            FileType::Unknown if mode & KIND == 0 => FileType::RegularFile,
            _ => return Err(Errno::PERM),
        };
        refuse_set_id(kind, mode)?;
        let folder = self.tree.folder(request.node)?;
        let mode = Mode::from_raw_mode(mode & 0o1777);
        mknodat(&*folder, name.get(), kind, mode, 0)?;
        self.made(request, name)
    }

    /// What has just been made.
    fn made(&mut self, request: &Request<'_>, name: Name<'_>) -> Result<Answer, Errno> {
        let entry = self.own_made(request, name)?;
        Ok(Answer::Bytes(entry.to_bytes()))
    }

    /// What has just been made becomes the user's whose request it was, and is looked up.
    fn own_made(&mut self, request: &Request<'_>, name: Name<'_>) -> Result<Entry, Errno> {
        if self.gives_away {
            // A folder with this bit says itself whose group its files are.
            const SET_GROUP: u32 = 0o2000;
            let has_group = self.tree.attr(request.node)?.mode & SET_GROUP != 0;
            let gid = (!has_group).then(|| rustix::fs::Gid::from_raw(request.gid));
            let uid = Some(rustix::fs::Uid::from_raw(request.uid));
            let folder = self.tree.folder(request.node)?;
            chownat(&*folder, name.get(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.look_up(request.node, name)
    }

    fn remove(&mut self, folder: u64, name: Name<'_>, flags: AtFlags) -> Result<Answer, Errno> {
        let folder = self.tree.folder(folder)?;
        unlinkat(&*folder, name.get(), flags)?;
        Ok(Answer::Done)
    }

    fn rename(&mut self, folder: u64, rename: &Rename<'_>) -> Result<Answer, Errno> {
        let flags = RenameFlags::from_bits(rename.flags);
        let known = RenameFlags::EXCHANGE | RenameFlags::NOREPLACE;
        let flags = flags.filter(|flags| known.contains(*flags));
        let flags = flags.ok_or(Errno::INVAL)?;
        let from = self.tree.folder(folder)?;
        let to = self.tree.folder(rename.folder)?;
        renameat_with(&*from, rename.from.get(), &*to, rename.to.get(), flags)?;
        self.tree.moved(rename.folder, rename.to.get());
        if flags.contains(RenameFlags::EXCHANGE) {
            self.tree.moved(folder, rename.from.get());
        }
        Ok(Answer::Done)
    }

    fn link(&mut self, request: &Request<'_>, node: u64, name: Name<'_>) -> Result<Answer, Errno> {
        let folder = self.tree.folder(request.node)?;
        let file = self.tree.changeable(node)?;
        let descriptors = self.tree.descriptors();
        // The link that is followed is the descriptor's own, to the file itself.
        linkat(
            descriptors,
            host::number(&file),
            &*folder,
            name.get(),
            AtFlags::SYMLINK_FOLLOW,
        )?;
        self.entry(request.node, name)
    }

    fn open_file(&mut self, node: u64, access: Access) -> Result<Answer, Errno> {
        let handle = self.open_by_number(node, access)?;
        Ok(Answer::Bytes(OpenFlags::KEEP_CACHE.to_bytes(handle)))
    }

    fn open_by_number(&mut self, node: u64, access: Access) -> Result<u64, Errno> {
        self.files.has_room()?;
        let mut flags = mode_of(access);
        flags.set(OFlags::TRUNC, access.truncates);
        let file = self.tree.reopen(node, flags)?;
        self.files.add_file(file, access.writes)
    }

    fn create(&mut self, request: &Request<'_>, creation: &Creation<'_>) -> Result<Answer, Errno> {
        let Creation { name, mode, access } = *creation;
        self.files.has_room()?;
        refuse_set_id(FileType::RegularFile, mode)?;
        let folder = self.tree.folder(request.node)?;
        let made = host::create(&folder, name.get(), mode_of(access), mode & 0o1777);
        let (entry, handle) = match made {
            Ok(file) => {
                let entry = self.own_made(request, name)?;
                (entry, self.files.add_file(file, access.writes)?)
            }
            // Somebody on the host was faster.
            Err(Errno::EXIST) if !access.exclusive => {
                let entry = self.look_up(request.node, name)?;
                let opened = self.open_by_number(entry.node, access);
                let opened = opened.inspect_err(|_| self.tree.forget(entry.node, 1));
                (entry, opened?)
            }
            Err(errno) => return Err(errno),
        };
        let bytes = entry.to_bytes_opened(handle, OpenFlags::KEEP_CACHE);
        Ok(Answer::Bytes(bytes))
    }

    fn open_folder(&mut self, node: u64) -> Result<Answer, Errno> {
        self.files.has_room()?;
        let handle = match self.tree.is_hollow(node)? {
            true => self.files.add_hollow()?,
            false => {
                let folder = self.tree.reopen_folder(node)?;
                self.files.add_folder(folder)?
            }
        };
        let flags = match self.valid == STILL {
            true => OpenFlags::KEEP_CACHE | OpenFlags::CACHE_DIR,
            false => OpenFlags::empty(),
        };
        Ok(Answer::Bytes(flags.to_bytes(handle)))
    }

    fn fullness(&mut self, node: u64) -> Result<Answer, Errno> {
        let handle = self.tree.handle(node)?;
        let stat = fstatfs(&*handle)?;
        let short = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let block = short(stat.f_bsize);
        let told = StatFs {
            blocks: stat.f_blocks,
            bfree: stat.f_bfree,
            bavail: stat.f_bavail,
            files: stat.f_files,
            ffree: stat.f_ffree,
            bsize: block,
            namelen: short(stat.f_namelen),
            frsize: match short(stat.f_frsize) {
                0 => block,
                size => size,
            },
        };
        Ok(Answer::Bytes(told.to_bytes()))
    }

    fn read(
        &mut self,
        part: Part,
        reply: Option<&Reply<'_>>,
        memory: &GuestMemory,
    ) -> Result<Answer, Errno> {
        let file = self.files.file(part.handle)?;
        let reply = reply.ok_or(Errno::INVAL)?;
        let most = u64::from(part.size).min(LONGEST);
        let ranges = reply.ranges(most).map_err(|_gone| Errno::FAULT)?;
        self.ranges.clear();
        self.ranges.extend(ranges);
        let read = memory.read_file(file, part.offset, &self.ranges);
        let read = read.map_err(|error| errno_of(&error))?;
        Ok(Answer::Filled(read as u64))
    }

    fn write(&mut self, part: Part, chain: &Chain, memory: &GuestMemory) -> Result<Answer, Errno> {
        let file = self.files.writable(part.handle)?;
        if u64::from(part.size) > LONGEST {
            return Err(Errno::INVAL);
        }
        let ranges = Request::data(chain, memory, part.size).map_err(|_short| Errno::INVAL)?;
        self.ranges.clear();
        self.ranges.extend(ranges);
        let written = memory.write_file(file, part.offset, &self.ranges);
        let written = written.map_err(|error| errno_of(&error))?;
        let written = u32::try_from(written).unwrap_or(part.size);
        // `struct fuse_write_out`
        let bytes = [written.to_le_bytes(), [0; 4]].concat();
        Ok(Answer::Bytes(bytes))
    }

    fn allocate(&mut self, room: &Room) -> Result<Answer, Errno> {
        let known =
            FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        let flags = FallocateFlags::from_bits(room.mode);
        let flags = flags.filter(|flags| known.contains(*flags));
        let flags = flags.ok_or(Errno::OPNOTSUPP)?;
        let file = self.files.writable(room.handle)?;
        fallocate(file, flags, room.offset, room.length)?;
        Ok(Answer::Done)
    }

    fn seek(&mut self, handle: u64, offset: u64, whence: u32) -> Result<Answer, Errno> {
        /// `SEEK_DATA` and `SEEK_HOLE`; the others are the guest's own affair.
        const DATA: u32 = 3;
        const HOLE: u32 = 4;
        let to = match whence {
            DATA => SeekFrom::Data(offset),
            HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let at = seek(self.files.file(handle)?, to)?;
        Ok(Answer::Bytes(at.to_le_bytes().into()))
    }
}

/// Whether it would write to the share.
fn changes(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::SetAttr(_)
        | Operation::Symlink(..)
        | Operation::MkNod(..)
        | Operation::MkDir(..)
        | Operation::Unlink(_)
        | Operation::RmDir(_)
        | Operation::Rename(_)
        | Operation::Link(..)
        | Operation::Write(_)
        | Operation::Create(_)
        | Operation::Fallocate(_) => true,
        Operation::Open(access) => access.writes || access.truncates,
        Operation::Lookup(_)
        | Operation::Forget(_)
        | Operation::ForgetAll(_)
        | Operation::GetAttr(_)
        | Operation::ReadLink
        | Operation::Read(_)
        | Operation::StatFs
        | Operation::Release(_)
        | Operation::FSync(..)
        | Operation::Init { .. }
        | Operation::OpenDir
        | Operation::ReadDir(_)
        | Operation::ReadDirPlus(_)
        | Operation::ReleaseDir(_)
        | Operation::FSyncDir(_)
        | Operation::Lseek(..)
        | Operation::Destroy
        | Operation::Interrupt => false,
    }
}

/// A guest's root may be nobody on the host: what it makes must not let others on the host become who
/// runs the guest.
fn refuse_set_id(kind: FileType, mode: u32) -> Result<(), Errno> {
    match mode & SET_ID {
        0 => Ok(()),
        _ if kind == FileType::Directory => Ok(()),
        _ => Err(Errno::PERM),
    }
}

fn mode_of(access: Access) -> OFlags {
    match (access.reads, access.writes) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    }
}

fn timespec(time: Option<SettingTime>) -> Timespec {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        None => special(UTIME_OMIT),
        Some(SettingTime::Now) => special(UTIME_NOW),
        Some(SettingTime::At(seconds, nanoseconds)) => Timespec {
            tv_sec: seconds.cast_signed(),
            // Not what is meant otherwise by numbers beyond a second.
            tv_nsec: nanoseconds.min(999_999_999).into(),
        },
    }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

//! How files of the host are reached: one step at a time, and without following anything.

use firstlight_devices::virtio::fs::{Attr, Time};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, chmodat, fstatfs,
    makedev, openat, openat2, statx,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::path::Path;

/// What opens a file without doing anything to it: such a descriptor stands for the file whatever
/// becomes of its name, and for a symbolic link where it is one.
const STANDS_FOR: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A name leads down from its folder or nowhere.
const ONE_STEP: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// File systems in which the kernel tells of itself and its processes, and lets them be changed
/// (Linux `include/uapi/linux/magic.h`). In a share they are empty: the memory of the process that
/// runs the guest is a file in one of them.
const OF_THE_KERNEL: [u32; 24] = [
    0x0000_0187, // autofs
    0x0000_1cd1, // devpts
    0x0000_9fa0, // proc
    0x0000_9fa1, // openpromfs
    0x0000_9fa2, // usbfs
    0x0027_e0eb, // cgroup
    0x0765_5821, // resctrl
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
    0x4341_5d53, // smackfs
    0x6165_676c, // pstore
    0x6265_6570, // configfs
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x6573_5543, // fusectl
    0x6c6f_6f70, // binderfs
    0x6e73_6673, // nsfs
    0x7363_6673, // securityfs
    0x7472_6163, // tracefs
    0xabba_1974, // xenfs
    0xcafe_4a11, // bpf
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinuxfs
];

/// The folder at `path`, which the user named: links on the way are followed.
pub(super) fn root(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// What this process has open, by number.
pub(super) fn descriptors() -> Result<OwnedFd, Errno> {
    root(Path::new("/proc/self/fd"))
}

/// What `name` stands for in `folder`.
pub(super) fn child(folder: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat2(folder, name, STANDS_FOR, Mode::empty(), ONE_STEP)
}

/// A file that was not there, opened.
pub(super) fn create(
    folder: impl AsFd,
    name: &CStr,
    how: OFlags,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    let flags = how | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(folder, name, flags, Mode::from_raw_mode(mode), ONE_STEP)
}

/// The name of a descriptor in [`descriptors`].
pub(super) fn number(file: impl AsFd) -> String {
    file.as_fd().as_raw_fd().to_string()
}

/// Opens what a descriptor stands for. What is opened is that very file: no name is looked up.
pub(super) fn reopen(
    descriptors: &OwnedFd,
    file: impl AsFd,
    how: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = how | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    openat(descriptors, number(file), flags, Mode::empty())
}

/// Gives permissions to what a descriptor stands for.
pub(super) fn set_mode(descriptors: &OwnedFd, file: impl AsFd, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    chmodat(descriptors, number(file), mode, AtFlags::empty())
}

/// All that is to be known of a file.
pub(super) fn stat(file: impl AsFd) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    statx(file, c"", flags, wanted)
}

/// Whether a file is in a file system of the kernel's own.
pub(super) fn is_of_the_kernel(file: impl AsFd) -> Result<bool, Errno> {
    let kind = fstatfs(file)?.f_type;
    // The number has 32 bits, however long the field is, and whether or not that has a sign.
    let mut known = OF_THE_KERNEL.iter();
    Ok(known.any(|&known| kind.cast_unsigned() & 0xffff_ffff == u64::from(known)))
}

/// A file, told from all others as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) device: (u32, u32),
    number: u64,
    /// Under which mount: a folder that is mounted twice is two folders to the guest.
    mount: u64,
    /// When it was made, for numbers are used again.
    born: (i64, u32),
}

impl Key {
    pub(super) const fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            number: stat.stx_ino,
            mount: stat.stx_mnt_id,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }
    }
}

/// What kind of file it is.
pub(super) fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// The same for the guest, with a number of its own where several file systems are in the share.
pub(super) fn attr(stat: &Statx, ino: u64) -> Attr {
    let time = |seconds, nanoseconds| Time {
        seconds,
        nanoseconds,
    };
    Attr {
        ino,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
        mtime: time(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: time(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        mode: stat.stx_mode.into(),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: u32::try_from(makedev(stat.stx_rdev_major, stat.stx_rdev_minor)).unwrap_or(0),
        blksize: stat.stx_blksize,
    }
}

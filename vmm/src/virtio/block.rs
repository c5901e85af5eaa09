//! Files and block devices of the host as virtio disks.

use super::jailed::Jailed;
use super::{Backend, Io, Stopping, VirtioDevice};
use crate::jail::Inmate;
use crate::reports::Reports;
use crate::{DeviceError, Disk};
use firstlight_base::GpaRange;
use firstlight_devices::virtio::block::{
    self, Access, Block, BlockFeatures, BlockSize, Command, Request, SECTOR, SERIAL_LEN, Segment,
    Status,
};
use firstlight_devices::virtio::queue::ChainError;
use firstlight_devices::virtio::{Chain, QueueError};
use firstlight_load::GuestMemory;
use rustix::fd::OwnedFd;
use rustix::fs::{
    FallocateFlags, FileType, FlockOperation, SeekFrom, fallocate, fdatasync, flock, fstat, seek,
};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The disk of that number.
///
/// # Errors
///
/// [`DeviceError`] where it is not to be had, or is no disk.
pub(crate) fn disk(disk: &Disk, number: usize) -> Result<VirtioDevice, DeviceError> {
    let store = Store::open(disk, number)?;
    let chip = Block::new(store.disk);
    Ok(VirtioDevice::new(format!("disk {number}"), chip, store))
}

/// The same, served by a process in a jail.
///
/// # Errors
///
/// [`DeviceError`] as for [`disk`], and where there is no such process.
pub(crate) fn jailed_disk(
    disk: &Disk,
    number: usize,
    reports: &Arc<Reports>,
) -> Result<VirtioDevice, DeviceError> {
    let Store { file, disk, .. } = Store::open(disk, number)?;
    let access = disk.access;
    let inmate = (Inmate::Disk { access, number }, file.into());
    let (name, chip) = (format!("disk {number}"), Block::new(disk));
    let jailed = Jailed::start((&name, &chip), inmate, reports)?;
    Ok(VirtioDevice::new(name, chip, jailed))
}

/// The disk of that number which is `file`, in that process.
///
/// # Errors
///
/// [`DeviceError`] where it is no disk.
pub(crate) fn disk_of(
    file: OwnedFd,
    access: Access,
    number: usize,
) -> Result<VirtioDevice, DeviceError> {
    let name = format!("disk {number}");
    let disk = Disk {
        path: PathBuf::from(&name),
        readonly: access == Access::ReadOnly,
    };
    let store = Store::of(file.into(), &disk, number)?;
    Ok(VirtioDevice::new(name, Block::new(store.disk), store))
}

/// Opens a disk, and keeps other guests off it as long as it is open.
pub(super) fn open(disk: &Disk) -> Result<File, DeviceError> {
    let file = open_shared(disk)?;
    let lock = if disk.readonly {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    match flock(&file, lock) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(DeviceError::DiskInUse {
            path: disk.path.clone(),
        }),
        // Some file systems have no locks.
        Err(_) => Ok(file),
    }
}

/// Opens a disk, whoever else has it.
pub(super) fn open_shared(disk: &Disk) -> Result<File, DeviceError> {
    let path = || disk.path.clone();
    let failed = |source: io::Error| DeviceError::OpenDisk {
        path: path(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(!disk.readonly)
        // Nobody may be at the other end of a FIFO.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&disk.path)
        .or_else(|error| {
            // A folder cannot be opened for writing; what it is says more than that.
            if disk.path.is_dir() {
                File::open(&disk.path)
            } else {
                Err(error)
            }
        })
        .map_err(failed)?;
    let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
    let is = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => None,
        FileType::Directory => Some("a folder"),
        FileType::CharacterDevice => Some("a character device"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        FileType::Symlink | FileType::Unknown => Some("no file"),
    };
    match is {
        Some(is) => Err(DeviceError::NoDisk { path: path(), is }),
        None => Ok(file),
    }
}

/// How many bytes there are.
pub(super) fn bytes(disk: &Disk, file: &File) -> Result<u64, DeviceError> {
    // A block device says its size by where its end is.
    seek(file, SeekFrom::End(0)).map_err(|errno| DeviceError::OpenDisk {
        path: disk.path.clone(),
        source: errno.into(),
    })
}

/// How many sectors there are.
fn sectors(disk: &Disk, file: &File) -> Result<u64, DeviceError> {
    let len = bytes(disk, file)?;
    if len == 0 || !len.is_multiple_of(SECTOR) {
        return Err(DeviceError::DiskLength {
            path: disk.path.clone(),
            len,
        });
    }
    Ok(len / SECTOR)
}

/// A number that tells the guest's disks apart.
fn serial(number: usize) -> [u8; SERIAL_LEN] {
    let mut serial = [0; SERIAL_LEN];
    for (byte, text) in serial
        .iter_mut()
        .zip(format!("firstlight-{number}").bytes())
    {
        *byte = text;
    }
    serial
}

/// What is behind a disk.
struct Store {
    file: File,
    disk: block::Disk,
    /// Whether the driver knows that what it writes is kept only when it flushes.
    is_cached: bool,
    /// Kept from request to request, so that they do not allocate.
    ranges: Vec<GpaRange>,
}

impl Backend for Store {
    fn started(&mut self, features: u64) {
        let features = BlockFeatures::from_bits_retain(features);
        self.is_cached = features.contains(BlockFeatures::FLUSH);
    }

    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        let stopping = io.stopping();
        io.serve(queue, |chain, memory| self.answer(chain, memory, stopping))
    }
}

impl Store {
    fn open(disk: &Disk, number: usize) -> Result<Self, DeviceError> {
        Self::of(open(disk)?, disk, number)
    }

    fn of(file: File, disk: &Disk, number: usize) -> Result<Self, DeviceError> {
        let told = block::Disk {
            sectors: sectors(disk, &file)?,
            access: if disk.readonly {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            },
            block_size: BlockSize::Bytes512,
            serial: serial(number),
        };
        Ok(Self {
            file,
            disk: told,
            is_cached: false,
            ranges: Vec::new(),
        })
    }

    /// Does what is asked for, and says how many bytes of the request were written.
    fn answer(
        &mut self,
        chain: &Chain,
        memory: &GuestMemory,
        stopping: Stopping<'_>,
    ) -> Result<u32, ChainError> {
        let Request { command, reply } = Request::parse(chain, memory, &self.disk)?;
        let done = match command {
            Command::Read { offset, ranges } => self.read(offset, ranges, memory),
            Command::Write { offset, ranges } => self.write(offset, ranges, memory),
            Command::Flush => fdatasync(&self.file).map_err(io::Error::from),
            Command::Discard(segments) => each(segments.as_slice(), |segment| self.punch(segment)),
            Command::WriteZeroes(segments) => {
                each(segments.as_slice(), |segment| self.zero(segment, stopping))
                    .and_then(|()| self.keep())
            }
            Command::TellSerial => {
                return reply.finish_with_serial(memory, &self.disk);
            }
            Command::Refuse(status) => {
                return reply.finish(memory, status);
            }
        };
        let status = match done {
            Ok(()) => Status::Ok,
            Err(_) => Status::IoError,
        };
        reply.finish(memory, status)
    }

    fn read(
        &mut self,
        offset: u64,
        ranges: impl Iterator<Item = GpaRange>,
        memory: &GuestMemory,
    ) -> io::Result<()> {
        self.gather(ranges);
        let read = memory.read_file(&self.file, offset, &self.ranges)?;
        self.check_whole(read)
    }

    fn write(
        &mut self,
        offset: u64,
        ranges: impl Iterator<Item = GpaRange>,
        memory: &GuestMemory,
    ) -> io::Result<()> {
        self.gather(ranges);
        let written = memory.write_file(&self.file, offset, &self.ranges)?;
        self.check_whole(written)?;
        self.keep()
    }

    /// Keeps what was written before it is said to be, for a driver that will not flush (section
    /// 5.2.6.2).
    fn keep(&self) -> io::Result<()> {
        if self.is_cached {
            return Ok(());
        }
        Ok(fdatasync(&self.file)?)
    }

    fn gather(&mut self, ranges: impl Iterator<Item = GpaRange>) {
        self.ranges.clear();
        self.ranges.extend(ranges);
    }

    /// A file that has become shorter has no more to give.
    fn check_whole(&self, moved: usize) -> io::Result<()> {
        let wanted: u64 = self.ranges.iter().map(|range| range.len()).sum();
        if moved as u64 == wanted {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Gives the room of a segment back to the host, where that is possible: it is the guest's to ask,
    /// not to rely on.
    fn punch(&self, segment: &Segment) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, hole, segment.offset, segment.len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a segment zeros.
    fn zero(&self, segment: &Segment, stopping: Stopping<'_>) -> io::Result<()> {
        let how = if segment.may_unmap {
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE
        };
        match fallocate(&self.file, how, segment.offset, segment.len) {
            Ok(()) => Ok(()),
            // Block devices of larger blocks take only those.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => self.write_zeros(segment, stopping),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A request can have 32 GiB of them: where the device is to stop, the rest is left as it is, and the
    /// request has failed.
    fn write_zeros(&self, segment: &Segment, stopping: Stopping<'_>) -> io::Result<()> {
        const ZEROS: &[u8] = &[0; 64 << 10];
        let mut done = 0;
        while done < segment.len {
            if stopping.is_wanted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let left = usize::try_from(segment.len - done).unwrap_or(ZEROS.len());
            let piece = &ZEROS[..left.min(ZEROS.len())];
            self.file.write_all_at(piece, segment.offset + done)?;
            done += piece.len() as u64;
        }
        Ok(())
    }
}

/// Does `each` segment that has any bytes.
fn each(segments: &[Segment], each: impl FnMut(&Segment) -> io::Result<()>) -> io::Result<()> {
    segments
        .iter()
        .filter(|segment| segment.len > 0)
        .try_for_each(each)
}

#[cfg(test)]
mod tests;

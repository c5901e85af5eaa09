//! Files and block devices of the host as memory of the guest's that outlives it.

#[cfg(test)]
mod tests;

use super::block::{bytes, open, open_shared};
use super::{Backend, Io, VirtioDevice};
use crate::{DeviceError, Disk, RunError};
use firstlight_base::GpaRange;
use firstlight_boot::PMEM_ALIGN;
use firstlight_devices::virtio::QueueError;
use firstlight_devices::virtio::pmem::{Pmem, answer};
use firstlight_load::{Backing, GuestMemory};
use rustix::fs::fdatasync;
use std::fs::File;

/// A file that is to be guest memory, and where.
pub(crate) struct PmemFile {
    file: File,
    len: u64,
    range: GpaRange,
    backing: Backing,
}

/// How many bytes of the guest's addresses a disk takes as memory.
///
/// # Errors
///
/// [`DeviceError`] where it is not to be had, or cannot be memory.
pub(crate) fn room(disk: &Disk) -> Result<u64, DeviceError> {
    let file = open_shared(&Disk {
        readonly: true,
        ..disk.clone()
    })?;
    room_of(disk, bytes(disk, &file)?)
}

/// What is behind the end of one that is only read, is zeros; of another it would be lost what the guest
/// writes there.
fn room_of(disk: &Disk, len: u64) -> Result<u64, DeviceError> {
    let room = len.checked_next_multiple_of(PMEM_ALIGN);
    let room = room.filter(|room| *room > 0 && (disk.readonly || *room == len));
    room.ok_or_else(|| DeviceError::PmemLength {
        path: disk.path.clone(),
        len,
    })
}

/// The disk of that number among those that are memory, at the place that the plan has for it; other
/// guests are kept off it as long as the device is there.
///
/// # Errors
///
/// [`DeviceError`] where it is not to be had, or is not what was planned.
pub(crate) fn pmem(
    disk: &Disk,
    number: usize,
    planned: Option<GpaRange>,
) -> Result<(VirtioDevice, PmemFile), DeviceError> {
    let file = open(disk)?;
    let failed = |source| DeviceError::OpenDisk {
        path: disk.path.clone(),
        source,
    };
    let len = bytes(disk, &file)?;
    let room = room_of(disk, len)?;
    let range = planned.filter(|range| range.len() == room);
    let range = range.ok_or_else(|| DeviceError::PmemUnplanned {
        path: disk.path.clone(),
        len,
    })?;
    let backing = if disk.readonly {
        Backing::Private
    } else {
        Backing::Shared
    };
    let mapped = PmemFile {
        file: file.try_clone().map_err(failed)?,
        len,
        range,
        backing,
    };
    let name = format!("pmem {number}");
    let device = VirtioDevice::new(name, Pmem::new(range), Keeper { file, backing });
    Ok((device, mapped))
}

impl PmemFile {
    /// Lets the file be the guest's memory.
    pub(crate) fn add_to(self, memory: &mut GuestMemory) -> Result<(), RunError> {
        let added = memory.add_file(self.range, (&self.file, self.len), self.backing);
        added.map_err(RunError::host("map a file as the guest's memory"))
    }
}

/// Sees to it that what was written is kept.
struct Keeper {
    file: File,
    backing: Backing,
}

impl Backend for Keeper {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |chain, memory| {
            answer(chain, memory, || match self.backing {
                // Nothing of it is, and nobody is told that it were.
                Backing::Private => false,
                Backing::Shared => fdatasync(&self.file).is_ok(),
            })
        })
    }
}

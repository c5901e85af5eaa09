//! What virtio devices a machine is to have, as they are asked for.

use crate::VirtioDevice;
use crate::virtio;
use firstlight_boot::Hardware;
use std::io;
use std::path::PathBuf;

/// The virtio devices of a machine, as they are asked for. The [default](Self::default) is none.
///
/// The plan must have room for them, which [`equip`](Self::equip) asks for.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// How the guest reaches them.
    pub transport: Transport,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// Whether it has a source of random numbers.
    pub rng: bool,
    /// Into how many slots devices can be plugged while it runs; the bus for that is PCI.
    pub hotplug_slots: u8,
}

/// How a guest reaches its virtio devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// As functions on a PCI Express bus.
    #[default]
    Pci,
    /// By registers in memory, without a bus.
    Mmio,
}

/// A disk: a file, or a block device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where it is.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub readonly: bool,
}

impl Devices {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.disks.len() + usize::from(self.rng)
    }

    /// Asks for as much room as they need.
    pub fn equip(&self, hardware: &mut Hardware) {
        let transports = u32::try_from(self.count()).unwrap_or(u32::MAX);
        match self.transport {
            Transport::Pci => hardware.pci = self.count() > 0 || self.hotplug_slots > 0,
            Transport::Mmio => {
                hardware.virtio = transports;
                hardware.pci = self.hotplug_slots > 0;
            }
        }
    }

    /// Opens what they are on the host, in the order in which the guest finds them.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] for the first that is not to be had.
    pub(crate) fn open(&self) -> Result<Vec<VirtioDevice>, DeviceError> {
        let disks = self.disks.iter().zip(0_usize..);
        let disks = disks.map(|(disk, number)| virtio::disk(disk, number));
        let rng = self.rng.then(virtio::rng);
        disks.chain(rng.map(Ok)).collect()
    }
}

/// A device that cannot be had from the host.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A disk cannot be opened.
    #[error("cannot open the disk {}", path.display())]
    OpenDisk {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A disk is not something with bytes at offsets.
    #[error("{} is {is}, which cannot be a disk", path.display())]
    NoDisk {
        /// Its file.
        path: PathBuf,
        /// What it is.
        is: &'static str,
    },
    /// A disk is too short, or does not end with a whole sector.
    #[error(
        "{} has {len} bytes; a disk has a whole number of sectors of 512 bytes, and at least one",
        path.display()
    )]
    DiskLength {
        /// Its file.
        path: PathBuf,
        /// How long it is.
        len: u64,
    },
    /// Another guest has the disk.
    #[error(
        "the disk {} is in use by another guest; two may share it only if both have it read-only",
        path.display()
    )]
    DiskInUse {
        /// Its file.
        path: PathBuf,
    },
    /// One file twice.
    #[error("the disk {} is given twice", path.display())]
    DiskTwice {
        /// Its file.
        path: PathBuf,
    },
}

//! What keeps a device from being had.

use crate::jail::JailError;
use crate::listener::ListenError;
use crate::pci::vfio::VfioError;
use crate::virtio::{FrontEndError, PasstError, TapError};
use firstlight_devices::{BatteryStateError, FwCfgError};
use std::io;
use std::path::PathBuf;

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
    /// A disk that the guest is to write to as memory has a size that memory cannot have.
    #[error(
        "{} has {len} bytes; memory that a guest writes to has a whole number of 2 MiB, and at least one, as \
         `truncate -s %2M` makes it",
        path.display()
    )]
    PmemLength {
        /// Its file.
        path: PathBuf,
        /// How long it is.
        len: u64,
    },
    /// The plan was made for something else.
    #[error("{} has {len} bytes now, for which the plan has no room", path.display())]
    PmemUnplanned {
        /// Its file.
        path: PathBuf,
        /// How long it is.
        len: u64,
    },
    /// A guest has the disk, perhaps this one.
    #[error(
        "the disk {} is in use by a guest; disks are shared only where all have them read-only",
        path.display()
    )]
    DiskInUse {
        /// Its file.
        path: PathBuf,
    },
    /// A shared folder cannot be had.
    #[error("cannot share {}", path.display())]
    OpenShare {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is to be shared is nothing that can be.
    #[error("{} is {is}, which cannot be shared", path.display())]
    NoShare {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        is: &'static str,
    },
    /// Two shared folders have the same name in the guest.
    #[error("two shares have the tag {tag}, by which the guest mounts one")]
    SameTag {
        /// The name.
        tag: String,
    },
    /// A network card's interface is not to be had.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A network card's program is not to be had.
    #[error(transparent)]
    Passt(#[from] PasstError),
    /// The host's end of the sockets is not to be had.
    #[error(transparent)]
    Vsock(#[from] ListenError),
    /// A device's own process is not to be had, or has ended.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// A process that is to serve a device is not to be had, or cannot.
    #[error(transparent)]
    FrontEnd(#[from] FrontEndError),
    /// What a debug console says cannot be written.
    #[error("cannot write what the debug console says to {}", path.display())]
    OpenDebugConsole {
        /// Where it was to go.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is to be offered cannot be read.
    #[error("cannot read {}", path.display())]
    ReadFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too long.
    #[error("{} has more than {most} bytes, the most that firmware is offered", path.display())]
    LongFile {
        /// Which.
        path: PathBuf,
        /// The most.
        most: u64,
    },
    /// No battery stands so.
    #[error(transparent)]
    Battery(#[from] BatteryStateError),
    /// Files cannot be offered to the firmware.
    #[error(transparent)]
    FwCfg(#[from] FwCfgError),
    /// A device of the host's is not to be had.
    #[error(transparent)]
    Vfio(#[from] VfioError),
    /// The engine has no such device.
    #[error("the {engine} engine has no {what}; the kvm engine has")]
    Engine {
        /// The engine's name.
        engine: &'static str,
        /// What it has not.
        what: &'static str,
    },
}

impl DeviceError {
    /// Whether it is what was asked for that is wrong, and not the host.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::NoDisk { .. }
            | Self::DiskLength { .. }
            | Self::PmemLength { .. }
            | Self::LongFile { .. }
            | Self::FwCfg(_)
            | Self::Battery(_)
            | Self::NoShare { .. }
            | Self::SameTag { .. }
            | Self::Vfio(VfioError::Pinned(_) | VfioError::Twice(_)) => true,
            Self::OpenDisk { .. }
            | Self::OpenDebugConsole { .. }
            | Self::ReadFile { .. }
            | Self::DiskInUse { .. }
            | Self::PmemUnplanned { .. }
            | Self::OpenShare { .. }
            | Self::Tap(_)
            | Self::Passt(_)
            | Self::Vsock(_)
            | Self::FrontEnd(_)
            | Self::Jail(_)
            | Self::Vfio(_)
            | Self::Engine { .. } => false,
        }
    }
}

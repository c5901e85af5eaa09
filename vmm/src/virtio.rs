//! Virtio devices: each between a driver in the guest and something of the host's.
//!
//! What a driver sees is a chip of the `devices` crate behind one of two transports, [`mmio`] or a
//! function on the PCI bus. What the device does is its [`Backend`], which has a thread of its own as
//! long as a driver runs it: a device that nobody uses costs nothing.

mod backend;
mod balloon;
mod block;
mod console;
mod front_end;
mod fs;
mod jailed;
pub(crate) mod mmio;
mod net;
mod pmem;
mod rng;
mod runner;
#[cfg(test)]
mod testing;
mod vhost_user;
mod vsock;

pub(crate) use backend::{Backend, Io, Stopping};
pub(crate) use balloon::{BalloonControl, balloon};
pub(crate) use block::{disk_of, jailed_disk};
pub(crate) use console::{ConsoleLine, STATUS_PORT, StatusLine, console, status_port};
pub use front_end::{ForeignDevice, ForeignKind, FrontEndError};
pub(crate) use front_end::{address_of, check as check_back_end, foreign};
pub(crate) use fs::{Grounds, Quota, jailed_share, share, share_of};
pub(crate) use net::{Carrier, Passt, SET_OFFLOADS, Tap, jailed_network, network, network_of};
pub use net::{PasstError, TapError};
pub(crate) use pmem::{PmemFile, pmem, room};
pub(crate) use rng::rng;
pub(crate) use runner::{Interrupt, Runner};
pub(crate) use vhost_user::{VhostUser, serve};
pub(crate) use vsock::vsock;

use crate::{DeviceError, Disk};
use firstlight_devices::virtio::Device;
use std::fmt;

/// A virtio device: what its driver sees, and what it does.
pub struct VirtioDevice {
    /// What it is called where it is spoken of: the name of its thread, too.
    pub(crate) name: String,
    pub(crate) chip: Box<dyn Device>,
    pub(crate) backend: Box<dyn Backend>,
}

impl VirtioDevice {
    pub(crate) fn new(
        name: impl Into<String>,
        chip: impl Device + 'static,
        backend: impl Backend + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            chip: Box::new(chip),
            backend: Box::new(backend),
        }
    }

    /// A disk, the guest's of that number; other guests are kept off it as long as this lives.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] where it is not to be had, or is no disk.
    pub fn disk(disk: &Disk, number: usize) -> Result<Self, DeviceError> {
        block::disk(disk, number)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for VirtioDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioDevice")
            .field("name", &self.name)
            .field("chip", &self.chip)
            .finish_non_exhaustive()
    }
}

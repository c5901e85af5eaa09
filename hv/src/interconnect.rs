//! What passes between a machine's devices and its processors without either waiting for the other:
//! messages one way, doorbells the other.

use crate::HvError;
use firstlight_base::Gpa;
use rustix::fd::BorrowedFd;
use std::any::Any;
use std::fmt;

/// A message-signalled interrupt: a write that a device makes to its interrupt controller (PCI Local
/// Bus Specification 3.0, section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it is written.
    pub address: Gpa,
    /// What is written.
    pub data: u32,
    /// Who writes: the PCI requester id, by which an Arm interrupt translation service tells devices
    /// apart.
    pub requester: u32,
}

/// A register that a guest writes to when it has work for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// Its address, which is not memory.
    pub at: Gpa,
    /// How many bytes are written: 1, 2, 4 or 8.
    pub width: u32,
    /// What is written, where other values mean something else.
    pub value: Option<u64>,
}

/// A machine's interconnect, for whoever serves its devices; from any thread.
pub trait Interconnect: Send + Sync {
    /// Delivers a device's message.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the machine has nobody who takes messages, or the host refuses.
    fn send(&self, message: &Message) -> Result<(), HvError>;

    /// Lets writes to `doorbell` count up `event`, an event file descriptor, without an exit of the
    /// vCPU. Without it, or where a hypervisor cannot, the write is an exit like any other.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses.
    fn hang(&self, doorbell: Doorbell, event: BorrowedFd<'_>) -> Result<Hung, HvError>;
}

/// A doorbell that hangs until this is dropped.
pub struct Hung {
    _until: Box<dyn Any + Send + Sync>,
}

impl Hung {
    /// One that is taken down by dropping `until`.
    #[must_use]
    pub fn until(until: impl Any + Send + Sync) -> Self {
        Self {
            _until: Box::new(until),
        }
    }
}

impl fmt::Debug for Hung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hung")
    }
}

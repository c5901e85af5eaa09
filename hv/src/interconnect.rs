//! What passes between a machine's devices and its processors without either waiting for the other:
//! messages one way, doorbells the other.

use crate::HvError;
use firstlight_base::{Gpa, Irq};
use firstlight_load::GuestMemory;
use rustix::fd::BorrowedFd;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

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

impl Message {
    /// The lower and the upper half of the address.
    pub(crate) fn halves(&self) -> [u32; 2] {
        let address = self.address.get();
        let halves = [address, address >> 32].map(|half| half & u64::from(u32::MAX));
        halves.map(|half| u32::try_from(half).expect("masked to 32 bits"))
    }
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

    /// Gives the guest `memory` at its addresses, where no other is, as long as what is handed back is there;
    /// while it runs. To touch it need not be possible for anybody but the guest.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn show(&self, _memory: &Arc<GuestMemory>) -> Result<Hung, HvError> {
        Err(HvError::MissingCapability("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Says what the pins of an I/O APIC outside the hypervisor send, by their number: of an interrupt that comes of
    /// a level, a vCPU [tells the end](crate::Exit::EndOfInterrupt) only where that is known. To be said whenever it
    /// changes.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses, or its machine has no use for it.
    fn announce(&self, _pins: &[Option<Message>]) -> Result<(), HvError> {
        Err(HvError::MissingCapability("KVM_CAP_SPLIT_IRQCHIP"))
    }

    /// Lets an event raise the level-triggered line `irq`, and has another one counted up each time the guest
    /// is done with an interrupt of that line, which lowers it.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot: where its interrupt controllers are not in the hypervisor.
    fn wire(&self, _irq: Irq, _level: LevelEvents<'_>) -> Result<Hung, HvError> {
        Err(HvError::MissingCapability("KVM_CAP_IRQFD_RESAMPLE"))
    }
}

/// The two events of a level-triggered interrupt, which are event file descriptors.
#[derive(Clone, Copy, Debug)]
pub struct LevelEvents<'a> {
    /// Raises it.
    pub raise: BorrowedFd<'a>,
    /// Tells that the guest is done with it: who still wants something, raises it again.
    pub done: BorrowedFd<'a>,
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

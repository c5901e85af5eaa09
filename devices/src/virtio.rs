//! Virtio devices (Virtual I/O Device version 1.2, OASIS committee specification 01): queues,
//! transports, and what each kind of device understands by a request.
//!
//! A transport has the registers: it turns what the driver writes into an [`Event`] for whoever runs
//! the device. That one starts a [`Queue`] for each [`QueueSetup`], pops a [`Chain`] for each request
//! and pushes its [`Token`] when it is done. What a driver gets wrong in a ring is a [`QueueError`],
//! after which the device is broken until the driver resets it.

pub mod balloon;
pub mod block;
pub mod console;
mod device;
mod foreign;
pub mod fs;
mod mmio;
pub mod net;
mod pci;
pub mod pmem;
pub mod queue;
mod registers;
pub mod rng;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vsock;

pub use device::{Cause, Device, DeviceKind, Event, Features, Start, read_bytes};
pub use foreign::Foreign;
pub use mmio::Mmio;
pub use pci::VirtioPci;
pub use queue::{Chain, Finished, Layout, Queue, QueueError, QueueSetup, Token};

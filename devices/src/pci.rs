//! PCI: configuration space, interrupts as messages, and the functions that every machine has.
//!
//! A function here is registers only. Which function answers at which bus number, and who routes
//! an access to a BAR, is the business of whoever owns the bus.
//!
//! The documents are the PCI Local Bus Specification 3.0 (here "PCI"), the PCI-to-PCI Bridge
//! Architecture Specification 1.2 and the PCI Express Base Specification 5.0 (here "PCIe").

mod address;
mod cam;
mod config;
mod express;
mod host_bridge;
mod i6300esb;
mod interrupt;
mod lpc_bridge;
mod msi;
mod msix;
mod passthrough;
mod root_port;

pub use address::{Address, ConfigAddress};
pub use cam::Cam;
pub use config::{Bar, BarKind, ConfigSpace, Identity};
pub use express::Attachment;
pub use host_bridge::HostBridge;
pub use i6300esb::I6300esb;
pub use interrupt::{Message, Raised};
pub use lpc_bridge::LpcBridge;
pub use msix::{MsiX, MsiXPlace};
pub use passthrough::{HostFunction, Interrupts, Passthrough, PassthroughError};
pub use root_port::{RootPort, Secondary};

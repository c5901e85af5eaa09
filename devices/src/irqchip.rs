//! Interrupt controllers: lines in, notifications of processors out.

mod apic_message;
mod ioapic;
mod pic;
mod plic;

pub use apic_message::{ApicMessage, DeliveryMode, Destination};
pub use ioapic::{IoApic, IoApicPin};
pub use pic::{PicRegisters, PicWindow, Pics};
pub use plic::{Plic, PlicContext};

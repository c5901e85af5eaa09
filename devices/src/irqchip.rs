//! Interrupt controllers: lines in, notifications of processors out.

mod apic_message;
mod apics;
mod gic;
mod ioapic;
mod lapic;
mod pic;
mod plic;
mod virq;

pub use apic_message::{ApicMessage, DeliveryMode, Destination};
pub use apics::{Apics, ApicsRegisters, ApicsWindow};
pub use gic::{Affinity, AfterRun, Gic, GicLine, GicV2, GicV3, IccRegister, ListRegisters};
pub use ioapic::{IoApic, IoApicPin};
pub use lapic::{
    ApicClock, ApicEvents, ApicTime, GeneralProtection, Ipi, Lint, LocalApic, Shorthand,
};
pub use pic::{PicRegisters, PicWindow, Pics};
pub use plic::{Plic, PlicContext};
pub use virq::{Ended, VirqError, Virqs};

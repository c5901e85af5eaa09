//! Interrupt controllers: lines in, notifications of processors out.

mod gic;
mod plic;

pub use gic::{Affinity, AfterRun, Gic, GicLine, GicV2, GicV3, IccRegister, ListRegisters};
pub use plic::{Plic, PlicContext};

//! Interrupt controllers: lines in, notifications of processors out.

mod gic;
mod plic;

pub use gic::{Affinity, Gic, GicLine, GicV2, GicV3, IccRegister};
pub use plic::{Plic, PlicContext};

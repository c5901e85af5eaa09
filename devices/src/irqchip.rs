//! Interrupt controllers: lines in, notifications of processors out.

mod plic;

pub use plic::{Plic, PlicContext};

//! Interrupt controllers: lines in, notifications of processors out.

mod pic;
mod plic;

pub use pic::{PicRegisters, PicWindow, Pics};
pub use plic::{Plic, PlicContext};

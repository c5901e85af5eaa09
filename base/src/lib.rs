//! The words every Firstlight crate speaks: guest-physical addresses and ranges, I/O ports,
//! interrupt lines, a checked reader of untrusted bytes, register files as plain values, and
//! guest memory as a trait.
//!
//! Nothing here depends on the host's architecture.
#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core
)]

pub mod arm64;
mod gpa;
mod line;
mod memory;
mod reader;
pub mod riscv64;
mod vcpu;
pub mod x86;

pub use gpa::{GIB, Gpa, GpaRange, KIB, MIB};
pub use line::{Irq, Port};
pub use memory::{GuestMem, OutsideRam};
pub use reader::{PastEnd, Reader};
pub use vcpu::{VcpuId, VcpuState};

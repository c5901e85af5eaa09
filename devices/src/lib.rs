//! The chips of a small virtual machine: registers in, effects out.
//!
//! A chip owns no lock, thread, file or clock. It is given what it needs and answers every access
//! the way hardware would: a hole reads all ones, a write to it is dropped. What an access means
//! for the machine as a whole comes back as an [`Effect`].
#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core
)]

extern crate alloc;

mod bus;
mod chip;

pub use bus::{Bus, Overlap};
pub use chip::{ByteWide, Chip, Effect};

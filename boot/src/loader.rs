//! What a Linux/x86 or PVH kernel reads in memory, as plain values, under the names and paths of
//! rust-vmm's linux-loader.
//!
//! Loading itself is not here: a [`BootPlan`](crate::BootPlan) says where a kernel's bytes go,
//! and `firstlight-load` puts them there.

pub mod bootparam;
pub mod elf;

pub use crate::cmdline::Cmdline;
#[cfg(feature = "vm-memory")]
pub use crate::configurator::load_cmdline;

/// Why a command line could not be put into guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the name that linux-loader gave it"
)]
pub enum Error {
    /// It has no form that a kernel could read.
    #[error("the command line has no form that a kernel could read")]
    InvalidCommandLine,
    /// Not all of it would lie in RAM.
    #[error("the command line would not lie in RAM, every byte of it")]
    CommandLineCopy,
    /// It would end above the last byte of RAM.
    #[error("the command line would end above the last byte of RAM")]
    CommandLineOverflow,
}

/// What putting a command line into guest memory ends with.
pub type Result<T> = core::result::Result<T, Error>;

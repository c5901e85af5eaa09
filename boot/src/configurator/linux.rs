//! The Linux/x86 boot protocol's parameters: the zero page.

use super::target::{House, Target, write_header};
use super::{BootParams, Result};
use firstlight_base::{Gpa, GuestMem};

/// Writes the zero page, which is the header; sections and modules play no part.
#[derive(Clone, Copy, Debug)]
pub struct LinuxBootConfigurator {}

/// Why the zero page could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the name that linux-loader gave it"
)]
pub enum Error {
    /// Not all of it would be in RAM.
    #[error("it would not lie in RAM, every byte of it")]
    ZeroPagePastRamEnd,
    /// The memory did not take it.
    #[error("guest memory did not take it")]
    ZeroPageSetup,
}

impl LinuxBootConfigurator {
    /// Writes the zero page of `params` into `memory`.
    ///
    /// # Errors
    ///
    /// [`Error`], in the [`Error`](super::Error) of all configurators; nothing is written then.
    pub fn place(params: &BootParams<Gpa>, memory: &impl GuestMem) -> Result<()> {
        write(params, &House(memory))
    }
}

pub(super) fn write<T: Target>(params: &BootParams<T::Address>, target: &T) -> Result<()> {
    write_header(
        params,
        target,
        Error::ZeroPagePastRamEnd,
        Error::ZeroPageSetup,
    )?;
    Ok(())
}

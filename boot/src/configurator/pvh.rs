//! PVH's parameters: `hvm_start_info`, the memory map and the module list.

use super::target::{House, Target};
use super::{BootParams, Result};
use firstlight_base::{Gpa, GuestMem};

/// Writes `hvm_start_info`, which is the header, the memory map, which is the sections, and the
/// module list where there are modules.
#[derive(Clone, Copy, Debug)]
pub struct PvhBootConfigurator {}

/// Why what a PVH guest is told could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the name that linux-loader gave it"
)]
pub enum Error {
    /// The memory map has no address.
    #[error("nothing says where the memory map goes")]
    MemmapTableAddressMissing,
    /// There is no memory map.
    #[error("there is no memory map")]
    MemmapTableMissing,
    /// Not all of the memory map would be in RAM.
    #[error("the memory map would not lie in RAM, every byte of it")]
    MemmapTablePastRamEnd,
    /// The memory did not take the memory map.
    #[error("guest memory did not take the memory map")]
    MemmapTableSetup,
    /// Not all of `hvm_start_info` would be in RAM.
    #[error("hvm_start_info would not lie in RAM, every byte of it")]
    StartInfoPastRamEnd,
    /// The memory did not take `hvm_start_info`.
    #[error("guest memory did not take hvm_start_info")]
    StartInfoSetup,
    /// The module list has no address.
    #[error("nothing says where the module list goes")]
    ModulesAddressMissing,
    /// The memory did not take the module list, or not all of it would be in RAM.
    #[error("the module list would not lie in RAM, every byte of it")]
    ModulesSetup,
}

impl PvhBootConfigurator {
    /// Writes what `params` tell a PVH guest into `memory`.
    ///
    /// # Errors
    ///
    /// [`Error`], in the [`Error`](super::Error) of all configurators; nothing is written then.
    pub fn place(params: &BootParams<Gpa>, memory: &impl GuestMem) -> Result<()> {
        write(params, &House(memory))
    }
}

pub(super) fn write<T: Target>(params: &BootParams<T::Address>, target: &T) -> Result<()> {
    let memmap = params.sections.as_ref().ok_or(Error::MemmapTableMissing)?;
    let memmap_start = params
        .sections_start
        .ok_or(Error::MemmapTableAddressMissing)?;
    let modules = match &params.modules {
        Some(modules) => {
            let start = params.modules_start.ok_or(Error::ModulesAddressMissing)?;
            Some((start, modules))
        }
        None => None,
    };
    if !target.holds(memmap_start, memmap.len()) {
        return Err(Error::MemmapTablePastRamEnd.into());
    }
    if !target.holds(params.header_start, params.header.len()) {
        return Err(Error::StartInfoPastRamEnd.into());
    }
    if modules.is_some_and(|(start, modules)| !target.holds(start, modules.len())) {
        return Err(Error::ModulesSetup.into());
    }
    if !target.put(memmap_start, memmap) {
        return Err(Error::MemmapTableSetup.into());
    }
    if !target.put(params.header_start, &params.header) {
        return Err(Error::StartInfoSetup.into());
    }
    if modules.is_some_and(|(start, modules)| !target.put(start, modules)) {
        return Err(Error::ModulesSetup.into());
    }
    Ok(())
}

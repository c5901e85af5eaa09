//! An initramfs that loads a few drivers, and then does what a guest's script is told.

use super::cases;
use crate::architecture::Architecture;
use crate::cache::{self, Cache};
use crate::failure::{Because, Outcome};
use crate::initramfs;
use crate::kernel::{self, Kernel};
use firstlight_initramfs::modules::{self, ModuleTree};
use firstlight_initramfs::{Initramfs, Status, Then};
use std::path::Path;

/// Makes it anew, for the kernel that guests with devices have.
pub(super) fn build(
    cache: &Cache,
    architecture: Architecture,
    (file, drivers): (&Path, &[&str]),
) -> Outcome {
    let kernel = kernel::installed(cache, cases::release(architecture))?;
    let cannot_make = || format!("cannot make {}", file.display());
    let mut userspace = initramfs::skeleton(cache, architecture)?;
    userspace.program("init", super::root::DEVICES.as_bytes());
    let mut archives = userspace.finish().because(cannot_make)?;
    let loader = Initramfs {
        modules: modules_of(&kernel, architecture, drivers).because(cannot_make)?,
        root: None,
        then: Then::Init("/init".to_owned()),
        status: Status::Nowhere,
    };
    let loader = loader.build(architecture.of_images());
    archives.extend(loader.because(cannot_make)?);
    cache::write_whole(file, &archives)
}

/// Those of the drivers that are not built into the kernel, in the order of loading.
fn modules_of(
    kernel: &Kernel,
    architecture: Architecture,
    drivers: &[&str],
) -> Result<Vec<modules::Module>, modules::ModuleError> {
    let of_kernel = modules::Kernel {
        architecture: architecture.of_images(),
        version: Some(&kernel.version),
    };
    let tree = ModuleTree::open(&kernel.modules, of_kernel.version)?;
    let known = drivers.iter().copied().filter(|name| tree.knows(name));
    tree.load_order(&known.collect::<Vec<_>>(), &of_kernel)
}

//! The same with linux-loader 0.14 and vm-memory: the loader of Firecracker and Cloud Hypervisor.
//!
//! It has loaders for the host's architecture only, so the host chooses a module here. Both have
//! the same names; what linux-loader does not have there is an error.

#[cfg(not(target_arch = "x86_64"))]
mod image;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use image::{bzimage, elf, pe};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{bzimage, elf, pe};

use crate::{MEMORY, Outcome};
use firstlight_base::Gpa;
use std::fs::File;
use std::path::Path;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// An `Image`, loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) memory: GuestMemoryMmap,
    /// Where its first byte is.
    pub(crate) kernel: Gpa,
}

/// Fresh guest memory from `start` on.
pub(crate) fn memory(start: Gpa) -> Outcome<GuestMemoryMmap> {
    let len = usize::try_from(MEMORY)?;
    let start = GuestAddress(start.get());
    Ok(GuestMemoryMmap::from_ranges(&[(start, len)])?)
}

/// A ramdisk, read into memory as VMMs with this library do.
pub(crate) fn read_initrd(memory: &GuestMemoryMmap, path: &Path) -> Outcome {
    let mut file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len())?;
    memory.read_exact_volatile_from(GuestAddress(256 << 20), &mut file, len)?;
    Ok(())
}

//! The same with linux-loader 0.14 and vm-memory: the loader of Firecracker and Cloud Hypervisor.

use crate::{MEMORY, Outcome};
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use std::fs::File;
use std::path::Path;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Fresh guest memory.
pub(crate) fn memory() -> Outcome<GuestMemoryMmap> {
    let len = usize::try_from(MEMORY)?;
    Ok(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)])?)
}

/// An unpacked kernel, loaded; the zero page is not counted.
pub(crate) fn elf(vmlinux: &Path) -> Outcome<GuestMemoryMmap> {
    let memory = memory()?;
    Elf::load(&memory, None, &mut File::open(vmlinux)?, None)?;
    Ok(memory)
}

/// A packed one, which the guest is to unpack.
pub(crate) fn bzimage(path: &Path) -> Outcome<GuestMemoryMmap> {
    let memory = memory()?;
    BzImage::load(&memory, None, &mut File::open(path)?, None)?;
    Ok(memory)
}

/// A ramdisk, read into memory as VMMs with this library do.
pub(crate) fn read_initrd(memory: &GuestMemoryMmap, path: &Path) -> Outcome {
    let mut file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len())?;
    memory.read_exact_volatile_from(GuestAddress(256 << 20), &mut file, len)?;
    Ok(())
}

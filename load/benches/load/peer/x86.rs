//! linux-loader on x86 hosts: ELF files and bzImages.

use super::{Loaded, memory};
use crate::Outcome;
use firstlight_base::Gpa;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use std::fs::File;
use std::path::Path;
use vm_memory::GuestMemoryMmap;

/// An unpacked kernel, loaded; the zero page is not counted.
pub(crate) fn elf(vmlinux: &Path) -> Outcome<GuestMemoryMmap> {
    let memory = memory(Gpa::new(0))?;
    Elf::load(&memory, None, &mut File::open(vmlinux)?, None)?;
    Ok(memory)
}

/// A packed one, which the guest is to unpack.
pub(crate) fn bzimage(path: &Path) -> Outcome<GuestMemoryMmap> {
    let memory = memory(Gpa::new(0))?;
    BzImage::load(&memory, None, &mut File::open(path)?, None)?;
    Ok(memory)
}

/// An `Image` for another architecture.
pub(crate) fn pe(_image: &Path, _ram: Gpa) -> Outcome<Loaded> {
    Err("on x86 hosts it has no loader for it".into())
}

//! linux-loader on arm64 and riscv64 hosts: `Image` files, which it calls PE.

use super::{Loaded, memory};
use crate::Outcome;
use firstlight_base::Gpa;
use linux_loader::loader::{KernelLoader, PE};
use std::fs::File;
use std::path::Path;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const X86_ONLY: &str = "it has this loader on x86 hosts only";

/// An `Image`, loaded into memory that begins at `ram`.
pub(crate) fn pe(image: &Path, ram: Gpa) -> Outcome<Loaded> {
    let memory = memory(ram)?;
    let base = Some(GuestAddress(ram.get()));
    let result = PE::load(&memory, base, &mut File::open(image)?, None)?;
    Ok(Loaded {
        memory,
        kernel: Gpa::new(result.kernel_load.0),
    })
}

/// An unpacked x86 kernel.
pub(crate) fn elf(_vmlinux: &Path) -> Outcome<GuestMemoryMmap> {
    Err(X86_ONLY.into())
}

/// A packed one.
pub(crate) fn bzimage(_path: &Path) -> Outcome<GuestMemoryMmap> {
    Err(X86_ONLY.into())
}

//! The device tree of a machine (Devicetree Specification 0.4; the nodes' bindings are Linux's,
//! `Documentation/devicetree/bindings`).
//!
//! It is made from a [`Platform`] and from what the boot protocol [tells](Told), of nothing else, so
//! one plan always has one tree.

mod arm64;
mod cpus;
mod handle;
mod interrupts;
mod node;
mod riscv64;
mod tell;
mod virt;

use crate::platform::Platform;
use crate::request::Overlay;
use alloc::vec::Vec;
use dtoolkit::model::DeviceTree;
use firstlight_base::GpaRange;

/// What a kernel is told in its device tree beside the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// The kernel's command line, without a NUL.
    pub(crate) bootargs: &'a str,
    /// Where the initial ramdisk lies.
    pub(crate) initrd: Option<GpaRange>,
    /// Random bytes for the kernel's entropy pool.
    pub(crate) rng_seed: &'a [u8],
    /// What the kernel chooses its virtual addresses by.
    pub(crate) kaslr_seed: Option<u64>,
    /// The compiled tree that takes the place of the machine's own.
    #[expect(dead_code, reason = "about to be taken")]
    pub(crate) base: Option<&'a [u8]>,
    /// What is put over the tree, in order.
    pub(crate) overlays: &'a [Overlay],
}

/// Why there is no device tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FdtError {
    /// A machine that describes itself to its guests in another way.
    #[error("a PC is described by ACPI tables, not by a device tree")]
    Pc,
    /// Something was said of a vCPU that there is not.
    #[error("vCPU {number} is spoken of, but there are {count}, counted from 0")]
    NoSuchCpu {
        /// Its number.
        number: u32,
        /// How many there are.
        count: u32,
    },
    /// A vCPU was put into two clusters, or described twice.
    #[error("vCPU {number} is {what} twice")]
    CpuTwice {
        /// Its number.
        number: u32,
        /// What was done twice.
        what: &'static str,
    },
    /// A vCPU's frequencies do not ascend.
    #[error("vCPU {number} has an operating point of {hz} Hz behind one of {before} Hz")]
    OperatingPoints {
        /// Its number.
        number: u32,
        /// The frequency that comes too late.
        hz: u64,
        /// The one before it.
        before: u64,
    },
}

/// The device tree of `platform`, as a kernel is handed it.
///
/// Its length does not depend on where the initial ramdisk lies, nor on the seeds' values.
pub(crate) fn tree(platform: &Platform, told: &Told<'_>) -> Result<Vec<u8>, FdtError> {
    let machine = match platform {
        Platform::Pc(_) => return Err(FdtError::Pc),
        Platform::VirtArm64(virt) => arm64::root(virt)?,
        Platform::VirtRiscv64(virt) => riscv64::root(virt)?,
    };
    let mut tree = DeviceTree::new();
    let labels = (!told.overlays.is_empty()).then(|| machine.symbols());
    tree.root = machine.with_all(labels).into_inner();
    tell::tell(&mut tree.root, platform, told);
    Ok(tree.to_dtb())
}

#[cfg(test)]
mod tests;

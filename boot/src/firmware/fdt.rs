//! The device tree of a machine (Devicetree Specification 0.4; the nodes' bindings are Linux's,
//! `Documentation/devicetree/bindings`).
//!
//! It is made from a [`Platform`] and from what the boot protocol [tells](Told), of nothing else, so
//! one plan always has one tree.

mod arm64;
mod blob;
mod cpus;
mod handle;
mod interrupts;
mod node;
mod overlay;
mod riscv64;
mod tell;
mod virt;

use crate::platform::Platform;
use crate::request::Overlay;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use dtoolkit::model::DeviceTree;
use firstlight_base::{GpaRange, MIB};

pub use blob::BlobError;
pub use overlay::OverlayError;

/// How long a tree may be: what kernels map of it (Linux' `Documentation/arch/arm64/booting.rst`,
/// `Documentation/arch/riscv/boot.rst`).
const MAX_LEN: u64 = 2 * MIB;

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
    /// The tree that takes the place of the machine's own is none.
    #[error("the device tree cannot be used")]
    Base(#[source] BlobError),
    /// The tree has no room for an address.
    #[error(
        "the device tree has addresses of {address} and lengths of {size} words, in which {range} \
         cannot be said"
    )]
    Cells {
        /// What cannot be said.
        range: GpaRange,
        /// How many 32-bit words an address has.
        address: u32,
        /// How many 32-bit words a length has.
        size: u32,
    },
    /// The tree's list of reserved memory is one that Linux does not read.
    #[error(
        "the device tree's /reserved-memory has other #address-cells or #size-cells than its root"
    )]
    ReservedCells,
    /// An overlay cannot be put over the tree.
    #[error("overlay {name} cannot be applied")]
    Overlay {
        /// What it is called.
        name: String,
        /// Why not.
        source: OverlayError,
    },
    /// The tree is longer than what a kernel maps.
    #[error("the device tree has {len:#x} bytes{}, but may have {MAX_LEN:#x}", Behind(.overlay.as_deref()))]
    TooLong {
        /// How many bytes it has.
        len: usize,
        /// The overlay that made it so.
        overlay: Option<String>,
    },
    /// What an overlay makes of the tree is none that can be used.
    #[error("the device tree cannot be used with overlay {name}")]
    Overlaid {
        /// What it is called.
        name: String,
        /// Why not.
        source: BlobError,
    },
}

struct Behind<'a>(Option<&'a str>);

impl fmt::Display for Behind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |name| write!(f, " with overlay {name}"))
    }
}

/// The device tree of `platform`, as a kernel is handed it.
///
/// Its length does not depend on where the initial ramdisk lies, nor on the seeds' values.
pub(crate) fn tree(platform: &Platform, told: &Told<'_>) -> Result<Vec<u8>, FdtError> {
    let mut tree = match told.base {
        Some(base) => blob::parse(base).map_err(FdtError::Base)?,
        None => machine(platform, told)?,
    };
    tell::tell(&mut tree.root, platform, told)?;
    let mut bytes = compile(&tree, None)?;
    for overlay in told.overlays {
        bytes = apply(&mut tree, overlay)?;
    }
    Ok(bytes)
}

/// The machine's own tree, with labels where overlays are to be put over it.
fn machine(platform: &Platform, told: &Told<'_>) -> Result<DeviceTree, FdtError> {
    let root = match platform {
        Platform::Pc(_) => return Err(FdtError::Pc),
        Platform::VirtArm64(virt) => arm64::root(virt)?,
        Platform::VirtRiscv64(virt) => riscv64::root(virt)?,
    };
    let labels = (!told.overlays.is_empty()).then(|| root.symbols());
    let mut tree = DeviceTree::new();
    tree.root = root.with_all(labels).into_inner();
    Ok(tree)
}

/// Puts an overlay over the tree. What comes of it is read again, as whatever comes from outside.
fn apply(tree: &mut DeviceTree, overlay: &Overlay) -> Result<Vec<u8>, FdtError> {
    overlay::apply(tree, &overlay.bytes).map_err(|source| FdtError::Overlay {
        name: overlay.name.clone(),
        source,
    })?;
    let bytes = compile(tree, Some(overlay))?;
    *tree = blob::parse(&bytes).map_err(|source| FdtError::Overlaid {
        name: overlay.name.clone(),
        source,
    })?;
    Ok(bytes)
}

fn compile(tree: &DeviceTree, overlay: Option<&Overlay>) -> Result<Vec<u8>, FdtError> {
    let bytes = tree.to_dtb();
    if bytes.len() as u64 > MAX_LEN {
        return Err(FdtError::TooLong {
            len: bytes.len(),
            overlay: overlay.map(|overlay| overlay.name.clone()),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

//! What the boot protocol wants said in any tree: `/chosen`, memory, and what is not to be used
//! (Devicetree Specification 0.4, sections 3.4 to 3.6).

use super::{FdtError, Told};
use crate::platform::Platform;
use alloc::format;
use alloc::vec::Vec;
use core::mem;
use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, Property as _, ToPropertyValue};
use firstlight_base::GpaRange;

/// Says it below `root`, instead of what is said there.
pub(super) fn tell(
    root: &mut DeviceTreeNode,
    platform: &Platform,
    told: &Told<'_>,
) -> Result<(), FdtError> {
    let cells = Cells::of(root);
    choose(child(root, "chosen"), told);
    forget_memory(root);
    for &ram in platform.ram() {
        let node = child(root, &format!("memory@{:x}", ram.start().get()));
        set(node, "device_type", "memory");
        set(node, "reg", cells.register(ram)?);
    }
    if platform.reserved().is_empty() {
        return Ok(());
    }
    reserve(child(root, "reserved-memory"), platform.reserved(), cells)
}

/// Without a command line, one that the tree has stays. What is said of an initial ramdisk or of
/// random numbers never does: there are others, or none.
fn choose(chosen: &mut DeviceTreeNode, told: &Told<'_>) {
    const INITRD: [&str; 2] = ["linux,initrd-start", "linux,initrd-end"];
    const KASLR_SEED: &str = "kaslr-seed";
    const RNG_SEED: &str = "rng-seed";
    for stale in INITRD.into_iter().chain([KASLR_SEED, RNG_SEED]) {
        chosen.remove_property(stale);
    }
    if !told.bootargs.is_empty() {
        set(chosen, "bootargs", told.bootargs);
    }
    if let Some(initrd) = told.initrd {
        let ends = [initrd.start(), initrd.end()];
        for (name, end) in INITRD.into_iter().zip(ends) {
            set(chosen, name, end.get());
        }
    }
    if let Some(seed) = told.kaslr_seed {
        set(chosen, KASLR_SEED, seed);
    }
    if !told.rng_seed.is_empty() {
        set(chosen, RNG_SEED, told.rng_seed);
    }
}

/// Takes out the nodes that say where memory is.
fn forget_memory(root: &mut DeviceTreeNode) {
    let is_memory = |node: &DeviceTreeNode| {
        node.name_without_address() == "memory"
            || node
                .property("device_type")
                .is_some_and(|kind| kind.value() == b"memory\0")
    };
    let mut kept = DeviceTreeNode::new_unchecked("");
    for property in root.properties() {
        kept.add_property(property.clone());
    }
    for child in root.children_mut() {
        if !is_memory(child) {
            kept.add_child(mem::take(child));
        }
    }
    *root = kept;
}

/// Linux takes only a node that counts as its root does (`drivers/of/fdt.c`,
/// `__reserved_mem_check_root`).
fn reserve(parent: &mut DeviceTreeNode, ranges: &[GpaRange], cells: Cells) -> Result<(), FdtError> {
    let is_new = parent.properties().next().is_none();
    if !is_new && Cells::of(parent) != cells {
        return Err(FdtError::ReservedCells);
    }
    set(parent, "#address-cells", cells.address);
    set(parent, "#size-cells", cells.size);
    set(parent, "ranges", [0_u8; 0]);
    for &range in ranges {
        let node = child(parent, &format!("reserved@{:x}", range.start().get()));
        set(node, "reg", cells.register(range)?);
        set(node, "no-map", [0_u8; 0]);
    }
    Ok(())
}

/// In how many words of 32 bits addresses and lengths are said below a node (section 2.3.5).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cells {
    address: u32,
    size: u32,
}

impl Cells {
    fn of(node: &DeviceTreeNode) -> Self {
        let number = |name, default| {
            let property = node.property(name);
            property.map_or(default, |property| property.value_as().unwrap_or(0))
        };
        Self {
            address: number("#address-cells", 2),
            size: number("#size-cells", 1),
        }
    }

    fn register(self, range: GpaRange) -> Result<Vec<u8>, FdtError> {
        let start = number(range.start().get(), self.address);
        let len = number(range.len(), self.size);
        match (start, len) {
            (Some(start), Some(len)) => Ok([start, len].concat()),
            _ => Err(FdtError::Cells {
                range,
                address: self.address,
                size: self.size,
            }),
        }
    }
}

/// A number in so many words; `None` where it does not fit.
fn number(value: u64, cells: u32) -> Option<Vec<u8>> {
    let bytes = u128::from(value).to_be_bytes();
    let len = usize::try_from(cells).ok()?.checked_mul(4)?;
    let (cut, kept) = bytes.split_at_checked(bytes.len().checked_sub(len)?)?;
    cut.iter().all(|&byte| byte == 0).then(|| kept.to_vec())
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn child<'a>(node: &'a mut DeviceTreeNode, name: &str) -> &'a mut DeviceTreeNode {
    node.add_child_mut(DeviceTreeNode::new_unchecked(name))
}

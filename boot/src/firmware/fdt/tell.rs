//! What the boot protocol wants said in any tree: `/chosen`, memory, and what is not to be used
//! (Devicetree Specification 0.4, sections 3.4 to 3.6).

use super::Told;
use crate::platform::Platform;
use alloc::format;
use alloc::vec::Vec;
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use firstlight_base::GpaRange;

/// Says it below `root`.
pub(super) fn tell(root: &mut DeviceTreeNode, platform: &Platform, told: &Told<'_>) {
    choose(child(root, "chosen"), told);
    for ram in platform.ram() {
        let node = child(root, &format!("memory@{:x}", ram.start().get()));
        set(node, "device_type", "memory");
        set(node, "reg", register(*ram));
    }
    if !platform.reserved().is_empty() {
        reserve(child(root, "reserved-memory"), platform.reserved());
    }
}

fn choose(chosen: &mut DeviceTreeNode, told: &Told<'_>) {
    if !told.bootargs.is_empty() {
        set(chosen, "bootargs", told.bootargs);
    }
    if let Some(initrd) = told.initrd {
        set(chosen, "linux,initrd-start", initrd.start().get());
        set(chosen, "linux,initrd-end", initrd.end().get());
    }
    if let Some(seed) = told.kaslr_seed {
        set(chosen, "kaslr-seed", seed);
    }
    if !told.rng_seed.is_empty() {
        set(chosen, "rng-seed", told.rng_seed);
    }
}

fn reserve(parent: &mut DeviceTreeNode, ranges: &[GpaRange]) {
    set(parent, "#address-cells", 2_u32);
    set(parent, "#size-cells", 2_u32);
    set(parent, "ranges", [0_u8; 0]);
    for range in ranges {
        let node = child(parent, &format!("reserved@{:x}", range.start().get()));
        set(node, "reg", register(*range));
        set(node, "no-map", [0_u8; 0]);
    }
}

fn register(range: GpaRange) -> Vec<u8> {
    [range.start().get(), range.len()]
        .into_iter()
        .flat_map(u64::to_be_bytes)
        .collect()
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn child<'a>(node: &'a mut DeviceTreeNode, name: &str) -> &'a mut DeviceTreeNode {
    node.add_child_mut(DeviceTreeNode::new_unchecked(name))
}

//! What an image carries beside the kernel.

use super::{Format, Image, Layer};
use crate::uimage::{UImage, UImageKind};
use crate::uki::{Uki, UkiSectionKind};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use firstlight_base::Reader;

/// What an image carries beside the kernel, for it to be booted with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The initial ramdisks, in the order in which the kernel is to see them.
    pub initrds: Vec<Part>,
    /// The command line, without the space round it; empty where the image has an empty one.
    pub cmdline: Option<String>,
    /// The device tree.
    pub device_tree: Option<Part>,
}

/// A part of an image, as it lies in one of its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the layer calls it.
    pub name: &'static str,
    /// Which layer it is in, the file itself being 0.
    pub layer: usize,
    /// Where it is in that layer.
    pub range: Range<u64>,
}

impl Image<'_> {
    /// What the image carries beside the kernel, of the profile that was opened. Where layers in
    /// each other carry the same, the outermost counts.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let mut parts = Parts::default();
        for (index, layer) in self.layers().iter().enumerate() {
            let of_layer = layer_parts(index, layer, self.profile());
            if parts.initrds.is_empty() {
                parts.initrds = of_layer.initrds;
            }
            parts.cmdline = parts.cmdline.or(of_layer.cmdline);
            parts.device_tree = parts.device_tree.or(of_layer.device_tree);
        }
        parts
    }

    /// The bytes of a part.
    #[must_use]
    pub fn part(&self, part: &Part) -> &[u8] {
        let bytes = self.layers().get(part.layer).map(Layer::bytes);
        let len = part.range.end.saturating_sub(part.range.start);
        Reader::new(bytes.unwrap_or_default())
            .slice(part.range.start, len)
            .unwrap_or_default()
    }
}

fn layer_parts(layer: usize, of: &Layer<'_>, profile: usize) -> Parts {
    let part = |name, range: &Range<u64>| Part {
        name,
        layer,
        range: range.clone(),
    };
    match of.format() {
        Format::Uki(uki) => of_uki(layer, uki, profile, of.bytes()),
        Format::UImage(uimage) => of_uimage(layer, uimage, of.bytes()),
        Format::Android(boot) => Parts {
            initrds: Some(&boot.ramdisk)
                .filter(|range| !range.is_empty())
                .map(|range| part("ramdisk", range))
                .into_iter()
                .collect(),
            cmdline: Some(boot.cmdline.clone()).filter(|line| !line.is_empty()),
            device_tree: Some(&boot.dtb)
                .filter(|range| !range.is_empty())
                .map(|range| part("dtb", range)),
        },
        Format::BzImage(_)
        | Format::Arm64(_)
        | Format::Riscv(_)
        | Format::Elf(_)
        | Format::Multiboot(_)
        | Format::Zboot(_)
        | Format::Packed(_)
        | Format::Firmware(_)
        | Format::Other(_) => Parts::default(),
    }
}

/// Microcode goes before the initial ramdisk: the kernel looks for it in the first archive (UAPI
/// Group Specifications, "Unified Kernel Image").
fn of_uki(layer: usize, uki: &Uki, profile: usize, bytes: &[u8]) -> Parts {
    let part = |kind: UkiSectionKind| {
        let section = uki.section(kind, profile)?;
        Some(Part {
            name: kind.name(),
            layer,
            range: section.range.clone(),
        })
    };
    Parts {
        initrds: [UkiSectionKind::Ucode, UkiSectionKind::Initrd]
            .into_iter()
            .filter_map(part)
            .collect(),
        cmdline: uki.cmdline(profile, bytes),
        device_tree: part(UkiSectionKind::Dtb),
    }
}

/// Of several images U-Boot takes the second as the ramdisk, and the third as the device tree.
fn of_uimage(layer: usize, uimage: &UImage, bytes: &[u8]) -> Parts {
    const FDT_MAGIC: u32 = 0xd00d_feed;
    if uimage.kind != UImageKind::Multi {
        return Parts::default();
    }
    let image = |index: usize, name| {
        let range = uimage.images.get(index)?.clone();
        Some(Part { name, layer, range })
    };
    let is_tree = |part: &Part| Reader::new(bytes).u32_be(part.range.start) == Ok(FDT_MAGIC);
    Parts {
        initrds: image(1, "ramdisk").into_iter().collect(),
        cmdline: None,
        device_tree: image(2, "device tree").filter(is_tree),
    }
}

#[cfg(test)]
mod tests;

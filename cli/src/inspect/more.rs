//! What there is to tell about images beside bzImages and ELF files, and about what they carry:
//! more of schema `firstlight.inspect/1`.

use super::facts::FileRange;
use crate::json::Hex;
use firstlight_image::{
    Arm64Image, Image, Multiboot, Multiboot1, Multiboot2, Part, RiscvImage, UkiProfile,
};
use serde::Serialize;

/// What the image carries beside the kernel.
#[derive(Debug, Serialize)]
pub(super) struct PartsFacts {
    pub(super) cmdline: Option<String>,
    pub(super) initrds: Vec<PartFacts>,
    pub(super) device_tree: Option<PartFacts>,
}

#[derive(Debug, Serialize)]
pub(super) struct PartFacts {
    pub(super) name: &'static str,
    pub(super) layer: usize,
    #[serde(flatten)]
    pub(super) range: FileRange,
}

impl PartsFacts {
    pub(super) fn of(image: &Image<'_>) -> Self {
        let parts = image.parts();
        Self {
            cmdline: parts.cmdline,
            initrds: parts.initrds.iter().map(PartFacts::of).collect(),
            device_tree: parts.device_tree.as_ref().map(PartFacts::of),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cmdline.is_none() && self.initrds.is_empty() && self.device_tree.is_none()
    }
}

impl PartFacts {
    fn of(part: &Part) -> Self {
        Self {
            name: part.name,
            layer: part.layer,
            range: FileRange::of(&part.range),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ProfileFacts {
    pub(super) id: Option<String>,
    pub(super) title: Option<String>,
}

impl ProfileFacts {
    pub(super) fn of(profile: &UkiProfile) -> Self {
        Self {
            id: profile.id.clone(),
            title: profile.title.clone(),
        }
    }
}

/// The header of an arm64 or riscv `Image`.
#[derive(Debug, Serialize)]
pub(super) struct LinuxImageFacts {
    pub(super) text_offset: Hex,
    pub(super) image_size: Option<u64>,
    pub(super) efi_stub: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) page_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) anywhere: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header_version: Option<String>,
}

impl LinuxImageFacts {
    pub(super) fn of_arm64(image: &Arm64Image) -> Self {
        Self {
            text_offset: Hex(image.text_offset),
            image_size: image.image_size,
            efi_stub: image.has_efi_stub,
            page_size: image.page_size,
            anywhere: Some(image.may_lie_anywhere),
            header_version: None,
        }
    }

    pub(super) fn of_riscv(image: &RiscvImage) -> Self {
        Self {
            text_offset: Hex(image.text_offset),
            image_size: Some(image.image_size),
            efi_stub: image.has_efi_stub,
            page_size: None,
            anywhere: None,
            header_version: Some(format!(
                "{}.{}",
                image.version >> 16,
                image.version & 0xffff
            )),
        }
    }
}

/// The multiboot headers, or why they cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct MultibootFacts {
    pub(super) version_1: Option<MultibootHeader>,
    pub(super) version_2: Option<MultibootHeader>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broken: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct MultibootHeader {
    pub(super) offset: Hex,
    pub(super) load: Option<Hex>,
    pub(super) entry: Option<Hex>,
    pub(super) relocatable: bool,
}

impl MultibootFacts {
    pub(super) fn of(image: &Image<'_>) -> Option<Self> {
        match image.multiboot() {
            Ok(None) => None,
            Ok(Some((_, headers))) => Some(Self::of_headers(&headers)),
            Err(error) => Some(Self {
                version_1: None,
                version_2: None,
                broken: Some(error.to_string()),
            }),
        }
    }

    fn of_headers(headers: &Multiboot) -> Self {
        Self {
            version_1: headers.one.as_ref().map(MultibootHeader::of_1),
            version_2: headers.two.as_ref().map(MultibootHeader::of_2),
            broken: None,
        }
    }
}

impl MultibootHeader {
    fn of_1(header: &Multiboot1) -> Self {
        Self {
            offset: Hex(header.offset),
            load: header.addresses.map(|at| Hex(at.load.into())),
            entry: header.entry.map(|entry| Hex(entry.into())),
            relocatable: false,
        }
    }

    fn of_2(header: &Multiboot2) -> Self {
        Self {
            offset: Hex(header.offset),
            load: header.addresses.map(|at| Hex(at.load.into())),
            entry: header.entry.map(|entry| Hex(entry.into())),
            relocatable: header.relocation.is_some(),
        }
    }
}

//! What there is to tell about an image: schema `firstlight.inspect/1`, documented in
//! `docs/json.md`.

use super::more::{LinuxImageFacts, MultibootFacts, PartsFacts, ProfileFacts};
use crate::file::InputFile;
use crate::json::Hex;
use firstlight_base::MIB;
use firstlight_boot::{Entry, EntryPoint, Pc, Request, Unpack, entries, plan};
use firstlight_image::{BzImage, Elf, Image, Kind, Packed, Relocations, Segment, SegmentFlags};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Facts {
    schema: &'static str,
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) image: String,
    pub(super) layers: Vec<LayerFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_unpacked: Option<String>,
    pub(super) architecture: String,
    pub(super) kernel_version: Option<String>,
    pub(super) entries: Vec<EntryFacts>,
    pub(super) memory_needed: Option<u64>,
    pub(super) bzimage: Option<BzImageFacts>,
    pub(super) elf: Option<ElfFacts>,
    pub(super) arm64: Option<LinuxImageFacts>,
    pub(super) riscv: Option<LinuxImageFacts>,
    pub(super) multiboot: Option<MultibootFacts>,
    pub(super) parts: PartsFacts,
    pub(super) profiles: Vec<ProfileFacts>,
}

impl Facts {
    pub(super) fn gather(
        file: &InputFile,
        image: &Image<'_>,
        not_unpacked: Option<String>,
    ) -> Self {
        let layers = image.layers().iter().map(|layer| LayerFacts {
            format: layer.format().to_string(),
            size: layer.bytes().len() as u64,
        });
        Self {
            schema: "firstlight.inspect/1",
            file: file.path().display().to_string(),
            size: file.len(),
            image: image.to_string(),
            layers: layers.collect(),
            not_unpacked,
            architecture: image.architecture().to_string(),
            kernel_version: image.kernel_version().map(str::to_owned),
            entries: entries(image).iter().map(EntryFacts::of).collect(),
            memory_needed: memory_needed(image),
            bzimage: image
                .bzimage()
                .map(|(_, bzimage)| BzImageFacts::of(bzimage)),
            elf: image
                .elf()
                .map(|(_, elf)| ElfFacts::of(elf, image.relocations().as_ref())),
            arm64: image
                .arm64()
                .map(|(_, image)| LinuxImageFacts::of_arm64(image)),
            riscv: image
                .riscv()
                .map(|(_, image)| LinuxImageFacts::of_riscv(image)),
            multiboot: MultibootFacts::of(image),
            parts: PartsFacts::of(image),
            profiles: image.profiles().iter().map(ProfileFacts::of).collect(),
        }
    }
}

/// The least memory, in whole MiB, that a boot without an initial ramdisk can be planned for.
///
/// The planner is asked instead of adding up what it would: it knows every rule.
fn memory_needed(image: &Image<'_>) -> Option<u64> {
    let fits = |mib: u64| plan(image, &plainest(mib * MIB)).is_ok();
    let (mut too_little, mut enough) = (0, Pc::DEVICE_HOLE.get() / MIB);
    if !fits(enough) {
        return None;
    }
    while too_little + 1 < enough {
        let middle = too_little.midpoint(enough);
        if fits(middle) {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    Some(enough * MIB)
}

fn plainest(memory: u64) -> Request {
    Request {
        memory,
        ..Request::default()
    }
}

#[derive(Debug, Serialize)]
pub(super) struct LayerFacts {
    pub(super) format: String,
    pub(super) size: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct EntryFacts {
    pub(super) protocol: &'static str,
    pub(super) unpack: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) real_mode_offset: Option<Hex>,
    pub(super) cmdline_limit: u64,
    pub(super) initrd_limit: Option<Hex>,
}

impl EntryFacts {
    fn of(entry: &Entry) -> Self {
        let (address, offset, real_mode_offset) = match entry.at {
            EntryPoint::Address(at) => (Some(Hex(at.get())), None, None),
            EntryPoint::Offset(offset) => (None, Some(Hex(offset)), None),
            EntryPoint::RealMode(offset) => (None, None, Some(Hex(offset))),
        };
        Self {
            protocol: entry.protocol.name(),
            unpack: match entry.unpack {
                Unpack::Host => "host",
                Unpack::Guest => "guest",
            },
            address,
            offset,
            real_mode_offset,
            cmdline_limit: entry.cmdline_limit,
            initrd_limit: entry.initrd_limit.map(|limit| Hex(limit.get())),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct BzImageFacts {
    pub(super) protocol_version: String,
    pub(super) setup_size: u64,
    pub(super) protected_mode: FileRange,
    pub(super) payload: Option<PayloadFacts>,
    pub(super) relocatable: bool,
    pub(super) kernel_alignment: Option<u32>,
    pub(super) min_alignment: Option<u32>,
    pub(super) pref_address: Option<Hex>,
    pub(super) init_size: Option<u32>,
    pub(super) cmdline_size: u32,
    pub(super) initrd_addr_max: Hex,
    pub(super) loadflags: Vec<&'static str>,
    pub(super) xloadflags: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct FileRange {
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PayloadFacts {
    pub(super) codec: String,
    #[serde(flatten)]
    pub(super) range: FileRange,
    pub(super) unpacked_size: Option<u64>,
}

impl BzImageFacts {
    fn of(bzimage: &BzImage) -> Self {
        let setup = &bzimage.setup;
        Self {
            protocol_version: setup.version().to_string(),
            setup_size: setup.setup_len(),
            protected_mode: FileRange::of(&bzimage.protected_mode),
            payload: bzimage.payload.as_ref().map(PayloadFacts::of),
            relocatable: setup.relocatable_kernel(),
            kernel_alignment: setup.kernel_alignment(),
            min_alignment: setup.min_alignment(),
            pref_address: setup.pref_address().map(Hex),
            init_size: setup.init_size(),
            cmdline_size: setup.cmdline_size(),
            initrd_addr_max: Hex(u64::from(setup.initrd_addr_max())),
            loadflags: setup
                .loadflags()
                .iter_names()
                .map(|(name, _)| name)
                .collect(),
            xloadflags: setup
                .xloadflags()
                .iter_names()
                .map(|(name, _)| name)
                .collect(),
        }
    }
}

impl FileRange {
    pub(super) fn of(range: &std::ops::Range<u64>) -> Self {
        Self {
            offset: range.start,
            size: range.end.saturating_sub(range.start),
        }
    }
}

impl PayloadFacts {
    fn of(payload: &Packed) -> Self {
        Self {
            codec: payload.codec.to_string(),
            range: FileRange::of(&payload.range),
            unpacked_size: payload.unpacked_len,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ElfFacts {
    pub(super) format: String,
    pub(super) kind: &'static str,
    pub(super) entry: Hex,
    pub(super) start: Option<Hex>,
    pub(super) end: Option<Hex>,
    pub(super) segments: Vec<SegmentFacts>,
    pub(super) pvh: Option<PvhFacts>,
    pub(super) relocations: Option<RelocationFacts>,
}

#[derive(Debug, Serialize)]
pub(super) struct SegmentFacts {
    pub(super) physical: Hex,
    #[serde(rename = "virtual")]
    pub(super) linear: Hex,
    pub(super) offset: Hex,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) flags: String,
}

#[derive(Debug, Serialize)]
pub(super) struct PvhFacts {
    pub(super) entry: Hex,
    pub(super) relocatable: Option<PvhRange>,
}

#[derive(Debug, Serialize)]
pub(super) struct PvhRange {
    pub(super) alignment: u32,
    pub(super) min: Hex,
    pub(super) max: Hex,
}

#[derive(Debug, Serialize)]
pub(super) struct RelocationFacts {
    pub(super) r64: u64,
    pub(super) inverse32: u64,
    pub(super) r32: u64,
}

impl ElfFacts {
    fn of(elf: &Elf, relocations: Option<&Relocations>) -> Self {
        Self {
            format: elf.to_string(),
            kind: match elf.kind {
                Kind::Relocatable => "object file",
                Kind::Executable => "executable",
                Kind::Dynamic => "position-independent",
                Kind::Core => "memory dump",
                Kind::Other(_) => "other",
            },
            entry: Hex(elf.entry),
            start: elf.span().map(|(start, _)| Hex(start)),
            end: elf.span().map(|(_, end)| Hex(end)),
            segments: elf.segments.iter().map(SegmentFacts::of).collect(),
            pvh: elf.pvh.map(|pvh| PvhFacts {
                entry: Hex(u64::from(pvh.entry)),
                relocatable: pvh.relocation.map(|range| PvhRange {
                    alignment: range.align,
                    min: Hex(u64::from(range.min)),
                    max: Hex(u64::from(range.max)),
                }),
            }),
            relocations: relocations.map(|table| {
                let (r64, inverse32, r32) = table.counts();
                RelocationFacts {
                    r64,
                    inverse32,
                    r32,
                }
            }),
        }
    }
}

impl SegmentFacts {
    fn of(segment: &Segment) -> Self {
        let letters = [
            (SegmentFlags::READ, 'r'),
            (SegmentFlags::WRITE, 'w'),
            (SegmentFlags::EXECUTE, 'x'),
        ];
        let flags = letters.map(|(flag, letter)| {
            if segment.flags.contains(flag) {
                letter
            } else {
                '-'
            }
        });
        Self {
            physical: Hex(segment.paddr),
            linear: Hex(segment.vaddr),
            offset: Hex(segment.offset),
            file_size: segment.filesz,
            memory_size: segment.memsz,
            flags: flags.iter().collect(),
        }
    }
}

//! The ways into an image, and the choice of one.
//!
//! What a protocol asks of an image stands in the protocol's own file, as its [`Gate`].

pub(crate) mod arm64;
pub(crate) mod flat;
pub(crate) mod gdt;
pub(crate) mod linux;
mod linux16;
mod multiboot;
mod paging;
mod pvh;
pub(crate) mod riscv64;
mod setup_data;
pub(crate) mod start_info;
pub(crate) mod zero_page;

use crate::draft::{Draft, LOW};
use crate::parts::Parts;
use crate::protocol::multiboot::{MultibootGate, Version};
use crate::{EntryPoint, PlanError, Protocol, ProtocolChoice, Request, Unpack};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::x86::Registers;
use firstlight_base::{Gpa, GpaRange};
use firstlight_image::{Architecture, BzImage, Elf, Format, Image, SetupHeader};

/// What a protocol asks of an image, and how it enters one.
pub(crate) trait Gate: fmt::Debug + Sync {
    /// Where `form` is entered, or what it lacks.
    fn entry(&self, form: &Form<'_>) -> Result<EntryPoint, &'static str>;

    /// Where `form`, which is not packed, may be loaded.
    fn moves(&self, form: &Form<'_>) -> Moves;

    /// Whether the virtual addresses of a kernel that is entered this way may be shifted.
    fn shifts(&self) -> bool {
        false
    }

    /// Whether the kernel is told things by a setup header: a list of `setup_data`, what it runs on.
    fn has_setup_header(&self) -> bool {
        false
    }

    /// Where the command line has to lie.
    fn cmdline_within(&self, _header: Option<&SetupHeader>) -> GpaRange {
        LOW
    }

    /// The highest address that the last byte of the initial ramdisk may have, if there is a limit;
    /// `header` is the kernel's.
    fn initrd_limit(&self, header: Option<&SetupHeader>) -> Option<Gpa>;

    /// Whether the kernel can be handed modules beside its initial ramdisk, and what the address of
    /// each is a multiple of.
    fn modules(&self) -> Option<u64> {
        None
    }

    /// What stands before the command line.
    fn first_word(&self) -> &'static str {
        ""
    }

    /// Puts what the kernel is told; returns what the registers hold.
    fn enter(
        &self,
        draft: &mut Draft,
        way: &Way<'_>,
        parts: &Parts,
        request: &Request,
    ) -> Result<Registers, PlanError>;
}

/// The protocols by which x86 kernels are entered, fastest first.
const X86: [Protocol; 6] = [
    Protocol::Linux64,
    Protocol::Pvh,
    Protocol::Linux32,
    Protocol::Linux16,
    Protocol::Multiboot2,
    Protocol::Multiboot,
];

/// The gate of `protocol`, where it is one of x86.
fn gate(protocol: Protocol) -> Option<&'static dyn Gate> {
    Some(match protocol {
        Protocol::Linux64 => &linux::Linux64,
        Protocol::Linux32 => &linux::Linux32,
        Protocol::Linux16 => &linux16::Linux16,
        Protocol::Pvh => &pvh::Pvh,
        Protocol::Multiboot => &MultibootGate(Version::One),
        Protocol::Multiboot2 => &MultibootGate(Version::Two),
        Protocol::Arm64 | Protocol::Riscv64 | Protocol::Firmware => return None,
    })
}

/// Where a kernel that is not packed may be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moves {
    /// Where it was linked to and nowhere else, and why.
    No(&'static str),
    /// With its lowest byte at any multiple of `align`, and every byte within `within`.
    To {
        /// A power of two.
        align: u64,
        /// Where every byte has to lie.
        within: GpaRange,
        /// Whether the image itself says that it may be moved; otherwise it is known of its kind.
        declared: bool,
    },
}

impl Moves {
    /// As an image itself says: at a multiple of `align`, every byte from `min` to `max`. None
    /// where that is nowhere.
    pub(crate) fn declared(align: u32, min: u32, max: u32) -> Option<Self> {
        let end = Gpa::new(u64::from(max).saturating_add(1));
        let within = GpaRange::between(Gpa::new(min.into()), end)?;
        align.is_power_of_two().then_some(Self::To {
            align: align.into(),
            within,
            declared: true,
        })
    }
}

/// One way in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) form: Form<'a>,
    pub(crate) gate: &'static dyn Gate,
    pub(crate) entry: EntryPoint,
}

/// What is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// The protected-mode part of a bzImage, which unpacks itself.
    Packed {
        layer: usize,
        bzimage: &'a BzImage,
        /// The layer itself.
        bytes: &'a [u8],
    },
    /// A vmlinux, with the bzImage that it came in.
    Vmlinux {
        layer: usize,
        elf: &'a Elf,
        bzimage: Option<&'a BzImage>,
    },
    /// A kernel as its multiboot header describes it.
    Multiboot(multiboot::Kernel<'a>),
}

/// Chooses the way in that `request` asks for, or the fastest that there is.
pub(crate) fn choose<'a>(image: &'a Image<'_>, request: &Request) -> Result<Way<'a>, PlanError> {
    match request.protocol {
        ProtocolChoice::Only(protocol) => only(image, request, protocol),
        ProtocolChoice::Auto => fastest(image, request),
    }
}

fn only<'a>(
    image: &'a Image<'_>,
    request: &Request,
    protocol: Protocol,
) -> Result<Way<'a>, PlanError> {
    let no_entry = |why: String| PlanError::NoEntry {
        image: image.to_string(),
        protocol,
        why,
    };
    let forms = match Version::of(protocol) {
        // Looked for only where it is asked for: the header may be anywhere in 32 KiB.
        Some(version) => {
            let kernel = multiboot::kernel(image, version).map_err(no_entry)?;
            [Form::Multiboot(kernel)].into()
        }
        None => forms(image, request.unpack),
    };
    if forms.is_empty() {
        return Err(nothing_to_enter(image));
    }
    way(protocol, &forms).map_err(|lack| no_entry(lack.into()))
}

fn fastest<'a>(image: &'a Image<'_>, request: &Request) -> Result<Way<'a>, PlanError> {
    let forms = forms(image, request.unpack);
    let first = |protocols: &[Protocol]| {
        let mut ways = protocols.iter();
        ways.find_map(|&protocol| way(protocol, &forms).ok())
    };
    let multiboot = || {
        only(image, request, Protocol::Multiboot2)
            .or_else(|_| only(image, request, Protocol::Multiboot))
    };
    let found = match forms.last() {
        // What is recognised by its header alone is told what is wrong with that.
        None if matches!(image.kernel().format(), Format::Multiboot(_)) => return multiboot(),
        None => return Err(nothing_to_enter(image)),
        // A vmlinux by itself need not be Linux: what it declares comes first.
        Some(Form::Vmlinux { bzimage: None, .. }) => first(&[Protocol::Pvh])
            .or_else(|| multiboot().ok())
            .or_else(|| first(&X86)),
        Some(_) => first(&X86),
    };
    found.ok_or_else(|| {
        not_bootable(
            image,
            "it has none of the entries of Linux, PVH or multiboot",
        )
    })
}

/// Nothing in `image` is entered by any protocol there is here.
fn nothing_to_enter(image: &Image<'_>) -> PlanError {
    match image.architecture() {
        Architecture::I386 | Architecture::X86_64 | Architecture::Unknown => {
            not_bootable(image, "it is no bzImage, vmlinux or multiboot file")
        }
        other => not_bootable(
            image,
            &format!(
                "it is for {other}, and only kernels for x86, arm64 and riscv64 can be booted"
            ),
        ),
    }
}

fn not_bootable(image: &Image<'_>, why: &str) -> PlanError {
    PlanError::NotBootable {
        image: image.to_string(),
        why: why.into(),
    }
}

/// The way into the first of `forms` that `protocol` enters, or what the last of them lacks.
fn way<'a>(protocol: Protocol, forms: &[Form<'a>]) -> Result<Way<'a>, &'static str> {
    let gate = gate(protocol).ok_or("it is for x86")?;
    let mut lack = "there is nothing to load";
    for &form in forms {
        match gate.entry(&form) {
            Ok(entry) => {
                return Ok(Way {
                    protocol,
                    form,
                    gate,
                    entry,
                });
            }
            Err(lacks) => lack = lacks,
        }
    }
    Err(lack)
}

/// What can be loaded, the preferred form first.
fn forms<'a>(image: &'a Image<'_>, unpack: Unpack) -> Vec<Form<'a>> {
    let mut forms = Vec::new();
    let mut outer = None;
    for (number, layer) in image.layers().iter().enumerate() {
        let bytes = layer.bytes();
        let format = layer.format();
        let layer = number;
        match format {
            Format::BzImage(bzimage) => {
                outer = Some(bzimage);
                forms.push(Form::Packed {
                    layer,
                    bzimage,
                    bytes,
                });
                if unpack == Unpack::Guest {
                    return forms;
                }
            }
            Format::Elf(elf) => forms.insert(
                0,
                Form::Vmlinux {
                    layer,
                    elf,
                    bzimage: outer,
                },
            ),
            _ => {}
        }
    }
    forms
}

impl<'a> Form<'a> {
    /// The setup header of the kernel, where it came with one.
    pub(crate) fn header(&self) -> Option<&'a SetupHeader> {
        self.bzimage().map(|bzimage| &bzimage.setup)
    }

    /// The bzImage that the kernel is or came in.
    pub(crate) fn bzimage(&self) -> Option<&'a BzImage> {
        match self {
            Self::Packed { bzimage, .. } => Some(bzimage),
            Self::Vmlinux { bzimage, .. } => *bzimage,
            Self::Multiboot(_) => None,
        }
    }

    /// The lowest address that the form was linked to; 0 where it has none.
    pub(crate) fn lowest(&self) -> Gpa {
        match self {
            Self::Packed { .. } | Self::Multiboot(_) => Gpa::new(0),
            Self::Vmlinux { elf, .. } => {
                let lowest = elf.segments.iter().map(|segment| segment.paddr).min();
                Gpa::new(lowest.unwrap_or(0))
            }
        }
    }
}

impl Way<'_> {
    /// How many bytes the command line may have, without the NUL.
    pub(crate) fn cmdline_limit(&self) -> u64 {
        /// `COMMAND_LINE_SIZE` of Linux on x86, less the NUL.
        const LINUX: u64 = 2047;
        self.form
            .header()
            .map_or(LINUX, |header| u64::from(header.cmdline_size()))
    }

    /// The highest address that the last byte of the initial ramdisk may have, if there is a limit.
    pub(crate) fn initrd_limit(&self) -> Option<Gpa> {
        self.gate.initrd_limit(self.form.header())
    }
}

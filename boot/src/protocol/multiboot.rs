//! The entries of the Multiboot Specification 0.6.96 and the Multiboot2 Specification 2.0: what a
//! kernel's header asks for, and with which registers it begins.

mod information;

use crate::draft::{Draft, LOW, Need, PAGE};
use crate::parts::Parts;
use crate::protocol::gdt::{self, Code, protected_mode};
use crate::protocol::linux16::put_bios;
use crate::protocol::pvh::modules;
use crate::protocol::{Form, Gate, Moves, Way};
use crate::{EntryPoint, PlanError, Protocol, Request};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::x86::{Gprs, RFLAGS_RESERVED, Registers};
use firstlight_base::{GIB, Gpa};
use firstlight_image::{
    Elf, Format, Image, Machine, Multiboot, Multiboot1, Multiboot1Flags, Multiboot2, MultibootLoad,
    MultibootRelocation, Segment, SegmentFlags, SetupHeader,
};
use information::Information;

/// What stands before the command lines of kernel and modules, where older loaders have the name
/// of the file: kernels such as Xen and GNU Mach pass over the first word.
const FIRST_WORD: &str = "firstlight ";

/// The protocol's two versions, which share nothing but their idea.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Version {
    /// The version that `protocol` is, where it is one.
    pub(crate) const fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Multiboot => Some(Self::One),
            Protocol::Multiboot2 => Some(Self::Two),
            _ => None,
        }
    }

    /// What EAX holds, so that the kernel knows who starts it (sections 3.2 and 3.3).
    const fn magic(self) -> u64 {
        match self {
            Self::One => 0x2bad_b002,
            Self::Two => 0x36d7_6289,
        }
    }
}

/// A kernel with a multiboot header, as far as it matters for loading it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel<'a> {
    pub(crate) layer: usize,
    body: Body<'a>,
    entry: Gpa,
    relocation: Option<MultibootRelocation>,
}

#[derive(Clone, Copy, Debug)]
enum Body<'a> {
    Elf(&'a Elf),
    /// What the header's own addresses come to.
    Flat(Segment),
}

impl Kernel<'_> {
    /// What is loaded.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        match &self.body {
            Body::Elf(elf) => elf.segments.clone(),
            Body::Flat(segment) => [*segment].into(),
        }
    }
}

/// The kernel in `image`, as the header of `version` in it describes it.
///
/// # Errors
///
/// What it lacks, or what it asks for that nobody can give it here.
pub(crate) fn kernel<'a>(image: &'a Image<'_>, version: Version) -> Result<Kernel<'a>, String> {
    let none = || match version {
        Version::One => "it has no multiboot 1 header".to_string(),
        Version::Two => "it has no multiboot 2 header".to_string(),
    };
    let headers = image.multiboot().map_err(|error| error.to_string())?;
    let (layer, Multiboot { one, two }) = headers.ok_or_else(none)?;
    let file = image.layers().get(layer).ok_or_else(none)?;
    let len = file.bytes().len() as u64;
    let elf = match file.format() {
        Format::Elf(elf) => Some(elf),
        _ => None,
    };
    match version {
        Version::One => {
            let header = one.ok_or_else(none)?;
            check1(&header)?;
            let load = header.load(len).map_err(|error| error.to_string())?;
            Kernel::new(layer, elf, load, header.entry, None)
        }
        Version::Two => {
            let header = two.ok_or_else(none)?;
            check2(&header)?;
            let load = header.load(len).map_err(|error| error.to_string())?;
            Kernel::new(layer, elf, load, header.entry, header.relocation)
        }
    }
}

impl<'a> Kernel<'a> {
    /// The header's addresses count, where it has any; else those of the ELF file.
    fn new(
        layer: usize,
        elf: Option<&'a Elf>,
        load: Option<MultibootLoad>,
        entry: Option<u32>,
        relocation: Option<MultibootRelocation>,
    ) -> Result<Self, String> {
        let (body, entry) = match (load, elf) {
            (Some(load), _) => (
                Body::Flat(flat(&load)),
                entry.map(u64::from).ok_or("its header names no entry")?,
            ),
            (None, Some(elf)) => {
                if !matches!(elf.machine, Machine::I386 | Machine::X86_64) {
                    return Err(format!("it is for {}, not for x86", elf.machine));
                }
                (Body::Elf(elf), entry.map_or(elf.entry, u64::from))
            }
            (None, None) => {
                return Err("it is no ELF file, and its header has no addresses".into());
            }
        };
        Ok(Self {
            layer,
            body,
            entry: Gpa::new(entry),
            relocation,
        })
    }
}

/// One segment, readable, writable and executable.
fn flat(load: &MultibootLoad) -> Segment {
    let start = u64::from(load.memory.start);
    Segment {
        offset: load.bytes.start,
        filesz: load.bytes.end.saturating_sub(load.bytes.start),
        paddr: start,
        vaddr: start,
        memsz: u64::from(load.memory.end).saturating_sub(start),
        align: 1,
        flags: SegmentFlags::all(),
    }
}

/// "If the boot loader sees any of the bits 0-15 set it doesn't know about, it must fail" is the
/// sense of section 3.1.2.
fn check1(header: &Multiboot1) -> Result<(), String> {
    const REQUIRED: u32 = 0xffff;
    let known = Multiboot1Flags::PAGE_ALIGN | Multiboot1Flags::MEMORY_INFO;
    let unknown = header.flags.bits() & REQUIRED & !known.bits();
    if header.flags.contains(Multiboot1Flags::VIDEO) {
        return Err("its header requires a video mode (flag 2), and there is no screen".into());
    }
    if unknown != 0 {
        return Err(format!(
            "its header requires what no loader knows (flag {})",
            unknown.trailing_zeros()
        ));
    }
    Ok(())
}

/// What is not marked as optional must be understood, and given (sections 3.1.3 to 3.1.5).
fn check2(header: &Multiboot2) -> Result<(), String> {
    const CONSOLE_REQUIRED: u32 = 1;
    if header.architecture != Multiboot2::I386 {
        return Err(format!(
            "its header is for architecture {}, not for i386 (0)",
            header.architecture
        ));
    }
    if let Some(tag) = header.unknown.first() {
        return Err(format!(
            "its header requires what no loader knows (tag {tag})"
        ));
    }
    if header
        .console
        .is_some_and(|flags| flags & CONSOLE_REQUIRED != 0)
    {
        return Err("its header requires a console (tag 4), and there is no screen".into());
    }
    let lacking = |kind: &&u32| !Information::GIVEN.contains(kind);
    if let Some(kind) = header.required_information.iter().find(lacking) {
        return Err(format!(
            "its header requires information of type {kind}, which is not given here"
        ));
    }
    Ok(())
}

/// The gate of a version.
#[derive(Debug)]
pub(crate) struct MultibootGate(pub(crate) Version);

impl Gate for MultibootGate {
    fn entry(&self, form: &Form<'_>) -> Result<EntryPoint, &'static str> {
        match form {
            Form::Multiboot(kernel) => Ok(EntryPoint::Address(kernel.entry)),
            _ => Err("it has no multiboot header"),
        }
    }

    /// As the relocatable tag of a multiboot 2 header says (section 3.1.14).
    fn moves(&self, form: &Form<'_>) -> Moves {
        const FIXED: Moves = Moves::No("its multiboot header does not say where else it may lie");
        let Form::Multiboot(kernel) = form else {
            return FIXED;
        };
        let Some(tag) = kernel.relocation else {
            return FIXED;
        };
        Moves::declared(tag.align, tag.min, tag.max).unwrap_or(Moves::No(
            "its multiboot header's relocatable tag leaves no room",
        ))
    }

    /// The information has 32 bits for an address.
    fn initrd_limit(&self, _header: Option<&SetupHeader>) -> Option<Gpa> {
        Some(Gpa::new(u64::from(u32::MAX)))
    }

    /// Where the header asks for it, page boundaries; and nobody minds them.
    fn modules(&self) -> Option<u64> {
        Some(PAGE)
    }

    fn first_word(&self) -> &'static str {
        FIRST_WORD
    }

    /// The state of sections 3.2 (version 1) and 3.3 (version 2).
    fn enter(
        &self,
        draft: &mut Draft,
        way: &Way<'_>,
        parts: &Parts,
        request: &Request,
    ) -> Result<Registers, PlanError> {
        let Self(version) = *self;
        let relocatable =
            matches!(way.form, Form::Multiboot(kernel) if kernel.relocation.is_some());
        let rsdp = draft.bytes_at(parts.rsdp).to_vec();
        let information = Information {
            cmdline: format!("{FIRST_WORD}{}", request.cmdline),
            cmdline_at: parts.cmdline.start(),
            modules: &modules(parts, request),
            first_word: FIRST_WORD,
            memory: &parts.e820,
            rsdp: &rsdp,
            load_base: relocatable.then(|| parts.kernel.range.start()),
        };
        let need = Need {
            name: "multiboot information",
            len: information.encode(version, Gpa::new(0)).len() as u64,
            align: 8,
            within: LOW,
            why: "conventional memory, below 4 GiB as its pointers must be",
        };
        // Kernels of this kind know their loader from a PC, and go on to call its BIOS: Xen does
        // (`xen/arch/x86/boot/trampoline.S`), and looks for the ACPI root pointer where BIOSes
        // have it.
        put_bios(draft, parts, way.protocol)?;
        let at = draft.lowest(&need)?.start();
        let placed = draft.put_lowest(&need, information.encode(version, at))?;
        let gprs = Gprs {
            rip: parts.entry.get(),
            rax: version.magic(),
            rbx: placed.start().get(),
            rflags: RFLAGS_RESERVED,
            ..Gprs::default()
        };
        if parts.kernel.range.end() > Gpa::new(4 * GIB) {
            return Err(PlanError::NotMapped {
                kernel: parts.kernel.range,
                limit: Gpa::new(4 * GIB),
            });
        }
        gdt::put(draft, protected_mode(gprs), Code::Bits32)
    }
}

#[cfg(test)]
mod tests;

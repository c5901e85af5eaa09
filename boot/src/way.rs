//! The ways into an image, and the choice of one.

use crate::{PlanError, Protocol, ProtocolChoice, Request, Unpack};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::Gpa;
use firstlight_image::{BzImage, Class, Elf, Format, Image, Machine, SetupHeader, XLoadFlags};

/// One way in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) form: Form<'a>,
}

/// What is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// The protected-mode part of a bzImage, which unpacks itself.
    Packed { layer: usize, bzimage: &'a BzImage },
    /// A vmlinux, with the header of the bzImage that it came in.
    Vmlinux {
        layer: usize,
        elf: &'a Elf,
        header: Option<&'a SetupHeader>,
    },
}

/// Chooses the way in that `request` asks for, or the fastest that there is.
pub(crate) fn choose<'a>(image: &'a Image<'_>, request: &Request) -> Result<Way<'a>, PlanError> {
    let forms = forms(image, request.unpack);
    let bootable = |why: &str| PlanError::NotBootable {
        image: image.to_string(),
        why: why.into(),
    };
    let Some(last) = forms.last() else {
        return Err(bootable(
            "this machine enters x86 bzImage and vmlinux files",
        ));
    };
    let wanted = |protocol| {
        forms.iter().find_map(|form| {
            Way {
                protocol,
                form: *form,
            }
            .offered()
        })
    };
    match request.protocol {
        ProtocolChoice::Only(protocol) => wanted(protocol).ok_or_else(|| PlanError::NoEntry {
            image: image.to_string(),
            protocol,
            why: lacks(protocol, last),
        }),
        ProtocolChoice::Auto => preference(last)
            .into_iter()
            .find_map(wanted)
            .ok_or_else(|| bootable("it has none of the entries of Linux or PVH")),
    }
}

/// A vmlinux by itself need not be Linux: where it has a PVH entry, that is the one it declares.
fn preference(form: &Form<'_>) -> [Protocol; 3] {
    match form {
        Form::Vmlinux { header: None, .. } => [Protocol::Pvh, Protocol::Linux64, Protocol::Linux32],
        Form::Vmlinux { .. } | Form::Packed { .. } => Protocol::ALL,
    }
}

/// What can be loaded, the preferred form first.
fn forms<'a>(image: &'a Image<'_>, unpack: Unpack) -> Vec<Form<'a>> {
    let mut forms = Vec::new();
    let mut header = None;
    for (layer, format) in image
        .layers()
        .iter()
        .map(|layer| layer.format())
        .enumerate()
    {
        match format {
            Format::BzImage(bzimage) => {
                header = Some(&bzimage.setup);
                forms.push(Form::Packed { layer, bzimage });
                if unpack == Unpack::Guest {
                    return forms;
                }
            }
            Format::Elf(elf) => forms.insert(0, Form::Vmlinux { layer, elf, header }),
            _ => {}
        }
    }
    forms
}

fn lacks(protocol: Protocol, form: &Form<'_>) -> String {
    match (protocol, form) {
        (Protocol::Pvh, Form::Vmlinux { .. }) => "it has no PVH entry note",
        (Protocol::Pvh, Form::Packed { .. }) => {
            "the PVH entry is in the unpacked kernel, and this one is not unpacked"
        }
        (Protocol::Linux32, Form::Vmlinux { .. }) => {
            "the 32-bit entry belongs to the unpacking code of a bzImage"
        }
        (Protocol::Linux64, Form::Vmlinux { .. }) => "it is no 64-bit x86 ELF file",
        (Protocol::Linux64, Form::Packed { .. }) => "its xloadflags have no XLF_KERNEL_64",
        (Protocol::Linux32, Form::Packed { .. }) => "it is not loaded high",
    }
    .into()
}

impl<'a> Way<'a> {
    fn offered(self) -> Option<Self> {
        let offered = match (self.protocol, &self.form) {
            (Protocol::Linux64, Form::Packed { bzimage, .. }) => {
                bzimage.setup.xloadflags().contains(XLoadFlags::KERNEL_64)
            }
            (Protocol::Linux32, Form::Packed { bzimage, .. }) => bzimage.is_loaded_high(),
            (Protocol::Pvh, Form::Packed { .. }) | (Protocol::Linux32, Form::Vmlinux { .. }) => {
                false
            }
            (Protocol::Linux64, Form::Vmlinux { elf, .. }) => {
                elf.class == Class::Elf64 && elf.machine == Machine::X86_64
            }
            (Protocol::Pvh, Form::Vmlinux { elf, .. }) => elf.pvh.is_some(),
        };
        offered.then_some(self)
    }

    /// The header that goes into the zero page; empty where there is none.
    pub(crate) fn setup_header(&self) -> &'a [u8] {
        self.header().map_or(&[], SetupHeader::bytes)
    }

    fn header(&self) -> Option<&'a SetupHeader> {
        match self.form {
            Form::Packed { bzimage, .. } => Some(&bzimage.setup),
            Form::Vmlinux { header, .. } => header,
        }
    }

    /// Where the kernel is entered that was loaded at `load`.
    pub(crate) fn entry(&self, load: Gpa) -> Gpa {
        /// `boot.rst`: the 64-bit entry of a bzImage lies 0x200 behind its start.
        const ENTRY_64: u64 = 0x200;
        match (self.protocol, &self.form) {
            (Protocol::Linux64, Form::Packed { .. }) => {
                Gpa::new(load.get().saturating_add(ENTRY_64))
            }
            (Protocol::Linux32 | Protocol::Pvh, Form::Packed { .. }) => load,
            (Protocol::Pvh, Form::Vmlinux { elf, .. }) => {
                Gpa::new(elf.pvh.map_or(elf.entry, |pvh| u64::from(pvh.entry)))
            }
            (Protocol::Linux64 | Protocol::Linux32, Form::Vmlinux { elf, .. }) => {
                Gpa::new(elf.entry)
            }
        }
    }

    /// How many bytes the command line may have, without the NUL.
    pub(crate) fn cmdline_limit(&self) -> u64 {
        /// `COMMAND_LINE_SIZE` of Linux on x86, less the NUL.
        const LINUX: u64 = 2047;
        self.header()
            .map_or(LINUX, |header| u64::from(header.cmdline_size()))
    }

    /// The highest address that the last byte of the initial ramdisk may have, if there is a limit.
    pub(crate) fn initrd_limit(&self) -> Option<Gpa> {
        /// What Linux has in its header since it has a header field for it.
        const LINUX: u32 = 0x7fff_ffff;
        let flags = self
            .header()
            .map_or(XLoadFlags::empty(), SetupHeader::xloadflags);
        match self.protocol {
            Protocol::Linux64 if flags.contains(XLoadFlags::CAN_BE_LOADED_ABOVE_4G) => None,
            Protocol::Linux64 | Protocol::Linux32 => {
                let limit = self.header().map_or(LINUX, SetupHeader::initrd_addr_max);
                Some(Gpa::new(u64::from(limit)))
            }
            // Linux truncates a module's address to 32 bits (`arch/x86/platform/pvh`).
            Protocol::Pvh => Some(Gpa::new(u64::from(u32::MAX))),
        }
    }
}

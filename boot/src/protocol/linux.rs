//! The entries of the Linux/x86 boot protocol (`Documentation/arch/x86/boot.rst`): what the kernel
//! is told, and with which registers it begins.

use crate::draft::{Draft, LOW, Need, PAGE};
use crate::parts::Parts;
use crate::protocol::gdt::{self, Code, protected_mode};
use crate::protocol::zero_page::{self, Fields, ZeroPage};
use crate::protocol::{Form, Gate, Moves, Way};
use crate::protocol::{paging, setup_data};
use crate::{EntryPoint, PlanError, Request};
use firstlight_base::x86::{Cr0, Cr4, Efer, Gprs, RFLAGS_RESERVED, Registers};
use firstlight_base::{GIB, Gpa, GpaRange};
use firstlight_image::{Class, Machine, SetupHeader, Version, XLoadFlags};

/// The 64-bit entry: of a bzImage's unpacking code, or of the kernel in it.
#[derive(Debug)]
pub(crate) struct Linux64;

/// The 32-bit entry of a bzImage's unpacking code.
#[derive(Debug)]
pub(crate) struct Linux32;

impl Gate for Linux64 {
    fn entry(&self, form: &Form<'_>) -> Result<EntryPoint, &'static str> {
        match form {
            Form::Packed { bzimage, .. } => bzimage
                .entry_64()
                .map(EntryPoint::Offset)
                .ok_or("its xloadflags have no XLF_KERNEL_64"),
            Form::Multiboot(_) => Err("what a multiboot header describes need not be Linux"),
            Form::Vmlinux { elf, .. } => {
                if elf.class == Class::Elf64 && elf.machine == Machine::X86_64 {
                    Ok(EntryPoint::Address(Gpa::new(elf.entry)))
                } else {
                    Err("it is no 64-bit x86 ELF file")
                }
            }
        }
    }

    /// `startup_64` of a vmlinux takes its distance from where it was linked to out of the
    /// instruction pointer, and stops where that is no multiple of 2 MiB
    /// (`arch/x86/kernel/head64.c`).
    fn moves(&self, form: &Form<'_>) -> Moves {
        const LARGE_PAGE: u64 = 0x20_0000;
        let header = form.header();
        let align = header
            .and_then(SetupHeader::kernel_alignment)
            .map_or(0, u64::from);
        let align = align.max(LARGE_PAGE);
        let lowest = form.lowest();
        if header.is_some_and(|header| !header.relocatable_kernel()) {
            return Moves::No("its header says that it is not relocatable");
        }
        if !lowest.is_aligned(align) {
            return Moves::No("the address it was linked to is no multiple of its alignment");
        }
        let above_4_gib = header.is_none_or(|header| {
            header
                .xloadflags()
                .contains(XLoadFlags::CAN_BE_LOADED_ABOVE_4G)
        });
        let end = if above_4_gib {
            paging::LIMIT
        } else {
            Gpa::new(4 * GIB)
        };
        match GpaRange::between(lowest, end) {
            Some(within) => Moves::To {
                align,
                within,
                declared: header.is_some(),
            },
            None => Moves::No("it was linked to the end of what it can be entered in"),
        }
    }

    fn shifts(&self) -> bool {
        true
    }

    fn has_setup_header(&self) -> bool {
        true
    }

    fn initrd_limit(&self, header: Option<&SetupHeader>) -> Option<Gpa> {
        let above_4_gib = header.is_some_and(|header| {
            header
                .xloadflags()
                .contains(XLoadFlags::CAN_BE_LOADED_ABOVE_4G)
        });
        (!above_4_gib).then(|| initrd_addr_max(header))
    }

    /// The state of `boot.rst`, section "64-bit Boot Protocol".
    fn enter(
        &self,
        draft: &mut Draft,
        way: &Way<'_>,
        parts: &Parts,
        request: &Request,
    ) -> Result<Registers, PlanError> {
        let boot_params = put_zero_page(draft, way, parts, request)?;
        let kernel = parts.kernel.range;
        let window = parts.kernel.window.unwrap_or(kernel);
        if kernel.end().max(window.end()) > paging::LIMIT {
            return Err(PlanError::NotMapped {
                kernel,
                limit: paging::LIMIT,
            });
        }
        let mapped = paging::gibs([kernel, window, parts.cmdline, boot_params]);
        let need = Need {
            name: "page tables",
            len: paging::tables_len(&mapped),
            align: PAGE,
            within: LOW,
            why: "an identity map of kernel, boot_params and command line",
        };
        let at = draft.lowest(&need)?.start();
        let tables = draft.put_lowest(&need, paging::identity_map(at, &mapped))?;
        let registers = Registers {
            gprs: Gprs {
                rip: parts.entry.get(),
                rsi: boot_params.start().get(),
                rflags: RFLAGS_RESERVED,
                ..Gprs::default()
            },
            cr0: Cr0::PE | Cr0::ET | Cr0::PG,
            cr3: tables.start().get(),
            cr4: Cr4::PAE,
            efer: Efer::LME | Efer::LMA,
            ..Registers::default()
        };
        gdt::put(draft, registers, Code::Bits64)
    }
}

impl Gate for Linux32 {
    fn entry(&self, form: &Form<'_>) -> Result<EntryPoint, &'static str> {
        match form {
            Form::Packed { bzimage, .. } if bzimage.is_loaded_high() => Ok(EntryPoint::Offset(0)),
            Form::Packed { .. } => Err("it is not loaded high"),
            Form::Vmlinux { .. } | Form::Multiboot(_) => {
                Err("the 32-bit entry belongs to the unpacking code of a bzImage")
            }
        }
    }

    fn moves(&self, _form: &Form<'_>) -> Moves {
        Moves::No("only its unpacking code is entered this way")
    }

    fn has_setup_header(&self) -> bool {
        true
    }

    fn initrd_limit(&self, header: Option<&SetupHeader>) -> Option<Gpa> {
        Some(initrd_addr_max(header))
    }

    /// The state of `boot.rst`, section "32-bit Boot Protocol".
    fn enter(
        &self,
        draft: &mut Draft,
        way: &Way<'_>,
        parts: &Parts,
        request: &Request,
    ) -> Result<Registers, PlanError> {
        let boot_params = put_zero_page(draft, way, parts, request)?;
        let gprs = Gprs {
            rip: parts.entry.get(),
            rsi: boot_params.start().get(),
            rflags: RFLAGS_RESERVED,
            ..Gprs::default()
        };
        gdt::put(draft, protected_mode(gprs), Code::Bits32)
    }
}

/// The header's limit, or what Linux has there since it has the field.
pub(crate) fn initrd_addr_max(header: Option<&SetupHeader>) -> Gpa {
    const LINUX: u32 = 0x7fff_ffff;
    Gpa::new(header.map_or(LINUX, SetupHeader::initrd_addr_max).into())
}

/// What the loader writes into the kernel's header; puts the `setup_data` on its way.
pub(crate) fn fields(
    draft: &mut Draft,
    way: &Way<'_>,
    parts: &Parts,
    request: &Request,
) -> Result<Fields, PlanError> {
    const SUBARCH_SINCE: Version = Version(0x207);
    let bzimage = way.form.bzimage();
    let version = bzimage.map(|bzimage| bzimage.setup.version());
    if let Some(version) = version
        && version < SUBARCH_SINCE
        && request.subarch.is_some()
    {
        return Err(PlanError::TooOld {
            what: "hardware_subarch",
            version,
            since: SUBARCH_SINCE,
        });
    }
    Ok(Fields {
        load: parts.kernel.range.start(),
        alignment: parts.kernel.alignment,
        randomised: parts.kernel.relocate.is_some(),
        cmdline: parts.cmdline.start(),
        initrd: parts.initrd,
        setup_data: setup_data::put(draft, bzimage, request, &parts.e820)?,
        subarch: request.subarch,
    })
}

fn put_zero_page(
    draft: &mut Draft,
    way: &Way<'_>,
    parts: &Parts,
    request: &Request,
) -> Result<GpaRange, PlanError> {
    let page = ZeroPage {
        setup_header: way.form.header().map_or(&[], SetupHeader::bytes),
        fields: fields(draft, way, parts, request)?,
        rsdp: parts.rsdp,
        e820: &parts.e820,
    };
    draft.put_lowest(
        &Need {
            name: "boot_params",
            len: zero_page::LEN,
            align: PAGE,
            within: LOW,
            why: "the zero page, in conventional memory; the 32-bit entry writes into it",
        },
        page.encode(),
    )
}

//! The entries of the Linux/x86 boot protocol (`Documentation/arch/x86/boot.rst`): what the kernel
//! is told, and with which registers it begins.

use crate::draft::{Draft, Need};
use crate::gdt::Code;
use crate::planner::{LOW, PAGE, Parts, protected_mode, put_gdt};
use crate::way::Way;
use crate::zero_page::{self, ZeroPage};
use crate::{PlanError, Request, paging};
use firstlight_base::GpaRange;
use firstlight_base::x86::{Cr0, Cr4, Efer, Gprs, RFLAGS_RESERVED, Registers};

/// The state of `boot.rst`, section "64-bit Boot Protocol".
pub(crate) fn enter64(
    draft: &mut Draft,
    way: &Way<'_>,
    parts: &Parts,
    request: &Request,
) -> Result<Registers, PlanError> {
    let boot_params = put_zero_page(draft, way, parts, request)?;
    if parts.kernel.end() > paging::LIMIT {
        return Err(PlanError::NotMapped {
            kernel: parts.kernel,
            limit: paging::LIMIT,
        });
    }
    let mapped = paging::gibs([parts.kernel, parts.cmdline, boot_params]);
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
            rip: way.entry(parts.kernel.start()).get(),
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
    put_gdt(draft, registers, Code::Bits64)
}

/// The state of `boot.rst`, section "32-bit Boot Protocol".
pub(crate) fn enter32(
    draft: &mut Draft,
    way: &Way<'_>,
    parts: &Parts,
    request: &Request,
) -> Result<Registers, PlanError> {
    let boot_params = put_zero_page(draft, way, parts, request)?;
    let gprs = Gprs {
        rip: way.entry(parts.kernel.start()).get(),
        rsi: boot_params.start().get(),
        rflags: RFLAGS_RESERVED,
        ..Gprs::default()
    };
    put_gdt(draft, protected_mode(gprs), Code::Bits32)
}

fn put_zero_page(
    draft: &mut Draft,
    way: &Way<'_>,
    parts: &Parts,
    request: &Request,
) -> Result<GpaRange, PlanError> {
    let seed = zero_page::rng_seed(&request.rng_seed);
    let seed = draft.put_lowest(
        &Need {
            name: "setup_data: random seed",
            len: seed.len() as u64,
            align: 8,
            within: LOW,
            why: "conventional memory, where KASLR and the kernel's allocator keep off it",
        },
        seed,
    )?;
    let page = ZeroPage {
        setup_header: way.setup_header(),
        load: parts.kernel.start(),
        cmdline: parts.cmdline.start(),
        initrd: parts.initrd,
        rsdp: parts.rsdp,
        setup_data: seed.start(),
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

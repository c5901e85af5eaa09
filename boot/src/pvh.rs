//! The entry of the x86/HVM direct boot ABI (Xen's `docs/misc/pvh.pandoc`).

use crate::PlanError;
use crate::draft::{Draft, Need};
use crate::gdt::Code;
use crate::planner::{LOW, Parts, protected_mode, put_gdt};
use crate::start_info::StartInfo;
use crate::way::Way;
use firstlight_base::x86::{Gprs, RFLAGS_RESERVED, Registers};

/// The state of Xen's `docs/misc/pvh.pandoc`.
pub(crate) fn enter(
    draft: &mut Draft,
    way: &Way<'_>,
    parts: &Parts,
) -> Result<Registers, PlanError> {
    let info = StartInfo {
        cmdline: parts.cmdline.start(),
        initrd: parts.initrd,
        rsdp: parts.rsdp,
        memmap: &parts.e820,
    };
    let need = Need {
        name: "hvm_start_info",
        len: info.len(),
        align: 8,
        within: LOW,
        why: "conventional memory; the guest writes into it",
    };
    let at = draft.lowest(&need)?.start();
    let placed = draft.put_lowest(&need, info.encode(at))?;
    let gprs = Gprs {
        rip: way.entry(parts.kernel.start()).get(),
        rbx: placed.start().get(),
        rflags: RFLAGS_RESERVED,
        ..Gprs::default()
    };
    put_gdt(draft, protected_mode(gprs), Code::Bits32)
}

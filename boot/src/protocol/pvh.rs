//! The entry of the x86/HVM direct boot ABI (Xen's `docs/misc/pvh.pandoc`).

use crate::draft::{Draft, LOW, Need, PAGE};
use crate::parts::Parts;
use crate::protocol::gdt::{self, Code, protected_mode};
use crate::protocol::start_info::{MEMMAP_MOST, PlacedModule, StartInfo};
use crate::protocol::{Form, Gate, Moves, Way};
use crate::{EntryPoint, PlanError, Request};
use alloc::vec::Vec;
use firstlight_base::Gpa;
use firstlight_base::x86::{Gprs, RFLAGS_RESERVED, Registers};
use firstlight_image::SetupHeader;

/// The entry that an ELF file's `XEN_ELFNOTE_PHYS32_ENTRY` names.
#[derive(Debug)]
pub(crate) struct Pvh;

impl Gate for Pvh {
    fn entry(&self, form: &Form<'_>) -> Result<EntryPoint, &'static str> {
        match form {
            Form::Packed { .. } => {
                Err("the PVH entry is in the unpacked kernel, and this one is not unpacked")
            }
            Form::Multiboot(_) => Err("its multiboot header says nothing of PVH"),
            Form::Vmlinux { elf, .. } => elf
                .pvh
                .map(|pvh| EntryPoint::Address(Gpa::new(pvh.entry.into())))
                .ok_or("it has no PVH entry note"),
        }
    }

    /// As the note `XEN_ELFNOTE_PHYS32_RELOC` says, where there is one.
    fn moves(&self, form: &Form<'_>) -> Moves {
        const FIXED: Moves = Moves::No("it has no PHYS32_RELOC note, which would say where to");
        let Form::Vmlinux { elf, .. } = form else {
            return FIXED;
        };
        let Some(note) = elf.pvh.and_then(|pvh| pvh.relocation) else {
            return FIXED;
        };
        Moves::declared(note.align, note.min, note.max)
            .unwrap_or(Moves::No("its PHYS32_RELOC note leaves no room"))
    }

    /// Linux truncates a module's address to 32 bits (`arch/x86/platform/pvh`).
    fn initrd_limit(&self, _header: Option<&SetupHeader>) -> Option<Gpa> {
        Some(Gpa::new(u64::from(u32::MAX)))
    }

    /// The ABI names no alignment; Linux and Xen take page-aligned modules from every toolstack.
    fn modules(&self) -> Option<u64> {
        Some(PAGE)
    }

    /// The state of Xen's `docs/misc/pvh.pandoc`.
    fn enter(
        &self,
        draft: &mut Draft,
        way: &Way<'_>,
        parts: &Parts,
        request: &Request,
    ) -> Result<Registers, PlanError> {
        if parts.e820.len() > MEMMAP_MOST {
            return Err(PlanError::MemoryMapTooLong {
                protocol: way.protocol,
                lines: parts.e820.len(),
                most: MEMMAP_MOST,
            });
        }
        let info = StartInfo {
            version: request.start_info,
            cmdline: parts.cmdline.start(),
            modules: &modules(parts, request),
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
            rip: parts.entry.get(),
            rbx: placed.start().get(),
            rflags: RFLAGS_RESERVED,
            ..Gprs::default()
        };
        gdt::put(draft, protected_mode(gprs), Code::Bits32)
    }
}

/// Everything that the kernel is handed: the initial ramdisk first, as Linux expects it.
pub(crate) fn modules<'a>(parts: &Parts, request: &'a Request) -> Vec<PlacedModule<'a>> {
    let initrd = parts
        .initrd
        .map(|range| PlacedModule { range, cmdline: "" });
    let others = parts.modules.iter().zip(&request.modules);
    let others = others.map(|(&range, module)| PlacedModule {
        range,
        cmdline: &module.cmdline,
    });
    initrd.into_iter().chain(others).collect()
}

//! A plan as an IGVM file (Independent Guest Virtual Machine file format, version 1): a native x64
//! platform whose pages, required memory and first processor's registers are the plan's.

use crate::{AllocateError, Backing, GuestMemory, PlaceError, Sources, place};
use firstlight_base::x86::{Registers, Segment};
use firstlight_base::{Gpa, GpaRange, GuestMem, OutsideRam};
use firstlight_boot::{BootPlan, Content, E820Kind};
use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmPlatformHeader, IgvmRevision};
use igvm_defs::{
    IGVM_VHS_SUPPORTED_PLATFORM, IgvmNativeVpContextX64, IgvmPageDataFlags, IgvmPageDataType,
    IgvmPlatformType,
};

const PAGE: u64 = 0x1000;
const PAGE_BYTES: usize = 0x1000;
/// The one platform that the file is for.
const MASK: u32 = 1;

/// The bytes of the file. What the plan puts into memory is worked out in memory of this process.
///
/// # Errors
///
/// [`IgvmError`] where the format has no word for what the plan says, and where `sources` are not
/// those of the plan.
pub fn igvm(plan: &BootPlan, sources: &Sources<'_>) -> Result<Vec<u8>, IgvmError> {
    let registers = plan.boot_vcpu().x86().ok_or(IgvmError::OtherArchitecture)?;
    let context = context(registers)?;
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private)?;
    place(plan, sources, &memory)?;
    let mut directives = required_memory(plan);
    for page in pages(plan) {
        directives.push(page_data(page, &memory)?);
    }
    directives.push(IgvmDirectiveHeader::X64NativeVpContext {
        compatibility_mask: MASK,
        vp_index: 0,
        context: Box::new(context),
    });
    let platform = IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
        compatibility_mask: MASK,
        highest_vtl: 0,
        platform_type: IgvmPlatformType::NATIVE,
        platform_version: 1,
        shared_gpa_boundary: 0,
    });
    let file = IgvmFile::new(IgvmRevision::V1, vec![platform], vec![], directives)?;
    let mut bytes = Vec::new();
    file.serialize(&mut bytes)?;
    Ok(bytes)
}

/// Why a plan cannot be an IGVM file.
#[derive(Debug, thiserror::Error)]
pub enum IgvmError {
    /// The format cannot say what a register is to hold.
    #[error("an IGVM file cannot give {register} the value {value:#x}: {rule}")]
    Register {
        /// The register.
        register: &'static str,
        /// What it was to hold.
        value: u64,
        /// What can be said.
        rule: &'static str,
    },
    /// The plan is for another processor.
    #[error("an IGVM file of this kind holds an x86 machine, and the plan is for another")]
    OtherArchitecture,
    /// There is no memory to carry the plan out in.
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    /// The files are not those that the plan was made for.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The plan puts something where no RAM is.
    #[error(transparent)]
    OutsideRam(#[from] OutsideRam),
    /// The format's own rules are broken.
    #[error("the IGVM file cannot be made")]
    Format(#[from] igvm::Error),
}

/// All that the plan's memory map calls the guest's, so that nobody loads the file into less. It
/// says how many bytes in 32 bits.
fn required_memory(plan: &BootPlan) -> Vec<IgvmDirectiveHeader> {
    const MOST: u64 = 1 << 31;
    let mut required = Vec::new();
    let ours = plan.e820().iter().filter(|entry| match entry.kind {
        E820Kind::Ram | E820Kind::AcpiTables => true,
        E820Kind::Reserved => false,
    });
    for entry in ours {
        let mut at = entry.range.start().get() / PAGE * PAGE;
        let end = entry.range.end().get().next_multiple_of(PAGE);
        while at < end {
            let len = MOST.min(end - at);
            required.push(IgvmDirectiveHeader::RequiredMemory {
                gpa: at,
                compatibility_mask: MASK,
                number_of_bytes: u32::try_from(len).expect("2 GiB at most"),
                vtl2_protectable: false,
            });
            at += len;
        }
    }
    required
}

/// Every page that a piece lies in, once, ascending.
fn pages(plan: &BootPlan) -> Vec<Gpa> {
    let filled = plan
        .pieces()
        .iter()
        .filter(|piece| piece.content != Content::Window);
    let mut pages: Vec<u64> = filled
        .flat_map(|piece| {
            let range: GpaRange = piece.range;
            range.start().get() / PAGE..=range.last().get() / PAGE
        })
        .collect();
    pages.dedup();
    pages
        .into_iter()
        .map(|page| Gpa::new(page * PAGE))
        .collect()
}

/// A page without a byte but zeros has no data in the file.
fn page_data(at: Gpa, memory: &GuestMemory) -> Result<IgvmDirectiveHeader, OutsideRam> {
    let mut data = vec![0; PAGE_BYTES];
    memory.read(at, &mut data)?;
    if data.iter().all(|&byte| byte == 0) {
        data.clear();
    }
    Ok(IgvmDirectiveHeader::PageData {
        gpa: at.get(),
        compatibility_mask: MASK,
        flags: IgvmPageDataFlags::new(),
        data_type: IgvmPageDataType::NORMAL,
        data,
    })
}

/// The registers as the format has them: one code segment, and one for all data but the base of GS.
/// It has no word for the task register, which every loader loads with a task of its own, nor for
/// CR2, which nobody looks at before the first page fault.
fn context(registers: &Registers) -> Result<IgvmNativeVpContextX64, IgvmError> {
    let Registers {
        gprs, cs, ds, gs, ..
    } = registers;
    let others = [
        ("es", registers.es),
        ("ss", registers.ss),
        ("fs", registers.fs),
        (
            "gs",
            Segment {
                base: ds.base,
                ..*gs
            },
        ),
    ];
    for (name, segment) in others {
        if segment != *ds {
            return Err(IgvmError::Register {
                register: name,
                value: segment.selector.into(),
                rule: "all data segments are the same",
            });
        }
    }
    let base = |register, segment: &Segment| {
        u32::try_from(segment.base).map_err(|_too_wide| IgvmError::Register {
            register,
            value: segment.base,
            rule: "a segment's base has 32 bits",
        })
    };
    Ok(IgvmNativeVpContextX64 {
        rax: gprs.rax,
        rcx: gprs.rcx,
        rdx: gprs.rdx,
        rbx: gprs.rbx,
        rsp: gprs.rsp,
        rbp: gprs.rbp,
        rsi: gprs.rsi,
        rdi: gprs.rdi,
        r8: gprs.r8,
        r9: gprs.r9,
        r10: gprs.r10,
        r11: gprs.r11,
        r12: gprs.r12,
        r13: gprs.r13,
        r14: gprs.r14,
        r15: gprs.r15,
        rip: gprs.rip,
        rflags: gprs.rflags,
        idtr_base: registers.idt.base,
        idtr_limit: registers.idt.limit,
        reserved: [0; 2],
        gdtr_limit: registers.gdt.limit,
        gdtr_base: registers.gdt.base,
        code_selector: cs.selector,
        code_attributes: cs.access,
        code_base: base("cs", cs)?,
        code_limit: cs.limit,
        data_selector: ds.selector,
        data_attributes: ds.access,
        data_base: base("ds", ds)?,
        data_limit: ds.limit,
        gs_base: gs.base,
        cr0: registers.cr0.bits(),
        cr3: registers.cr3,
        cr4: registers.cr4.bits(),
        efer: registers.efer.bits(),
    })
}

#[cfg(test)]
mod tests;

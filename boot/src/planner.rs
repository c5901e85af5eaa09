//! From an image and a request to a sound plan.

use crate::draft::{Draft, Need, range};
use crate::firmware::{acpi, e820, reset_vector};
use crate::kernel::Kernel;
use crate::protocol::Way;
use crate::protocol::gdt::{self, Code};
use crate::{
    BootPlan, Content, E820Entry, Module, Piece, PlanError, Platform, Protocol, Request, kernel,
    protocol,
};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use firstlight_base::x86::{Cr0, Gprs, Registers};
use firstlight_base::{GIB, Gpa, GpaRange, VcpuState};
use firstlight_image::Image;

/// Conventional memory: what the boot protocols want low lies here.
pub(crate) const LOW: GpaRange = range(0x1000, Platform::LEGACY_HOLE.0.get());
const BELOW_4_GIB: GpaRange = range(0, 4 * GIB);
const ANYWHERE: GpaRange = range(0, u64::MAX);
pub(crate) const PAGE: u64 = 0x1000;
const LARGE_PAGE: u64 = 0x20_0000;

/// Works out how `image` is booted as `request` wants it.
///
/// # Errors
///
/// [`PlanError`] with the rule that is broken and the numbers that break it.
pub fn plan(image: &Image<'_>, request: &Request) -> Result<BootPlan, PlanError> {
    let platform = platform(request)?;
    let way = protocol::choose(image, request)?;
    let mut draft = Draft::new(e820::usable(&platform), platform.reserved.clone());
    check_told(&way, request)?;
    let kernel = kernel::put(&mut draft, image, &way, request)?;
    let entry = kernel.entry(way.entry)?;
    let tables = put_tables(&mut draft, &platform)?;
    draft.put_firmware(reset_vector::piece())?;
    let parts = Parts {
        e820: e820::map(&platform, tables),
        rsdp: tables.start(),
        cmdline: put_cmdline(&mut draft, &way, &request.cmdline)?,
        initrd: put_initrd(&mut draft, &way, request.initrd)?,
        modules: put_modules(&mut draft, &way, &request.modules)?,
        kernel,
        entry,
    };
    let registers = way.gate.enter(&mut draft, &way, &parts, request)?;
    Ok(BootPlan {
        platform,
        protocol: way.protocol,
        image: image.to_string(),
        cmdline: request.cmdline.clone(),
        pieces: draft.into_pieces(),
        e820: parts.e820,
        moved: parts.kernel.moved,
        relocate: parts.kernel.relocate,
        boot_vcpu: VcpuState::X86(registers),
    })
}

/// What every protocol tells the kernel in its own way.
pub(crate) struct Parts {
    pub(crate) e820: Vec<E820Entry>,
    pub(crate) rsdp: Gpa,
    pub(crate) cmdline: GpaRange,
    pub(crate) initrd: Option<GpaRange>,
    /// The request's modules, in its order.
    pub(crate) modules: Vec<GpaRange>,
    pub(crate) kernel: Kernel,
    /// Where the kernel is entered.
    pub(crate) entry: Gpa,
}

/// Nothing that was asked for is left out silently.
fn check_told(way: &Way<'_>, request: &Request) -> Result<(), PlanError> {
    if way.gate.has_setup_header() {
        return Ok(());
    }
    check_no_list(way.protocol, request)?;
    match request.subarch {
        Some(_) => Err(PlanError::Untold {
            protocol: way.protocol,
            what: "a hardware_subarch",
        }),
        None => Ok(()),
    }
}

/// Refuses what takes a list of `setup_data`, where `protocol` is without.
pub(crate) fn check_no_list(protocol: Protocol, request: &Request) -> Result<(), PlanError> {
    let what = if request.dtb.is_some() {
        "a device tree"
    } else if request.setup_data.is_empty() {
        return Ok(());
    } else {
        "setup_data"
    };
    Err(PlanError::Untold { protocol, what })
}

fn platform(request: &Request) -> Result<Platform, PlanError> {
    if !(1..=Platform::MAX_CPUS).contains(&request.cpus) {
        return Err(PlanError::Cpus {
            asked: request.cpus,
            most: Platform::MAX_CPUS,
        });
    }
    let (least, most) = (Platform::MIN_MEMORY, Platform::MAX_MEMORY);
    if !(least..=most).contains(&request.memory) {
        return Err(PlanError::Memory {
            asked: request.memory,
            least,
            most,
        });
    }
    let mut platform = Platform::pc(request.memory, request.cpus);
    platform.debug_exit = request.debug_exit.then_some(Platform::DEBUG_EXIT);
    platform.reserved = e820::merged(request.reserved.clone());
    Ok(platform)
}

fn put_tables(draft: &mut Draft, platform: &Platform) -> Result<GpaRange, PlanError> {
    let place = |len| {
        draft.highest(&Need {
            name: "ACPI tables",
            len,
            align: PAGE,
            within: LOW,
            why: "",
        })
    };
    // A page holds those of as many vCPUs as there can be, so they are mostly made once.
    let mut range = place(PAGE)?;
    let mut tables = acpi::tables(platform, range.start());
    let len = tables.len() as u64;
    if len > PAGE {
        range = place(len.next_multiple_of(PAGE))?;
        tables = acpi::tables(platform, range.start());
    }
    draft.put(Piece {
        name: "ACPI tables".into(),
        range,
        content: Content::Bytes(tables),
        why: "top of conventional memory, kept out of the guest's RAM".into(),
    })?;
    Ok(range)
}

/// A command line that the kernel takes whole.
pub(crate) fn check_cmdline(way: &Way<'_>, cmdline: &str) -> Result<(), PlanError> {
    let (len, limit) = (cmdline.len() as u64, way.cmdline_limit());
    if len > limit {
        return Err(PlanError::CmdlineTooLong { len, limit });
    }
    match cmdline.find('\0') {
        Some(at) => Err(PlanError::CmdlineNul { at }),
        None => Ok(()),
    }
}

fn put_cmdline(draft: &mut Draft, way: &Way<'_>, cmdline: &str) -> Result<GpaRange, PlanError> {
    check_cmdline(way, cmdline)?;
    let mut bytes = way.gate.first_word().as_bytes().to_vec();
    bytes.extend_from_slice(cmdline.as_bytes());
    bytes.push(0);
    let need = Need {
        name: "command line",
        len: bytes.len() as u64,
        align: 16,
        within: way.gate.cmdline_within(way.form.header()),
        why: "conventional memory; NUL-terminated",
    };
    draft.put_lowest(&need, bytes)
}

/// The highest RAM that the kernel allows, below 4 GiB and on a large page where that can be had:
/// there it is in nobody's way, whatever the kernel uses while it starts.
pub(crate) fn put_initrd(
    draft: &mut Draft,
    way: &Way<'_>,
    len: Option<u64>,
) -> Result<Option<GpaRange>, PlanError> {
    let Some(len) = len else { return Ok(None) };
    if len == 0 {
        return Err(PlanError::EmptyInitrd);
    }
    let within = way.initrd_limit().map_or(ANYWHERE, up_to);
    let low = within.intersection(BELOW_4_GIB).unwrap_or(within);
    let need = Need {
        name: "initrd",
        len,
        align: PAGE,
        within,
        why: "",
    };
    let range = [(LARGE_PAGE, low), (PAGE, low), (LARGE_PAGE, within)]
        .into_iter()
        .find_map(|(align, within)| {
            draft
                .highest(&Need {
                    align,
                    within,
                    ..need
                })
                .ok()
        })
        .map_or_else(|| draft.highest(&need), Ok)?;
    let why = match way.initrd_limit() {
        Some(last) => {
            format!("highest free RAM up to {last}, which the kernel sets as its limit").into()
        }
        None => Cow::Borrowed("highest free RAM; the kernel sets no limit"),
    };
    draft.put(Piece {
        name: "initrd".into(),
        range,
        content: Content::Initrd,
        why,
    })?;
    Ok(Some(range))
}

/// The highest RAM below 4 GiB, because those who are given modules are entered without paging.
pub(crate) fn put_modules(
    draft: &mut Draft,
    way: &Way<'_>,
    modules: &[Module],
) -> Result<Vec<GpaRange>, PlanError> {
    let mut ranges = Vec::with_capacity(modules.len());
    for (number, module) in modules.iter().enumerate() {
        let Some(align) = way.gate.modules() else {
            return Err(PlanError::NoModules {
                protocol: way.protocol,
            });
        };
        if module.len == 0 {
            return Err(PlanError::EmptyModule { number });
        }
        if let Some(at) = module.cmdline.find('\0') {
            return Err(PlanError::CmdlineNul { at });
        }
        let name = format!("module {number}");
        let range = draft.highest(&Need {
            name: &name,
            len: module.len,
            align,
            within: BELOW_4_GIB,
            why: "",
        })?;
        draft.put(Piece {
            name: name.into(),
            range,
            content: Content::Module(number),
            why: "highest free RAM below 4 GiB, which is all that the kernel is told in".into(),
        })?;
        ranges.push(range);
    }
    Ok(ranges)
}

fn up_to(last: Gpa) -> GpaRange {
    last.checked_add(1)
        .and_then(|end| GpaRange::between(Gpa::new(0), end))
        .unwrap_or(ANYWHERE)
}

pub(crate) fn put_gdt(
    draft: &mut Draft,
    registers: Registers,
    code: Code,
) -> Result<Registers, PlanError> {
    let table = gdt::table(code);
    let need = Need {
        name: "GDT",
        len: table.len() as u64,
        align: 16,
        within: LOW,
        why: "the segments that the kernel is entered with",
    };
    let placed = draft.put_lowest(&need, table)?;
    Ok(gdt::load(registers, placed.start(), code))
}

/// Protected mode without paging; everything but the general registers is still to be loaded.
pub(crate) fn protected_mode(gprs: Gprs) -> Registers {
    Registers {
        gprs,
        cr0: Cr0::PE | Cr0::ET,
        ..Registers::default()
    }
}

//! The plan of an x86 machine.

use crate::draft::{Draft, LOW, Need, PAGE};
use crate::firmware::{PC_TABLES, acpi, e820, mp_table, reset_vector, smbios};
use crate::modules::{put_initrd, put_modules};
use crate::parts::Parts;
use crate::platform::Topology;
use crate::protocol::Way;
use crate::{
    BootPlan, Content, Pc, Piece, PlanError, Platform, Protocol, Request, kernel, protocol,
};
use alloc::string::ToString;
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange, VcpuState};
use firstlight_image::Image;

pub(super) fn plan(image: &Image<'_>, request: &Request) -> Result<BootPlan, PlanError> {
    let platform = platform(request, Pc::new(request.memory, request.cpus))?;
    let way = protocol::choose(image, request)?;
    let mut draft = Draft::new(e820::usable(&platform), platform.reserved.clone());
    check_told(&way, request)?;
    let kernel = kernel::put(&mut draft, image, &way, request)?;
    let entry = kernel.entry(way.entry)?;
    let tables = put_tables(&mut draft, &platform)?;
    put_tables_of_rom(&mut draft, &platform)?;
    draft.put_firmware(reset_vector::piece())?;
    let parts = Parts {
        e820: e820::map(&platform, Some(tables)),
        rsdp: tables.start(),
        cmdline: put_cmdline(&mut draft, &way, &request.cmdline)?,
        initrd: put_initrd(&mut draft, &way, request.initrd)?,
        modules: put_modules(&mut draft, &way, &request.modules)?,
        kernel,
        entry,
    };
    let registers = way.gate.enter(&mut draft, &way, &parts, request)?;
    Ok(BootPlan {
        platform: Platform::Pc(platform),
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

/// Nothing that was asked for is left out silently.
fn check_told(way: &Way<'_>, request: &Request) -> Result<(), PlanError> {
    if request.topology != Topology::default() {
        return Err(PlanError::Untold {
            protocol: way.protocol,
            what: "clusters, capacities or frequencies of its vCPUs",
        });
    }
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

/// `platform`, which is of that size, with all that was asked for.
pub(super) fn platform(request: &Request, mut platform: Pc) -> Result<Pc, PlanError> {
    super::check_size(request, Pc::MAX_CPUS, Pc::MIN_MEMORY..=Pc::MAX_MEMORY)?;
    platform.debug_exit = request.debug_exit.then_some(Pc::DEBUG_EXIT);
    platform.debugcon = request.hardware.debugcon;
    platform.fw_cfg |= request.hardware.fw_cfg;
    platform.battery = request.hardware.battery;
    platform.suspend_notice = request.hardware.suspend_notice;
    platform.firmware = request.firmware.clone();
    platform.virtio = super::transports(request, Pc::VIRTIO)?;
    platform.pci = Pc::PCI.with_buses(request.hardware.pci_buses);
    platform.reserved = e820::merged(request.reserved.clone());
    let above = platform.ram.last().map_or(Pc::HIGH_RAM, |ram| ram.end());
    let above = above.max(Pc::HIGH_RAM);
    platform.pmem = super::pmem::place(&request.pmem, above, &platform.reserved)?;
    Ok(platform)
}

fn put_tables(draft: &mut Draft, platform: &Pc) -> Result<GpaRange, PlanError> {
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

/// What kernels look for in the BIOS's segment.
fn put_tables_of_rom(draft: &mut Draft, platform: &Pc) -> Result<(), PlanError> {
    let table = mp_table::table(platform, PC_TABLES.start());
    let end = put_table_of_rom(draft, "MP table", (PC_TABLES.start(), table))?;
    if let Some(system) = &platform.firmware.smbios {
        let at = end.align_up(16).expect("it lies below 1 MiB");
        let tables = smbios::tables(system, platform, at);
        put_table_of_rom(draft, "SMBIOS tables", (at, tables))?;
    }
    Ok(())
}

/// Says where it ends.
fn put_table_of_rom(
    draft: &mut Draft,
    name: &'static str,
    (at, bytes): (Gpa, Vec<u8>),
) -> Result<Gpa, PlanError> {
    let range = GpaRange::new(at, bytes.len() as u64).expect("there is something in it");
    assert!(PC_TABLES.contains(range), "both have some 10 KiB at most");
    draft.put_firmware(Piece {
        name: name.into(),
        range,
        content: Content::Bytes(bytes),
        why: "where kernels look for it in a PC's firmware".into(),
    })?;
    Ok(range.end())
}

/// A command line that the kernel takes whole.
pub(crate) fn check_cmdline(way: &Way<'_>, cmdline: &str) -> Result<(), PlanError> {
    super::check_bytes(cmdline, way.cmdline_limit())
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

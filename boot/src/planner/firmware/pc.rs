//! The plan of a PC that firmware in flash starts.

use super::refuse;
use crate::firmware::e820;
use crate::planner::pc;
use crate::platform::{Pc, PciWindows, Topology};
use crate::{BootPlan, FdtPosition, PlanError, Platform, Protocol, Request};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::x86::Registers;
use firstlight_base::{GIB, Gpa, GpaRange, VcpuState};
use firstlight_image::Image;

pub(super) fn plan(image: &Image<'_>, request: &Request) -> Result<BootPlan, PlanError> {
    check_told(request)?;
    let len = len_of(image);
    let flash = Pc::flash(len).ok_or(PlanError::FirmwareLength {
        len,
        most: Pc::MOST_FLASH,
    })?;
    let fresh = Pc::with_flash(request.memory, request.cpus, flash);
    let platform = with_bus(pc::platform(request, fresh)?, request);
    Ok(BootPlan {
        protocol: Protocol::Firmware,
        image: image.to_string(),
        cmdline: String::new(),
        pieces: Vec::new(),
        e820: e820::map(&platform, None),
        moved: 0,
        relocate: None,
        boot_vcpu: VcpuState::X86(Registers::RESET),
        platform: Platform::Pc(platform),
    })
}

/// Where a processor begins, where the firmware fits into flash.
pub(super) fn entry(image: &Image<'_>) -> Option<Gpa> {
    let _fits = Pc::flash(len_of(image))?;
    let Registers { gprs, cs, .. } = Registers::RESET;
    cs.base.checked_add(gprs.rip).map(Gpa::new)
}

fn len_of(image: &Image<'_>) -> u64 {
    image.kernel().bytes().len() as u64
}

/// Nothing that was asked for is left out silently.
fn check_told(request: &Request) -> Result<(), PlanError> {
    let has_tree = request.dtb.is_some()
        || !request.overlays.is_empty()
        || request.fdt_position != FdtPosition::AfterPayload;
    refuse(&[
        (has_tree, "a device tree"),
        (
            request.topology != Topology::default(),
            "clusters, capacities or frequencies of its vCPUs",
        ),
        (
            request.hardware.virtio > 0,
            "virtio devices that are not on a PCI bus",
        ),
    ])
}

/// There is always a bus, by whose host bridge firmware knows what machine it is in.
fn with_bus(platform: Pc, request: &Request) -> Pc {
    let above = [&platform.ram, &platform.pmem];
    let above = above.into_iter().flatten().map(|range| range.end()).max();
    let above = above.unwrap_or(Pc::HIGH_RAM).max(Pc::HIGH_RAM);
    let windows = Pc::FIRMWARE_PCI.with_buses(request.hardware.pci_buses.max(1));
    let pci = windows.map(|windows| PciWindows {
        memory64: above
            .align_up(GIB)
            .and_then(|start| GpaRange::between(start, Pc::END)),
        ..windows
    });
    Pc { pci, ..platform }
}

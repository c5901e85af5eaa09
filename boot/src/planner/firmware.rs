//! The plan of a machine that firmware in flash starts.

mod pc;

use super::virt;
use crate::draft::{Draft, Need};
use crate::firmware::fdt;
use crate::platform::{Flash, Platform, VirtArm64, VirtRiscv64};
use crate::protocol::flat::Rules;
use crate::{
    BootPlan, Entry, EntryPoint, FdtPosition, PlanError, Protocol, ProtocolChoice, Request, Unpack,
};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::GpaRange;
use firstlight_image::{Architecture, Firmware, Image};

pub(super) fn plan(
    image: &Image<'_>,
    firmware: &Firmware,
    request: &Request,
) -> Result<BootPlan, PlanError> {
    check_entry(image, request)?;
    check_told(request)?;
    if is_pcs(firmware) {
        return pc::plan(image, request);
    }
    let (rules, flash) = machine_of(image, firmware)?;
    check_fits(image, flash)?;
    check_told_by_tree(request)?;
    let platform = with_flash(virt::platform(rules.protocol, request)?, flash);
    let told = fdt::Told {
        bootargs: "",
        initrd: None,
        rng_seed: &request.rng_seed,
        // The firmware has its own for whom it boots.
        kaslr_seed: None,
        base: request.dtb.as_deref(),
        overlays: &request.overlays,
    };
    let memory_map = virt::memory_map(&platform);
    let mut draft = Draft::new(virt::usable(&memory_map), platform.reserved().to_vec());
    let tree = put_tree(&mut draft, &platform, fdt::tree(&platform, &told)?)?;
    Ok(BootPlan {
        boot_vcpu: (rules.enter)(&platform, flash.code.start(), tree.start()),
        protocol: Protocol::Firmware,
        image: image.to_string(),
        cmdline: String::new(),
        pieces: draft.into_pieces(),
        e820: memory_map,
        moved: 0,
        relocate: None,
        platform,
    })
}

/// The way into `firmware`, where it is for a machine that has flash.
pub(crate) fn entry(image: &Image<'_>, firmware: &Firmware) -> Option<Entry> {
    let at = match is_pcs(firmware) {
        true => pc::entry(image)?,
        false => machine_of(image, firmware).ok()?.1.code.start(),
    };
    Some(Entry {
        protocol: Protocol::Firmware,
        unpack: Unpack::Host,
        at: EntryPoint::Address(at),
        cmdline_limit: 0,
        initrd_limit: None,
    })
}

fn check_entry(image: &Image<'_>, request: &Request) -> Result<(), PlanError> {
    match request.protocol {
        ProtocolChoice::Auto | ProtocolChoice::Only(Protocol::Firmware) => Ok(()),
        ProtocolChoice::Only(protocol) => Err(PlanError::NoEntry {
            image: image.to_string(),
            protocol,
            why: "it is no kernel, a processor begins in it".into(),
        }),
    }
}

/// A PC's firmware may begin with code of 32 bits.
const fn is_pcs(firmware: &Firmware) -> bool {
    matches!(
        firmware.architecture,
        Architecture::X86_64 | Architecture::I386
    )
}

/// The machine with a device tree that `firmware` is for.
fn machine_of(
    image: &Image<'_>,
    firmware: &Firmware,
) -> Result<(&'static Rules, Flash), PlanError> {
    let flash = match firmware.architecture {
        Architecture::Arm64 => Some(VirtArm64::FLASH),
        Architecture::Riscv64 => Some(VirtRiscv64::FLASH),
        _ => None,
    };
    let rules = Rules::of(firmware.architecture);
    rules.zip(flash).ok_or_else(|| PlanError::NotBootable {
        image: image.to_string(),
        why: "there is no machine here for firmware of that architecture".into(),
    })
}

fn check_fits(image: &Image<'_>, flash: Flash) -> Result<(), PlanError> {
    let len = image.kernel().bytes().len() as u64;
    if len <= flash.code.len() {
        return Ok(());
    }
    Err(PlanError::FirmwareTooLong {
        len,
        flash: flash.code,
    })
}

/// Nothing that was asked for is left out silently.
fn check_told(request: &Request) -> Result<(), PlanError> {
    let protocol = Protocol::Firmware;
    if !request.modules.is_empty() {
        return Err(PlanError::NoModules { protocol });
    }
    refuse(&[
        (request.initrd.is_some(), "an initial ramdisk"),
        (!request.cmdline.is_empty(), "a command line"),
        (request.load_address.is_some(), "an address to lie at"),
        (!request.setup_data.is_empty(), "setup_data"),
        (request.subarch.is_some(), "a hardware_subarch"),
    ])
}

fn check_told_by_tree(request: &Request) -> Result<(), PlanError> {
    virt::check_told(Protocol::Firmware, request)?;
    let is_placed = request.fdt_position != FdtPosition::AfterPayload;
    refuse(&[(is_placed, "a place for its device tree")])
}

/// Refuses the first that is asked for.
fn refuse(asked: &[(bool, &'static str)]) -> Result<(), PlanError> {
    match asked.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => Err(PlanError::Untold {
            protocol: Protocol::Firmware,
            what,
        }),
        None => Ok(()),
    }
}

fn with_flash(platform: Platform, flash: Flash) -> Platform {
    let flash = Some(flash);
    match platform {
        Platform::VirtArm64(virt) => Platform::VirtArm64(VirtArm64 {
            flash,
            fw_cfg: true,
            ..virt
        }),
        Platform::VirtRiscv64(virt) => Platform::VirtRiscv64(VirtRiscv64 {
            flash,
            fw_cfg: true,
            ..virt
        }),
        Platform::Pc(pc) => Platform::Pc(pc),
    }
}

/// EDK2 for Arm looks where QEMU puts a tree (`PcdDeviceTreeInitialBaseAddress` of
/// `ArmVirtPkg/ArmVirtQemu.dsc`); others are told.
fn put_tree(draft: &mut Draft, platform: &Platform, tree: Vec<u8>) -> Result<GpaRange, PlanError> {
    let ram = *platform.ram().first().expect("a machine has RAM");
    let len = tree.len() as u64;
    let (need, why) = match platform {
        Platform::VirtArm64(_) => {
            let first = GpaRange::new(ram.start(), len).unwrap_or(ram);
            let need = Need {
                within: first,
                ..virt::tree_need(len, ram)
            };
            (need, "the beginning of RAM, where firmware looks for it")
        }
        Platform::Pc(_) | Platform::VirtRiscv64(_) => {
            (virt::tree_need(len, ram), "as high as it fits")
        }
    };
    let range = draft.highest(&need)?;
    virt::put_tree_at(draft, range, tree, why)?;
    Ok(range)
}

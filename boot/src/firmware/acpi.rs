//! The firmware tables: what an ACPI guest is told of the machine (ACPI specification 6.5).
//!
//! The machine is "hardware-reduced" (section 4.1): there is no fixed power management block, only
//! the sleep and reset registers, so the guest probes neither a PIT nor an 8042 nor a PM timer.

pub(crate) mod given;
mod pci;
mod suspend;
mod virtio;

use crate::platform::{Pc, SerialPort};
use acpi_tables::Aml;
use acpi_tables::aml::{
    self, Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use firstlight_base::{Gpa, Irq};

const OEM: [u8; 6] = *b"FLIGHT";
const OEM_TABLE: [u8; 8] = *b"FIRSTLGT";
const OEM_REVISION: u32 = 1;

/// IA-PC boot flags (table 5.10): devices on the ISA bus, but no VGA; the missing 8042 bit keeps
/// the guest from waiting for a keyboard controller.
const BOOT_FLAGS: u16 = 1 << 0 | 1 << 2;

/// The root pointer at `at`, which is 16-byte aligned, and all that it leads to behind it.
pub(crate) fn tables(platform: &Pc, at: Gpa) -> Vec<u8> {
    let Tables { mut root, rest, .. } = Tables::build(platform, |root| {
        let behind = root.next_multiple_of(TABLE_ALIGN) as u64;
        at.get().saturating_add(behind)
    });
    root.resize(root.len().next_multiple_of(TABLE_ALIGN), 0);
    root.extend(rest);
    root
}

/// Where tables begin.
pub(crate) const TABLE_ALIGN: usize = 16;

/// The tables, and where in them there are addresses.
pub(crate) struct Tables {
    /// The root pointer.
    pub(crate) root: Vec<u8>,
    /// All that it leads to.
    pub(crate) rest: Vec<u8>,
    /// Which of the latter hold addresses, all of them of eight bytes.
    pub(crate) pointing: Vec<Pointing>,
}

/// A table that has addresses in it.
pub(crate) struct Pointing {
    /// Where it is.
    pub(crate) table: Range<usize>,
    /// Where the addresses are.
    pub(crate) addresses: Vec<usize>,
}

/// Where the FADT has the DSDT's address (table 5.9, `X_DSDT`).
const FADT_DSDT: usize = 140;
/// Where the list of tables has the first of its addresses (table 5.8).
const XSDT_ENTRIES: usize = 36;

impl Tables {
    /// The tables of `platform`; `base`, which is told how long the root pointer is, says where the first
    /// of the others lies.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a few KiB at an address below 1 MiB"
    )]
    pub(crate) fn build(platform: &Pc, base: impl FnOnce(usize) -> u64) -> Self {
        let base = base(Rsdp::len());
        let mut rest = vec![];
        let mut append = |table: &dyn Aml| {
            rest.resize(rest.len().next_multiple_of(TABLE_ALIGN), 0);
            let start = rest.len();
            table.to_aml_bytes(&mut rest);
            start..rest.len()
        };
        let address = |table: &Range<usize>| base + table.start as u64;
        let dsdt = append(&dsdt(platform));
        let fadt = append(&fadt(platform, address(&dsdt)));
        let mut listed = vec![address(&fadt), address(&append(&madt(platform)))];
        if let Some(windows) = &platform.pci {
            listed.push(address(&append(&pci::mcfg(windows))));
        }
        for table in &platform.firmware.acpi {
            listed.push(address(&append(table)));
        }
        let mut list = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
        for &address in &listed {
            list.add_entry(address);
        }
        let list = append(&list);
        let mut root = vec![];
        Rsdp::new(OEM, address(&list)).to_aml_bytes(&mut root);
        let entries = (list.start + XSDT_ENTRIES..list.end).step_by(size_of::<u64>());
        let pointing = vec![
            Pointing {
                addresses: vec![fadt.start + FADT_DSDT],
                table: fadt,
            },
            Pointing {
                addresses: entries.collect(),
                table: list,
            },
        ];
        Self {
            root,
            rest,
            pointing,
        }
    }
}

fn fadt(platform: &Pc, dsdt: u64) -> impl Aml + use<> {
    let register = |offset: u64| {
        let at = Pc::ACPI_REGS.get().saturating_add(offset);
        GAS::new(AddressSpace::SystemMemory, 8, 0, AccessSize::ByteAccess, at)
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    if platform.suspend_notice {
        fadt = fadt.flag(Flags::LowPowerS0IdleCapable);
    }
    fadt.iapc_boot_arch = BOOT_FLAGS.into();
    fadt.sleep_control_reg = register(0);
    fadt.sleep_status_reg = register(1);
    fadt.reset_reg = register(2);
    fadt.reset_value = Pc::ACPI_RESET_VALUE;
    fadt.finalize()
}

fn madt(platform: &Pc) -> impl Aml + use<> {
    let low = |at: Gpa| u32::try_from(at.get()).expect("interrupt controllers lie below 4 GiB");
    let lapic = LocalInterruptController::Address(low(Pc::LAPIC));
    let mut madt = MADT::new(OEM, OEM_TABLE, OEM_REVISION, lapic);
    for id in (0..platform.cpus).filter_map(|id| u8::try_from(id).ok()) {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, low(Pc::IOAPIC), 0));
    madt
}

fn dsdt(platform: &Pc) -> impl Aml + use<> {
    let mut code = vec![];
    let s5 = Package::new(vec![&Pc::ACPI_S5, &aml::ZERO, &aml::ZERO, &aml::ZERO]);
    Name::new("_S5_".into(), &s5).to_aml_bytes(&mut code);
    for (port, number) in platform.serial.iter().zip(1u8..) {
        serial(*port, number, &mut code);
    }
    let clock = IO::new(Pc::CMOS.0, Pc::CMOS.0, 1, 2);
    let hid = EISAName::new("PNP0B00");
    device(
        "_SB_.RTC0",
        &hid,
        0,
        &[&clock, &interrupt(Pc::CMOS_IRQ)],
        &mut code,
    );
    let panic = IO::new(Pc::PVPANIC.0, Pc::PVPANIC.0, 1, 1);
    device("_SB_.PEVT", &"QEMU0001", 0, &[&panic], &mut code);
    if platform.fw_cfg {
        let ports = IO::new(Pc::FW_CFG.0, Pc::FW_CFG.0, 1, 12);
        device("_SB_.FWCF", &"QEMU0002", 0, &[&ports], &mut code);
    }
    if platform.battery {
        battery(&mut code);
    }
    if platform.suspend_notice {
        suspend::controller(&mut code);
    }
    if let Some(row) = &platform.virtio {
        virtio::transports(row, &mut code);
    }
    if let Some(windows) = &platform.pci {
        pci::bridge(windows, &mut code);
    }

    let mut sdt = Sdt::new(*b"DSDT", 36, 6, OEM, OEM_TABLE, OEM_REVISION);
    sdt.append_slice(&code);
    sdt
}

fn serial(port: SerialPort, number: u8, code: &mut Vec<u8>) {
    let ports = IO::new(port.base.0, port.base.0, 1, 8);
    let path = format!("_SB_.COM{number}");
    device(
        &path,
        &EISAName::new("PNP0501"),
        number,
        &[&ports, &interrupt(port.irq)],
        code,
    );
}

/// By the name that Linux' driver knows (`drivers/power/supply/goldfish_battery.c`).
fn battery(code: &mut Vec<u8>) {
    let low = |number: u64| u32::try_from(number).expect("the battery lies below 4 GiB");
    let (start, len) = (Pc::BATTERY.start().get(), Pc::BATTERY.len());
    let registers = Memory32Fixed::new(true, low(start), low(len));
    // Level-triggered, active high and not shared.
    let interrupt = Interrupt::new(true, false, false, false, Pc::BATTERY_IRQ.0);
    device("_SB_.BAT0", &"GFSH0001", 0, &[&registers, &interrupt], code);
}

/// Edge-triggered, active high and not shared, as on the ISA bus.
fn interrupt(irq: Irq) -> Interrupt {
    Interrupt::new(true, true, false, false, irq.0)
}

fn device(path: &str, hid: &dyn Aml, uid: u8, resources: &[&dyn Aml], code: &mut Vec<u8>) {
    let resources = ResourceTemplate::new(resources.to_vec());
    let names = [
        Name::new("_HID".into(), hid),
        Name::new("_UID".into(), &uid),
        Name::new("_CRS".into(), &resources),
    ];
    let children = names.iter().map(|name| -> &dyn Aml { name }).collect();
    Device::new(Path::new(path), children).to_aml_bytes(code);
}

#[cfg(test)]
mod tests;

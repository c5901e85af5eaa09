//! The PCI Express host bridge as ACPI tells of it (PCI Firmware Specification 3.3, chapter 4; ACPI
//! 6.5, section 6.2.13, `_PRT`).

use crate::platform::PciWindows;
use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal,
    If, Memory32Fixed, Method, Name, ONE, Or, Package, Path, ResourceTemplate, Return, Uuid, ZERO,
};
use acpi_tables::mcfg::MCFG;
use alloc::vec;
use alloc::vec::Vec;

/// Where configuration space is.
pub(super) fn mcfg(windows: &PciWindows) -> impl Aml + use<> {
    let mut table = MCFG::new(super::OEM, super::OEM_TABLE, super::OEM_REVISION);
    table.add_ecam(windows.ecam.start().get(), 0, 0, last_bus(windows));
    table
}

/// The bridge, with everything that a kernel has to know to set its devices up by itself.
pub(super) fn bridge(windows: &PciWindows, code: &mut Vec<u8>) {
    let buses = AddressSpace::new_bus_number(0_u16, last_bus(windows).into());
    let memory32 = low_window(windows);
    let memory64 = windows.memory64.map(|range| {
        let (first, last) = (range.start().get(), range.last().get());
        AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, first, last, None)
    });
    let mut resources: Vec<&dyn Aml> = vec![&buses, &memory32];
    resources.extend(memory64.iter().map(|window| -> &dyn Aml { window }));
    let resources = ResourceTemplate::new(resources);
    let routes = Routes(*windows);
    let (hid, cid) = (EISAName::new("PNP0A08"), EISAName::new("PNP0A03"));
    let names = [
        Name::new("_HID".into(), &hid),
        Name::new("_CID".into(), &cid),
        Name::new("_UID".into(), &ZERO),
        Name::new("_SEG".into(), &ZERO),
        Name::new("_BBN".into(), &ZERO),
        Name::new("_CCA".into(), &ONE),
        Name::new("_CRS".into(), &resources),
        Name::new("_PRT".into(), &routes),
    ];
    let mut children: Vec<&dyn Aml> = names.iter().map(|name| -> &dyn Aml { name }).collect();
    children.push(&Control);
    Device::new(Path::new("_SB_.PCI0"), children).to_aml_bytes(code);
    reserve(windows, code);
}

/// Configuration space as the motherboard's own, without which Linux does not use it (PCI Firmware
/// Specification 3.3, section 4.1.2).
fn reserve(windows: &PciWindows, code: &mut Vec<u8>) {
    let low = |number: u64| u32::try_from(number).expect("configuration space lies below 4 GiB");
    let ecam = Memory32Fixed::new(
        true,
        low(windows.ecam.start().get()),
        low(windows.ecam.len()),
    );
    let resources = ResourceTemplate::new(vec![&ecam]);
    let hid = EISAName::new("PNP0C02");
    let names = [
        Name::new("_HID".into(), &hid),
        Name::new("_CRS".into(), &resources),
    ];
    let children = names.iter().map(|name| -> &dyn Aml { name }).collect();
    Device::new(Path::new("_SB_.RES0"), children).to_aml_bytes(code);
}

fn low_window(windows: &PciWindows) -> AddressSpace<u32> {
    let low = |at: firstlight_base::Gpa| u32::try_from(at.get());
    let ends = low(windows.memory32.start()).and_then(|first| {
        let last = low(windows.memory32.last())?;
        Ok((first, last))
    });
    let (first, last) = ends.expect("the window of 32 bits lies below 4 GiB");
    AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None)
}

fn last_bus(windows: &PciWindows) -> u8 {
    u8::try_from(windows.buses().saturating_sub(1)).unwrap_or(u8::MAX)
}

/// `_PRT`: at which global interrupt each pin of each device ends.
struct Routes(PciWindows);

impl Aml for Routes {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        const DEVICES: u32 = 32;
        /// All functions of a device.
        const ANY_FUNCTION: u32 = 0xffff;
        let mut routes = acpi_tables::aml::PackageBuilder::new();
        for device in 0..DEVICES {
            for pin in 0..PciWindows::LINES {
                let address = (device << 16) | ANY_FUNCTION;
                let line = self.0.line(device, pin).0;
                routes.add_element(&Package::new(vec![&address, &pin, &ZERO, &line]));
            }
        }
        routes.to_aml_bytes(sink);
    }
}

/// `_OSC` (PCI Firmware Specification 3.3, section 4.5.1): the kernel gets what it asks for of native
/// hot plug, power management events and the capability structure, and the rest is not here.
struct Control;

impl Control {
    /// The interface of PCI host bridges.
    const UUID: &'static str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
    /// Native hot plug, native power management events, the PCI Express capability structure.
    const GRANTED: u32 = 1 << 0 | 1 << 2 | 1 << 4;
    /// The answer's first word: this interface is not known.
    const UNRECOGNISED: u32 = 1 << 2;
}

impl Aml for Control {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let (uuid, buffer) = (Uuid::new(Self::UUID), Arg(3));
        let (offset_1, offset_3) = (0_u8, 8_u8);
        let [status, control] = ["CDW1", "CDW3"].map(Path::new);
        let name_status = CreateDWordField::new(&status, &buffer, &offset_1);
        let name_control = CreateDWordField::new(&control, &buffer, &offset_3);
        let grant = And::new(&control, &control, &Self::GRANTED);
        let refuse = Or::new(&status, &status, &Self::UNRECOGNISED);
        let known = Equal::new(&Arg(0), &uuid);
        let granted = If::new(&known, vec![&name_control, &grant]);
        let refused = Else::new(vec![&refuse]);
        let done = Return::new(&buffer);
        let steps: Vec<&dyn Aml> = vec![&name_status, &granted, &refused, &done];
        Method::new("_OSC".into(), 4, true, steps).to_aml_bytes(sink);
    }
}

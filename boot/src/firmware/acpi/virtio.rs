//! The virtio transports in memory as ACPI tells of them, by the name that Linux' driver knows
//! (`drivers/virtio/virtio_mmio.c`, `LNRO0005`).

use crate::platform::VirtioMmio;
use acpi_tables::Aml;
use acpi_tables::aml::{Device, Interrupt, Memory32Fixed, Name, ONE, Path, ResourceTemplate};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// All transports of the row.
pub(super) fn transports(row: &VirtioMmio, code: &mut Vec<u8>) {
    for number in 0..row.count {
        let Some((registers, irq)) = row.transport(number) else {
            return;
        };
        let low = |number: u64| u32::try_from(number).expect("transports lie below 4 GiB");
        let registers =
            Memory32Fixed::new(true, low(registers.start().get()), low(registers.len()));
        // Level-triggered, active high and not shared.
        let interrupt = Interrupt::new(true, false, false, false, irq.0);
        let resources = ResourceTemplate::new(vec![&registers, &interrupt]);
        let names = [
            Name::new("_HID".into(), &"LNRO0005"),
            Name::new("_UID".into(), &number),
            Name::new("_CCA".into(), &ONE),
            Name::new("_CRS".into(), &resources),
        ];
        let children = names.iter().map(|name| -> &dyn Aml { name }).collect();
        Device::new(Path::new(&format!("_SB_.VR{number:02}")), children).to_aml_bytes(code);
    }
}

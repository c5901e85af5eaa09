//! What both `virt` machines have in the same form: virtio transports (`virtio/mmio.yaml`) and a PCI
//! Express host bridge (`pci/host-generic-pci.yaml`).

use super::handle;
use super::interrupts::{Controller, Trigger};
use super::node::Node;
use crate::platform::{Flash, PciWindows, VirtioMmio};
use alloc::format;
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange, Irq};

/// The root, to be filled: where the console is.
pub(super) fn root(console: GpaRange) -> Node {
    let serial = format!("/serial@{:x}", console.start().get());
    Node::new("")
        .compatible(&["linux,dummy-virt"])
        .set("model", "linux,dummy-virt")
        .cells(2, 2)
        .with(Node::new("chosen").set("stdout-path", serial.as_str()))
        .with(Node::new("aliases").set("serial0", serial))
}

/// The transports, whose lines are of that kind.
pub(super) fn virtio(
    row: &VirtioMmio,
    controller: Controller,
    trigger: Trigger,
) -> impl Iterator<Item = Node> {
    (0..row.count).filter_map(move |number| {
        let (registers, irq) = row.transport(number)?;
        let node = Node::at("virtio_mmio", registers.start())
            .compatible(&["virtio,mmio"])
            .registers(&[registers])
            .interrupt(controller, irq, trigger)
            .flag("dma-coherent")
            .label(format!("virtio_mmio{number}"), handle::virtio(number));
        Some(node)
    })
}

/// `firmware/qemu,fw-cfg-mmio.yaml`.
pub(super) fn fw_cfg(registers: GpaRange) -> Node {
    Node::at("fw-cfg", registers.start())
        .compatible(&["qemu,fw-cfg-mmio"])
        .registers(&[registers])
        .flag("dma-coherent")
}

/// `power/supply/google,goldfish-battery.yaml`.
pub(super) fn battery(registers: GpaRange, (controller, irq): (Controller, Irq)) -> Node {
    Node::at("goldfish_battery", registers.start())
        .compatible(&["google,goldfish-battery"])
        .registers(&[registers])
        .interrupt(controller, irq, Trigger::Level)
}

/// `mtd/mtd-physmap.yaml`. What drivers see of the bank with the firmware is its own.
pub(super) fn flash(flash: &Flash) -> Node {
    Node::at("flash", flash.code.start())
        .compatible(&["cfi-flash"])
        .registers(&[flash.code, flash.variables])
        .set("bank-width", 4_u32)
}

/// The host bridge. Where its devices send messages is left to say.
pub(super) fn pci(windows: &PciWindows, controller: Controller) -> Node {
    Node::at("pcie", windows.ecam.start())
        .compatible(&["pci-host-ecam-generic"])
        .set("device_type", "pci")
        .cells(3, 2)
        .set("#interrupt-cells", 1_u32)
        .registers(&[windows.ecam])
        .set("bus-range", [0, windows.buses().saturating_sub(1)])
        .set("linux,pci-domain", 0_u32)
        .flag("dma-coherent")
        .set("ranges", ranges(windows))
        .set("interrupt-map-mask", [slot(SLOTS - 1), 0, 0, PIN_MASK])
        .set("interrupt-map", interrupt_map(windows, controller))
        .label("pcie", handle::PCI)
}

/// Windows by space, address on the bus, address and length (IEEE 1275's PCI binding, section 2.2.1.1).
fn ranges(windows: &PciWindows) -> Vec<u32> {
    const PORTS: u32 = 0x0100_0000;
    const MEMORY32: u32 = 0x0200_0000;
    const MEMORY64: u32 = 0x0300_0000;
    let window = |space: u32, on_bus: Gpa, at: GpaRange| {
        let numbers = [on_bus.get(), at.start().get(), at.len()];
        [space]
            .into_iter()
            .chain(numbers.into_iter().flat_map(halves))
    };
    let ports = windows.ports.map(|at| window(PORTS, Gpa::new(0), at));
    let same = |space, at: GpaRange| window(space, at.start(), at);
    let memory64 = windows.memory64.map(|at| same(MEMORY64, at));
    let memory32 = same(MEMORY32, windows.memory32);
    let windows = ports.into_iter().chain([memory32]).chain(memory64);
    windows.flatten().collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is the halves that are wanted"
)]
const fn halves(number: u64) -> [u32; 2] {
    [(number >> 32) as u32, number as u32]
}

/// After how many devices the lines repeat; as many as a device has pins.
const SLOTS: u32 = PciWindows::LINES;
const PIN_MASK: u32 = 7;

/// The first cell of the address of a device, by its number on the bus.
const fn slot(device: u32) -> u32 {
    device << 11
}

/// Which line each pin of each device ends at: INTA of device 0 at the first, and one further on for
/// every device and every pin.
fn interrupt_map(windows: &PciWindows, controller: Controller) -> Vec<u32> {
    let pins = (0..SLOTS).flat_map(|device| (0..SLOTS).map(move |pin| (device, pin)));
    pins.flat_map(|(device, pin)| {
        let child = [slot(device), 0, 0, pin.saturating_add(1)];
        child
            .into_iter()
            .chain(controller.mapped(windows.line(device, pin)))
    })
    .collect()
}

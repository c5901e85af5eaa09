//! The tree of an arm64 machine.

use super::cpus::{Cpus, cpus};
use super::interrupts::{Controller, Trigger};
use super::node::Node;
use super::{FdtError, handle, virt};
use crate::platform::{Gic, VirtArm64};
use alloc::format;
use alloc::vec::Vec;

const CONTROLLER: Controller = Controller::Gic;

/// Everything but what the boot protocol tells.
pub(super) fn root(machine: &VirtArm64) -> Result<Node, FdtError> {
    let Cpus { node: cpus, tables } = cpus(machine.cpus, &machine.topology, cpu)?;
    let virtio = machine.virtio.iter();
    let bridges = machine.pci.iter();
    Ok(virt::root(VirtArm64::UART)
        .set("interrupt-parent", handle::CONTROLLER)
        .with(cpus)
        .with_all(tables)
        .with(psci(machine.el2))
        .with(gic(machine))
        .with(timer(machine))
        .with_all(machine.pmu.then(|| pmu(machine)))
        .with(clock())
        .with(uart())
        .with(rtc())
        .with_all(machine.fw_cfg.then(|| virt::fw_cfg(VirtArm64::FW_CFG)))
        .with_all(
            machine
                .battery
                .then(|| virt::battery(VirtArm64::BATTERY, (CONTROLLER, VirtArm64::BATTERY_IRQ))),
        )
        .with_all(machine.flash.iter().map(virt::flash))
        .with_all(virtio.flat_map(|row| virt::virtio(row, CONTROLLER, Trigger::Edge)))
        .with_all(bridges.map(|windows| bridge(virt::pci(windows, CONTROLLER), machine.gic))))
}

/// A vCPU (`arm/cpus.yaml`), named by its affinity (`MPIDR_EL1`): 16 share the first level, as many
/// as a controller of version 3 can interrupt at once. KVM and QEMU number theirs like this.
fn cpu(number: u32) -> Node {
    const FIRST_LEVEL: u32 = 16;
    let affinity = ((number / FIRST_LEVEL) << 8) | (number % FIRST_LEVEL);
    Node::new(format!("cpu@{affinity:x}"))
        .compatible(&["arm,armv8"])
        .set("device_type", "cpu")
        .set("reg", affinity)
        .set("enable-method", "psci")
}

/// `arm/psci.yaml`.
fn psci(el2: bool) -> Node {
    Node::new("psci")
        .compatible(&["arm,psci-1.0", "arm,psci-0.2"])
        .set("method", if el2 { "smc" } else { "hvc" })
}

/// `interrupt-controller/arm,gic.yaml`, `interrupt-controller/arm,gic-v3.yaml`.
fn gic(machine: &VirtArm64) -> Node {
    let node = Node::at("interrupt-controller", VirtArm64::GIC_DISTRIBUTOR.start())
        .controls(3)
        .cells(CONTROLLER.address_cells(), 2)
        .flag("ranges")
        .label("gic", handle::CONTROLLER);
    let maintained = |node: Node| {
        if machine.el2 {
            node.set(
                "interrupts",
                private(machine, [VirtArm64::PPI_GIC_MAINTENANCE]),
            )
        } else {
            node
        }
    };
    match machine.gic {
        Gic::V2 => maintained(node)
            .compatible(&["arm,cortex-a15-gic"])
            .registers(&[VirtArm64::GIC_DISTRIBUTOR, VirtArm64::GICV2_CPU]),
        Gic::V3 { its } => maintained(node)
            .compatible(&["arm,gic-v3"])
            .registers(&[VirtArm64::GIC_DISTRIBUTOR, VirtArm64::GICV3_REDISTRIBUTORS])
            .with_all(its.then(translation)),
    }
}

fn translation() -> Node {
    Node::at("msi-controller", VirtArm64::GICV3_ITS.start())
        .compatible(&["arm,gic-v3-its"])
        .registers(&[VirtArm64::GICV3_ITS])
        .flag("msi-controller")
        .set("#msi-cells", 1_u32)
        .label("its", handle::MESSAGES)
}

/// `timer/arm,arch_timer.yaml`.
fn timer(machine: &VirtArm64) -> Node {
    let interrupts = [
        VirtArm64::PPI_TIMER_SECURE,
        VirtArm64::PPI_TIMER,
        VirtArm64::PPI_TIMER_VIRTUAL,
        VirtArm64::PPI_TIMER_EL2,
    ];
    Node::new("timer")
        .compatible(&["arm,armv8-timer"])
        .set("interrupts", private(machine, interrupts))
        .flag("always-on")
}

/// `arm/pmu.yaml`.
fn pmu(machine: &VirtArm64) -> Node {
    Node::new("pmu")
        .compatible(&["arm,armv8-pmuv3"])
        .set("interrupts", private(machine, [VirtArm64::PPI_PMU]))
}

/// Private peripheral interrupts of every vCPU, active while high; a controller of version 2 wants
/// the vCPUs named in a mask.
fn private<const N: usize>(machine: &VirtArm64, numbers: [u32; N]) -> Vec<u32> {
    const PPI: u32 = 1;
    let vcpus = match machine.gic {
        Gic::V2 => 0xff00 & !(u32::MAX << 8 << machine.cpus.min(8)),
        Gic::V3 { .. } => 0,
    };
    let flags = vcpus | Trigger::Level as u32;
    numbers
        .into_iter()
        .flat_map(|number| [PPI, number, flags])
        .collect()
}

/// The clock that the peripherals run by (`clock/fixed-clock.yaml`).
fn clock() -> Node {
    Node::new("apb-pclk")
        .compatible(&["fixed-clock"])
        .set("#clock-cells", 0_u32)
        .set("clock-frequency", VirtArm64::PERIPHERAL_CLOCK)
        .set("clock-output-names", "apb_pclk")
        .label("apb_pclk", handle::CLOCK)
}

/// `serial/pl011.yaml`.
fn uart() -> Node {
    Node::at("serial", VirtArm64::UART.start())
        .compatible(&["arm,pl011", "arm,primecell"])
        .registers(&[VirtArm64::UART])
        .interrupt(CONTROLLER, VirtArm64::UART_IRQ, Trigger::Level)
        .set("clocks", [handle::CLOCK, handle::CLOCK])
        .texts("clock-names", &["uartclk", "apb_pclk"])
        .label("uart0", handle::UART)
}

/// `rtc/arm,pl031.yaml`.
fn rtc() -> Node {
    Node::at("rtc", VirtArm64::RTC.start())
        .compatible(&["arm,pl031", "arm,primecell"])
        .registers(&[VirtArm64::RTC])
        .interrupt(CONTROLLER, VirtArm64::RTC_IRQ, Trigger::Level)
        .set("clocks", handle::CLOCK)
        .set("clock-names", "apb_pclk")
        .label("rtc", handle::RTC)
}

/// Lets every function behind the bridge send messages to the translation service, by its own
/// number (`pci/pci-msi.txt`).
fn bridge(node: Node, gic: Gic) -> Node {
    const FUNCTIONS: u32 = 0x1_0000;
    match gic {
        Gic::V3 { its: true } => node.set("msi-map", [0, handle::MESSAGES, 0, FUNCTIONS]),
        Gic::V3 { its: false } | Gic::V2 => node,
    }
}

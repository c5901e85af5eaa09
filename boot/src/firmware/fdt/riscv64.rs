//! The tree of a riscv64 machine.

use super::cpus::{Cpus, cpus};
use super::interrupts::{Controller, Trigger};
use super::node::Node;
use super::{FdtError, handle, virt};
use crate::platform::{Hart, Isa, RiscvIrqchip, VirtRiscv64};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use firstlight_base::GpaRange;

/// Everything but what the boot protocol tells.
pub(super) fn root(machine: &VirtRiscv64) -> Result<Node, FdtError> {
    let cpu = |number| cpu(number, &machine.hart);
    let Cpus { node: cpus, tables } = cpus(machine.cpus, &machine.topology, cpu)?;
    let controller = match machine.irqchip {
        RiscvIrqchip::Plic => Controller::Plic,
        RiscvIrqchip::Aia => Controller::Aplic,
    };
    let virtio = machine.virtio.iter();
    let bridges = machine.pci.iter();
    Ok(virt::root(VirtRiscv64::UART)
        .with(cpus.set("timebase-frequency", machine.hart.timebase))
        .with_all(tables)
        .with_all(controllers(machine))
        .with(uart(controller))
        .with(rtc(controller))
        .with(finisher())
        .with(finish("poweroff", POWER_OFF))
        .with(finish("reboot", RESET))
        .with_all(machine.fw_cfg.then(|| virt::fw_cfg(VirtRiscv64::FW_CFG)))
        .with_all(
            machine.battery.then(|| {
                virt::battery(VirtRiscv64::BATTERY, (controller, VirtRiscv64::BATTERY_IRQ))
            }),
        )
        .with_all(machine.flash.iter().map(virt::flash))
        .with_all(virtio.flat_map(|row| virt::virtio(row, controller, Trigger::Level)))
        .with_all(bridges.map(|windows| bridge(virt::pci(windows, controller), machine.irqchip))))
}

/// A hart and the controller within it (`riscv/cpus.yaml`,
/// `interrupt-controller/riscv,cpu-intc.yaml`).
fn cpu(number: u32, hart: &Hart) -> Node {
    let node = Node::new(format!("cpu@{number:x}"))
        .compatible(&["riscv"])
        .set("device_type", "cpu")
        .set("reg", number)
        .set("status", "okay")
        .set("mmu-type", format!("riscv,{}", hart.mmu.name()))
        .set("riscv,isa", isa(&hart.isa))
        .set("riscv,isa-base", "rv64i")
        .set("riscv,isa-extensions", extensions(&hart.isa))
        .with(
            Node::new("interrupt-controller")
                .compatible(&["riscv,cpu-intc"])
                .controls(1)
                .label(format!("cpu{number}_intc"), handle::hart(number)),
        );
    let blocks = [
        ("riscv,cbom-block-size", hart.cbom_block),
        ("riscv,cboz-block-size", hart.cboz_block),
    ];
    blocks
        .into_iter()
        .filter_map(|(name, block)| Some((name, block?)))
        .fold(node, |node, (name, block)| node.set(name, block))
}

/// All extensions in one word, as kernels before 6.6 want them: those of one letter first, in the
/// order of the instruction set manual (volume I, "ISA Extension Naming Conventions").
fn isa(isa: &Isa) -> String {
    const ORDER: &str = "iemafdqcbpvh";
    let has = |letter: char| isa.0.iter().any(|name| name.chars().eq([letter]));
    let letters = ORDER.chars().filter(|&letter| has(letter));
    let long = isa.0.iter().filter(|name| name.len() > 1);
    ["rv64".into(), letters.collect::<String>()]
        .into_iter()
        .chain(long.map(|name| format!("_{name}")))
        .collect()
}

fn extensions(isa: &Isa) -> Vec<&str> {
    isa.0.iter().map(AsRef::as_ref).collect()
}

/// The interrupts that a hart's own controller takes for each mode (The RISC-V Instruction Set
/// Manual, volume II, table "Machine cause register values").
const SUPERVISOR_EXTERNAL: u32 = 9;
const MACHINE_EXTERNAL: u32 = 11;

fn controllers(machine: &VirtRiscv64) -> Vec<Node> {
    match machine.irqchip {
        RiscvIrqchip::Plic => [plic(machine.cpus)].into(),
        RiscvIrqchip::Aia => [imsics(machine.cpus), aplic()].into(),
    }
}

/// Two contexts for each hart, one for each mode: that is how the registers are laid out.
fn plic(cpus: u32) -> Node {
    Node::at("interrupt-controller", VirtRiscv64::PLIC.start())
        .compatible(&["sifive,plic-1.0.0", "riscv,plic0"])
        .registers(&[VirtRiscv64::PLIC])
        .controls(1)
        .set("#address-cells", Controller::Plic.address_cells())
        .set(
            "interrupts-extended",
            to_harts(cpus, &[MACHINE_EXTERNAL, SUPERVISOR_EXTERNAL]),
        )
        .set("riscv,ndev", VirtRiscv64::SOURCES)
        .label("plic", handle::CONTROLLER)
}

/// `interrupt-controller/riscv,imsics.yaml`.
fn imsics(cpus: u32) -> Node {
    const PAGE: u64 = 0x1000;
    let len = PAGE.saturating_mul(cpus.into());
    let registers = GpaRange::new(VirtRiscv64::IMSICS, len);
    Node::at("interrupt-controller", VirtRiscv64::IMSICS)
        .compatible(&["qemu,imsics", "riscv,imsics"])
        .registers(registers.as_slice())
        .controls(0)
        .flag("msi-controller")
        .set("#msi-cells", 0_u32)
        .set(
            "interrupts-extended",
            to_harts(cpus, &[SUPERVISOR_EXTERNAL]),
        )
        .set("riscv,num-ids", VirtRiscv64::IMSIC_IDENTITIES)
        .label("imsics", handle::MESSAGES)
}

fn aplic() -> Node {
    Node::at("interrupt-controller", VirtRiscv64::APLIC.start())
        .compatible(&["qemu,aplic", "riscv,aplic"])
        .registers(&[VirtRiscv64::APLIC])
        .controls(2)
        .set("#address-cells", Controller::Aplic.address_cells())
        .set("msi-parent", handle::MESSAGES)
        .set("riscv,num-sources", VirtRiscv64::SOURCES)
        .label("aplic", handle::CONTROLLER)
}

fn to_harts(cpus: u32, causes: &[u32]) -> Vec<u32> {
    (0..cpus)
        .flat_map(|number| {
            causes
                .iter()
                .flat_map(move |&cause| [handle::hart(number), cause])
        })
        .collect()
}

/// `serial/8250.yaml`.
fn uart(controller: Controller) -> Node {
    Node::at("serial", VirtRiscv64::UART.start())
        .compatible(&["ns16550a"])
        .registers(&[VirtRiscv64::UART])
        .interrupt(controller, VirtRiscv64::UART_IRQ, Trigger::Level)
        .set("clock-frequency", VirtRiscv64::UART_CLOCK)
        .label("uart0", handle::UART)
}

/// `rtc/google,goldfish-rtc.txt`.
fn rtc(controller: Controller) -> Node {
    Node::at("rtc", VirtRiscv64::RTC.start())
        .compatible(&["google,goldfish-rtc"])
        .registers(&[VirtRiscv64::RTC])
        .interrupt(controller, VirtRiscv64::RTC_IRQ, Trigger::Level)
        .label("rtc", handle::RTC)
}

/// What is written to the finisher (QEMU's `include/hw/misc/sifive_test.h`).
const POWER_OFF: u32 = 0x5555;
const RESET: u32 = 0x7777;

fn finisher() -> Node {
    Node::at("test", VirtRiscv64::FINISHER.start())
        .compatible(&["sifive,test1", "sifive,test0", "syscon"])
        .registers(&[VirtRiscv64::FINISHER])
        .label("finisher", handle::FINISHER)
}

/// `power/reset/syscon-poweroff.yaml`, `power/reset/syscon-reboot.yaml`.
fn finish(how: &str, value: u32) -> Node {
    Node::new(how)
        .compatible(&[&format!("syscon-{how}")])
        .set("regmap", handle::FINISHER)
        .set("offset", 0_u32)
        .set("value", value)
}

/// Lets every function behind the bridge send messages to the harts, where they take messages.
fn bridge(node: Node, irqchip: RiscvIrqchip) -> Node {
    match irqchip {
        RiscvIrqchip::Plic => node,
        RiscvIrqchip::Aia => node.set("msi-parent", handle::MESSAGES),
    }
}

//! `firstlight plan --devices`: who has what of the machine.

use crate::args::{PlanArgs, PlanFormat};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::json::{Span, to_text};
use firstlight_base::GpaRange;
use firstlight_boot::BootPlan;
use firstlight_vmm::arch::allocate;
use firstlight_vmm::{MmioWindow, SystemAllocator};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The machine's windows, and what is given of it, as `args` want it.
pub(super) fn show(plan: &BootPlan, args: &PlanArgs) -> Result<String, Failure> {
    let wanted = args.guest.devices();
    let allocation = allocate(plan.platform(), &wanted.names(), wanted.hotplug_slots);
    let allocation = allocation.map_err(|error| {
        Failure::because(ExitStatus::Plan, "cannot give the devices a place", &error)
    })?;
    match args.format {
        PlanFormat::Text => Ok(text(&allocation.allocator)),
        PlanFormat::Json => Ok(document(&allocation.allocator)),
        PlanFormat::Svg => Err(Failure::new(
            ExitStatus::Usage,
            "there is no picture of who has what: --devices goes with --format text or json",
        )),
    }
}

const WINDOWS: [(MmioWindow, &str); 3] = [
    (MmioWindow::Low, "PCI memory, 32-bit"),
    (MmioWindow::High, "PCI memory, 64-bit"),
    (MmioWindow::Platform, "platform devices"),
];

fn text(allocator: &SystemAllocator) -> String {
    let mut text = String::new();
    section(&mut text, "Windows to be given out");
    let config = allocator.config();
    for (window, name) in WINDOWS {
        if let Some(range) = config.window(window) {
            line(&mut text, &range.to_string(), name);
        }
    }
    if let Some(ports) = config.io {
        line(&mut text, &ports.to_string(), "I/O ports");
    }
    line(&mut text, &config.irqs.to_string(), "interrupt lines");
    section(&mut text, "Memory-mapped registers");
    for (range, holder) in allocator.mmio() {
        line(&mut text, &range.to_string(), holder);
    }
    if config.io.is_some() {
        section(&mut text, "I/O ports");
        for (ports, holder) in allocator.ports() {
            line(&mut text, &ports.to_string(), holder);
        }
    }
    section(&mut text, "Interrupt lines");
    for (irq, holder) in allocator.irqs() {
        line(&mut text, &irq.to_string(), holder);
    }
    if allocator.pci().next().is_some() {
        section(&mut text, "PCI functions");
        for (address, holder) in allocator.pci() {
            line(&mut text, &address.to_string(), holder);
        }
    }
    text
}

fn section(text: &mut String, title: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(title);
    text.push('\n');
}

fn line(text: &mut String, what: &str, holder: &str) {
    // A string takes whatever is written to it.
    let _ = writeln!(text, "  {what:<24}  {holder}");
}

fn document(allocator: &SystemAllocator) -> String {
    let config = allocator.config();
    let windows: Vec<Value> = WINDOWS
        .iter()
        .filter_map(|&(window, name)| Some((config.window(window)?, name)))
        .map(|(range, name)| held(range, name))
        .collect();
    let mmio: Vec<Value> = allocator
        .mmio()
        .map(|(range, holder)| held(range, holder))
        .collect();
    let ports: Vec<Value> = allocator
        .ports()
        .map(|(ports, holder)| {
            json!({ "first": ports.first().0, "count": ports.count(), "holder": holder })
        })
        .collect();
    let irqs: Vec<Value> = allocator
        .irqs()
        .map(|(irq, holder)| json!({ "irq": irq.0, "holder": holder }))
        .collect();
    let pci: Vec<Value> = allocator
        .pci()
        .map(|(address, holder)| json!({ "address": address.to_string(), "holder": holder }))
        .collect();
    to_text(&json!({
        "schema": "firstlight.devices/1",
        "windows": windows,
        "mmio": mmio,
        "ports": ports,
        "irqs": irqs,
        "pci": pci,
    }))
}

fn held(range: GpaRange, holder: &str) -> Value {
    json!({ "range": Span::of(range), "holder": holder })
}

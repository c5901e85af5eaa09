//! A plan in lines and tables.

use super::registers::named;
use super::{Row, Size, devices, rows};
use crate::{BootPlan, Platform};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use firstlight_base::x86::{Cr0, DescriptorTable, Mode, Registers, Segment};
use firstlight_base::{Gpa, VcpuState, arm64};

/// The plan as text no wider than `width` columns where words can be parted.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "writing to a String never fails")]
pub fn text(plan: &BootPlan, width: usize) -> String {
    let mut out = String::new();
    write_plan(&mut out, plan, width).expect("a String takes whatever is written");
    out
}

fn write_plan(out: &mut String, plan: &BootPlan, width: usize) -> core::fmt::Result {
    write_summary(out, plan)?;
    out.push_str("\nGuest memory\n");
    write_memory(out, plan, width)?;
    let told = match plan.platform() {
        Platform::Pc(_) => "e820",
        Platform::VirtArm64(_) | Platform::VirtRiscv64(_) => "device tree",
    };
    writeln!(out, "\nMemory map told to the guest ({told})")?;
    write_e820(out, plan)?;
    out.push_str("\nDevices\n");
    write_devices(out, plan)?;
    match plan.boot_vcpu() {
        VcpuState::X86(registers) => write_x86(out, plan, registers),
        state => write_registers(out, plan, state),
    }
}

fn write_summary(out: &mut String, plan: &BootPlan) -> core::fmt::Result {
    let platform = plan.platform();
    let memory: u64 = platform.ram().iter().map(|range| range.len()).sum();
    writeln!(out, "kernel        {}", visible(plan.image()))?;
    writeln!(out, "entered by    {}", plan.protocol())?;
    writeln!(out, "memory        {}", Size(memory))?;
    writeln!(out, "vCPUs         {}", platform.cpus())?;
    writeln!(out, "command line  {}", visible(plan.cmdline()))?;
    if let Some(moved) = moved(plan) {
        writeln!(out, "addresses     {moved}")?;
    }
    Ok(())
}

/// How far the kernel is from where it was linked to; none where it lies there.
pub(super) fn moved(plan: &BootPlan) -> Option<String> {
    let physical = match plan.moved() {
        0 => None,
        up if up >> 63 == 0 => Some(format!("moved up by {up:#x}")),
        down => Some(format!("moved down by {:#x}", down.wrapping_neg())),
    };
    let Some(relocate) = plan.relocate() else {
        return physical;
    };
    let (r64, inverse32, r32) = relocate.places.counts();
    let places = r64.saturating_add(inverse32).saturating_add(r32);
    Some(format!(
        "{}, virtual addresses shifted by {:#x} at {places} places",
        physical.as_deref().unwrap_or("not moved"),
        relocate.shift,
    ))
}

fn write_memory(out: &mut String, plan: &BootPlan, width: usize) -> core::fmt::Result {
    let rows = rows(plan);
    let names = rows.iter().map(|row| row.name().chars().count());
    let name_width = names.max().unwrap_or_default();
    let address_width = rows.iter().map(|row| row.range.to_string().len());
    let address_width = address_width.max().unwrap_or_default();
    for row in &rows {
        write_row(out, row, address_width, name_width, width)?;
    }
    Ok(())
}

fn write_row(
    out: &mut String,
    row: &Row<'_>,
    address_width: usize,
    name_width: usize,
    width: usize,
) -> core::fmt::Result {
    let head = format!(
        "  {:<address_width$}  {:>9}  {:<name_width$}  ",
        row.range.to_string(),
        Size(row.range.len()).to_string(),
        row.name(),
    );
    let indent = head.chars().count();
    let lines = wrap(row.why(), width.saturating_sub(indent).max(MIN_WRAP));
    let mut lines = lines.iter();
    let first = lines.next().map_or("", String::as_str);
    writeln!(out, "{}", format!("{head}{first}").trim_end())?;
    for line in lines {
        writeln!(out, "{:indent$}{line}", "")?;
    }
    Ok(())
}

/// Narrower than this a column of words is not read but deciphered.
const MIN_WRAP: usize = 24;

/// `text` in lines of at most `width` characters, parted at spaces.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word_width = word.chars().count();
        match lines.last_mut() {
            Some(line)
                if line
                    .chars()
                    .count()
                    .saturating_add(1)
                    .saturating_add(word_width)
                    <= width =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(String::from(word)),
        }
    }
    lines
}

fn write_e820(out: &mut String, plan: &BootPlan) -> core::fmt::Result {
    let ranges = plan
        .e820()
        .iter()
        .map(|entry| entry.range.to_string().len());
    let width = ranges.max().unwrap_or_default();
    for entry in plan.e820() {
        writeln!(
            out,
            "  {:<width$}  {:>9}  {}",
            entry.range.to_string(),
            Size(entry.range.len()).to_string(),
            entry.kind,
        )?;
    }
    Ok(())
}

fn write_devices(out: &mut String, plan: &BootPlan) -> core::fmt::Result {
    let devices = devices(plan.platform());
    let places = devices.iter().map(|device| device.place.to_string().len());
    let width = places.max().unwrap_or_default();
    for device in devices {
        let irq = device
            .irq
            .map_or_else(String::new, |irq| format!("IRQ {irq}"));
        writeln!(
            out,
            "  {:<width$}  {irq:<6}  {}",
            device.place.to_string(),
            device.name
        )?;
    }
    Ok(())
}

/// A processor whose registers are numbers and nothing more.
fn write_registers(out: &mut String, plan: &BootPlan, state: &VcpuState) -> core::fmt::Result {
    let mode = match state {
        VcpuState::Arm64(registers) if registers.pstate.contains(arm64::Pstate::EL2) => "at EL2",
        VcpuState::Arm64(_) => "at EL1",
        _ => "in supervisor mode",
    };
    writeln!(out, "\nBoot vCPU, entered {mode}, address translation off")?;
    for (name, value) in named(state) {
        // The rest are 0, and a list of zeros hides the few that matter.
        if value != 0 {
            writeln!(out, "  {name:<14}  {value:#x}{}", place_of(plan, value))?;
        }
    }
    out.push_str("  other registers are 0\n");
    Ok(())
}

fn write_x86(out: &mut String, plan: &BootPlan, registers: &Registers) -> core::fmt::Result {
    let mode = match registers.mode() {
        Mode::Bits16 => "16-bit mode",
        Mode::Bits32 => "32-bit protected mode",
        Mode::Bits64 => "64-bit mode",
    };
    writeln!(out, "\nBoot vCPU, entered in {mode}")?;
    let g = &registers.gprs;
    // Outside of real mode both begin at 0.
    let segments = [("rip", registers.cs.base), ("rsp", registers.ss.base)];
    let named = [
        ("rip", g.rip),
        ("rsp", g.rsp),
        ("rax", g.rax),
        ("rbx", g.rbx),
        ("rcx", g.rcx),
        ("rdx", g.rdx),
        ("rsi", g.rsi),
        ("rdi", g.rdi),
        ("rbp", g.rbp),
        ("r8", g.r8),
        ("r9", g.r9),
        ("r10", g.r10),
        ("r11", g.r11),
        ("r12", g.r12),
        ("r13", g.r13),
        ("r14", g.r14),
        ("r15", g.r15),
    ];
    for (name, value) in named {
        // The rest are 0, and a list of zeros hides the few that matter.
        if value != 0 || name == "rip" {
            let segment = segments.iter().find(|(of, _)| *of == name);
            let at = segment.map_or(0, |(_, base)| *base).wrapping_add(value);
            writeln!(out, "  {name:<14}  {value:#x}{}", place_of(plan, at))?;
        }
    }
    writeln!(out, "  rflags          {:#x}", g.rflags)?;
    write_flags(out, "cr0", registers.cr0.bits(), registers.cr0.iter_names())?;
    let tables = if registers.cr0.contains(Cr0::PG) {
        place_of(plan, registers.cr3)
    } else {
        String::new()
    };
    writeln!(out, "  cr3             {:#x}{tables}", registers.cr3)?;
    write_flags(out, "cr4", registers.cr4.bits(), registers.cr4.iter_names())?;
    write_flags(
        out,
        "efer",
        registers.efer.bits(),
        registers.efer.iter_names(),
    )?;
    write_segments(out, &registers.segments())?;
    write_table(out, plan, "gdt", registers.gdt)?;
    write_table(out, plan, "idt", registers.idt)?;
    out.push_str("  other registers are 0\n");
    Ok(())
}

fn write_flags<F>(
    out: &mut String,
    name: &str,
    bits: u64,
    names: impl Iterator<Item = (&'static str, F)>,
) -> core::fmt::Result {
    write!(out, "  {name:<14}  {bits:#x}")?;
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    if !names.is_empty() {
        write!(out, "  {}", names.join(" "))?;
    }
    out.push('\n');
    Ok(())
}

/// Neighbours that hold the same share a line.
fn write_segments(out: &mut String, segments: &[(&str, Segment)]) -> core::fmt::Result {
    for same in segments.chunk_by(|(_, left), (_, right)| left == right) {
        let names: Vec<&str> = same.iter().map(|&(name, _)| name).collect();
        write!(out, "  {:<14}  ", names.join(" "))?;
        match same.first() {
            Some((_, segment)) if segment.access != 0 => writeln!(
                out,
                "{:#x}  base {:#x}, limit {:#x}, access {:#06x}",
                segment.selector, segment.base, segment.limit, segment.access
            )?,
            _ => out.push_str("unusable\n"),
        }
    }
    Ok(())
}

fn write_table(
    out: &mut String,
    plan: &BootPlan,
    name: &str,
    table: DescriptorTable,
) -> core::fmt::Result {
    if table == DescriptorTable::default() {
        return writeln!(out, "  {name:<14}  none");
    }
    writeln!(
        out,
        "  {name:<14}  {:#x}, limit {:#x}{}",
        table.base,
        table.limit,
        place_of(plan, table.base)
    )
}

/// Which piece an address lies in, for values that are addresses.
fn place_of(plan: &BootPlan, value: u64) -> String {
    let at = Gpa::new(value);
    let piece = plan
        .pieces()
        .iter()
        .find(|piece| piece.range.start() <= at && at < piece.range.end());
    match piece {
        Some(piece) if piece.range.start() == at => format!("  = {}", piece.name),
        Some(piece) => {
            let offset = value.wrapping_sub(piece.range.start().get());
            format!("  = {} + {offset:#x}", piece.name)
        }
        None => String::new(),
    }
}

/// `text` with what a terminal would obey shown as its escape.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

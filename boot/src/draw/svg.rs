//! A plan as a picture (SVG 1.1).
//!
//! Guest memory has pages beside gigabytes, so there are two columns: on the left addresses true
//! to scale, on the right one row for each thing, high enough for its words and higher the larger
//! the thing is, and bands that connect the two.

use super::text::{moved, wrap};
use super::{Class, Row, Size, devices, entry, rows};
use crate::BootPlan;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt::{self, Write};
use firstlight_base::Gpa;

const WIDTH: f64 = 1120.0;
const MARGIN: f64 = 32.0;
/// Left and right edge of the column that is true to scale; its scale is left of it.
const SCALE: (f64, f64) = (112.0, 152.0);
/// Left and right edge of the column of rows.
const ROWS: (f64, f64) = (252.0, WIDTH - MARGIN);
/// The stripe of full colour at a row's left edge.
const STRIPE: f64 = 8.0;
/// Characters that fit into a row, into the command line's lines and into the subtitle.
const WHY_CHARS: usize = 118;
const WIDE_CHARS: usize = 128;
const LINE: f64 = 16.0;

const STYLE: &str = "text{font-family:'DejaVu Sans',Verdana,Arial,sans-serif;fill:#1c2530}\
.title{font-size:21px;font-weight:bold}.text{font-size:13px}.name{font-size:13px;font-weight:bold}\
.why{font-size:11.5px;fill:#4a5563}.faint{font-size:11.5px;fill:#6b7684}\
.mono{font-size:12px;font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace}\
.tick{font-size:11px;fill:#6b7684;text-anchor:end}.end{text-anchor:end}\
.head{font-size:12px;font-weight:bold;fill:#6b7684}";

/// The plan as a picture: the map of guest memory, its legend, the command line and the devices.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "writing to a String never fails")]
pub fn svg(plan: &BootPlan) -> String {
    let mut body = String::new();
    let height = write_body(&mut body, plan).expect("a String takes whatever is written");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH:.0} {height:.0}\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Writes everything from the top down; the answer is the height it took.
fn write_body(out: &mut String, plan: &BootPlan) -> Result<f64, fmt::Error> {
    let rows = rows(plan);
    let y = write_heading(out, plan)?;
    let y = write_legend(out, &rows, y + 26.0)?;
    let y = write_map(out, plan, &rows, y + 40.0)?;
    let y = write_devices(out, plan, y + 36.0)?;
    Ok(y + MARGIN)
}

fn write_heading(out: &mut String, plan: &BootPlan) -> Result<f64, fmt::Error> {
    let platform = plan.platform();
    let memory: u64 = platform.ram().iter().map(|range| range.len()).sum();
    let mut y = MARGIN + 18.0;
    write_text(out, "title", MARGIN, y, plan.image())?;
    y += 26.0;
    let (vcpus, plural) = (platform.cpus(), if platform.cpus() == 1 { "" } else { "s" });
    let summary = format!(
        "entered by {} at {}, with {} of memory and {vcpus} vCPU{plural}",
        plan.protocol(),
        entry(plan),
        Size(memory),
    );
    write_text(out, "text", MARGIN, y, &summary)?;
    y += 22.0;
    for line in wrap(plan.cmdline(), WIDE_CHARS) {
        write_text(out, "mono", MARGIN, y, &line)?;
        y += LINE;
    }
    if let Some(moved) = moved(plan) {
        write_text(out, "faint", MARGIN, y, &format!("kernel {moved}"))?;
        y += LINE;
    }
    Ok(y - LINE)
}

/// The classes that the map has, each with its colour.
fn write_legend(out: &mut String, rows: &[Row<'_>], top: f64) -> Result<f64, fmt::Error> {
    let (mut x, mut base) = (MARGIN, top);
    for class in Class::ALL {
        if !rows.iter().any(|row| row.class == class) {
            continue;
        }
        let width = 44.0 + 7.6 * class.name().chars().count() as f64;
        if x + width > WIDTH {
            (x, base) = (MARGIN, base + 20.0);
        }
        let (stripe, _) = colours(class);
        let y = base - 10.0;
        writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{stripe}\"/>"
        )?;
        write_text(out, "text", x + 18.0, base, class.name())?;
        x += width;
    }
    Ok(base)
}

fn write_map(
    out: &mut String,
    plan: &BootPlan,
    rows: &[Row<'_>],
    top: f64,
) -> Result<f64, fmt::Error> {
    let entry = entry(plan);
    let labels: Vec<Vec<String>> = rows.iter().map(|row| wrap(row.why(), WHY_CHARS)).collect();
    let heights = rows.iter().zip(&labels).map(|(row, why)| height(row, why));
    let heights: Vec<f64> = heights.collect();
    let bottom = top + heights.iter().sum::<f64>();
    let end = rows.last().map_or(Gpa::new(1), |row| row.range.end());
    let scale = Scale { top, bottom, end };

    write_text(out, "tick", SCALE.1, top - 12.0, "true to scale")?;
    let note = "every part, larger ones taller; addresses end before the second number";
    write_text(out, "faint", ROWS.0, top - 12.0, note)?;
    let mut y = top;
    for ((row, why), height) in rows.iter().zip(&labels).zip(heights) {
        write_band(out, row, &scale, (y, y + height))?;
        write_row(
            out,
            row,
            why,
            (y, y + height),
            holds(row, entry).then_some(entry),
        )?;
        y += height;
    }
    write_scale(out, &scale)?;
    Ok(bottom)
}

/// How high a row is: its words, and something for every doubling of its size above a page.
fn height(row: &Row<'_>, why: &[String]) -> f64 {
    let doublings = (row.range.len() >> 12).max(1).ilog2();
    26.0 + 15.0 * why.len() as f64 + 2.2 * f64::from(doublings)
}

fn holds(row: &Row<'_>, at: Gpa) -> bool {
    row.range.start() <= at && at < row.range.end()
}

/// The column that is true to scale.
struct Scale {
    top: f64,
    bottom: f64,
    end: Gpa,
}

impl Scale {
    fn y(&self, at: Gpa) -> f64 {
        let part = at.get() as f64 / self.end.get() as f64;
        self.top + part * (self.bottom - self.top)
    }

    /// The addresses that get a tick: multiples of the smallest power of two that gives no more
    /// of them than can be told apart.
    fn ticks(&self) -> Vec<Gpa> {
        const MOST: u64 = 16;
        let step = self.end.get().checked_div(MOST).unwrap_or_default();
        let Some(step) = step.checked_next_power_of_two() else {
            return vec![];
        };
        (0..=MOST)
            .map(|index| Gpa::new(index.saturating_mul(step)))
            .filter(|&at| at <= self.end)
            .collect()
    }
}

/// The shape that leads from a part of the scale to its row.
fn write_band(
    out: &mut String,
    row: &Row<'_>,
    scale: &Scale,
    (top, bottom): (f64, f64),
) -> fmt::Result {
    let (from, to) = (scale.y(row.range.start()), scale.y(row.range.end()));
    let (stripe, fill) = colours(row.class);
    let ((left, right), width) = (SCALE, SCALE.1 - SCALE.0);
    let bend = (right + ROWS.0) / 2.0;
    writeln!(
        out,
        "<path d=\"M{right:.1} {from:.2}C{bend:.1} {from:.2} {bend:.1} {top:.1} {x:.1} {top:.1}\
         L{x:.1} {bottom:.1}C{bend:.1} {bottom:.1} {bend:.1} {to:.2} {right:.1} {to:.2}Z\" \
         fill=\"{fill}\" stroke=\"{stripe}\" stroke-opacity=\"0.45\" stroke-width=\"0.6\"/>",
        x = ROWS.0,
    )?;
    // A page in a gigabyte is no pixel; the hair's breadth of a stroke keeps it visible.
    writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{from:.2}\" width=\"{width:.1}\" height=\"{height:.2}\" \
         fill=\"{stripe}\" stroke=\"{stripe}\" stroke-width=\"0.4\"/>",
        height = to - from,
    )
}

fn write_row(
    out: &mut String,
    row: &Row<'_>,
    why: &[String],
    (top, bottom): (f64, f64),
    entry: Option<Gpa>,
) -> fmt::Result {
    let (stripe, fill) = colours(row.class);
    let ((left, right), height) = (ROWS, bottom - top);
    writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" \
         fill=\"{fill}\" stroke=\"#ffffff\" stroke-width=\"1\"/>\
         <rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{STRIPE:.1}\" height=\"{height:.1}\" \
         fill=\"{stripe}\"/>",
        right - left,
    )?;
    let words = 14.0 + 15.0 * why.len() as f64;
    let mut y = top + (height - words) / 2.0 + 11.5;
    let x = left + STRIPE + 10.0;
    write_text(out, "name", x, y, row.name())?;
    if let Some(entry) = entry {
        let after_name = x + 16.0 + 8.6 * row.name().chars().count() as f64;
        let mark = format!("\u{25b8} entry at {:#x}", entry.get());
        write_text(out, "mono", after_name, y, &mark)?;
    }
    write_text(out, "mono end", right - 92.0, y, &row.range.to_string())?;
    let size = Size(row.range.len()).to_string();
    write_text(out, "text end", right - 10.0, y, &size)?;
    for line in why {
        y += 15.0;
        write_text(out, "why", x, y, line)?;
    }
    Ok(())
}

fn write_scale(out: &mut String, scale: &Scale) -> fmt::Result {
    let ((left, right), height) = (SCALE, scale.bottom - scale.top);
    writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"none\" \
         stroke=\"#1c2530\" stroke-width=\"1\"/>",
        scale.top,
        right - left,
    )?;
    for at in scale.ticks() {
        let y = scale.y(at);
        writeln!(
            out,
            "<path d=\"M{:.1} {y:.1}H{left:.1}\" stroke=\"#1c2530\" stroke-width=\"1\"/>",
            left - 5.0,
        )?;
        let label = match at.get() {
            0 => "0".to_string(),
            bytes => Size(bytes).to_string(),
        };
        write_text(out, "tick", left - 9.0, y + 4.0, &label)?;
    }
    Ok(())
}

fn write_devices(out: &mut String, plan: &BootPlan, top: f64) -> Result<f64, fmt::Error> {
    write_text(out, "head", MARGIN, top, "Devices")?;
    let mut y = top;
    for device in devices(plan.platform()) {
        y += 19.0;
        write_text(out, "mono", MARGIN, y, &device.place.to_string())?;
        if let Some(irq) = device.irq {
            write_text(out, "text", ROWS.0 - 8.0, y, &format!("IRQ {irq}"))?;
        }
        write_text(out, "text", ROWS.0 + 62.0, y, device.name)?;
    }
    Ok(y)
}

fn write_text(out: &mut String, class: &str, x: f64, y: f64, text: &str) -> fmt::Result {
    write!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">")?;
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // XML 1.0 (section 2.2) has no way to write these, escaped or not.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other if other.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out.push_str("</text>\n");
    Ok(())
}

/// The colour of a class and a pale one of the same hue that words can be read on. The strong
/// ones are told apart by people who see red and green alike (Okabe and Ito's palette).
const fn colours(class: Class) -> (&'static str, &'static str) {
    match class {
        Class::Kernel => ("#0072b2", "#dcebf6"),
        Class::Window => ("#56b4e9", "#e8f4fc"),
        Class::Initrd => ("#009e73", "#def3ec"),
        Class::Module => ("#cc79a7", "#f7e6f0"),
        Class::Handover => ("#d55e00", "#fbe7da"),
        Class::Firmware => ("#e69f00", "#fcf1d9"),
        Class::Free => ("#e3e7ec", "#f6f7f9"),
        Class::Reserved => ("#7d8894", "#e4e7eb"),
        Class::LegacyHole | Class::DeviceHole => ("#4a5563", "#dfe2e7"),
        Class::Untold => ("#1c2530", "#d6dae0"),
    }
}

//! Plans as people read them: [`text`] in lines and tables, [`svg`] as a picture.
//!
//! Both show the same [`rows`]: every piece, and between the pieces what is free, what is not RAM
//! to the guest and what the devices have.

mod device;
pub mod registers;
mod size;
mod svg;
mod text;

pub use device::{Device, Place, devices};
pub use size::Size;
pub use svg::svg;
pub use text::text;

use crate::platform::{Pc, Platform};
use crate::{BootPlan, Content, E820Kind, Piece};
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::{Gpa, GpaRange};

/// A stretch of guest-physical addresses that is one thing all through.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Where it lies.
    pub range: GpaRange,
    /// Of what sort it is.
    pub class: Class,
    /// The piece that lies there.
    pub piece: Option<&'a Piece>,
}

impl<'a> Row<'a> {
    /// What lies there, in a word or three.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.piece.map_or(self.class.name(), |piece| &piece.name)
    }

    /// Why it is there, where there is something to say.
    #[must_use]
    pub fn why(&self) -> &'a str {
        match (self.piece, self.class) {
            (Some(piece), _) => &piece.why,
            (None, Class::LegacyHole) => "video memory and ROMs of a PC: never RAM to the guest",
            (None, Class::DeviceHole) => "the registers of devices",
            (None, _) => "",
        }
    }
}

/// What sort of thing a [`Row`] is: the legend of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Bytes of the kernel's image.
    Kernel,
    /// Memory that the kernel uses while it starts.
    Window,
    /// The initial ramdisk.
    Initrd,
    /// Another file for the kernel.
    Module,
    /// What the boot protocol hands over, and the processor's own tables.
    Handover,
    /// Tables that the guest finds by itself.
    Firmware,
    /// RAM that nobody has claimed yet.
    Free,
    /// Told to the guest as reserved.
    Reserved,
    /// The PC's video memory and ROM area.
    LegacyHole,
    /// Where the registers of devices are: below 4 GiB on a PC, below RAM elsewhere.
    DeviceHole,
    /// Not told to the guest at all.
    Untold,
}

impl Class {
    /// Every class, in the order of the legend.
    pub const ALL: [Self; 11] = [
        Self::Kernel,
        Self::Window,
        Self::Initrd,
        Self::Module,
        Self::Handover,
        Self::Firmware,
        Self::Free,
        Self::Reserved,
        Self::LegacyHole,
        Self::DeviceHole,
        Self::Untold,
    ];

    /// What people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Window => "start-up window",
            Self::Initrd => "initrd",
            Self::Module => "module",
            Self::Handover => "boot data",
            Self::Firmware => "firmware tables",
            Self::Free => "free",
            Self::Reserved => "reserved",
            Self::LegacyHole => "legacy hole",
            Self::DeviceHole => "device hole",
            Self::Untold => "not told to the guest",
        }
    }

    fn of(piece: &Piece, plan: &BootPlan) -> Self {
        match piece.content {
            Content::Image { .. } => Self::Kernel,
            Content::Window => Self::Window,
            Content::Initrd => Self::Initrd,
            Content::Module(_) => Self::Module,
            Content::Bytes(_) if is_firmware(piece.range, plan) => Self::Firmware,
            Content::Bytes(_) => Self::Handover,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn is_firmware(range: GpaRange, plan: &BootPlan) -> bool {
    plan.e820().iter().any(|entry| {
        matches!(entry.kind, E820Kind::AcpiTables | E820Kind::Reserved)
            && entry.range.contains(range)
    })
}

/// Guest-physical addresses from 0 to the end of RAM, ascending; without a gap but for free
/// stretches that are shorter than a page.
#[must_use]
pub fn rows(plan: &BootPlan) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut at = Gpa::new(0);
    for piece in plan.pieces() {
        fill_gap(&mut rows, plan, at, piece.range.start());
        rows.push(Row {
            range: piece.range,
            class: Class::of(piece, plan),
            piece: Some(piece),
        });
        at = at.max(piece.range.end());
    }
    fill_gap(&mut rows, plan, at, end_of_ram(plan));
    rows
}

fn end_of_ram(plan: &BootPlan) -> Gpa {
    let ram = plan.platform().ram().iter().map(|range| range.end());
    ram.max().unwrap_or_default()
}

/// What lies between pieces is what the guest is told about it.
fn fill_gap(rows: &mut Vec<Row<'_>>, plan: &BootPlan, from: Gpa, to: Gpa) {
    let mut at = from;
    for entry in plan.e820() {
        let class = match entry.kind {
            E820Kind::Ram => Class::Free,
            E820Kind::Reserved => reserved(plan.platform(), entry.range),
            E820Kind::AcpiTables => Class::Firmware,
        };
        let gap = GpaRange::between(at, to);
        if let Some(told) = gap.and_then(|gap| gap.intersection(entry.range)) {
            fill_untold(rows, plan, at, told.start());
            push_empty(rows, told, class);
            at = told.end();
        }
    }
    fill_untold(rows, plan, at, to);
}

fn fill_untold(rows: &mut Vec<Row<'_>>, plan: &BootPlan, from: Gpa, to: Gpa) {
    if let Some(range) = GpaRange::between(from, to) {
        let class = match reserved(plan.platform(), range) {
            Class::Reserved => Class::Untold,
            hole => hole,
        };
        push_empty(rows, range, class);
    }
}

/// Adds a stretch without a piece, to the one before it where they are the same. What is left over
/// between pieces that share a page is nothing to tell people about.
fn push_empty(rows: &mut Vec<Row<'_>>, range: GpaRange, class: Class) {
    const PAGE: u64 = 4096;
    if let Some(last) = rows.last_mut()
        && last.piece.is_none()
        && last.class == class
        && last.range.end() == range.start()
        && let Some(joined) = GpaRange::between(last.range.start(), range.end())
    {
        last.range = joined;
    } else if class != Class::Free || range.len() >= PAGE {
        rows.push(Row {
            range,
            class,
            piece: None,
        });
    }
}

fn reserved(platform: &Platform, range: GpaRange) -> Class {
    if !matches!(platform, Platform::Pc(_)) {
        let is_ram = platform.ram().iter().any(|ram| ram.overlaps(range));
        return if is_ram {
            Class::Reserved
        } else {
            Class::DeviceHole
        };
    }
    let (legacy, above_legacy) = Pc::LEGACY_HOLE;
    let inside = |from, to| GpaRange::between(from, to).is_some_and(|hole| hole.contains(range));
    if inside(legacy, above_legacy) {
        Class::LegacyHole
    } else if inside(Pc::DEVICE_HOLE, Pc::HIGH_RAM) {
        Class::DeviceHole
    } else {
        Class::Reserved
    }
}

/// Where the boot vCPU fetches its first instruction.
fn entry(plan: &BootPlan) -> Gpa {
    Gpa::new(plan.boot_vcpu().pc())
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests;

//! What has been placed, for a protocol to tell the kernel of.

use crate::plan::Relocate;
use crate::{E820Entry, EntryPoint, PlanError};
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange};

/// What every protocol tells the kernel in its own way.
pub(crate) struct Parts {
    pub(crate) e820: Vec<E820Entry>,
    pub(crate) rsdp: Gpa,
    pub(crate) cmdline: GpaRange,
    pub(crate) initrd: Option<GpaRange>,
    /// The request's modules, in its order.
    pub(crate) modules: Vec<GpaRange>,
    pub(crate) kernel: Kernel,
    /// Where the kernel is entered.
    pub(crate) entry: Gpa,
}

/// A kernel that has been placed.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// From its first byte to the last that it uses where it has been loaded.
    pub(crate) range: GpaRange,
    /// Where it runs while it starts, where that reaches beyond.
    pub(crate) window: Option<GpaRange>,
    /// What has been added, modulo 2⁶⁴, to the physical addresses that it was linked to.
    pub(crate) moved: u64,
    /// What it aligns itself to, where that is not what its header says.
    pub(crate) alignment: Option<u32>,
    /// The shift of its virtual addresses.
    pub(crate) relocate: Option<Relocate>,
}

impl Kernel {
    pub(crate) fn at(range: GpaRange) -> Self {
        Self {
            range,
            window: None,
            moved: 0,
            alignment: None,
            relocate: None,
        }
    }

    /// Where it is entered. A kernel that is entered outside of itself would run whatever lies
    /// there.
    pub(crate) fn entry(&self, point: EntryPoint) -> Result<Gpa, PlanError> {
        let load = self.range.start();
        let entry = match point {
            EntryPoint::Address(address) => Gpa::new(address.get().wrapping_add(self.moved)),
            EntryPoint::Offset(offset) => Gpa::new(load.get().saturating_add(offset)),
            // That code enters the kernel where it begins.
            EntryPoint::RealMode(_) => load,
        };
        match GpaRange::new(entry, 1) {
            Some(byte) if self.range.contains(byte) => Ok(entry),
            _ => Err(PlanError::EntryOutside {
                entry,
                kernel: self.range,
            }),
        }
    }
}

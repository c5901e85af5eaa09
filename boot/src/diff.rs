//! What differs between two plans: as a value, to be shown or compared.

use crate::draw::registers::named;
use crate::{BootPlan, E820Entry, Piece, Protocol};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Ordering;
use firstlight_base::VcpuState;

/// What differs between two plans; nothing where they are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanDiff<'a> {
    /// What the images are, where that differs.
    pub image: Option<Both<&'a str>>,
    /// The ways in, where they differ.
    pub protocol: Option<Both<Protocol>>,
    /// The command lines, where they differ.
    pub cmdline: Option<Both<&'a str>>,
    /// What is in guest memory, by ascending address.
    pub pieces: Vec<PieceChange<'a>>,
    /// Lines of the memory map that only one of them has, by ascending address.
    pub e820: Vec<E820Change>,
    /// Registers of the boot vCPU.
    pub registers: Vec<RegisterChange>,
}

/// The same thing in the one plan and in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Both<T> {
    /// In the first plan.
    pub before: T,
    /// In the second.
    pub after: T,
}

/// A piece that differs. Pieces are the same by their names, and those of one name by their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceChange<'a> {
    /// Only the first plan has it.
    Removed(&'a Piece),
    /// Only the second plan has it.
    Added(&'a Piece),
    /// It lies elsewhere, is larger or smaller, or is filled with something else.
    Changed(Both<&'a Piece>),
}

/// A line that only one plan's memory map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum E820Change {
    /// Only the first plan has it.
    Removed(E820Entry),
    /// Only the second plan has it.
    Added(E820Entry),
}

/// A register that holds something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterChange {
    /// Its name; a part of a segment register or table behind a point: `cs.base`, `gdt.limit`.
    pub register: &'static str,
    /// What it holds.
    pub value: Both<u64>,
}

impl PlanDiff<'_> {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            image,
            protocol,
            cmdline,
            pieces,
            e820,
            registers,
        } = self;
        image.is_none()
            && protocol.is_none()
            && cmdline.is_none()
            && pieces.is_empty()
            && e820.is_empty()
            && registers.is_empty()
    }
}

impl PieceChange<'_> {
    /// The piece as the second plan has it, where that has it at all.
    #[must_use]
    pub fn piece(&self) -> &Piece {
        match self {
            Self::Removed(piece) | Self::Added(piece) => piece,
            Self::Changed(both) => both.after,
        }
    }
}

/// What differs in `after` from `before`.
#[must_use]
pub fn diff<'a>(before: &'a BootPlan, after: &'a BootPlan) -> PlanDiff<'a> {
    PlanDiff {
        image: both(before.image(), after.image()),
        protocol: both(before.protocol(), after.protocol()),
        cmdline: both(before.cmdline(), after.cmdline()),
        pieces: pieces(before.pieces(), after.pieces()),
        e820: e820(before.e820(), after.e820()),
        registers: registers(before.boot_vcpu(), after.boot_vcpu()),
    }
}

fn both<T: PartialEq>(before: T, after: T) -> Option<Both<T>> {
    (before != after).then_some(Both { before, after })
}

fn pieces<'a>(before: &'a [Piece], after: &'a [Piece]) -> Vec<PieceChange<'a>> {
    let mut before = numbered(before);
    let mut changes = Vec::new();
    for (key, after) in numbered(after) {
        match before.remove(&key) {
            None => changes.push(PieceChange::Added(after)),
            Some(before) if is_same(before, after) => {}
            Some(before) => changes.push(PieceChange::Changed(Both { before, after })),
        }
    }
    changes.extend(before.into_values().map(PieceChange::Removed));
    changes.sort_by_key(|change| change.piece().range.start());
    changes
}

/// Each piece by its name and how many of that name come before it.
fn numbered(pieces: &[Piece]) -> BTreeMap<(&str, usize), &Piece> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut numbered = BTreeMap::new();
    for piece in pieces {
        let count = seen.entry(&piece.name).or_default();
        numbered.insert((&*piece.name, *count), piece);
        *count = count.saturating_add(1);
    }
    numbered
}

/// Why a piece is where it is makes no difference to the guest.
fn is_same(before: &Piece, after: &Piece) -> bool {
    before.range == after.range && before.content == after.content
}

fn e820(before: &[E820Entry], after: &[E820Entry]) -> Vec<E820Change> {
    let missing = |from: &[E820Entry], line: &E820Entry| !from.contains(line);
    let removed = before.iter().filter(|line| missing(after, line));
    let added = after.iter().filter(|line| missing(before, line));
    let mut changes: Vec<E820Change> = removed
        .map(|&line| E820Change::Removed(line))
        .chain(added.map(|&line| E820Change::Added(line)))
        .collect();
    changes.sort_by(|one, other| by_address(*one, *other));
    changes
}

fn by_address(one: E820Change, other: E820Change) -> Ordering {
    let start = |change| match change {
        E820Change::Removed(line) | E820Change::Added(line) => line.range.start(),
    };
    start(one).cmp(&start(other))
}

fn registers(before: &VcpuState, after: &VcpuState) -> Vec<RegisterChange> {
    let after = named(after);
    named(before)
        .into_iter()
        .filter_map(|(register, before)| {
            let (_, after) = after.iter().find(|(name, _)| *name == register)?;
            let value = both(before, *after)?;
            Some(RegisterChange { register, value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProtocolChoice, Request, plan};
    use alloc::string::ToString;
    use firstlight_base::MIB;
    use firstlight_image::testing::elf64;
    use firstlight_image::{Image, Limits};

    fn planned(paddr: u64, request: &Request) -> BootPlan {
        let file = elf64()
            .entry(paddr)
            .pvh(0x100_0000)
            .segment(paddr, &[0x90; 64], 0x3000)
            .build();
        let image = Image::open(&file, &Limits::default()).expect("the builders build images");
        plan(&image, request).expect("it fits")
    }

    fn request() -> Request {
        Request {
            memory: 64 * MIB,
            protocol: ProtocolChoice::Only(Protocol::Linux64),
            ..Request::default()
        }
    }

    fn names<'a>(diff: &'a PlanDiff<'_>) -> Vec<&'a str> {
        diff.pieces
            .iter()
            .map(|change| &*change.piece().name)
            .collect()
    }

    #[test]
    fn a_plan_does_not_differ_from_itself() {
        let plan = planned(0x100_0000, &request());
        let diff = diff(&plan, &plan);
        assert!(diff.is_empty(), "{diff:?}");
    }

    #[test]
    fn a_kernel_that_lies_elsewhere_is_entered_elsewhere_and_told_of_it() {
        let (before, after) = (
            planned(0x100_0000, &request()),
            planned(0x200_0000, &request()),
        );
        let diff = diff(&before, &after);
        let kernel = diff.pieces.last().unwrap();
        let PieceChange::Changed(kernel) = kernel else {
            panic!("{kernel:?}");
        };
        assert_eq!(kernel.before.range.start().get(), 0x100_0000);
        assert_eq!(kernel.after.range.start().get(), 0x200_0000);
        assert_eq!(names(&diff), ["boot_params", "kernel segment 0"]);
        let rip = RegisterChange {
            register: "rip",
            value: Both {
                before: 0x100_0000,
                after: 0x200_0000,
            },
        };
        assert_eq!(diff.registers, [rip]);
        assert!(diff.e820.is_empty() && diff.cmdline.is_none());
    }

    #[test]
    fn what_only_one_plan_has_is_added_or_removed() {
        let before = planned(0x100_0000, &request());
        let after = planned(
            0x100_0000,
            &Request {
                initrd: Some(5),
                memory: 128 * MIB,
                cmdline: "quiet".into(),
                ..request()
            },
        );
        let there = diff(&before, &after);
        let back = diff(&after, &before);
        let initrd = |diff: &PlanDiff<'_>| {
            diff.pieces
                .iter()
                .find(|change| change.piece().name == "initrd")
                .map(|change| matches!(change, PieceChange::Added(_)))
        };
        assert_eq!((initrd(&there), initrd(&back)), (Some(true), Some(false)));
        assert_eq!(there.e820.len(), 2, "{:?}", there.e820);
        assert_eq!(
            there.cmdline,
            Some(Both {
                before: "",
                after: "quiet"
            })
        );
    }

    #[test]
    fn another_way_in_changes_the_mode_and_the_first_argument() {
        let linux = planned(0x100_0000, &request());
        let pvh = planned(
            0x100_0000,
            &Request {
                protocol: ProtocolChoice::Only(Protocol::Pvh),
                ..request()
            },
        );
        let diff = diff(&linux, &pvh);
        let changed: Vec<&str> = diff
            .registers
            .iter()
            .map(|change| change.register)
            .collect();
        for register in ["rsi", "rbx", "cr0", "cr3", "efer", "cs.access"] {
            assert!(changed.contains(&register), "{register} in {changed:?}");
        }
        assert_eq!(
            diff.protocol.map(|both| both.after.to_string()),
            Some("pvh".into())
        );
    }
}

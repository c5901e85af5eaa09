//! Where the kernel goes, and what it uses while it starts.

use crate::draft::{Draft, Need};
use crate::way::{Form, Way};
use crate::{Content, Piece, PlanError};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange};
use firstlight_image::{BzImage, Elf, Segment};

/// Places the kernel; returns the range from its first byte to the last that it uses.
pub(crate) fn put(draft: &mut Draft, way: &Way<'_>) -> Result<GpaRange, PlanError> {
    match way.form {
        Form::Packed { layer, bzimage } => put_packed(draft, layer, bzimage),
        Form::Vmlinux { layer, elf, .. } => put_vmlinux(draft, layer, elf),
    }
}

/// A vmlinux runs where it was linked: every segment at its physical address, the rest of it zero.
fn put_vmlinux(draft: &mut Draft, layer: usize, elf: &Elf) -> Result<GpaRange, PlanError> {
    let mut segments: Vec<&Segment> = elf.segments.iter().collect();
    segments.sort_by_key(|segment| segment.paddr);
    let mut ranges = Vec::with_capacity(segments.len());
    for (number, segment) in segments.iter().enumerate() {
        let name = format!("kernel segment {number}");
        let range = GpaRange::new(Gpa::new(segment.paddr), segment.memsz)
            .ok_or_else(|| wraps(&name, segment))?;
        draft.put(Piece {
            name,
            range,
            content: Content::Image {
                layer,
                offset: segment.offset,
                len: segment.filesz,
            },
            why: "its physical address in the ELF file: where it was linked to run".into(),
        })?;
        ranges.push(range);
    }
    for gap in gaps(&ranges) {
        draft.put(Piece {
            name: "gap between segments".into(),
            range: gap,
            content: Content::Window,
            why: "the kernel owns all between its first and last byte".into(),
        })?;
    }
    match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) => {
            Ok(GpaRange::between(first.start(), last.end()).unwrap_or(*last))
        }
        _ => Err(PlanError::NotBootable {
            image: "ELF".into(),
            why: "it has no segment to load".into(),
        }),
    }
}

fn gaps(ranges: &[GpaRange]) -> impl Iterator<Item = GpaRange> {
    ranges
        .iter()
        .zip(ranges.iter().skip(1))
        .filter_map(|(below, above)| GpaRange::between(below.end(), above.start()))
}

fn wraps(name: &str, segment: &Segment) -> PlanError {
    PlanError::Wraps {
        name: name.to_string(),
        at: segment.paddr,
        len: segment.memsz,
    }
}

/// A packed kernel is loaded where it will run, so that it need not move itself first, with all
/// the room that it takes while it unpacks (`boot.rst`, fields `pref_address` and `init_size`).
fn put_packed(draft: &mut Draft, layer: usize, bzimage: &BzImage) -> Result<GpaRange, PlanError> {
    let window = start_up_window(draft, bzimage)?;
    let len = bzimage
        .protected_mode
        .end
        .saturating_sub(bzimage.protected_mode.start);
    let file = GpaRange::new(window.start(), len).ok_or_else(|| PlanError::NotBootable {
        image: "bzImage".into(),
        why: "its protected-mode part is empty".into(),
    })?;
    draft.put(Piece {
        name: "kernel, packed".into(),
        range: file,
        content: Content::Image {
            layer,
            offset: bzimage.protected_mode.start,
            len,
        },
        why: window_why(bzimage, window),
    })?;
    if let Some(rest) = GpaRange::between(file.end(), window.end()) {
        draft.put(Piece {
            name: "start-up window".into(),
            range: rest,
            content: Content::Window,
            why: "where the kernel unpacks itself (init_size)".into(),
        })?;
    }
    GpaRange::between(file.start(), file.end().max(window.end()))
        .ok_or_else(|| unreachable_window(window))
}

fn unreachable_window(window: GpaRange) -> PlanError {
    PlanError::Wraps {
        name: "start-up window".into(),
        at: window.start().get(),
        len: window.len(),
    }
}

/// The preferred place if it is free, else the lowest above it, where the kernel may be moved.
fn start_up_window(draft: &Draft, bzimage: &BzImage) -> Result<GpaRange, PlanError> {
    let setup = &bzimage.setup;
    let (Some(preferred), Some(len)) = (setup.pref_address(), setup.init_size()) else {
        return Err(PlanError::NotBootable {
            image: "bzImage".into(),
            why: "it does not say how much memory it starts in (protocol before 2.10)".into(),
        });
    };
    let (preferred, len) = (Gpa::new(preferred), u64::from(len));
    let name = "kernel with its start-up window (init_size)";
    let window = GpaRange::new(preferred, len).ok_or_else(|| PlanError::Wraps {
        name: name.into(),
        at: preferred.get(),
        len,
    })?;
    let there = Need {
        name,
        len,
        align: 1,
        within: window,
        why: "",
    };
    let align = setup.kernel_alignment().map_or(0, u64::from);
    let above = GpaRange::between(preferred, Gpa::new(4 * GIB));
    match above {
        Some(above) if setup.relocatable_kernel() && align.is_power_of_two() => {
            draft.lowest(&there).or_else(|_| {
                draft.lowest(&Need {
                    align,
                    within: above,
                    ..there
                })
            })
        }
        _ => draft.lowest(&there),
    }
}

fn window_why(bzimage: &BzImage, window: GpaRange) -> String {
    if bzimage.setup.pref_address() == Some(window.start().get()) {
        "its pref_address: where it runs, so it does not move itself".into()
    } else {
        "the lowest free place above its pref_address that has its kernel_alignment".into()
    }
}

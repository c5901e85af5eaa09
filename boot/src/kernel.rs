//! Where the kernel goes, and what it uses while it starts.

use crate::draft::{Draft, Need};
use crate::kaslr::{self, Dice};
use crate::parts::Kernel;
use crate::plan::Relocate;
use crate::protocol::{Form, Moves, Way};
use crate::{Content, Kaslr, Piece, PlanError, Request, modules};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange, MIB};
use firstlight_image::{BzImage, Elf, Image, Relocations, Segment};

/// Places the kernel.
pub(crate) fn put(
    draft: &mut Draft,
    image: &Image<'_>,
    way: &Way<'_>,
    request: &Request,
) -> Result<Kernel, PlanError> {
    match way.form {
        Form::Packed { layer, bzimage, .. } => {
            put_packed(draft, layer, bzimage, request.load_address)
        }
        Form::Vmlinux { layer, elf, .. } => {
            let bytes = image
                .layers()
                .get(layer)
                .map_or(&[][..], |layer| layer.bytes());
            let segments = elf.segments.clone();
            let vmlinux = Vmlinux::new(layer, segments)?;
            let vmlinux = Vmlinux {
                relocated: Some((elf, bytes)),
                ..vmlinux
            };
            put_vmlinux(draft, way, &vmlinux, request)
        }
        Form::Multiboot(kernel) => {
            let vmlinux = Vmlinux::new(kernel.layer, kernel.segments())?;
            put_vmlinux(draft, way, &vmlinux, request)
        }
    }
}

/// A kernel whose segments are loaded as they are: an ELF file, or a flat one of one segment.
struct Vmlinux<'a> {
    layer: usize,
    /// What may have a relocation table behind it, and the layer it is.
    relocated: Option<(&'a Elf, &'a [u8])>,
    /// By ascending physical address.
    segments: Vec<Segment>,
    lowest: Segment,
    /// Where it was linked to, from its first byte to its last.
    linked: GpaRange,
}

impl Vmlinux<'_> {
    fn new(layer: usize, mut segments: Vec<Segment>) -> Result<Self, PlanError> {
        segments.sort_by_key(|segment| segment.paddr);
        let end = segments
            .iter()
            .map(|segment| segment.paddr.saturating_add(segment.memsz))
            .max();
        let (Some(lowest), Some(end)) = (segments.first().copied(), end) else {
            return Err(PlanError::NotBootable {
                image: "ELF".into(),
                why: "it has no segment to load".into(),
            });
        };
        let linked = GpaRange::between(Gpa::new(lowest.paddr), Gpa::new(end))
            .ok_or_else(|| wraps("kernel", lowest.paddr, lowest.memsz))?;
        Ok(Self {
            layer,
            relocated: None,
            segments,
            lowest,
            linked,
        })
    }
}

/// A vmlinux: every segment as far from the others as their physical addresses are, the rest of it
/// zero.
fn put_vmlinux(
    draft: &mut Draft,
    way: &Way<'_>,
    vmlinux: &Vmlinux<'_>,
    request: &Request,
) -> Result<Kernel, PlanError> {
    let moves = way.gate.moves(&way.form);
    let mut random = Random::of(way, vmlinux, moves, request);
    // The virtual shift is drawn first, so that it does not depend on the memory there is.
    let relocate = random.as_mut().and_then(|random| random.shift(vmlinux));
    let (start, why) = match request.load_address {
        Some(asked) => (asked_for(vmlinux, moves, asked)?, "where it was asked for"),
        None => {
            let dice = random
                .map(|random| random.dice)
                .filter(|_| !kaslr::is_memory_cut(&request.cmdline));
            own_choice(draft, way, vmlinux, moves, dice, request)
        }
    };
    let range = GpaRange::new(start, vmlinux.linked.len())
        .ok_or_else(|| wraps("kernel", start.get(), vmlinux.linked.len()))?;
    let moved = start.get().wrapping_sub(vmlinux.linked.start().get());
    put_segments(draft, vmlinux, moved, why)?;
    Ok(Kernel {
        moved,
        relocate: relocate.map(|relocate| Relocate {
            to_physical: relocate.to_physical.wrapping_add(moved),
            within: range,
            ..relocate
        }),
        ..Kernel::at(range)
    })
}

/// What may be chosen at random.
struct Random {
    dice: Dice,
    /// What every choice is a multiple of.
    align: u64,
    places: Option<Relocations>,
}

impl Random {
    /// None where nothing may be: it was not asked for, or the kernel does not say that it can be
    /// moved.
    fn of(way: &Way<'_>, vmlinux: &Vmlinux<'_>, moves: Moves, request: &Request) -> Option<Self> {
        let (
            Kaslr::Seeded(seed),
            Moves::To {
                align, declared, ..
            },
        ) = (request.kaslr, moves)
        else {
            return None;
        };
        if kaslr::is_forbidden(&request.cmdline) {
            return None;
        }
        let places = if way.gate.shifts() {
            vmlinux
                .relocated
                .and_then(|(elf, layer)| kaslr::places(elf, layer))
        } else {
            None
        };
        (declared || places.is_some()).then_some(Self {
            dice: Dice::new(seed),
            align,
            places,
        })
    }

    fn shift(&mut self, vmlinux: &Vmlinux<'_>) -> Option<Relocate> {
        let places = self.places.take()?;
        kaslr::shift(
            &mut self.dice,
            vmlinux.layer,
            places,
            &vmlinux.lowest,
            vmlinux.linked,
            self.align,
        )
    }
}

fn asked_for(vmlinux: &Vmlinux<'_>, moves: Moves, asked: Gpa) -> Result<Gpa, PlanError> {
    let linked = vmlinux.linked;
    if asked == linked.start() {
        return Ok(asked);
    }
    match moves {
        Moves::No(why) => Err(PlanError::Immovable {
            asked,
            must: linked.start(),
            why,
        }),
        Moves::To { align, within, .. } => GpaRange::new(asked, linked.len())
            .filter(|range| asked.is_aligned(align) && within.contains(*range))
            .map(|range| range.start())
            .ok_or(PlanError::Misplaced {
                asked,
                len: linked.len(),
                align,
                within,
            }),
    }
}

/// A place at random where there are `dice`; else where it was linked to; else, where that is
/// taken, the lowest that will do.
fn own_choice(
    draft: &Draft,
    way: &Way<'_>,
    vmlinux: &Vmlinux<'_>,
    moves: Moves,
    dice: Option<Dice>,
    request: &Request,
) -> (Gpa, &'static str) {
    /// Nothing is thrown among what a PC and the boot protocols have below.
    const LOWEST_RANDOM: Gpa = Gpa::new(MIB);
    let linked = vmlinux.linked;
    let there = (
        linked.start(),
        "its physical address in the ELF file: where it was linked to run",
    );
    let Moves::To { align, within, .. } = moves else {
        return there;
    };
    let not_below = linked.start().max(LOWEST_RANDOM);
    let random = dice.zip(GpaRange::between(not_below, within.end()));
    if let Some((mut dice, above)) = random
        && let Some(above) = above.intersection(within)
        && let Some(place) =
            random_place(draft, way, &mut dice, above, linked.len(), align, request)
    {
        return (place, "its physical address, drawn at random (KASLR)");
    }
    if draft.is_free(linked) {
        return there;
    }
    let need = Need {
        name: "kernel",
        len: linked.len(),
        align,
        within,
        why: "",
    };
    match draft.lowest(&need) {
        Ok(range) => (
            range.start(),
            "the lowest free place that it may be moved to, because its own is taken",
        ),
        Err(_) => there,
    }
}

/// A place among all that are free once the initial ramdisk has its own.
fn random_place(
    draft: &Draft,
    way: &Way<'_>,
    dice: &mut Dice,
    within: GpaRange,
    len: u64,
    align: u64,
    request: &Request,
) -> Option<Gpa> {
    let mut draft = draft.clone();
    modules::put_initrd(&mut draft, way, request.initrd).ok()?;
    modules::put_modules(&mut draft, way, &request.modules).ok()?;
    let free: Vec<GpaRange> = draft
        .free()
        .into_iter()
        .filter_map(|free| free.intersection(within))
        .collect();
    kaslr::place(dice, &free, len, align)
}

fn put_segments(
    draft: &mut Draft,
    vmlinux: &Vmlinux<'_>,
    moved: u64,
    why: &'static str,
) -> Result<(), PlanError> {
    let mut end: Option<Gpa> = None;
    for (number, segment) in vmlinux.segments.iter().enumerate() {
        let name = segment_name(number);
        let start = Gpa::new(segment.paddr.wrapping_add(moved));
        let range = GpaRange::new(start, segment.memsz)
            .ok_or_else(|| wraps(&name, start.get(), segment.memsz))?;
        if let Some(gap) = end.and_then(|end| GpaRange::between(end, start)) {
            draft.put(Piece {
                name: "gap between segments".into(),
                range: gap,
                content: Content::Window,
                why: "the kernel owns all between its first and last byte".into(),
            })?;
        }
        draft.put(Piece {
            name,
            range,
            content: Content::Image {
                layer: vmlinux.layer,
                offset: segment.offset,
                len: segment.filesz,
            },
            why: why.into(),
        })?;
        end = Some(range.end());
    }
    Ok(())
}

fn segment_name(number: usize) -> Cow<'static, str> {
    const NAMES: [&str; 6] = [
        "kernel segment 0",
        "kernel segment 1",
        "kernel segment 2",
        "kernel segment 3",
        "kernel segment 4",
        "kernel segment 5",
    ];
    NAMES.get(number).map_or_else(
        || Cow::Owned(format!("kernel segment {number}")),
        |&name| Cow::Borrowed(name),
    )
}

fn wraps(name: &str, at: u64, len: u64) -> PlanError {
    PlanError::Wraps {
        name: String::from(name),
        at,
        len,
    }
}

/// What a packed kernel's header says of where it may go (`boot.rst`, fields from
/// `code32_start` to `init_size`).
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// Bytes of the protected-mode part.
    len: u64,
    /// Where it prefers to be loaded.
    preferred: Gpa,
    /// It never runs below, and where it is not relocatable, exactly there.
    runs_at: Gpa,
    /// Bytes it takes from where it runs on.
    room: u64,
    /// What it aligns itself to, and the least that it could; none where it cannot be moved.
    align: Option<(u64, u64)>,
}

impl Packed {
    /// Where a bzImage is loaded that says nothing else.
    const HIGH: Gpa = Gpa::new(MIB);

    fn of(bzimage: &BzImage) -> Result<Self, PlanError> {
        let setup = &bzimage.setup;
        let empty = || PlanError::NotBootable {
            image: "bzImage".into(),
            why: "its protected-mode part is empty".into(),
        };
        let range = &bzimage.protected_mode;
        let len = range
            .end
            .checked_sub(range.start)
            .filter(|&len| len > 0)
            .ok_or_else(empty)?;
        let align = setup.kernel_alignment().map_or(0, u64::from);
        let least = setup.min_alignment().map_or(align, u64::from).min(align);
        let movable = setup.relocatable_kernel() && align.is_power_of_two();
        let align = movable.then_some((align, if least == 0 { align } else { least }));
        let (runs_at, room) = match (setup.pref_address(), setup.init_size()) {
            (Some(preferred), Some(room)) => (Gpa::new(preferred), u64::from(room).max(1)),
            _ => (Self::HIGH, estimated_room(bzimage, len)),
        };
        Ok(Self {
            len,
            // `boot.rst`, field relocatable_kernel: only one that is may leave this address.
            preferred: if movable { runs_at } else { Self::HIGH },
            runs_at,
            room,
            align,
        })
    }

    /// Where it runs when it has been loaded at `load` and aligns itself to `align`
    /// (`arch/x86/boot/compressed/head_64.S`; `boot.rst` forgets that it never runs below
    /// `pref_address`).
    fn runtime_start(&self, load: Gpa, align: u64) -> Option<Gpa> {
        match self.align {
            Some(_) => Some(load.align_up(align)?.max(self.runs_at)),
            None => Some(self.runs_at),
        }
    }
}

/// What a kernel takes whose protocol has no `init_size` (before 2.10): itself, what it unpacks
/// to, and as much again as `.bss` as any such kernel has been seen with.
///
/// The unpacked size stands behind the payload from 2.08 on; before, nobody packed better than
/// eight to one.
fn estimated_room(bzimage: &BzImage, len: u64) -> u64 {
    const BSS: u64 = 8 * MIB;
    const RATIO: u64 = 8;
    let unpacked = bzimage
        .payload
        .as_ref()
        .and_then(|payload| payload.unpacked_len);
    unpacked
        .unwrap_or_else(|| len.saturating_mul(RATIO))
        .saturating_add(len)
        .saturating_add(BSS)
}

/// A packed kernel is loaded where it will run, so that it need not move itself first, with all
/// the room that it takes while it unpacks.
fn put_packed(
    draft: &mut Draft,
    layer: usize,
    bzimage: &BzImage,
    asked: Option<Gpa>,
) -> Result<Kernel, PlanError> {
    let packed = Packed::of(bzimage)?;
    let (load, align, why) = match asked {
        Some(load) => asked_of_packed(&packed, load)?,
        None => packed_choice(draft, &packed)?,
    };
    let name = "kernel with its start-up window (init_size)";
    let run = packed
        .runtime_start(load, align)
        .and_then(|start| GpaRange::new(start, packed.room))
        .ok_or_else(|| wraps(name, load.get(), packed.room))?;
    // `boot.rst` wants as much memory from the load address on. The code there needs a little of
    // it behind its file, before it has moved itself.
    let loaded = GpaRange::new(load, packed.room.max(packed.len))
        .ok_or_else(|| wraps(name, load.get(), packed.room))?;
    let file = GpaRange::new(load, packed.len).unwrap_or(loaded);
    draft.put(Piece {
        name: "kernel, packed".into(),
        range: file,
        content: Content::Image {
            layer,
            offset: bzimage.protected_mode.start,
            len: packed.len,
        },
        why: why.into(),
    })?;
    let windows = [
        GpaRange::between(run.start(), run.end().min(load)),
        GpaRange::between(file.end(), loaded.end()),
        GpaRange::between(run.start().max(loaded.end()), run.end()),
    ];
    for range in windows.into_iter().flatten() {
        draft.put(Piece {
            name: "start-up window".into(),
            range,
            content: Content::Window,
            why: "where the kernel unpacks itself (init_size)".into(),
        })?;
    }
    let header_align = bzimage.setup.kernel_alignment().map(u64::from);
    Ok(Kernel {
        window: Some(run),
        alignment: u32::try_from(align)
            .ok()
            .filter(|_| packed.align.is_some() && header_align != Some(align)),
        ..Kernel::at(loaded)
    })
}

fn asked_of_packed(packed: &Packed, asked: Gpa) -> Result<(Gpa, u64, &'static str), PlanError> {
    match packed.align {
        Some((align, _)) => Ok((asked, align, "where it was asked for")),
        None if asked == packed.preferred => Ok((asked, 1, "where it was asked for")),
        None => Err(PlanError::Immovable {
            asked,
            must: packed.preferred,
            why: "its header says that it is not relocatable",
        }),
    }
}

/// The preferred place if it is free, else the lowest above it, where the kernel may be moved;
/// with the least alignment that it takes where the usual one leaves no place.
fn packed_choice(draft: &Draft, packed: &Packed) -> Result<(Gpa, u64, &'static str), PlanError> {
    let name = "kernel with its start-up window (init_size)";
    let preferred = packed.preferred;
    let len = packed.room.max(packed.len);
    let align = packed.align.map_or(1, |(align, _)| align);
    let window = GpaRange::new(preferred, len).ok_or_else(|| wraps(name, preferred.get(), len))?;
    let there = Need {
        name,
        len,
        align: 1,
        within: window,
        why: "",
    };
    let refused = match draft.lowest(&there) {
        Ok(_) => {
            let why = if packed.preferred == packed.runs_at {
                "its pref_address: where it runs, so it does not move itself"
            } else {
                "1 MiB, where a kernel has to be loaded that is not relocatable"
            };
            return Ok((preferred, align, why));
        }
        Err(refused) => refused,
    };
    let above = GpaRange::between(preferred, Gpa::new(4 * GIB));
    let Some((within, (align, least))) = above.zip(packed.align) else {
        return Err(refused);
    };
    let found = |align| {
        draft
            .lowest(&Need {
                align,
                within,
                ..there
            })
            .ok()
    };
    if let Some(range) = found(align) {
        let why = "the lowest free place above its pref_address that has its kernel_alignment";
        return Ok((range.start(), align, why));
    }
    match found(least) {
        Some(range) => Ok((
            range.start(),
            least,
            "the lowest free place above its pref_address that has its min_alignment",
        )),
        None => draft
            .lowest(&Need {
                align: least,
                within,
                ..there
            })
            .map(|range| (range.start(), least, "")),
    }
}

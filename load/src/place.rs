//! Puts what a plan says where it says so. Decides nothing.

use crate::kept::Kept;
use crate::memory::PAGE;
use crate::relocate::relocate;
use crate::zeros::is_zero;
use crate::{GuestMemory, PlaceError};
use firstlight_base::{Gpa, GpaRange, GuestMem, OutsideRam};
use firstlight_boot::{BootPlan, Content, Piece};

/// Where the bytes come from that a plan does not carry itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// The image's layers, the file itself first.
    pub layers: &'a [&'a [u8]],
    /// The initial ramdisk; empty where the plan has none.
    pub initrd: &'a [u8],
    /// The request's modules.
    pub modules: &'a [&'a [u8]],
    /// Files of the cache that some of these bytes are in: those bytes are mapped, not copied,
    /// where the guest's memory allows it.
    pub kept: &'a [&'a Kept],
}

impl<'a> Sources<'a> {
    /// The image's innermost layer: the kernel, or the firmware.
    #[must_use]
    pub fn innermost(&self) -> &'a [u8] {
        self.layers.last().copied().unwrap_or_default()
    }
}

/// Puts every piece of `plan` into `memory`, which is fresh: what no piece fills is already zero.
/// Then shifts the kernel's addresses, where the plan says so.
///
/// What lies in a file of the cache is mapped into private memory and costs nothing until it is
/// touched; the rest is copied, without its zero pages. Neither `sources` nor the files are needed
/// afterwards.
///
/// # Errors
///
/// [`PlaceError`] where memory or sources are not those that the plan was made for.
pub fn place(
    plan: &BootPlan,
    sources: &Sources<'_>,
    memory: &GuestMemory,
) -> Result<(), PlaceError> {
    // A huge page is zeroed whole for the few bytes of a device tree in it, and some hosts give one
    // wherever it fits.
    memory.prefer_small_pages();
    populate_small(plan, memory);
    let mut copies = Vec::with_capacity(plan.pieces().len());
    for piece in plan.pieces() {
        let bytes = content(piece, sources)?;
        let at = piece.range.start();
        match mappable(at, bytes, sources, memory) {
            Some(part) => part.put(at, bytes, memory)?,
            None if bytes.len() < SMALL => write_nonzero(memory, at, bytes)?,
            None => copies.push((at, bytes)),
        }
    }
    memory.prefer_huge_pages();
    for (at, bytes) in copies {
        write_nonzero(memory, at, bytes)?;
    }
    match plan.relocate() {
        Some(shift) => relocate(shift, sources.layers, memory),
        None => Ok(()),
    }
}

/// Makes pages for the many small things that a plan has side by side: all at once, which takes
/// less time than a fault for each.
fn populate_small(plan: &BootPlan, memory: &GuestMemory) {
    /// Fewer are not worth a system call.
    const WORTH_IT: u64 = 3;
    let small = plan
        .pieces()
        .iter()
        .filter_map(|piece| match &piece.content {
            Content::Bytes(bytes) if bytes.len() < SMALL => {
                let end = piece.range.start().checked_add(bytes.len() as u64)?;
                GpaRange::between(piece.range.start().align_down(PAGE)?, end.align_up(PAGE)?)
            }
            _ => None,
        });
    let mut run: Option<GpaRange> = None;
    let mut runs = Vec::new();
    for pages in small {
        run = match run {
            Some(run) if pages.start() <= run.end() => {
                GpaRange::between(run.start(), run.end().max(pages.end()))
            }
            other => {
                runs.extend(other);
                Some(pages)
            }
        };
    }
    for pages in runs.into_iter().chain(run) {
        if pages.len() >= WORTH_IT * PAGE {
            memory.populate(pages.start(), pages.len());
        }
    }
}

/// What is less is written page by page, and what is more into huge pages.
const SMALL: usize = 0x1_0000;

pub(crate) fn content<'a>(piece: &'a Piece, sources: &Sources<'a>) -> Result<&'a [u8], PlaceError> {
    let bytes = match &piece.content {
        Content::Bytes(bytes) => Some(bytes.as_slice()),
        Content::Image { layer, offset, len } => sources
            .layers
            .get(*layer)
            .and_then(|layer| part(layer, *offset, *len)),
        Content::Initrd => Some(sources.initrd),
        Content::Module(number) => sources.modules.get(*number).copied(),
        Content::Window => Some([].as_slice()),
    };
    bytes
        .filter(|bytes| bytes.len() as u64 <= piece.range.len())
        .ok_or_else(|| PlaceError::OtherSource {
            piece: piece.name.to_string(),
        })
}

/// Nothing may be said to lie anywhere, even beyond the end.
fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    if len == 0 {
        return Some(&[]);
    }
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

/// Bytes of a kept file whose whole pages lie on whole pages of the guest.
struct Mappable<'a> {
    file: &'a Kept,
    /// Where in the file the bytes begin.
    offset: u64,
    /// The guest's whole pages, and the last one where zeros follow the bytes in the file: of what
    /// else is in that page, all comes later.
    pages: GpaRange,
}

fn mappable<'a>(
    at: Gpa,
    bytes: &[u8],
    sources: &Sources<'a>,
    memory: &GuestMemory,
) -> Option<Mappable<'a>> {
    if bytes.len() < SMALL || !memory.takes_files() {
        return None;
    }
    let (file, offset) = sources
        .kept
        .iter()
        .find_map(|kept| Some((*kept, kept.offset_of(bytes)?)))?;
    let end = at.checked_add(bytes.len() as u64)?;
    let last = if file.ends_in_zeros(offset + bytes.len() as u64) {
        end.align_up(PAGE)?
    } else {
        end.align_down(PAGE)?
    };
    let pages = GpaRange::between(at.align_up(PAGE)?, last)?;
    (at.get() % PAGE == offset % PAGE).then_some(Mappable {
        file,
        offset,
        pages,
    })
}

impl Mappable<'_> {
    /// Maps the whole pages and copies what is left at either end.
    fn put(&self, at: Gpa, bytes: &[u8], memory: &GuestMemory) -> Result<(), PlaceError> {
        let place = |offset: u64| at.checked_add(offset - self.offset);
        let first = self.offset + (self.pages.start().get() - at.get());
        let last = first + self.pages.len();
        let mut mapped = true;
        for run in self.file.filled(first..last) {
            mapped = mapped
                && place(run.start).is_some_and(|at| {
                    let len = run.end - run.start;
                    memory.put_file(at, len, self.file.lease(), run.start)
                });
        }
        if !(mapped && self.file.lease().is_intact()) {
            // What is mapped may not have been guarded in time; the bytes that are read here were.
            memory
                .put_zeros(self.pages.start(), self.pages.len())
                .map_err(PlaceError::Memory)?;
            return Ok(write_nonzero(memory, at, bytes)?);
        }
        let (head, rest) = split(bytes, self.pages.start().get() - at.get());
        memory.write(at, head)?;
        let (_, tail) = split(rest, self.pages.len());
        if tail.iter().any(|byte| *byte != 0) {
            memory.write(self.pages.end(), tail)?;
        }
        Ok(())
    }
}

/// The first `len` bytes, or all there are, and the others.
fn split(bytes: &[u8], len: u64) -> (&[u8], &[u8]) {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    bytes.split_at(len.min(bytes.len()))
}

/// Writes what is not zero: a third to a half of an unpacked kernel is zero pages, and memory that
/// is never touched costs nothing.
fn write_nonzero(memory: &GuestMemory, at: Gpa, bytes: &[u8]) -> Result<(), OutsideRam> {
    const PAGE: usize = 4096;
    let mut offset = 0;
    for page in bytes.chunks(PAGE) {
        if !is_zero(page) {
            let to = at.checked_add(offset).ok_or(OutsideRam {
                at,
                len: bytes.len() as u64,
            })?;
            memory.write(to, page)?;
        }
        offset += page.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

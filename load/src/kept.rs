//! A file of the cache, open and mapped: what a source file was taken apart to.
//!
//! The file is sparse. Its first page is a header, all numbers little-endian; behind it lies every
//! layer, uncompressed, at an offset that has the same distance from a 2 MiB border as the guest
//! address where it is most likely wanted. So its pages can be mapped into guest memory, and large
//! pages stay large. What another layer was unpacked from is not wanted by a guest: it lies right
//! behind the header, so that the host maps both at once. Behind a layer, its last page has zeros.

use crate::lease::Lease;
use crate::memory::PAGE;
use crate::stamp::Stamp;
use crate::view::View;
use firstlight_base::{PastEnd, Reader};
use firstlight_image::{Format, Image, ImageError, Limits};
use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// What the entries of the cache are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A kernel's image: its layers.
    Image,
    /// An initial ramdisk: one layer, the plain archive.
    Initrd,
}

/// Bytes to be kept.
#[derive(Clone, Debug)]
pub struct Layer {
    bytes: Vec<u8>,
    /// Its distance from a 2 MiB border, in memory and so in the file.
    distance: u64,
}

impl Layer {
    /// A layer that is wanted at a 2 MiB border.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, distance: 0 }
    }

    /// Takes the image in `file` apart.
    ///
    /// # Errors
    ///
    /// Those of [`Image::open`].
    pub fn of_image(file: Vec<u8>, limits: &Limits) -> Result<Vec<Self>, ImageError> {
        Self::of(file, |file| Image::open(file, limits))
    }

    /// Takes the image in `file` apart as `open` does it, to some other depth perhaps.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub fn of(
        file: Vec<u8>,
        open: impl for<'a> FnOnce(&'a [u8]) -> Result<Image<'a>, ImageError>,
    ) -> Result<Vec<Self>, ImageError> {
        let image = open(&file)?;
        let distances = distances(&image);
        let unpacked: Vec<Vec<u8>> = image
            .into_layers()
            .into_iter()
            .skip(1)
            .map(Cow::into_owned)
            .collect();
        let layers = std::iter::once(file).chain(unpacked);
        Ok(layers
            .zip(distances)
            .map(|(bytes, distance)| Self { bytes, distance })
            .collect())
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// How far the first byte of each of `image`'s layers is from a 2 MiB border, where what is loaded
/// of it lies as the image asks for.
fn distances(image: &Image<'_>) -> Vec<u64> {
    image
        .layers()
        .iter()
        .map(|layer| match layer.format() {
            Format::Elf(elf) => elf
                .segments
                .iter()
                .max_by_key(|segment| segment.filesz)
                .map_or(0, |segment| segment.paddr.wrapping_sub(segment.offset)),
            Format::BzImage(bzimage) => bzimage.protected_mode.start.wrapping_neg(),
            _ => 0,
        })
        .map(|distance| distance % ALIGN)
        .collect()
}

/// The border that layers are placed relative to: what x86, arm64 and riscv64 with pages of 4 KiB
/// map by one entry of the second level.
const ALIGN: u64 = 2 << 20;
const MAGIC: &[u8; 8] = b"Flkept\r\n";
/// Told from files of other versions of this program by this number, and by their names.
pub(crate) const VERSION: u32 = 2;
const MOST_LAYERS: usize = 16;
const MOST_HOLES: usize = 64;
const MOST_PATH: usize = 2048;
/// Zeros that are fewer are mapped like any other bytes: each range of them costs a system call.
const HOLE_MIN: u64 = 512 << 10;

/// Where everything goes in a file to be written.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) header: Vec<u8>,
    /// Where each layer begins.
    pub(crate) offsets: Vec<u64>,
    /// Where in the file each layer has pages that are not zeros.
    pub(crate) parts: Vec<Vec<Range<u64>>>,
    /// How long the file is.
    pub(crate) len: u64,
}

impl Layout {
    /// Lays `layers` out; `None` where they are more than any image has.
    pub(crate) fn of(kind: Kind, source: &Stamp, path: &Path, layers: &[Layer]) -> Option<Self> {
        if layers.len() > MOST_LAYERS {
            return None;
        }
        let mut next = PAGE;
        let mut offsets = Vec::with_capacity(layers.len());
        for (index, layer) in layers.iter().enumerate() {
            let unpacked_further = index == 0 && layers.len() > 1;
            let align = if unpacked_further { PAGE } else { ALIGN };
            let offset = next.checked_next_multiple_of(align)? + layer.distance % align;
            offsets.push(offset);
            next = offset.checked_add(layer.bytes.len() as u64)?;
        }
        let len = next.checked_next_multiple_of(PAGE)?;
        let starts = offsets.iter().zip(layers);
        let parts: Vec<_> = starts
            .map(|(start, layer)| parts(*start, &layer.bytes))
            .collect();
        let holes = holes(&offsets, layers, &parts);
        let path = path.as_os_str().as_bytes();
        let path = path.get(..MOST_PATH).unwrap_or(path);

        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(u32::from(kind == Kind::Initrd).to_le_bytes());
        header.extend(len.to_le_bytes());
        header.extend(source.to_bytes());
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        header.extend(count(layers.len()));
        header.extend(count(holes.len()));
        header.extend(count(path.len()));
        for (offset, layer) in offsets.iter().zip(layers) {
            header.extend(offset.to_le_bytes());
            header.extend((layer.bytes.len() as u64).to_le_bytes());
        }
        for hole in &holes {
            header.extend(hole.start.to_le_bytes());
            header.extend((hole.end - hole.start).to_le_bytes());
        }
        header.extend(path);
        assert!(
            header.len() as u64 <= PAGE,
            "layers, holes and path are limited so that the header is a page at most"
        );
        Some(Self {
            header,
            offsets,
            parts,
            len,
        })
    }
}

/// The parts of `bytes`, which begin at `start` in a file, without the pages that are zeros.
fn parts(start: u64, bytes: &[u8]) -> Vec<Range<u64>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    for (offset, page) in pages(start, bytes) {
        let end = offset + page.len() as u64;
        if crate::zeros::is_zero(page) {
            continue;
        }
        match parts.last_mut() {
            Some(last) if last.end == offset => last.end = end,
            _ => parts.push(offset..end),
        }
    }
    parts
}

/// The longest ranges of zeros between the parts, ascending. They end at a page's end, or with
/// their layer.
fn holes(offsets: &[u64], layers: &[Layer], parts: &[Vec<Range<u64>>]) -> Vec<Range<u64>> {
    let mut holes = Vec::new();
    for ((start, layer), parts) in offsets.iter().zip(layers).zip(parts) {
        let end = start + layer.bytes.len() as u64;
        let starts = parts.iter().map(|part| part.start).chain([end]);
        let mut before = *start;
        for (index, next) in starts.enumerate() {
            let zeros = before - zeros_before(*start, &layer.bytes, before);
            holes.push(zeros..next);
            before = parts.get(index).map_or(end, |part| part.end);
        }
    }
    let len = |hole: &Range<u64>| whole_pages(hole).map_or(0, |pages| pages.end - pages.start);
    holes.retain(|hole| len(hole) >= HOLE_MIN);
    // What does not fit into the header is mapped like other bytes.
    holes.sort_by_key(|hole| std::cmp::Reverse(len(hole)));
    holes.truncate(MOST_HOLES);
    holes.sort_by_key(|hole| hole.start);
    holes
}

/// How many zeros of the page before `offset` come right before it, where `bytes` begin at `start`.
fn zeros_before(start: u64, bytes: &[u8], offset: u64) -> u64 {
    let page = offset.saturating_sub(PAGE).max(start);
    let index = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
    let before = bytes.get(index(page)..index(offset)).unwrap_or(&[]);
    before.iter().rev().take_while(|byte| **byte == 0).count() as u64
}

/// The pages that are whole in `range`.
fn whole_pages(range: &Range<u64>) -> Option<Range<u64>> {
    let start = range.start.checked_next_multiple_of(PAGE)?;
    let end = range.end - range.end % PAGE;
    (start < end).then_some(start..end)
}

/// The parts of `bytes` that lie in one page each of a file, where they begin at `start`, with
/// their offsets.
fn pages(start: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut offset = start;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let room = usize::try_from(PAGE - offset % PAGE).unwrap_or(1);
        let (page, behind) = rest.split_at(room.min(rest.len()));
        let at = offset;
        offset += page.len() as u64;
        rest = behind;
        Some((at, page))
    })
}

/// An open file of the cache. Its bytes stay as they are, whatever becomes of the file.
#[derive(Debug)]
pub struct Kept {
    view: View,
    lease: Arc<Lease>,
    layers: Vec<Range<usize>>,
    holes: Vec<Range<u64>>,
}

impl Kept {
    /// Maps the leased file of `len` bytes, and reads its header; `None` where it is not the entry
    /// of `source`, or its lease is being broken.
    pub(crate) fn map(lease: Arc<Lease>, len: u64, kind: Kind, source: &Stamp) -> Option<Self> {
        let len_here = usize::try_from(len).ok().filter(|len| *len > 0)?;
        let view = View::map(&lease, len_here).ok()??;
        let header = Header::read(view.bytes()).ok().flatten()?;
        let belongs = header.kind == kind && header.source == *source && header.len == len;
        belongs.then_some(())?;
        let layers = header.layers;
        let holes = header.holes;
        Some(Self {
            view,
            lease,
            layers,
            holes,
        })
    }

    /// The layers, the source file itself first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.view.bytes();
        self.layers
            .iter()
            .map(|layer| bytes.get(layer.clone()).unwrap_or(&[]))
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Where in the file `bytes` are, if they are part of it.
    pub(crate) fn offset_of(&self, bytes: &[u8]) -> Option<u64> {
        let file = self.view.bytes().as_ptr_range();
        let part = bytes.as_ptr_range();
        let inside = file.start <= part.start && part.end <= file.end;
        inside.then(|| (part.start.addr() - file.start.addr()) as u64)
    }

    /// What of `range`, whole pages of the file, is not in a long range of zeros: whole pages.
    pub(crate) fn filled(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        filled(&self.holes, range)
    }

    /// Whether it is known that the file has nothing but zeros from `offset` to the page's end.
    pub(crate) fn ends_in_zeros(&self, offset: u64) -> bool {
        let layer_ends = |layer: &Range<usize>| layer.end as u64 == offset;
        self.layers.iter().any(layer_ends) || is_hole_to_page_end(&self.holes, offset)
    }
}

/// The pages in `range`, which are whole, that are in none of `holes`, which ascend.
fn filled(holes: &[Range<u64>], range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut next = range.start;
    let end = range.end;
    let last = std::iter::once(end..end);
    let holes = holes.iter().filter_map(whole_pages);
    holes.chain(last).filter_map(move |hole| {
        let run = next..hole.start.min(end);
        next = next.max(hole.end);
        Some(run).filter(|run| run.start < run.end)
    })
}

/// Whether all from `offset` to the page's end is in one of `holes`.
fn is_hole_to_page_end(holes: &[Range<u64>], offset: u64) -> bool {
    let page_end = offset.next_multiple_of(PAGE);
    holes
        .iter()
        .any(|hole| hole.start <= offset && page_end <= hole.end)
}

/// Reads the layers from a file of `len` bytes that cannot be mapped safely; `None` where it is not
/// the entry of `source`.
pub(crate) fn read(file: &File, len: u64, kind: Kind, source: &Stamp) -> Option<Vec<Layer>> {
    let mut page = vec![0; usize::try_from(PAGE.min(len)).ok()?];
    file.read_exact_at(&mut page, 0).ok()?;
    let header = Header::read(&page).ok().flatten()?;
    let belongs = header.kind == kind && header.source == *source && header.len == len;
    belongs.then_some(())?;
    header
        .layers
        .iter()
        .map(|layer| {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(layer.len()).ok()?;
            bytes.resize(layer.len(), 0);
            file.read_exact_at(&mut bytes, layer.start as u64).ok()?;
            Some(Layer::new(bytes))
        })
        .collect()
}

/// What the first page of a kept file says.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    pub(crate) kind: Kind,
    pub(crate) source: Stamp,
    /// How long the file is.
    pub(crate) len: u64,
    pub(crate) path: &'a [u8],
    layers: Vec<Range<usize>>,
    holes: Vec<Range<u64>>,
}

impl<'a> Header<'a> {
    /// Reads the header at the beginning of `file`; `None` where it is of another version, or
    /// names what is not in the file.
    pub(crate) fn read(file: &'a [u8]) -> Result<Option<Self>, PastEnd> {
        let reader = Reader::new(file);
        if reader.slice(0, 8)? != MAGIC || reader.u32_le(8)? != VERSION {
            return Ok(None);
        }
        let kind = match reader.u32_le(12)? {
            0 => Kind::Image,
            1 => Kind::Initrd,
            _ => return Ok(None),
        };
        let len = reader.u64_le(16)?;
        let source = Stamp::from_bytes(&reader.array(24)?);
        let mut at = 24 + Stamp::LEN;
        let mut number = || {
            let number = reader.u32_le(at).map(|number| number as usize);
            at += 4;
            number
        };
        let (layers, holes, path) = (number()?, number()?, number()?);
        if layers > MOST_LAYERS || holes > MOST_HOLES || path > MOST_PATH {
            return Ok(None);
        }
        let mut range = || {
            let (start, len) = (reader.u64_le(at)?, reader.u64_le(at + 8)?);
            at += 16;
            Ok::<_, PastEnd>(start..start.saturating_add(len))
        };
        let layers = (0..layers)
            .map(|_| range())
            .collect::<Result<Vec<_>, _>>()?;
        let holes = (0..holes).map(|_| range()).collect::<Result<_, _>>()?;
        let path = reader.slice(at, path as u64)?;
        let layers: Option<Vec<Range<usize>>> = layers
            .into_iter()
            .map(|layer| {
                let inside = layer.start >= PAGE && layer.end <= len;
                inside.then_some(())?;
                Some(usize::try_from(layer.start).ok()?..usize::try_from(layer.end).ok()?)
            })
            .collect();
        Ok(layers.map(|layers| Self {
            kind,
            source,
            len,
            path,
            layers,
            holes,
        }))
    }
}

/// What a file was taken apart to: in a kept file, or in memory where nothing is kept.
#[derive(Debug)]
pub struct Layers(Where);

#[derive(Debug)]
enum Where {
    Kept(Kept),
    Memory(Vec<Layer>),
}

impl Layers {
    pub(crate) fn kept(kept: Kept) -> Self {
        Self(Where::Kept(kept))
    }

    pub(crate) fn in_memory(layers: Vec<Layer>) -> Self {
        Self(Where::Memory(layers))
    }

    /// The bytes of each, the file itself first.
    #[must_use]
    pub fn bytes(&self) -> Vec<&[u8]> {
        match &self.0 {
            Where::Kept(kept) => kept.layers().collect(),
            Where::Memory(layers) => layers.iter().map(Layer::bytes).collect(),
        }
    }

    /// The same as the layers of an image, for [`Image::reopen`].
    #[must_use]
    pub fn for_image(&self) -> Vec<Cow<'_, [u8]>> {
        self.bytes().into_iter().map(Cow::Borrowed).collect()
    }

    /// The file of the cache that they are in, for [`Sources`](crate::Sources).
    #[must_use]
    pub fn file(&self) -> Option<&Kept> {
        match &self.0 {
            Where::Kept(kept) => Some(kept),
            Where::Memory(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;

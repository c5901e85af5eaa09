//! ELF notes: those of the x86/HVM direct boot ABI (Xen's `docs/misc/pvh.pandoc` and
//! `xen/include/public/elfnote.h`), and the one that marks a program.

use firstlight_base::Reader;

/// The PVH entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvhEntry {
    /// Physical address of the 32-bit entry point.
    pub entry: u32,
    /// Where else the kernel may be loaded; `None` where nowhere else.
    pub relocation: Option<PvhRelocation>,
}

/// Where a PVH kernel may be loaded beside its own physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvhRelocation {
    /// What the lowest address must be a multiple of: a power of two.
    pub align: u32,
    /// The lowest address allowed.
    pub min: u32,
    /// The highest address that the last byte may have.
    pub max: u32,
}

/// What has been found in the notes so far; the first valid one of each type counts.
#[derive(Default)]
pub(crate) struct Notes {
    entry: Option<u32>,
    relocation: Option<[Option<u32>; 3]>,
    abi_tag: bool,
}

impl Notes {
    /// `XEN_ELFNOTE_PHYS32_ENTRY`.
    const PHYS32_ENTRY: u32 = 18;
    /// `XEN_ELFNOTE_PHYS32_RELOC`.
    const PHYS32_RELOC: u32 = 19;
    /// `NT_GNU_ABI_TAG`: the system that a program is for (LSB Core 5.0, section 10.3).
    const ABI_TAG: u32 = 1;

    /// Goes through a segment or section of notes, up to the first that is not whole.
    ///
    /// What is behind that is not looked at and no error: nothing in a note is needed to boot.
    pub(crate) fn read(&mut self, bytes: &[u8], align: u64) {
        // Notes are padded to 4 bytes in ELF64 too, whatever the gABI says; 8 is for
        // `.note.gnu.property`, which says so in its alignment.
        let padding = if align == 8 { 8 } else { 4 };
        let mut rest = Reader::new(bytes);
        while let Some((note, next)) = Note::read(rest, padding) {
            self.take(&note);
            rest = next;
        }
    }

    fn take(&mut self, note: &Note<'_>) {
        match (note.name, note.kind) {
            (b"Xen\0", Self::PHYS32_ENTRY) => {
                self.entry = self.entry.or_else(|| entry(note.description));
            }
            (b"Xen\0", Self::PHYS32_RELOC) => {
                self.relocation = self.relocation.or_else(|| relocation(note.description));
            }
            (b"GNU\0", Self::ABI_TAG) => self.abi_tag = true,
            _ => {}
        }
    }

    /// Whether a note says which system's programs this is one of; kernels have none.
    pub(crate) fn has_abi_tag(&self) -> bool {
        self.abi_tag
    }

    /// The PVH entry that the notes name, `align` being the strictest alignment of a loaded segment.
    pub(crate) fn pvh(&self, align: u64) -> Option<PvhEntry> {
        /// The alignment of a kernel whose note and segments name none.
        const DEFAULT_ALIGN: u32 = 0x20_0000;
        const PAGE: u64 = 4096;

        let default = u32::try_from(align)
            .ok()
            .filter(|_| align >= PAGE)
            .filter(|align| align.is_power_of_two())
            .unwrap_or(DEFAULT_ALIGN);
        let relocation = self.relocation.map(|[align, min, max]| PvhRelocation {
            align: align.unwrap_or(default),
            min: min.unwrap_or(0),
            max: max.unwrap_or(u32::MAX),
        });
        Some(PvhEntry {
            entry: self.entry?,
            relocation: relocation.filter(|relocation| relocation.align.is_power_of_two()),
        })
    }
}

/// The entry point is a 32-bit address, in a description of 4 or of 8 bytes.
fn entry(description: &[u8]) -> Option<u32> {
    let description = Reader::new(description);
    match description.len() {
        4 => description.u32_le(0).ok(),
        8 => u32::try_from(description.u64_le(0).ok()?).ok(),
        _ => None,
    }
}

/// Up to three numbers: alignment, lowest and highest address.
fn relocation(description: &[u8]) -> Option<[Option<u32>; 3]> {
    if description.len() > 12 || !description.len().is_multiple_of(4) {
        return None;
    }
    let description = Reader::new(description);
    Some([0, 4, 8].map(|offset| description.u32_le(offset).ok()))
}

/// A note (System V gABI, chapter 5, "Note Section").
struct Note<'a> {
    name: &'a [u8],
    kind: u32,
    description: &'a [u8],
}

impl<'a> Note<'a> {
    /// The first note, and what follows it; `None` where it is not whole.
    fn read(reader: Reader<'a>, padding: u64) -> Option<(Self, Reader<'a>)> {
        const HEADER: u64 = 12;
        let name_len = u64::from(reader.u32_le(0).ok()?);
        let description_len = u64::from(reader.u32_le(4).ok()?);
        let kind = reader.u32_le(8).ok()?;
        let name = reader.slice(HEADER, name_len).ok()?;
        let description_at = HEADER
            .checked_add(name_len)?
            .checked_next_multiple_of(padding)?;
        let description = reader.slice(description_at, description_len).ok()?;
        let end = description_at
            .checked_add(description_len)?
            .checked_next_multiple_of(padding)?;
        // The last note's padding may be missing.
        let next = reader.tail(end).unwrap_or_default();
        Some((
            Self {
                name,
                kind,
                description,
            },
            Reader::new(next),
        ))
    }
}

#[cfg(test)]
mod tests;

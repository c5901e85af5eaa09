//! PE/COFF files (Microsoft's "PE Format"): what an EFI image is for, and where its sections are.
//!
//! What lies behind the sections, such as the signatures of the certificate table, is not looked
//! at.

use crate::architecture::Architecture;
use core::ops::Range;
use firstlight_base::Reader;

/// A PE file's machine, and its section table.
#[derive(Clone, Copy)]
pub(crate) struct Pe<'a> {
    machine: u16,
    file: Reader<'a>,
    /// As many entries as there are in the file, whatever the header says.
    table: &'a [[u8; Section::ENTRY]],
    /// How many the header says.
    count: u16,
}

/// An entry of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its name, which is padded with NULs to eight bytes.
    name: [u8; 8],
    /// Bytes it takes in memory.
    virtual_size: u32,
    /// Bytes it takes in the file, padding included.
    raw_size: u32,
    /// Where those are.
    raw_offset: u32,
}

impl<'a> Pe<'a> {
    /// The headers of `bytes`, as far as they are there; `None` where it is no PE file.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        const COFF_HEADER: u64 = 20;
        let file = Reader::new(bytes);
        if file.slice(0, 2).ok()? != b"MZ" {
            return None;
        }
        let signature = u64::from(file.u32_le(0x3c).ok()?);
        if file.slice(signature, 4).ok()? != b"PE\0\0" {
            return None;
        }
        let coff = signature.checked_add(4)?;
        let machine = file.u16_le(coff).ok()?;
        let count = file.u16_le(coff.checked_add(2)?).ok()?;
        let optional = u64::from(file.u16_le(coff.checked_add(16)?).ok()?);
        let table = coff.checked_add(COFF_HEADER)?.checked_add(optional)?;
        let (table, _) = file.tail(table).unwrap_or_default().as_chunks();
        Some(Self {
            machine,
            file,
            table: table.get(..usize::from(count)).unwrap_or(table),
            count,
        })
    }

    /// What the file runs on.
    pub(crate) fn architecture(self) -> Architecture {
        Architecture::of_pe(self.machine)
    }

    /// The sections, in the table's order.
    pub(crate) fn sections(self) -> impl Iterator<Item = Section> + 'a {
        self.table.iter().filter_map(Section::read)
    }

    /// Whether there is a section of this name.
    pub(crate) fn has_section(self, name: &str) -> bool {
        self.sections()
            .any(|section| section.name() == name.as_bytes())
    }

    /// How long the file must be for its headers and sections; `None` where it is that long.
    pub(crate) fn missing(self) -> Option<u64> {
        let len = self.file.len() as u64;
        let lacking = usize::from(self.count).saturating_sub(self.table.len());
        if lacking > 0 {
            let more = (lacking as u64).saturating_mul(Section::ENTRY as u64);
            return Some(len.saturating_add(more));
        }
        self.sections()
            .map(|section| section.raw_end())
            .max()
            .filter(|&end| end > len)
    }
}

impl Section {
    /// Bytes in an entry of the table.
    const ENTRY: usize = 40;

    fn read(entry: &[u8; Self::ENTRY]) -> Option<Self> {
        let entry = Reader::new(entry);
        Some(Self {
            name: entry.array(0).ok()?,
            virtual_size: entry.u32_le(8).ok()?,
            raw_size: entry.u32_le(16).ok()?,
            raw_offset: entry.u32_le(20).ok()?,
        })
    }

    /// Its name, without the padding.
    pub(crate) fn name(&self) -> &[u8] {
        let name = self.name.split(|&byte| byte == 0).next();
        name.unwrap_or_default()
    }

    /// Its bytes in the file: what it takes in memory, but not the padding that follows it in the
    /// file, nor the zeros that are only in memory.
    pub(crate) fn range(&self) -> Range<u64> {
        let start = u64::from(self.raw_offset);
        let len = u64::from(self.raw_size.min(self.virtual_size));
        start..start.saturating_add(len)
    }

    fn raw_end(&self) -> u64 {
        let size = match self.raw_size {
            0 => return 0,
            size => u64::from(size),
        };
        u64::from(self.raw_offset).saturating_add(size)
    }
}

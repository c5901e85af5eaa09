//! PE/COFF files (Microsoft's "PE Format"): only what tells one kind of EFI image from another.

use alloc::vec::Vec;
use firstlight_base::Reader;

/// A PE file's machine and the names of its sections.
pub(crate) struct Pe<'a> {
    pub(crate) machine: u16,
    names: Vec<&'a [u8]>,
}

impl<'a> Pe<'a> {
    /// The headers of `file`, as far as they are there; `None` where it is no PE file.
    pub(crate) fn read(file: Reader<'a>) -> Option<Self> {
        const COFF_HEADER: u64 = 20;
        const SECTION: u64 = 40;
        const NAME: u64 = 8;
        if file.slice(0, 2).ok()? != b"MZ" {
            return None;
        }
        let signature = u64::from(file.u32_le(0x3c).ok()?);
        if file.slice(signature, 4).ok()? != b"PE\0\0" {
            return None;
        }
        let coff = signature.checked_add(4)?;
        let machine = file.u16_le(coff).ok()?;
        let sections = u64::from(file.u16_le(coff.checked_add(2)?).ok()?);
        let optional = u64::from(file.u16_le(coff.checked_add(16)?).ok()?);
        let table = coff.checked_add(COFF_HEADER)?.checked_add(optional)?;
        let names = (0..sections)
            .map_while(|index| {
                let at = table.checked_add(index.checked_mul(SECTION)?)?;
                file.slice(at, NAME).ok()
            })
            .collect();
        Some(Self { machine, names })
    }

    /// Whether there is a section of this name, which PE pads with NULs to eight bytes.
    pub(crate) fn has_section(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|padded| padded.split(|&byte| byte == 0).next() == Some(name.as_bytes()))
    }

    /// What the file runs on, as people call it.
    pub(crate) fn machine_name(&self) -> &'static str {
        match self.machine {
            0x014c => "i386",
            0x8664 => "x86-64",
            0xaa64 => "arm64",
            0x5032 => "riscv32",
            0x5064 => "riscv64",
            0x6264 => "loongarch64",
            _ => "unknown machine",
        }
    }
}

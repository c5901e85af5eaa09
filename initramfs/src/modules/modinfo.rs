//! What a module says of itself: the strings of its section `.modinfo` (Linux
//! `include/linux/moduleparam.h` and `scripts/mod/modpost.c`), and the machine it was compiled for.

use firstlight_base::{PastEnd, Reader};
use firstlight_image::Architecture;

/// A module's own description.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModInfo<'a> {
    /// What it runs on.
    pub(super) architecture: Architecture,
    /// `KEY=VALUE`, each with a NUL behind it.
    strings: &'a [u8],
}

/// Why a file is no module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModInfoError {
    /// It is something else than an ELF file of 64 bits, little endian.
    #[error("it is no 64-bit ELF file")]
    NoElf,
    /// It is linked.
    #[error("it is an ELF file of type {0}, where modules are relocatable files, type 1")]
    Linked(u16),
    /// A table of it is not inside it.
    #[error("it is cut off")]
    CutOff(#[from] PastEnd),
    /// It says nothing of itself.
    #[error("it has no section .modinfo")]
    NoModinfo,
}

/// Offsets in the file header and in a section header (System V ABI, chapter 4).
mod field {
    pub(super) const E_TYPE: u64 = 16;
    pub(super) const E_MACHINE: u64 = 18;
    pub(super) const E_SHOFF: u64 = 40;
    pub(super) const E_SHNUM: u64 = 60;
    pub(super) const E_SHSTRNDX: u64 = 62;
    pub(super) const SH_NAME: u64 = 0;
    pub(super) const SH_OFFSET: u64 = 24;
    pub(super) const SH_SIZE: u64 = 32;
}

/// The size of a section header.
const SECTION_HEADER: u64 = 64;
/// The magic, 64 bits, little endian.
const IDENT: &[u8] = b"\x7fELF\x02\x01";
/// `ET_REL`
const RELOCATABLE: u16 = 1;

impl<'a> ModInfo<'a> {
    /// Reads the description of the module `image`.
    pub(super) fn parse(image: &'a [u8]) -> Result<Self, ModInfoError> {
        if !image.starts_with(IDENT) {
            return Err(ModInfoError::NoElf);
        }
        let file = Reader::new(image);
        let kind = file.u16_le(field::E_TYPE)?;
        if kind != RELOCATABLE {
            return Err(ModInfoError::Linked(kind));
        }
        let names = section(file, file.u16_le(field::E_SHSTRNDX)?)?;
        for index in 0..file.u16_le(field::E_SHNUM)? {
            let name = header(file, index)?.u32_le(field::SH_NAME)?;
            let named = names.get(usize::try_from(name).unwrap_or(usize::MAX)..);
            if named.is_some_and(|name| name.starts_with(b".modinfo\0")) {
                return Ok(Self {
                    architecture: architecture(file.u16_le(field::E_MACHINE)?),
                    strings: section(file, index)?,
                });
            }
        }
        Err(ModInfoError::NoModinfo)
    }

    /// The values of `key`, in their order; what is no text is left out.
    pub(super) fn values(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.strings
            .split(|&byte| byte == 0)
            .filter_map(|text| str::from_utf8(text).ok())
            .filter_map(move |text| text.strip_prefix(key)?.strip_prefix('='))
    }

    /// The modules that it needs.
    pub(super) fn depends(&self) -> impl Iterator<Item = &'a str> {
        self.values("depends")
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty())
    }

    /// The modules, or aliases of some, that it wants to be loaded before it where they exist
    /// (`modprobe.d(5)`, "softdep").
    pub(super) fn soft_depends(&self) -> impl Iterator<Item = &'a str> {
        self.values("softdep").flat_map(|text| {
            let mut before = false;
            text.split_whitespace().filter(move |word| {
                if let Some(which) = word.strip_suffix(':') {
                    before = which == "pre";
                    return false;
                }
                before
            })
        })
    }

    /// The version of the kernel that it was compiled for: its `vermagic` to the first space
    /// (Linux `include/linux/vermagic.h`).
    pub(super) fn kernel(&self) -> Option<&'a str> {
        self.values("vermagic").next()?.split(' ').next()
    }
}

fn header(file: Reader<'_>, index: u16) -> Result<Reader<'_>, PastEnd> {
    // A sum beyond 64 bits is beyond the file, too.
    let from = file
        .u64_le(field::E_SHOFF)?
        .saturating_add(u64::from(index) * SECTION_HEADER);
    file.slice(from, SECTION_HEADER).map(Reader::new)
}

fn section(file: Reader<'_>, index: u16) -> Result<&[u8], PastEnd> {
    let header = header(file, index)?;
    file.slice(
        header.u64_le(field::SH_OFFSET)?,
        header.u64_le(field::SH_SIZE)?,
    )
}

/// Machine numbers, of files of 64 bits.
const fn architecture(machine: u16) -> Architecture {
    match machine {
        62 => Architecture::X86_64,
        183 => Architecture::Arm64,
        243 => Architecture::Riscv64,
        258 => Architecture::Loongarch64,
        _ => Architecture::Unknown,
    }
}

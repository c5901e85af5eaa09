//! What a PVH guest is told: `hvm_start_info`, version 0 or 1
//! (Xen's `include/public/arch-x86/hvm/start_info.h`).

use crate::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use crate::{E820Entry, StartInfoVersion};
use alloc::vec::Vec;
use core::mem::offset_of;
use firstlight_base::{Gpa, GpaRange};
use zerocopy::IntoBytes;

/// `sizeof(struct hvm_start_info)`, version 0: it ends before the memory map.
const LEN_0: usize = offset_of!(hvm_start_info, memmap_paddr);
/// The same, version 1.
const LEN_1: usize = size_of::<hvm_start_info>();
/// Linux counts the map's entries in a byte and has room for so many
/// (`arch/x86/platform/pvh/enlighten.c`, which fills the table of the zero page).
pub(crate) const MEMMAP_MOST: usize = 128;

/// What the guest is told.
#[derive(Debug)]
pub(crate) struct StartInfo<'a> {
    pub(crate) version: StartInfoVersion,
    pub(crate) cmdline: Gpa,
    /// The initial ramdisk first, where there is one: the first module is what Linux takes for it.
    pub(crate) modules: &'a [PlacedModule<'a>],
    pub(crate) rsdp: Gpa,
    pub(crate) memmap: &'a [E820Entry],
}

/// A file that lies in guest memory for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlacedModule<'a> {
    /// Where it lies.
    pub(crate) range: GpaRange,
    /// Its command line; empty where it has none.
    pub(crate) cmdline: &'a str,
}

/// How far behind the structure's start its parts lie.
struct Layout {
    modlist: u64,
    memmap: u64,
    strings: u64,
    end: u64,
}

impl StartInfo<'_> {
    /// How many bytes [`Self::encode`] makes.
    pub(crate) fn len(&self) -> u64 {
        self.layout().end
    }

    #[expect(
        clippy::arithmetic_side_effects,
        reason = "counts of structures that are in memory"
    )]
    fn layout(&self) -> Layout {
        let (modlist, entries) = match self.version {
            StartInfoVersion::V0 => (LEN_0, 0),
            StartInfoVersion::V1 => (LEN_1, self.memmap.len()),
        };
        let memmap = modlist + size_of::<hvm_modlist_entry>() * self.modules.len();
        let strings = memmap + size_of::<hvm_memmap_table_entry>() * entries;
        let [modlist, memmap, strings] = [modlist, memmap, strings].map(|offset| offset as u64);
        let texts = self
            .modules
            .iter()
            .map(|module| module.cmdline.len() as u64);
        Layout {
            modlist,
            memmap,
            strings,
            end: strings + texts.filter(|&len| len > 0).map(|len| len + 1).sum::<u64>(),
        }
    }

    /// The structure to lie at `at`, with module list, memory map and the modules' command lines
    /// behind it. Linux writes into its first bytes, so it has to be RAM.
    #[expect(clippy::arithmetic_side_effects, reason = "addresses in the first MiB")]
    pub(crate) fn encode(&self, at: Gpa) -> Vec<u8> {
        let layout = self.layout();
        let list = |offset: u64, empty: bool| if empty { 0 } else { at.get() + offset };
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let info = hvm_start_info {
            magic: XEN_HVM_START_MAGIC_VALUE,
            version: self.version as u32,
            // Neither privileged nor the initial domain.
            flags: 0,
            nr_modules: count(self.modules.len()),
            modlist_paddr: list(layout.modlist, self.modules.is_empty()),
            cmdline_paddr: self.cmdline.get(),
            rsdp_paddr: self.rsdp.get(),
            memmap_paddr: list(layout.memmap, self.memmap.is_empty()),
            memmap_entries: count(self.memmap.len()),
            reserved: 0,
        };
        let (len, memmap) = match self.version {
            StartInfoVersion::V0 => (LEN_0, [].as_slice()),
            StartInfoVersion::V1 => (LEN_1, self.memmap),
        };
        let mut out: Vec<u8> = info.as_bytes().iter().copied().take(len).collect();
        let mut text = at.get() + layout.strings;
        for module in self.modules {
            let mut entry = hvm_modlist_entry {
                paddr: module.range.start().get(),
                size: module.range.len(),
                ..hvm_modlist_entry::default()
            };
            if !module.cmdline.is_empty() {
                entry.cmdline_paddr = text;
                text += module.cmdline.len() as u64 + 1;
            }
            out.extend(entry.as_bytes());
        }
        for entry in memmap {
            let entry = hvm_memmap_table_entry {
                addr: entry.range.start().get(),
                size: entry.range.len(),
                // `XEN_HVM_MEMMAP_TYPE_*` are the numbers of e820.
                type_: entry.kind as u32,
                reserved: 0,
            };
            out.extend(entry.as_bytes());
        }
        let texts = self.modules.iter().map(|module| module.cmdline);
        for text in texts.filter(|text| !text.is_empty()) {
            out.extend(text.as_bytes());
            out.push(0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::E820Kind;
    use crate::draft::range;
    use firstlight_base::Reader;

    const AT: Gpa = Gpa::new(0x1000);

    fn map() -> [E820Entry; 2] {
        [
            E820Entry {
                range: range(0, 0xa_0000),
                kind: E820Kind::Ram,
            },
            E820Entry {
                range: range(0xa_0000, 0x10_0000),
                kind: E820Kind::Reserved,
            },
        ]
    }

    fn module(start: u64, end: u64, cmdline: &str) -> PlacedModule<'_> {
        PlacedModule {
            range: range(start, end),
            cmdline,
        }
    }

    fn info<'a>(modules: &'a [PlacedModule<'a>], memmap: &'a [E820Entry]) -> StartInfo<'a> {
        StartInfo {
            version: StartInfoVersion::V1,
            cmdline: Gpa::new(0x7000),
            modules,
            rsdp: Gpa::new(0x9_f000),
            memmap,
        }
    }

    #[test]
    fn lists_follow_the_structure_and_are_found_by_their_addresses() {
        let (modules, memmap) = ([module(0x40_0000, 0x50_0000, "")], map());
        let info = info(&modules, &memmap);
        let bytes = info.encode(AT);
        assert_eq!(bytes.len() as u64, info.len());
        let read = Reader::new(&bytes);
        assert_eq!(read.u32_le(0), Ok(0x336e_c578));
        assert_eq!(read.u32_le(4), Ok(1));
        assert_eq!(read.u32_le(8), Ok(0));
        assert_eq!(read.u32_le(12), Ok(1));
        assert_eq!(read.u64_le(16), Ok(0x1038));
        assert_eq!(read.u64_le(24), Ok(0x7000));
        assert_eq!(read.u64_le(32), Ok(0x9_f000));
        assert_eq!(read.u64_le(40), Ok(0x1058));
        assert_eq!(read.u32_le(48), Ok(2));
        assert_eq!(read.u32_le(52), Ok(0));
        assert_eq!(read.u64_le(0x38), Ok(0x40_0000));
        assert_eq!(read.u64_le(0x40), Ok(0x10_0000));
        assert_eq!(read.u64_le(0x48), Ok(0));
        assert_eq!(read.u64_le(0x50), Ok(0));
        assert_eq!(read.u64_le(0x58), Ok(0));
        assert_eq!(read.u64_le(0x60), Ok(0xa_0000));
        assert_eq!(read.u32_le(0x68), Ok(1));
        assert_eq!(read.u32_le(0x58 + 24 + 16), Ok(2));
    }

    #[test]
    fn version_0_ends_before_the_memory_map() {
        let (modules, memmap) = ([module(0x40_0000, 0x50_0000, "")], map());
        let info = StartInfo {
            version: StartInfoVersion::V0,
            ..info(&modules, &memmap)
        };
        let bytes = info.encode(AT);
        assert_eq!(bytes.len(), 40 + 32, "the structure and one module");
        let read = Reader::new(&bytes);
        assert_eq!(read.u32_le(4), Ok(0));
        assert_eq!(read.u64_le(16), Ok(0x1028));
        assert_eq!(read.u64_le(40), Ok(0x40_0000));
    }

    #[test]
    fn each_module_has_its_own_command_line() {
        let modules = [
            module(0x10_0000, 0x20_0000, "console=hvc0"),
            module(0x20_0000, 0x30_0000, ""),
            module(0x30_0000, 0x30_0001, "b"),
        ];
        let memmap = map();
        let bytes = info(&modules, &memmap).encode(AT);
        let read = Reader::new(&bytes);
        let text = |number: u64| {
            let at = read.u64_le(0x38 + 32 * number + 16).unwrap();
            at.checked_sub(AT.get())
                .map(|offset| read.tail(offset).unwrap())
        };
        assert_eq!(read.u32_le(12), Ok(3));
        assert_eq!(text(0), Some(b"console=hvc0\0b\0".as_slice()));
        assert_eq!(text(1), None, "a null pointer");
        assert_eq!(text(2), Some(b"b\0".as_slice()));
    }

    #[test]
    fn without_modules_there_is_no_list() {
        let bytes = info(&[], &[]).encode(AT);
        let read = Reader::new(&bytes);
        assert_eq!(read.u32_le(12), Ok(0));
        assert_eq!(read.u64_le(16), Ok(0));
        assert_eq!(read.u64_le(40), Ok(0));
        assert_eq!(read.u32_le(48), Ok(0));
    }
}

//! What a PVH guest is told: `hvm_start_info` version 1 with one module
//! (Xen's `include/public/arch-x86/hvm/start_info.h`).

use crate::{E820Entry, E820Kind};
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
/// `sizeof(struct hvm_start_info)`, version 1.
const LEN: u64 = 56;
/// `sizeof(struct hvm_modlist_entry)`.
const MODULE_LEN: u64 = 32;
/// `sizeof(struct hvm_memmap_table_entry)`.
const MEMMAP_ENTRY_LEN: u64 = 24;

/// What the guest is told.
#[derive(Debug)]
pub(crate) struct StartInfo<'a> {
    pub(crate) cmdline: Gpa,
    pub(crate) initrd: Option<GpaRange>,
    pub(crate) rsdp: Gpa,
    pub(crate) memmap: &'a [E820Entry],
}

impl StartInfo<'_> {
    /// How many bytes [`Self::encode`] makes.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a handful of small structures"
    )]
    pub(crate) fn len(&self) -> u64 {
        LEN + self.modules() * MODULE_LEN + self.memmap.len() as u64 * MEMMAP_ENTRY_LEN
    }

    /// The structure to lie at `at`, with module list and memory map behind it. Linux writes into
    /// its first bytes, so it has to be RAM.
    #[expect(clippy::arithmetic_side_effects, reason = "addresses in the first MiB")]
    pub(crate) fn encode(&self, at: Gpa) -> Vec<u8> {
        let modlist = at.get() + LEN;
        let memmap = modlist + self.modules() * MODULE_LEN;
        let entries = u32::try_from(self.memmap.len()).unwrap_or(u32::MAX);
        let mut out = Encoder::default();
        out.u32(MAGIC)
            .u32(VERSION)
            .u32(0 /* flags */)
            .u32(u32::from(self.initrd.is_some()));
        out.u64(if self.initrd.is_some() { modlist } else { 0 });
        out.u64(self.cmdline.get())
            .u64(self.rsdp.get())
            .u64(memmap)
            .u32(entries)
            .u32(0);
        if let Some(initrd) = self.initrd {
            out.u64(initrd.start().get())
                .u64(initrd.len())
                .u64(0 /* its command line */)
                .u64(0);
        }
        for entry in self.memmap {
            out.u64(entry.range.start().get())
                .u64(entry.range.len())
                .u32(kind(entry.kind))
                .u32(0);
        }
        out.bytes
    }

    fn modules(&self) -> u64 {
        u64::from(self.initrd.is_some())
    }
}

/// `XEN_HVM_MEMMAP_TYPE_*`, which are those of e820.
const fn kind(kind: E820Kind) -> u32 {
    kind as u32
}

#[derive(Default)]
struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::range;
    use firstlight_base::Reader;

    #[test]
    fn lists_follow_the_structure_and_are_found_by_their_addresses() {
        let memmap = [
            E820Entry {
                range: range(0, 0xa_0000),
                kind: E820Kind::Ram,
            },
            E820Entry {
                range: range(0xa_0000, 0x10_0000),
                kind: E820Kind::Reserved,
            },
        ];
        let info = StartInfo {
            cmdline: Gpa::new(0x7000),
            initrd: Some(range(0x40_0000, 0x50_0000)),
            rsdp: Gpa::new(0x9_f000),
            memmap: &memmap,
        };
        let bytes = info.encode(Gpa::new(0x1000));
        assert_eq!(bytes.len() as u64, info.len());
        let read = Reader::new(&bytes);
        assert_eq!(read.u32_le(0), Ok(0x336e_c578));
        assert_eq!(read.u32_le(4), Ok(1));
        assert_eq!(read.u32_le(12), Ok(1));
        assert_eq!(read.u64_le(16), Ok(0x1038));
        assert_eq!(read.u64_le(24), Ok(0x7000));
        assert_eq!(read.u64_le(32), Ok(0x9_f000));
        assert_eq!(read.u64_le(40), Ok(0x1058));
        assert_eq!(read.u32_le(48), Ok(2));
        assert_eq!(read.u64_le(0x38), Ok(0x40_0000));
        assert_eq!(read.u64_le(0x40), Ok(0x10_0000));
        assert_eq!(read.u64_le(0x58), Ok(0));
        assert_eq!(read.u32_le(0x58 + 24 + 16), Ok(2));
    }

    #[test]
    fn without_a_ramdisk_there_is_no_module() {
        let info = StartInfo {
            cmdline: Gpa::new(1),
            initrd: None,
            rsdp: Gpa::new(2),
            memmap: &[],
        };
        let bytes = info.encode(Gpa::new(0x1000));
        assert_eq!(Reader::new(&bytes).u32_le(12), Ok(0));
        assert_eq!(Reader::new(&bytes).u64_le(16), Ok(0));
    }
}

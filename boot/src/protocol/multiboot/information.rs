//! What a multiboot kernel is told (Multiboot Specification 0.6.96, section 3.3; Multiboot2
//! Specification 2.0, section 3.6).

use super::Version;
use crate::protocol::start_info::PlacedModule;
use crate::{E820Entry, E820Kind};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{Gpa, KIB, MIB};

const LOADER_NAME: &str = "Firstlight";

/// What the kernel is told.
#[derive(Debug)]
pub(super) struct Information<'a> {
    /// The command line as the kernel gets it, and where it lies for version 1.
    pub(super) cmdline: String,
    pub(super) cmdline_at: Gpa,
    pub(super) modules: &'a [PlacedModule<'a>],
    /// What stands before a module's command line.
    pub(super) first_word: &'static str,
    pub(super) memory: &'a [E820Entry],
    /// The ACPI root pointer, from its first byte on.
    pub(super) rsdp: &'a [u8],
    /// Where the kernel has been loaded, where it wants to know.
    pub(super) load_base: Option<Gpa>,
}

impl Information<'_> {
    /// The types of tags that version 2 gives.
    pub(super) const GIVEN: [u32; 7] = [
        tag::CMDLINE,
        tag::LOADER_NAME,
        tag::MODULE,
        tag::MEMORY,
        tag::MEMORY_MAP,
        tag::ACPI_NEW,
        tag::LOAD_BASE,
    ];

    /// The structure to lie at `at`, with all it points to but the command line of version 1.
    pub(super) fn encode(&self, version: Version, at: Gpa) -> Vec<u8> {
        match version {
            Version::One => self.encode1(at),
            Version::Two => self.encode2(),
        }
    }

    /// The structure, the list of modules, the memory map, and the strings.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "addresses and sizes in the first MiB"
    )]
    fn encode1(&self, at: Gpa) -> Vec<u8> {
        /// Up to and with the loader's name.
        const LEN: u32 = 68;
        const MODULE_LEN: u32 = 16;
        const MAP_ENTRY_LEN: u32 = 24;
        const MEMORY: u32 = 1 << 0;
        const CMDLINE: u32 = 1 << 2;
        const MODULES: u32 = 1 << 3;
        const MEMORY_MAP: u32 = 1 << 6;
        const NAME: u32 = 1 << 9;
        let start = low(at.get());
        let modules_at = start + LEN;
        let map_at = modules_at + MODULE_LEN * count(self.modules.len());
        let map_len = MAP_ENTRY_LEN * count(self.memory.len());
        let mut strings = Strings {
            at: map_at + map_len,
            bytes: Vec::new(),
        };
        let name = strings.put(LOADER_NAME);
        let (lower, upper) = self.memory_sizes();
        let mut words = vec![0; 17];
        let fields = [
            (0, MEMORY | CMDLINE | MODULES | MEMORY_MAP | NAME),
            (1, lower),
            (2, upper),
            (4, low(self.cmdline_at.get())),
            (5, count(self.modules.len())),
            (6, modules_at),
            (11, map_len),
            (12, map_at),
            (16, name),
        ];
        for (field, value) in fields {
            if let Some(word) = words.get_mut(field) {
                *word = value;
            }
        }
        for module in self.modules {
            let text = strings.put(&self.text(module));
            words.extend([
                low(module.range.start().get()),
                low(module.range.end().get()),
                text,
                0,
            ]);
        }
        for entry in self.memory {
            // The size counts what follows it.
            words.push(MAP_ENTRY_LEN - 4);
            for number in [entry.range.start().get(), entry.range.len()] {
                words.extend([low(number), low(number >> 32)]);
            }
            words.push(entry.kind as u32);
        }
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.extend(strings.bytes);
        bytes
    }

    /// The tags, each at a multiple of 8 bytes.
    fn encode2(&self) -> Vec<u8> {
        const MAP_ENTRY_LEN: u32 = 24;
        const MAP_VERSION: u32 = 0;
        let mut tags = Tags(vec![0; 8]);
        if let Some(base) = self.load_base {
            tags.put(tag::LOAD_BASE, &[low(base.get())], &[]);
        }
        tags.put(tag::CMDLINE, &[], text(&self.cmdline).as_bytes());
        tags.put(tag::LOADER_NAME, &[], text(LOADER_NAME).as_bytes());
        for module in self.modules {
            let range = [module.range.start(), module.range.end()];
            let range = range.map(|address| low(address.get()));
            tags.put(tag::MODULE, &range, text(&self.text(module)).as_bytes());
        }
        let (lower, upper) = self.memory_sizes();
        tags.put(tag::MEMORY, &[lower, upper], &[]);
        let mut map = vec![MAP_ENTRY_LEN, MAP_VERSION];
        for entry in self.memory {
            for number in [entry.range.start().get(), entry.range.len()] {
                map.extend([low(number), low(number >> 32)]);
            }
            map.extend([entry.kind as u32, 0]);
        }
        tags.put(tag::MEMORY_MAP, &map, &[]);
        /// The root pointer of ACPI 2.0 and later (ACPI 6.5, section 5.2.5.3).
        const RSDP_LEN: usize = 36;
        if let Some(rsdp) = self.rsdp.get(..RSDP_LEN) {
            tags.put(tag::ACPI_NEW, &[], rsdp);
        }
        tags.put(tag::END, &[], &[]);
        tags.finish()
    }

    fn text(&self, module: &PlacedModule<'_>) -> String {
        format!("{}{}", self.first_word, module.cmdline)
    }

    /// KiB of RAM from 0 on, and from 1 MiB on up to the first that is none.
    pub(super) fn memory_sizes(&self) -> (u32, u32) {
        let kib_from = |start: u64| {
            let ram = self.memory.iter().find(|entry| {
                entry.kind == E820Kind::Ram
                    && entry.range.start().get() <= start
                    && start < entry.range.end().get()
            });
            let len = ram.map_or(0, |entry| entry.range.end().get().saturating_sub(start));
            u32::try_from(len / KIB).unwrap_or(u32::MAX)
        };
        (kib_from(0), kib_from(MIB))
    }
}

/// The types of tags (section 3.6).
mod tag {
    pub(super) const END: u32 = 0;
    pub(super) const CMDLINE: u32 = 1;
    pub(super) const LOADER_NAME: u32 = 2;
    pub(super) const MODULE: u32 = 3;
    pub(super) const MEMORY: u32 = 4;
    pub(super) const MEMORY_MAP: u32 = 6;
    pub(super) const ACPI_NEW: u32 = 15;
    pub(super) const LOAD_BASE: u32 = 21;
}

/// The tags of version 2 as they are written, behind the eight bytes that say how many there are.
struct Tags(Vec<u8>);

impl Tags {
    fn put(&mut self, kind: u32, words: &[u32], bytes: &[u8]) {
        let len = words.len().saturating_mul(4).saturating_add(bytes.len());
        let len = count(len).saturating_add(8);
        for word in [kind, len].iter().chain(words) {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let len = count(self.0.len()).to_le_bytes();
        for (to, from) in self.0.iter_mut().zip(len) {
            *to = from;
        }
        self.0
    }
}

/// NUL-terminated strings behind everything else.
struct Strings {
    at: u32,
    bytes: Vec<u8>,
}

impl Strings {
    /// Adds `string` and says where it will lie.
    fn put(&mut self, string: &str) -> u32 {
        let here = self.at.saturating_add(count(self.bytes.len()));
        self.bytes.extend(text(string).into_bytes());
        here
    }
}

fn text(string: &str) -> String {
    format!("{string}\0")
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The low half of an address or length.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is meant"
)]
const fn low(number: u64) -> u32 {
    number as u32
}

//! Builders of multiboot headers: each is a flat file of its own, and can be put into another.

use alloc::vec::Vec;

/// A multiboot 1 header with these flags; that of the addresses is set with them.
#[must_use]
pub fn multiboot1(flags: u32) -> Multiboot1Builder {
    Multiboot1Builder {
        flags,
        words: [0; 9],
    }
}

/// A multiboot 1 header in the making.
#[derive(Clone, Debug)]
pub struct Multiboot1Builder {
    flags: u32,
    /// What follows the checksum.
    words: [u32; 9],
}

impl Multiboot1Builder {
    /// Where the header, the kernel's first byte, its end and that of its zeros come to lie.
    #[must_use]
    pub fn addresses(mut self, header: u32, load: u32, load_end: u32, bss_end: u32) -> Self {
        self.flags |= 1 << 16;
        let [_, _, _, _, entry, mode, width, height, depth] = self.words;
        self.words = [
            header, load, load_end, bss_end, entry, mode, width, height, depth,
        ];
        self
    }

    /// The entry point, which counts where there are addresses.
    #[must_use]
    pub fn entry(mut self, entry: u32) -> Self {
        let [.., word, _, _, _, _] = &mut self.words;
        *word = entry;
        self
    }

    /// The video mode.
    #[must_use]
    pub fn video(mut self, mode: u32, width: u32, height: u32, depth: u32) -> Self {
        let [a, b, c, d, entry, ..] = self.words;
        self.words = [a, b, c, d, entry, mode, width, height, depth];
        self
    }

    /// The header: 48 bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        const MAGIC: u32 = 0x1bad_b002;
        let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(self.flags);
        [MAGIC, self.flags, checksum]
            .iter()
            .chain(&self.words)
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }
}

/// A multiboot 2 header for i386 without a tag.
#[must_use]
pub fn multiboot2() -> Multiboot2Builder {
    Multiboot2Builder { tags: Vec::new() }
}

/// A multiboot 2 header in the making.
#[derive(Clone, Debug)]
pub struct Multiboot2Builder {
    tags: Vec<u8>,
}

impl Multiboot2Builder {
    /// A tag of these numbers.
    #[must_use]
    pub fn tag(self, kind: u16, words: &[u32]) -> Self {
        self.any_tag(kind, 0, words)
    }

    /// A tag that a loader may leave alone.
    #[must_use]
    pub fn optional_tag(self, kind: u16, words: &[u32]) -> Self {
        self.any_tag(kind, 1, words)
    }

    /// Bytes as they are, among the tags.
    #[must_use]
    pub fn raw_tag(mut self, bytes: &[u8]) -> Self {
        self.tags.extend_from_slice(bytes);
        self.tags.resize(self.tags.len().next_multiple_of(8), 0);
        self
    }

    fn any_tag(self, kind: u16, flags: u16, words: &[u32]) -> Self {
        let len = words.len().saturating_mul(4).saturating_add(8);
        let mut tag = [kind, flags].map(u16::to_le_bytes).concat();
        tag.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        tag.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self.raw_tag(&tag)
    }

    /// The header, with the tag that ends it.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        const MAGIC: u32 = 0xe852_50d6;
        const END: [u8; 8] = [0, 0, 0, 0, 8, 0, 0, 0];
        let len = self.tags.len().saturating_add(24);
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(len);
        let mut header = [MAGIC, 0, len, checksum].map(u32::to_le_bytes).concat();
        header.extend_from_slice(&self.tags);
        header.extend_from_slice(&END);
        header
    }
}

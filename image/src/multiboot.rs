//! Multiboot headers (Multiboot Specification 0.6.96 and Multiboot2 Specification 2.0, chapter 3
//! each): what a kernel asks of a loader, in an ELF file or in a flat one.

use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;

/// The multiboot headers of a file: one of each version at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Multiboot {
    /// The header of the first version.
    pub one: Option<Multiboot1>,
    /// The header of the second version.
    pub two: Option<Multiboot2>,
}

/// A header of the first version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiboot1 {
    /// Where it is in the layer.
    pub offset: u64,
    /// What the kernel asks for.
    pub flags: Multiboot1Flags,
    /// Where it is to be loaded, where it says so itself: its [`ADDRESSES`](Multiboot1Flags::ADDRESSES).
    pub addresses: Option<MultibootAddresses>,
    /// Physical address of the entry point; given with the addresses.
    pub entry: Option<u32>,
    /// The video mode it would like; given with [`VIDEO`](Multiboot1Flags::VIDEO).
    pub video: Option<MultibootVideo>,
}

bitflags! {
    /// The flags of a multiboot 1 header. A loader must refuse a kernel that sets one of the low 16
    /// that it does not know.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Multiboot1Flags: u32 {
        /// Modules begin at page boundaries.
        const PAGE_ALIGN = 1 << 0;
        /// The kernel must be told how much memory there is.
        const MEMORY_INFO = 1 << 1;
        /// The kernel must be told the video mode.
        const VIDEO = 1 << 2;
        /// The header says where to load the kernel.
        const ADDRESSES = 1 << 16;
        const _ = !0;
    }
}

/// Where a kernel is to be loaded that is no ELF file, or does not want to be one: the "a.out
/// kludge". All numbers are as the header has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultibootAddresses {
    /// Where the header itself comes to lie, which tells where in the file the kernel begins.
    pub header: u32,
    /// Where the kernel begins in memory; all ones in version 2: at the file's first byte.
    pub load: u32,
    /// Where it ends in memory; 0: with the file.
    pub load_end: u32,
    /// Where the zeros behind it end; 0: there are none.
    pub bss_end: u32,
}

/// What [`MultibootAddresses`] come to: a range of the layer and one of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultibootLoad {
    /// The bytes to load, as a range of the layer.
    pub bytes: Range<u64>,
    /// The physical addresses that they take, with the zeros that follow them.
    pub memory: Range<u32>,
}

/// A video mode that a kernel would like; 0 in a size means that it does not mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultibootVideo {
    /// 0 for graphics, 1 for text; version 2 has graphics only.
    pub mode: u32,
    /// Pixels or characters in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits in a pixel; 0 in text modes.
    pub depth: u32,
}

/// A header of the second version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiboot2 {
    /// Where it is in the layer.
    pub offset: u64,
    /// What it is for: [`I386`](Self::I386) or [`MIPS`](Self::MIPS).
    pub architecture: u32,
    /// Its length in bytes, tags included.
    pub header_len: u32,
    /// The types of information that the kernel must be given (tag 1).
    pub required_information: Vec<u32>,
    /// The types of information that the kernel would like (tag 1, marked as optional).
    pub optional_information: Vec<u32>,
    /// Where it is to be loaded, where it says so itself (tag 2).
    pub addresses: Option<MultibootAddresses>,
    /// Physical address of the entry point (tag 3).
    pub entry: Option<u32>,
    /// What it says about consoles (tag 4): bit 0 if one is required, bit 1 if EGA text will do.
    pub console: Option<u32>,
    /// The video mode it would like (tag 5).
    pub video: Option<MultibootVideo>,
    /// Whether modules begin at page boundaries (tag 6).
    pub align_modules: bool,
    /// Whether EFI's boot services are to be left running (tag 7).
    pub efi_boot_services: bool,
    /// Physical address of the entry point for 32-bit EFI (tag 8).
    pub efi32_entry: Option<u32>,
    /// Physical address of the entry point for 64-bit EFI (tag 9).
    pub efi64_entry: Option<u32>,
    /// Where else it may be loaded (tag 10).
    pub relocation: Option<MultibootRelocation>,
    /// The types of other tags that are not marked as optional: a loader must refuse the kernel.
    pub unknown: Vec<u16>,
}

/// Where a multiboot 2 kernel may be loaded beside its own physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultibootRelocation {
    /// The lowest address allowed.
    pub min: u32,
    /// The highest address that its last byte may have.
    pub max: u32,
    /// What the address must be a multiple of.
    pub align: u32,
    /// Which address is best: 0 any, 1 the lowest, 2 the highest.
    pub preference: u32,
}

impl Multiboot {
    /// The headers in `bytes`; none in most files.
    ///
    /// # Errors
    ///
    /// [`MultibootError`] where a header with a right checksum contradicts itself.
    pub(crate) fn find(bytes: &[u8]) -> Result<Option<Self>, MultibootError> {
        let this = Self {
            one: Multiboot1::find(bytes)?,
            two: Multiboot2::find(bytes)?,
        };
        Ok(Some(this).filter(|this| *this != Self::default()))
    }

    /// Whether a header says where to load the file, so that it need not be an ELF file.
    pub(crate) fn is_flat(&self) -> bool {
        let one = self.one.as_ref().is_some_and(|one| one.addresses.is_some());
        let two = self.two.as_ref().is_some_and(|two| two.addresses.is_some());
        one || two
    }
}

impl fmt::Display for Multiboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (&self.one, &self.two) {
            (Some(_), Some(_)) => "a multiboot 1 and 2 kernel",
            (None, Some(_)) => "a multiboot 2 kernel",
            _ => "a multiboot kernel",
        })
    }
}

/// The first place below `searched` where the file has `magic` and a header whose first `words`
/// numbers come to 0.
fn search(bytes: &[u8], searched: usize, magic: u32, words: usize) -> Option<u64> {
    let step = if words == 3 { 4 } else { 8 };
    let head = bytes.get(..searched).unwrap_or(bytes);
    let len = words.saturating_mul(4);
    (0..head.len())
        .step_by(step)
        .find(|&at| {
            let header = at.checked_add(len).and_then(|end| head.get(at..end));
            header.is_some_and(|header| {
                let (header, _) = header.as_chunks();
                header.first() == Some(&magic.to_le_bytes())
                    && header.iter().fold(0_u32, |sum, word| {
                        sum.wrapping_add(u32::from_le_bytes(*word))
                    }) == 0
            })
        })
        .map(|at| at as u64)
}

impl Multiboot1 {
    const MAGIC: u32 = 0x1bad_b002;
    /// The header lies within so many bytes of the file (section 3.1).
    const SEARCHED: usize = 8192;

    fn find(bytes: &[u8]) -> Result<Option<Self>, MultibootError> {
        let Some(offset) = search(bytes, Self::SEARCHED, Self::MAGIC, 3) else {
            return Ok(None);
        };
        let truncated = MultibootError::Truncated { version: 1, offset };
        let word = |at: u64| {
            Reader::new(bytes)
                .u32_le(offset.saturating_add(at))
                .or(Err(truncated.clone()))
        };
        let flags = Multiboot1Flags::from_bits_retain(word(4)?);
        let (mut addresses, mut entry, mut video) = (None, None, None);
        if flags.contains(Multiboot1Flags::ADDRESSES) {
            addresses = Some(MultibootAddresses {
                header: word(12)?,
                load: word(16)?,
                load_end: word(20)?,
                bss_end: word(24)?,
            });
            entry = Some(word(28)?);
        }
        if flags.contains(Multiboot1Flags::VIDEO) {
            video = Some(MultibootVideo {
                mode: word(32)?,
                width: word(36)?,
                height: word(40)?,
                depth: word(44)?,
            });
        }
        Ok(Some(Self {
            offset,
            flags,
            addresses,
            entry,
            video,
        }))
    }

    /// What `addresses` come to in a file of `len` bytes; `None` where the header has none.
    ///
    /// # Errors
    ///
    /// [`MultibootError`] where they contradict each other or the file.
    pub fn load(&self, len: u64) -> Result<Option<MultibootLoad>, MultibootError> {
        self.addresses
            .map(|addresses| addresses.resolve(self.offset, len))
            .transpose()
    }
}

impl Multiboot2 {
    /// 32-bit x86, entered in protected mode.
    pub const I386: u32 = 0;
    /// 32-bit MIPS.
    pub const MIPS: u32 = 4;

    const MAGIC: u32 = 0xe852_50d6;
    /// The header lies within so many bytes of the file (section 3.1).
    const SEARCHED: usize = 32_768;
    const FIXED: u64 = 16;

    fn find(bytes: &[u8]) -> Result<Option<Self>, MultibootError> {
        let Some(offset) = search(bytes, Self::SEARCHED, Self::MAGIC, 4) else {
            return Ok(None);
        };
        let truncated = MultibootError::Truncated { version: 2, offset };
        let head = bytes.get(..Self::SEARCHED).unwrap_or(bytes);
        let word = |at: u64| {
            Reader::new(head)
                .u32_le(offset.saturating_add(at))
                .or(Err(truncated.clone()))
        };
        let mut this = Self {
            offset,
            architecture: word(4)?,
            header_len: word(8)?,
            required_information: Vec::new(),
            optional_information: Vec::new(),
            addresses: None,
            entry: None,
            console: None,
            video: None,
            align_modules: false,
            efi_boot_services: false,
            efi32_entry: None,
            efi64_entry: None,
            relocation: None,
            unknown: Vec::new(),
        };
        let tags = u64::from(this.header_len)
            .checked_sub(Self::FIXED)
            .and_then(|len| {
                Reader::new(head)
                    .slice(offset.saturating_add(Self::FIXED), len)
                    .ok()
            })
            .ok_or(truncated)?;
        this.read_tags(tags)?;
        Ok(Some(this))
    }

    /// Reads tags up to the one that ends them. A header that simply ends is taken as well.
    fn read_tags(&mut self, tags: &[u8]) -> Result<(), MultibootError> {
        let tags = Reader::new(tags);
        let mut at = 0;
        while at < tags.len() as u64 {
            let error = MultibootError::Tag {
                offset: self.offset.saturating_add(Self::FIXED).saturating_add(at),
            };
            let tag = Tag::read(tags, at).ok_or(error.clone())?;
            if tag.kind == Tag::END {
                break;
            }
            self.take(&tag).ok_or(error.clone())?;
            let next = at.checked_add(tag.len);
            at = next
                .and_then(|next| next.checked_next_multiple_of(8))
                .ok_or(error)?;
        }
        Ok(())
    }

    /// Takes what a tag says; `None` where it is too short to say it.
    fn take(&mut self, tag: &Tag<'_>) -> Option<()> {
        match tag.kind {
            1 => {
                let (kinds, _) = tag.body.as_chunks();
                let kinds = kinds.iter().map(|kind| u32::from_le_bytes(*kind));
                if tag.is_optional {
                    self.optional_information.extend(kinds);
                } else {
                    self.required_information.extend(kinds);
                }
            }
            2 => {
                self.addresses = Some(MultibootAddresses {
                    header: tag.word(0)?,
                    load: tag.word(1)?,
                    load_end: tag.word(2)?,
                    bss_end: tag.word(3)?,
                });
            }
            3 => self.entry = Some(tag.word(0)?),
            4 => self.console = Some(tag.word(0)?),
            5 => {
                self.video = Some(MultibootVideo {
                    mode: 0,
                    width: tag.word(0)?,
                    height: tag.word(1)?,
                    depth: tag.word(2)?,
                });
            }
            6 => self.align_modules = true,
            7 => self.efi_boot_services = true,
            8 => self.efi32_entry = Some(tag.word(0)?),
            9 => self.efi64_entry = Some(tag.word(0)?),
            10 => {
                self.relocation = Some(MultibootRelocation {
                    min: tag.word(0)?,
                    max: tag.word(1)?,
                    align: tag.word(2)?,
                    preference: tag.word(3)?,
                });
            }
            _ if tag.is_optional => {}
            unknown => self.unknown.push(unknown),
        }
        Some(())
    }

    /// What `addresses` come to in a file of `len` bytes; `None` where the header has none.
    ///
    /// # Errors
    ///
    /// [`MultibootError`] where they contradict each other or the file.
    pub fn load(&self, len: u64) -> Result<Option<MultibootLoad>, MultibootError> {
        let Some(mut addresses) = self.addresses else {
            return Ok(None);
        };
        if addresses.load == u32::MAX {
            // The file is loaded from its first byte on (section 3.1.5).
            let load = u64::from(addresses.header).checked_sub(self.offset);
            let load = load.and_then(|load| u32::try_from(load).ok());
            addresses.load = load.ok_or(MultibootError::Addresses { addresses })?;
        }
        addresses.resolve(self.offset, len).map(Some)
    }
}

/// A tag of a multiboot 2 header.
struct Tag<'a> {
    kind: u16,
    is_optional: bool,
    len: u64,
    body: &'a [u8],
}

impl<'a> Tag<'a> {
    const END: u16 = 0;
    const HEADER: u64 = 8;
    const OPTIONAL: u16 = 1;

    fn read(tags: Reader<'a>, at: u64) -> Option<Self> {
        let header = Reader::new(tags.slice(at, Self::HEADER).ok()?);
        let len = u64::from(header.u32_le(4).ok()?);
        let body_at = at.checked_add(Self::HEADER)?;
        Some(Self {
            kind: header.u16_le(0).ok()?,
            is_optional: header.u16_le(2).ok()? & Self::OPTIONAL != 0,
            len,
            body: tags.slice(body_at, len.checked_sub(Self::HEADER)?).ok()?,
        })
    }

    fn word(&self, index: u64) -> Option<u32> {
        Reader::new(self.body).u32_le(index.checked_mul(4)?).ok()
    }
}

impl MultibootAddresses {
    /// The ranges that they come to, for a header at `offset` of a file of `len` bytes
    /// (Multiboot Specification 0.6.96, section 3.1.3).
    fn resolve(self, offset: u64, len: u64) -> Result<MultibootLoad, MultibootError> {
        let error = MultibootError::Addresses { addresses: self };
        // The kernel begins as far before the header in the file as in memory.
        let before = self.header.checked_sub(self.load).ok_or(error.clone())?;
        let start = offset.checked_sub(u64::from(before)).ok_or(error.clone())?;
        let bytes_len = match self.load_end {
            0 => len.checked_sub(start).ok_or(error.clone())?,
            load_end => u64::from(load_end.checked_sub(self.load).ok_or(error.clone())?),
        };
        let end = start.checked_add(bytes_len).ok_or(error.clone())?;
        if end > len {
            return Err(MultibootError::BehindEnd { end, len });
        }
        let memory_end = u64::from(self.load)
            .checked_add(bytes_len)
            .and_then(|end| u32::try_from(end).ok())
            .ok_or(error.clone())?;
        let memory_end = match self.bss_end {
            0 => memory_end,
            bss_end if bss_end >= memory_end => bss_end,
            _ => return Err(error),
        };
        // The header is part of what is loaded.
        if bytes_len == 0 || self.header >= memory_end {
            return Err(error);
        }
        Ok(MultibootLoad {
            bytes: start..end,
            memory: self.load..memory_end,
        })
    }
}

/// What is wrong with a multiboot header whose checksum is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultibootError {
    /// The header goes on behind the part of the file that it must lie in.
    #[error("the multiboot {version} header at {offset:#x} does not end where it may")]
    Truncated {
        /// Version of the specification.
        version: u8,
        /// Where the header is in the layer.
        offset: u64,
    },
    /// A tag is shorter than what it says, or goes beyond the header.
    #[error("the tag at {offset:#x} of the multiboot 2 header is too short or too long")]
    Tag {
        /// Where the tag is in the layer.
        offset: u64,
    },
    /// The addresses contradict each other or the place of the header.
    #[error(
        "the multiboot addresses contradict each other: the header at {:#x}, loaded from {:#x} to \
         {:#x}, zeros to {:#x}",
        addresses.header, addresses.load, addresses.load_end, addresses.bss_end
    )]
    Addresses {
        /// The addresses.
        addresses: MultibootAddresses,
    },
    /// More is to be loaded than there is.
    #[error("the multiboot addresses want bytes up to {end:#x} of a file that has {len:#x}")]
    BehindEnd {
        /// Where the bytes would end.
        end: u64,
        /// Bytes in the file.
        len: u64,
    },
}

#[cfg(test)]
mod tests;

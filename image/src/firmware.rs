//! UEFI firmware, as it lies in a flash chip (UEFI Platform Initialization Specification 1.8, volume 3:
//! "Firmware Volume" in section 3.2.1, "File" in 3.2.3, "File Section" in 3.2.4).

#[cfg(test)]
mod tests;

use crate::architecture::Architecture;
use crate::pe::Pe;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;

/// Firmware that a processor starts with, out of a flash chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// What its first code runs on; unknown where there is none, as in a store of variables. The first code
    /// of a 64-bit PC may be 32-bit.
    pub architecture: Architecture,
    /// Its volumes.
    pub volumes: Vec<Range<u64>>,
}

/// Where a volume's header may begin: at once, or behind the page that a processor of Arm starts in
/// (`ArmPlatformPkg/Scripts` of EDK2 put a branch there).
const STARTS: [u64; 2] = [0, 0x1000];
/// How far into it its signature is.
const SIGNATURE: u64 = 0x28;
/// More volumes than any firmware has.
const MOST_VOLUMES: usize = 64;
/// Bytes of a header without its map of blocks.
const HEADER: u64 = 0x38;

/// Files that a processor runs in place: the security core, the core of its early phase, and what that
/// loads (`EFI_FV_FILETYPE_SECURITY_CORE`, `_PEI_CORE`, `_PEIM`).
const EARLY: [u8; 3] = [3, 4, 6];
/// Sections that hold a program: PE32, and the terse form of one.
const PE32: u8 = 0x10;
const TERSE: u8 = 0x12;

impl Firmware {
    /// Whether `file` begins as a flash chip with firmware does.
    pub(crate) fn is(file: Reader<'_>) -> bool {
        start(file).is_some()
    }

    /// Reads the volumes of `bytes`, which begin so.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FirmwareVolumeError> {
        let file = Reader::new(bytes);
        let mut next = start(file).unwrap_or_default();
        let mut volumes = Vec::new();
        let mut architecture = Architecture::Unknown;
        while is_volume(file, next) && volumes.len() < MOST_VOLUMES {
            let volume = Volume::read(file, next)?;
            if architecture == Architecture::Unknown {
                architecture = volume.architecture();
            }
            next = volume.range.end;
            volumes.push(volume.range);
        }
        Ok(Self {
            architecture,
            volumes,
        })
    }

    /// Why no machine starts with it, where none does.
    pub(crate) fn why_not(&self) -> Option<&'static str> {
        let is_unknown = self.architecture == Architecture::Unknown;
        is_unknown.then_some(
            "there is no code in it for a processor to start with; a store of variables is given to \
             firmware beside it",
        )
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.architecture {
            Architecture::Unknown => f.pad("UEFI firmware volume"),
            architecture => write!(f, "UEFI firmware, {architecture}"),
        }
    }
}

fn start(file: Reader<'_>) -> Option<u64> {
    STARTS.into_iter().find(|&start| is_volume(file, start))
}

fn is_volume(file: Reader<'_>, at: u64) -> bool {
    file.slice(at.saturating_add(SIGNATURE), 4) == Ok(b"_FVH")
}

/// A volume, whole.
struct Volume<'a> {
    range: Range<u64>,
    bytes: Reader<'a>,
    /// Where its first file may begin.
    files: u64,
}

impl<'a> Volume<'a> {
    fn read(file: Reader<'a>, at: u64) -> Result<Self, FirmwareVolumeError> {
        let outside = |len| FirmwareVolumeError::Outside {
            at,
            len,
            file: file.len() as u64,
        };
        let header = file.slice(at, HEADER).or(Err(outside(HEADER)))?;
        let header = Reader::new(header);
        let len = header.u64_le(0x20).unwrap_or_default();
        let header_len = header.u16_le(0x30).map_or(0, u64::from);
        let extended = header.u16_le(0x34).map_or(0, u64::from);
        if header_len < HEADER || len < header_len {
            return Err(FirmwareVolumeError::Lengths {
                at,
                header: header_len,
                len,
            });
        }
        let bytes = Reader::new(file.slice(at, len).or(Err(outside(len)))?);
        if !sums_to_zero(bytes.slice(0, header_len).unwrap_or_default()) {
            return Err(FirmwareVolumeError::Checksum { at });
        }
        let files = match extended {
            0 => header_len,
            at => bytes
                .u32_le(at.saturating_add(16))
                .map_or(header_len, |len| at.saturating_add(len.into())),
        };
        Ok(Self {
            range: at..at.saturating_add(len),
            bytes,
            files,
        })
    }

    /// What the first program in it runs on that is not packed.
    fn architecture(&self) -> Architecture {
        let mut at = self.files;
        while let Some(file) = File::read(self.bytes, aligned(at, 8)) {
            let architecture = file.architecture();
            if architecture != Architecture::Unknown {
                return architecture;
            }
            at = file.end;
        }
        Architecture::Unknown
    }
}

/// A file in a volume.
struct File<'a> {
    kind: u8,
    sections: Reader<'a>,
    /// Where it ends in the volume.
    end: u64,
}

impl<'a> File<'a> {
    const HEADER: u64 = 24;
    /// The attribute of a file whose length stands behind the header (`FFS_ATTRIB_LARGE_FILE`).
    const LARGE: u8 = 1;

    fn read(volume: Reader<'a>, at: u64) -> Option<Self> {
        let header = Reader::new(volume.slice(at, Self::HEADER).ok()?);
        let is_large = header.u8(19).ok()? & Self::LARGE != 0;
        let (len, header_len) = match is_large {
            true => (volume.u64_le(at.checked_add(Self::HEADER)?).ok()?, 32),
            false => (u24(header, 20)?, Self::HEADER),
        };
        let body = len.checked_sub(header_len)?;
        let sections = volume.slice(at.checked_add(header_len)?, body).ok()?;
        Some(Self {
            kind: header.u8(18).ok()?,
            sections: Reader::new(sections),
            end: at.checked_add(len)?,
        })
    }

    fn architecture(&self) -> Architecture {
        if !EARLY.contains(&self.kind) {
            return Architecture::Unknown;
        }
        let mut at = 0;
        while let Some((kind, body, end)) = section(self.sections, at) {
            let architecture = match kind {
                PE32 => Pe::read(body).map_or(Architecture::Unknown, Pe::architecture),
                TERSE => terse(Reader::new(body)),
                _ => Architecture::Unknown,
            };
            if architecture != Architecture::Unknown {
                return architecture;
            }
            at = aligned(end, 4);
        }
        Architecture::Unknown
    }
}

/// The section at `at`: its type, its bytes, and where it ends.
fn section(sections: Reader<'_>, at: u64) -> Option<(u8, &[u8], u64)> {
    /// The length that stands behind the header instead.
    const LARGE: u64 = 0xff_ffff;
    let kind = sections.u8(at.checked_add(3)?).ok()?;
    let (len, header) = match u24(sections, at)? {
        LARGE => (sections.u32_le(at.checked_add(4)?).ok()?.into(), 8),
        len => (len, 4),
    };
    let body = u64::checked_sub(len, header)?;
    let body = sections.slice(at.checked_add(header)?, body).ok()?;
    Some((kind, body, at.checked_add(len)?))
}

/// What the program of a terse image runs on (section 15.1, `EFI_TE_IMAGE_HEADER`).
fn terse(image: Reader<'_>) -> Architecture {
    match (image.slice(0, 2), image.u16_le(2)) {
        (Ok(b"VZ"), Ok(machine)) => Architecture::of_pe(machine),
        _ => Architecture::Unknown,
    }
}

fn u24(bytes: Reader<'_>, at: u64) -> Option<u64> {
    let [a, b, c] = bytes.array(at).ok()?;
    Some(u32::from_le_bytes([a, b, c, 0]).into())
}

/// The next multiple of `align`; no address in a file is near where there is none.
const fn aligned(at: u64, align: u64) -> u64 {
    match at.checked_next_multiple_of(align) {
        Some(at) => at,
        None => u64::MAX,
    }
}

/// The words of a header with its checksum among them.
fn sums_to_zero(header: &[u8]) -> bool {
    let (words, rest) = header.as_chunks::<2>();
    let sum = words.iter().fold(0, |sum: u16, word| {
        sum.wrapping_add(u16::from_le_bytes(*word))
    });
    sum == 0 && rest.is_empty()
}

/// A firmware volume breaks its rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareVolumeError {
    /// It is not all there.
    #[error(
        "the firmware volume at {at:#x} has {len:#x} bytes, and the file ends at {file:#x}: it is \
         truncated"
    )]
    Outside {
        /// Where it begins.
        at: u64,
        /// How many bytes it has.
        len: u64,
        /// How many the file has.
        file: u64,
    },
    /// Its header is longer than it is itself, or shorter than a header.
    #[error("the firmware volume at {at:#x} has {len:#x} bytes, {header:#x} of them its header")]
    Lengths {
        /// Where it begins.
        at: u64,
        /// How many bytes its header says to have.
        header: u64,
        /// How many bytes it says to have.
        len: u64,
    },
    /// Its header has been changed.
    #[error("the header of the firmware volume at {at:#x} does not add up to its checksum")]
    Checksum {
        /// Where it begins.
        at: u64,
    },
}

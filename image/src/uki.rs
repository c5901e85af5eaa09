//! Unified kernel images (UAPI Group Specifications, "Unified Kernel Image"): kernel, initial
//! ramdisk, command line and more as sections of one EFI application.
//!
//! Direct boot takes them out; what firmware and the EFI stub would have measured and verified is
//! then not verified by anybody.

use crate::architecture::Architecture;
use crate::packed::{Codec, Packed};
use crate::pe::{Pe, Section};
use crate::text::{self, up_to_nul};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;

/// What is in a unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uki {
    /// What it runs on.
    pub architecture: Architecture,
    /// The sections that the specification names and that are not empty, in the file's order.
    pub sections: Vec<UkiSection>,
    /// The profiles that can be booted; none where there is no choice.
    pub profiles: Vec<UkiProfile>,
    /// The system that it starts, as its `.osrel` calls it.
    pub os_name: Option<String>,
    /// The release of the kernel, from `.uname`.
    pub kernel_release: Option<String>,
}

/// A section of a unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UkiSection {
    /// What it holds.
    pub kind: UkiSectionKind,
    /// Where it is in the file, without padding.
    pub range: Range<u64>,
    /// The number of the profile that it belongs to; `None` for what all of them share.
    pub profile: Option<usize>,
}

/// A profile of a unified kernel image: another way to boot the same kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UkiProfile {
    /// Its short name.
    pub id: Option<String>,
    /// Its name for people.
    pub title: Option<String>,
}

/// What a section of a unified kernel image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UkiSectionKind {
    /// The kernel.
    Linux,
    /// The initial ramdisk.
    Initrd,
    /// Microcode, as an initial ramdisk that goes before the other.
    Ucode,
    /// The command line.
    Cmdline,
    /// The kernel's release.
    Uname,
    /// The system's `os-release`.
    Osrel,
    /// A device tree.
    Dtb,
    /// A device tree for the machine that it fits.
    DtbAuto,
    /// A picture to show.
    Splash,
    /// Generations of what may be revoked.
    Sbat,
    /// Signatures of expected measurements.
    PcrSig,
    /// The key of those signatures.
    PcrPkey,
    /// The beginning of a profile.
    Profile,
}

impl UkiSectionKind {
    /// Every kind, by its section's name.
    const NAMES: [(&str, Self); 13] = [
        (".linux", Self::Linux),
        (".initrd", Self::Initrd),
        (".ucode", Self::Ucode),
        (".cmdline", Self::Cmdline),
        (".uname", Self::Uname),
        (".osrel", Self::Osrel),
        (".dtb", Self::Dtb),
        (".dtbauto", Self::DtbAuto),
        (".splash", Self::Splash),
        (".sbat", Self::Sbat),
        (".pcrsig", Self::PcrSig),
        (".pcrpkey", Self::PcrPkey),
        (".profile", Self::Profile),
    ];

    fn of(section: &Section) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(name, _)| name.as_bytes() == section.name())
            .map(|&(_, kind)| kind)
    }

    /// The section's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|&&(_, kind)| kind == self)
            .map_or("", |(name, _)| name)
    }
}

impl Uki {
    /// The longest text that is read from a section; real ones have hundreds of bytes.
    const TEXT_MAX: u64 = 64 << 10;
    /// As much of a profile's description is read.
    const PROFILE_MAX: u64 = 4 << 10;
    /// The longest name that is kept, of a release, a system or a profile; real ones have dozens of
    /// bytes.
    const NAME_MAX: usize = 256;
    /// More sections than any image has. Sections may lie over each other, so that a small file
    /// could have gigabytes of them.
    const SECTIONS_MAX: usize = 2048;

    /// Whether `pe` is a unified kernel image.
    pub(crate) fn is(pe: Pe<'_>) -> bool {
        pe.has_section(".linux")
            && [".osrel", ".cmdline", ".uname"]
                .iter()
                .any(|name| pe.has_section(name))
    }

    /// Reads the sections of `pe`, which is one, from `bytes`.
    pub(crate) fn parse(pe: Pe<'_>, bytes: &[u8]) -> Result<Self, UkiError> {
        let file = Reader::new(bytes);
        let len = bytes.len() as u64;
        if let Some(needed) = pe.missing() {
            return Err(UkiError::Truncated { needed, len });
        }
        let mut this = Self {
            architecture: pe.architecture(),
            sections: Vec::new(),
            profiles: Vec::new(),
            os_name: None,
            kernel_release: None,
        };
        for section in pe.sections() {
            this.take(&section, file)?;
        }
        if this.section(UkiSectionKind::Linux, 0).is_none() {
            return Err(UkiError::NoKernel);
        }
        this.os_name = this
            .section(UkiSectionKind::Osrel, 0)
            .and_then(|section| value(read(file, &section.range, Self::TEXT_MAX), b"PRETTY_NAME"));
        this.kernel_release = this
            .section(UkiSectionKind::Uname, 0)
            .map(|section| text::line(read(file, &section.range, Self::NAME_MAX as u64)))
            .filter(|release| !release.is_empty());
        Ok(this)
    }

    fn take(&mut self, section: &Section, file: Reader<'_>) -> Result<(), UkiError> {
        let Some(kind) = UkiSectionKind::of(section) else {
            return Ok(());
        };
        if self.sections.len() >= Self::SECTIONS_MAX {
            return Err(UkiError::TooManySections);
        }
        let range = section.range();
        if kind == UkiSectionKind::Profile {
            let description = read(file, &range, Self::PROFILE_MAX);
            self.profiles.push(UkiProfile {
                id: value(description, b"ID"),
                title: value(description, b"TITLE"),
            });
        } else if range.is_empty() {
            return Ok(());
        }
        if kind == UkiSectionKind::Cmdline {
            let len = range.end.saturating_sub(range.start);
            if len > Self::TEXT_MAX {
                return Err(UkiError::CmdlineLong { len });
            }
            if core::str::from_utf8(up_to_nul(read(file, &range, len))).is_err() {
                return Err(UkiError::CmdlineNotText { at: range.start });
            }
        }
        self.sections.push(UkiSection {
            kind,
            range,
            profile: self.profiles.len().checked_sub(1),
        });
        Ok(())
    }

    /// The section of this kind that counts in a profile: its own, or else that which all of them
    /// share. Without profiles every section is shared.
    #[must_use]
    pub fn section(&self, kind: UkiSectionKind, profile: usize) -> Option<&UkiSection> {
        let of = |profile| {
            self.sections
                .iter()
                .find(|section| section.kind == kind && section.profile == profile)
        };
        of(Some(profile)).or_else(|| of(None))
    }

    /// The kernel of a profile, as it lies in the file.
    pub(crate) fn kernel(&self, profile: usize) -> Option<Packed> {
        let section = self.section(UkiSectionKind::Linux, profile)?;
        Some(Packed {
            codec: Codec::Stored,
            range: section.range.clone(),
            unpacked_len: None,
        })
    }

    /// The command line of a profile, from the bytes of the file.
    pub(crate) fn cmdline(&self, profile: usize, bytes: &[u8]) -> Option<String> {
        let section = self.section(UkiSectionKind::Cmdline, profile)?;
        text::cmdline(read(Reader::new(bytes), &section.range, Self::TEXT_MAX))
    }
}

/// At most `most` bytes of a range, as far as they are there.
fn read<'a>(file: Reader<'a>, range: &Range<u64>, most: u64) -> &'a [u8] {
    let len = range.end.saturating_sub(range.start).min(most);
    file.slice(range.start, len).unwrap_or_default()
}

/// The value of `key` in text like that of `os-release(5)`, without its quotation marks.
fn value(text: &[u8], key: &[u8]) -> Option<String> {
    text.split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(b"="))
        .map(|value| {
            let line = text::line(value.get(..Uki::NAME_MAX).unwrap_or(value));
            line.trim_matches(['"', '\'']).to_string()
        })
        .filter(|value| !value.is_empty())
}

impl fmt::Display for Uki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UKI {}", self.architecture)
    }
}

/// What is wrong with a file that has the sections of a unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// The file is shorter than its sections.
    #[error(
        "the file is truncated: its sections take {needed:#x} bytes ({needed}), but it has \
         {len:#x} ({len})"
    )]
    Truncated {
        /// Bytes that headers and sections need.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// Its kernel has no bytes, or belongs to another profile than the first.
    #[error("its .linux section is empty, or missing from the first profile")]
    NoKernel,
    /// There are more sections than any image has.
    #[error("it has more than {} sections", Uki::SECTIONS_MAX)]
    TooManySections,
    /// The command line is longer than any kernel takes.
    #[error("its .cmdline section has {len} bytes, more than any command line")]
    CmdlineLong {
        /// Bytes it has.
        len: u64,
    },
    /// The command line is no text.
    #[error("its .cmdline section at {at:#x} is not UTF-8 text")]
    CmdlineNotText {
        /// Where it begins.
        at: u64,
    },
}

#[cfg(test)]
mod tests;

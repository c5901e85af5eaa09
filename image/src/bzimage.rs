//! A Linux/x86 kernel as its build leaves it (`Documentation/arch/x86/boot.rst`): a boot sector
//! and real-mode code, then the protected-mode part with the compressed kernel in it.

use crate::packed::{Codec, Packed};
use crate::setup_header::{LoadFlags, SetupHeader, Version, XLoadFlags};
use crate::text;
use alloc::string::String;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;

/// A bzImage or zImage: its setup header, and where its parts are in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BzImage {
    /// The setup header.
    pub setup: SetupHeader,
    /// The protected-mode part, as a range of the file. What lies behind it (a signature) is not
    /// part of the kernel.
    pub protected_mode: Range<u64>,
    /// The compressed kernel, as a range of the file; none before protocol 2.08.
    pub payload: Option<Packed>,
    /// The version string: release, who built it, when.
    pub kernel_version: Option<String>,
    /// What the kernel says of itself beside the header (protocol 2.15).
    pub kernel_info: Option<KernelInfo>,
}

/// The `kernel_info` structure of protocol 2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// The highest `setup_data` type that the kernel knows.
    pub setup_type_max: u32,
}

impl BzImage {
    /// Offset of the 64-bit entry point in the protected-mode part.
    pub const ENTRY_64: u64 = 0x200;
    /// The boot sector's signature at 0x1fe.
    const BOOT_FLAG: u16 = 0xaa55;
    /// The magic of `kernel_info`: "LToP".
    const INFO_MAGIC: u32 = 0x506f_544c;
    /// The longest version string kept, in bytes; real ones have about a hundred.
    const VERSION_MAX: u64 = 512;

    /// Whether `file` carries the marks of a Linux/x86 kernel.
    pub(crate) fn is(file: Reader<'_>) -> bool {
        file.u16_le(0x1fe) == Ok(Self::BOOT_FLAG) && file.u32_le(0x202) == Ok(SetupHeader::MAGIC)
    }

    /// Reads the header of `file`, which carries the marks, and finds its parts.
    ///
    /// # Errors
    ///
    /// [`BzImageError`] where the header contradicts itself or the file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BzImageError> {
        let file = Reader::new(bytes);
        let setup = SetupHeader::read(file).ok_or(BzImageError::HeaderTruncated {
            len: file.len() as u64,
        })?;
        check_header(&setup)?;
        let protected_mode = protected_mode(&setup, file)?;
        let payload = payload(&setup, &protected_mode, file)?;
        let kernel_info = kernel_info(&setup, &protected_mode, file)?;
        Ok(Self {
            setup,
            protected_mode,
            payload,
            kernel_version: version_string(&setup, file),
            kernel_info,
        })
    }

    /// Whether the protected-mode part is for 1 MiB and up; otherwise this is an old zImage.
    #[must_use]
    pub fn is_loaded_high(&self) -> bool {
        self.setup.loadflags().contains(LoadFlags::LOADED_HIGH)
    }

    /// Offset of the 64-bit entry point in the protected-mode part, where there is one.
    #[must_use]
    pub fn entry_64(&self) -> Option<u64> {
        self.setup
            .xloadflags()
            .contains(XLoadFlags::KERNEL_64)
            .then_some(Self::ENTRY_64)
    }
}

impl fmt::Display for BzImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_loaded_high() {
            "bzImage"
        } else {
            "zImage"
        };
        write!(f, "{name} {}", self.setup.version())
    }
}

fn check_header(setup: &SetupHeader) -> Result<(), BzImageError> {
    let version = setup.version();
    if version < Version(0x200) {
        return Err(BzImageError::Version { version });
    }
    if setup.end() < setup.fields_end() {
        return Err(BzImageError::HeaderShort {
            version,
            end: setup.end(),
            needed: setup.fields_end(),
        });
    }
    if setup.relocatable_kernel() {
        let alignment = setup.kernel_alignment().unwrap_or(0);
        if !alignment.is_power_of_two() {
            return Err(BzImageError::Alignment { alignment });
        }
    }
    if let Some(log2) = setup.min_alignment_log2()
        && setup.min_alignment().is_none()
    {
        return Err(BzImageError::MinAlignment { log2 });
    }
    Ok(())
}

/// What `syssize` counts.
const UNIT: u64 = 16;

fn protected_mode(setup: &SetupHeader, file: Reader<'_>) -> Result<Range<u64>, BzImageError> {
    let len = file.len() as u64;
    let start = setup.setup_len();
    // Before 2.04 the field is too narrow for the kernels that have it: they go on to the end.
    let size = if setup.version() < Version(0x204) {
        len.saturating_sub(start)
    } else {
        u64::from(setup.syssize()).saturating_mul(UNIT)
    };
    let needed = start.saturating_add(size);
    // Of what has no payload the last unit need not be whole: memtest86+ does not fill it up.
    let missing = needed.saturating_sub(len);
    let whole = setup.payload_length().is_some_and(|len| len != 0);
    if missing >= UNIT || (whole && missing > 0) {
        return Err(BzImageError::Truncated { needed, len });
    }
    let end = needed.min(len);
    if end <= start {
        return Err(BzImageError::Empty { start });
    }
    Ok(start..end)
}

fn payload(
    setup: &SetupHeader,
    protected_mode: &Range<u64>,
    file: Reader<'_>,
) -> Result<Option<Packed>, BzImageError> {
    let (Some(offset), Some(len)) = (setup.payload_offset(), setup.payload_length()) else {
        return Ok(None);
    };
    if len == 0 {
        return Ok(None);
    }
    let start = protected_mode.start.saturating_add(u64::from(offset));
    let end = start.saturating_add(u64::from(len));
    let outside = BzImageError::PayloadOutside {
        payload: start..end,
        protected_mode: protected_mode.clone(),
    };
    if end > protected_mode.end {
        return Err(outside);
    }
    let Ok(payload) = file.slice(start, u64::from(len)) else {
        return Err(outside);
    };
    let codec = Codec::of(payload);
    // The build appends the unpacked length, but gzip carries it in its own trailer
    // (`scripts/Makefile.lib` of Linux, `size_append`).
    let trailer = file.u32_le(end.saturating_sub(4)).map(u64::from).ok();
    let stream_end = match codec {
        Codec::Gzip => end,
        _ => end.saturating_sub(4).max(start),
    };
    Ok(Some(Packed {
        codec,
        range: start..stream_end,
        unpacked_len: trailer,
    }))
}

fn kernel_info(
    setup: &SetupHeader,
    protected_mode: &Range<u64>,
    file: Reader<'_>,
) -> Result<Option<KernelInfo>, BzImageError> {
    const LEN: u64 = 16;
    let Some(offset) = setup.kernel_info_offset() else {
        return Ok(None);
    };
    let start = protected_mode.start.saturating_add(u64::from(offset));
    let outside = BzImageError::InfoOutside {
        info: start,
        protected_mode: protected_mode.clone(),
    };
    if start.saturating_add(LEN) > protected_mode.end {
        return Err(outside);
    }
    let Ok(info) = file.slice(start, LEN) else {
        return Err(outside);
    };
    let info = Reader::new(info);
    if info.u32_le(0) != Ok(BzImage::INFO_MAGIC) {
        return Err(BzImageError::InfoMagic { info: start });
    }
    Ok(info
        .u32_le(12)
        .ok()
        .map(|setup_type_max| KernelInfo { setup_type_max }))
}

/// The NUL-terminated string that `kernel_version` points to, inside the real-mode part.
fn version_string(setup: &SetupHeader, file: Reader<'_>) -> Option<String> {
    let pointer = setup.kernel_version();
    if pointer == 0 {
        return None;
    }
    let start = u64::from(pointer).checked_add(0x200)?;
    let end = setup
        .setup_len()
        .min(start.checked_add(BzImage::VERSION_MAX)?);
    let bytes = file.slice(start, end.checked_sub(start)?).ok()?;
    Some(text::line(bytes)).filter(|string| !string.is_empty())
}

/// What is wrong with a file that carries the marks of a Linux/x86 kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BzImageError {
    /// The file ends inside the setup header.
    #[error("the file ends inside the setup header: it has {len:#x} bytes")]
    HeaderTruncated {
        /// Bytes in the file.
        len: u64,
    },
    /// No such protocol version has this header.
    #[error("boot protocol version {version} is older than its header, which came with 2.00")]
    Version {
        /// The version it claims.
        version: Version,
    },
    /// The header ends before the fields of its protocol version do.
    #[error(
        "the setup header ends at offset {end:#x}, but protocol {version} has fields up to \
         {needed:#x}"
    )]
    HeaderShort {
        /// The version it claims.
        version: Version,
        /// Where it ends.
        end: u64,
        /// Where its fields end.
        needed: u64,
    },
    /// The file is shorter than its header says.
    #[error(
        "the file is truncated: its header says {needed:#x} bytes ({needed}), but it has {len:#x} \
         ({len})"
    )]
    Truncated {
        /// Bytes that header and protected-mode part need.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// There is no protected-mode part.
    #[error("the protected-mode part at offset {start:#x} has no bytes (syssize is 0)")]
    Empty {
        /// Where it would begin.
        start: u64,
    },
    /// A relocatable kernel needs an alignment.
    #[error("kernel_alignment is {alignment:#x}, which is not a power of two")]
    Alignment {
        /// What the header says.
        alignment: u32,
    },
    /// No 32-bit address has such an alignment.
    #[error("min_alignment is 2 to the power of {log2}, more than 32 bits hold")]
    MinAlignment {
        /// What the header says.
        log2: u8,
    },
    /// The compressed kernel does not lie in the protected-mode part.
    #[error(
        "the payload at {:#x}..{:#x} is not inside the protected-mode part at {:#x}..{:#x}",
        payload.start, payload.end, protected_mode.start, protected_mode.end
    )]
    PayloadOutside {
        /// Range of the file that the header names.
        payload: Range<u64>,
        /// The protected-mode part.
        protected_mode: Range<u64>,
    },
    /// `kernel_info` does not lie in the protected-mode part.
    #[error(
        "kernel_info at {info:#x} is not inside the protected-mode part at {:#x}..{:#x}",
        protected_mode.start, protected_mode.end
    )]
    InfoOutside {
        /// Offset in the file that the header names.
        info: u64,
        /// The protected-mode part.
        protected_mode: Range<u64>,
    },
    /// What `kernel_info_offset` points to is something else.
    #[error("kernel_info at {info:#x} does not begin with its magic, \"LToP\"")]
    InfoMagic {
        /// Offset in the file that the header names.
        info: u64,
    },
}

#[cfg(test)]
mod tests;

//! Kernels that are entered at their first byte, as arm64's and riscv's are: an `Image`, or a
//! vmlinux whose memory begins with the header of one.

use super::{arm64, riscv64};
use crate::{PlanError, Platform, Protocol, ProtocolChoice, Request, Unpack};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::{Gpa, MIB, VcpuState};
use firstlight_image::{Architecture, Arm64Image, Elf, Format, Image, RiscvImage};

/// What the boot protocols of such kernels differ in.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) protocol: Protocol,
    /// How many bytes the command line may have, without its NUL.
    pub(crate) cmdline_limit: u64,
    /// What the end of the memory that a kernel takes is rounded up to.
    pub(crate) end_align: u64,
    /// In how many bytes from a multiple of 1 GiB on the kernel and its initial ramdisk have to lie.
    pub(crate) initrd_window: Option<u64>,
    /// What the boot vCPU's registers hold for a kernel and a device tree at these addresses.
    pub(crate) enter: fn(&Platform, Gpa, Gpa) -> VcpuState,
}

impl Rules {
    /// Those for guests of `architecture`, where it is one of these.
    pub(crate) fn of(architecture: Architecture) -> Option<&'static Self> {
        match architecture {
            Architecture::Arm64 => Some(&arm64::RULES),
            Architecture::Riscv64 => Some(&riscv64::RULES),
            _ => None,
        }
    }
}

/// A kernel as it lies in memory.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What the image is.
    pub(crate) image: String,
    /// The layer that its bytes are in.
    pub(crate) layer: usize,
    /// Its bytes, ascending.
    pub(crate) parts: Vec<Part>,
    /// How far behind a multiple of 2 MiB it begins.
    pub(crate) text_offset: u64,
    /// How many bytes of memory it takes from its first byte on, what it zeroes included.
    pub(crate) size: u64,
}

/// Some bytes of a kernel.
#[derive(Debug)]
pub(crate) struct Part {
    /// Where they begin in the layer.
    pub(crate) offset: u64,
    /// How many there are.
    pub(crate) len: u64,
    /// How far behind the kernel's first byte they go.
    pub(crate) at: u64,
}

/// What a kernel's header says.
struct Header {
    text_offset: u64,
    /// `None` where it does not say.
    size: Option<u64>,
}

impl From<&Arm64Image> for Header {
    fn from(image: &Arm64Image) -> Self {
        Self {
            text_offset: image.text_offset,
            size: image.image_size,
        }
    }
}

impl From<&RiscvImage> for Header {
    fn from(image: &RiscvImage) -> Self {
        Self {
            text_offset: image.text_offset,
            size: Some(image.image_size),
        }
    }
}

/// The kernel in `image`, or why it is not entered as `request` wants it.
pub(crate) fn kernel(
    image: &Image<'_>,
    rules: &Rules,
    request: &Request,
) -> Result<Kernel, PlanError> {
    let no_entry = |protocol, why: &str| PlanError::NoEntry {
        image: image.to_string(),
        protocol,
        why: why.into(),
    };
    match request.protocol {
        ProtocolChoice::Only(protocol) if protocol != rules.protocol => {
            let why = "it is for another processor";
            return Err(no_entry(protocol, why));
        }
        _ => {}
    }
    let is_packed = image.layers().len() > 1;
    if request.unpack == Unpack::Guest && is_packed {
        let why = "only the host can unpack it: what unpacks it in a guest needs UEFI";
        return Err(no_entry(rules.protocol, why));
    }
    let len = image.kernel().bytes().len() as u64;
    let whole = |header: Header| {
        let part = Part {
            offset: 0,
            len,
            at: 0,
        };
        Kernel::laid_out(image, &header, Vec::from([part]), len)
    };
    match image.kernel().format() {
        Format::Arm64(header) => Ok(whole(header.into())),
        Format::Riscv(header) => Ok(whole(header.into())),
        Format::Elf(elf) => of_elf(image, elf),
        _ => Err("it is neither an Image nor a vmlinux"),
    }
    .map_err(|why| PlanError::NotBootable {
        image: image.to_string(),
        why: why.into(),
    })
}

impl Kernel {
    /// The innermost layer of `image` in `parts`, the last of which ends `end` bytes behind the
    /// kernel's first.
    fn laid_out(image: &Image<'_>, header: &Header, parts: Vec<Part>, end: u64) -> Self {
        Self {
            image: image.to_string(),
            layer: image.layers().len().saturating_sub(1),
            parts,
            text_offset: header.text_offset,
            size: header.size.unwrap_or_else(|| unsaid(end)).max(end),
        }
    }
}

/// The memory that a kernel of `len` bytes takes which does not say it: no kernel from before 3.17
/// zeroes more behind itself.
const fn unsaid(len: u64) -> u64 {
    len.saturating_add(16 * MIB)
}

/// Flat memory from its lowest virtual address on: the physical ones mean nothing in most builds.
fn of_elf(image: &Image<'_>, elf: &Elf) -> Result<Kernel, &'static str> {
    /// No kernel is larger, and beyond it sums could wrap.
    const MOST: u64 = 1 << 40;
    let mut segments: Vec<_> = elf.segments.iter().collect();
    segments.sort_by_key(|segment| segment.vaddr);
    let first = segments.first().ok_or("it has no segment to load")?;
    let base = first.vaddr;
    let start = usize::try_from(first.offset).unwrap_or(usize::MAX);
    let memory = image.kernel().bytes().get(start..).unwrap_or_default();
    let header = match elf.architecture() {
        Architecture::Arm64 => Arm64Image::of_memory(memory)
            .filter(|image| !image.is_big_endian)
            .map(|image| Header::from(&image)),
        _ => RiscvImage::of_memory(memory).map(|image| Header::from(&image)),
    };
    let header = header.ok_or("its first segment does not begin with the header of an Image")?;
    let mut parts = Vec::with_capacity(segments.len());
    let mut end = 0_u64;
    for segment in segments {
        let at = segment.vaddr.wrapping_sub(base);
        if at < end {
            return Err("its segments overlap in virtual memory");
        }
        end = at.saturating_add(segment.memsz);
        if end > MOST {
            return Err("its segments are too far apart in virtual memory to lie flat");
        }
        parts.push(Part {
            offset: segment.offset,
            len: segment.filesz,
            at,
        });
    }
    Ok(Kernel::laid_out(image, &header, parts, end))
}

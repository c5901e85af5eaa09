//! Files that are no kernel that can be booted here, but are recognised, so that an error can say
//! what they are.

use crate::architecture::Architecture;
use crate::pe::Pe;
use core::fmt;
use firstlight_base::Reader;

/// What a file is that is neither a kernel for x86 nor something with one in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// No byte at all.
    Empty,
    /// Nothing but zeros.
    Zeros,
    /// Text.
    Text,
    /// A script, which names its interpreter.
    Script,
    /// A Linux kernel for LoongArch, which only EFI starts.
    Loongarch,
    /// An EFI or Windows program with no Linux in it.
    Pe {
        /// What it runs on.
        architecture: Architecture,
    },
    /// A device tree.
    DeviceTree,
    /// A flattened image tree: kernels, ramdisks and device trees for U-Boot.
    Fit,
    /// An IGVM file.
    Igvm,
    /// A cpio archive, as an initial ramdisk is.
    Cpio,
    /// A BIOS, which a PC starts with.
    Bios,
    /// A boot sector: the start of a disk, or a kernel from before 1995.
    BootSector,
    /// A format of another field, by its name.
    Known(&'static str),
    /// None that is known here; its first bytes.
    Unknown([u8; 8]),
}

impl Other {
    /// What `bytes` are, which are no kernel and no compressed stream, where their first bytes say
    /// so.
    pub(crate) fn by_magic(bytes: &[u8]) -> Option<Self> {
        let file = Reader::new(bytes);
        pe(bytes)
            .or_else(|| device_tree(file))
            .or_else(|| magic(file, &FIRST))
    }

    /// What `bytes` look like, whose first bytes say nothing.
    pub(crate) fn by_looks(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        magic(Reader::new(bytes), &LATER)
            .or_else(|| bios(bytes))
            .or_else(|| text(bytes))
            .unwrap_or_else(|| {
                let mut first = [0; 8];
                for (to, from) in first.iter_mut().zip(bytes) {
                    *to = *from;
                }
                Self::Unknown(first)
            })
    }

    /// Why it cannot be booted, where that is more than that it is no kernel.
    #[must_use]
    pub fn why_not(&self) -> &'static str {
        match self {
            Self::Empty => "there is nothing in it",
            Self::Zeros | Self::Text | Self::Script | Self::Known(_) => "that is no kernel",
            Self::Loongarch => "kernels for this machine cannot be booted",
            Self::Pe { .. } => "it needs EFI firmware to run, and is no Linux kernel",
            Self::Fit => "it is for U-Boot; the kernel in it may be bootable",
            Self::DeviceTree => "it describes a machine, and is given to a kernel beside it",
            Self::Igvm => "IGVM files cannot be booted yet",
            Self::Cpio => "an initial ramdisk is given to a kernel beside it",
            Self::Bios => "it is what a machine starts with, and boots kernels of its own choice",
            Self::BootSector => "it needs firmware that starts disks, or has no boot protocol",
            Self::Unknown(_) => "no known kernel format begins like that",
        }
    }
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.pad("an empty file"),
            Self::Zeros => f.pad("a file of zeros"),
            Self::Text => f.pad("a text file"),
            Self::Script => f.pad("a script"),
            Self::Loongarch => f.pad("loongarch64 Image"),
            Self::Pe { architecture } => write!(f, "a PE/COFF application, {architecture}"),
            Self::DeviceTree => f.pad("a device tree blob"),
            Self::Fit => f.pad("a flattened image tree (FIT)"),
            Self::Igvm => f.pad("an IGVM file"),
            Self::Cpio => f.pad("a cpio archive (an initramfs)"),
            Self::Bios => f.pad("a PC BIOS"),
            Self::BootSector => f.pad("a boot sector or disk image"),
            Self::Known(name) => f.pad(name),
            Self::Unknown(first) => {
                f.write_str("an unknown file that begins with")?;
                first.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}

fn pe(bytes: &[u8]) -> Option<Other> {
    /// Linux' own mark among EFI programs (`include/linux/pe.h`).
    const LINUX_MAGIC: u32 = 0x8182_23cd;
    let architecture = Pe::read(bytes)?.architecture();
    let is_linux = Reader::new(bytes).u32_le(0x38) == Ok(LINUX_MAGIC);
    if is_linux && architecture == Architecture::Loongarch64 {
        return Some(Other::Loongarch);
    }
    Some(Other::Pe { architecture })
}

/// A device tree, or the image tree that U-Boot builds in the same format.
fn device_tree(file: Reader<'_>) -> Option<Other> {
    const FDT_MAGIC: u32 = 0xd00d_feed;
    /// A node's token and name (Devicetree Specification 0.4, section 5.4).
    const IMAGES: &[u8] = b"\0\0\0\x01images\0\0";
    /// Node names stand early; what is behind is mostly the images.
    const SEARCHED: u64 = 1 << 20;
    if file.u32_be(0) != Ok(FDT_MAGIC) {
        return None;
    }
    let head = file
        .slice(0, SEARCHED.min(file.len() as u64))
        .unwrap_or_default();
    let is_fit = head.windows(IMAGES.len()).any(|window| window == IMAGES);
    Some(if is_fit {
        Other::Fit
    } else {
        Other::DeviceTree
    })
}

/// Formats whose files begin with a magic.
const FIRST: [(u64, &[u8], Other); 15] = [
    (0, b"IGVM", Other::Igvm),
    (0, b"VNDRBOOT", Other::Known("an Android vendor boot image")),
    (0, b"070701", Other::Cpio),
    (0, b"070702", Other::Cpio),
    (0, b"070707", Other::Cpio),
    (0, b"\xc7\x71", Other::Cpio),
    (0, b"#!", Other::Script),
    (
        0,
        b"!<arch>\ndebian-binary",
        Other::Known("a Debian package"),
    ),
    (0, b"!<arch>\n", Other::Known("an ar archive")),
    (0, b"\xed\xab\xee\xdb", Other::Known("an RPM package")),
    (0, b"PK\x03\x04", Other::Known("a zip archive")),
    (0, b"QFI\xfb", Other::Known("a qcow2 disk image")),
    (0, b"hsqs", Other::Known("a squashfs file system")),
    (0, b"\xe2\xe1\xf5\xe0", Other::Known("an EROFS file system")),
    (0, b"\xcf\xfa\xed\xfe", Other::Known("a Mach-O executable")),
];

/// Formats that leave their first bytes to others.
const LATER: [(u64, &[u8], Other); 5] = [
    (0, b"MZ", Other::Known("a DOS executable")),
    (0x101, b"ustar", Other::Known("a tar archive")),
    (0x438, b"\x53\xef", Other::Known("an ext file system")),
    (0x8001, b"CD001", Other::Known("an ISO 9660 image")),
    (0x1fe, b"\x55\xaa", Other::BootSector),
];

fn magic(file: Reader<'_>, magics: &[(u64, &[u8], Other)]) -> Option<Other> {
    magics
        .iter()
        .find(|(offset, magic, _)| file.slice(*offset, magic.len() as u64) == Ok(*magic))
        .map(|(_, _, other)| other.clone())
}

/// The last sixteen bytes of a BIOS are where a PC begins: a far jump into its own segment.
fn bios(bytes: &[u8]) -> Option<Other> {
    const SIZES: usize = 64 << 10;
    const FAR_JUMP: u8 = 0xea;
    const SEGMENT: [u8; 2] = [0x00, 0xf0];
    let (_, [jump, _, _, segment @ .., _, _, _, _, _, _, _, _, _, _, _]) =
        bytes.split_last_chunk::<16>()?;
    let is_bios = bytes.len().is_multiple_of(SIZES) && *jump == FAR_JUMP && *segment == SEGMENT;
    is_bios.then_some(Other::Bios)
}

/// Files that look like nothing in particular.
fn text(bytes: &[u8]) -> Option<Other> {
    /// So much is looked at: binary formats show themselves sooner.
    const LOOKED_AT: usize = 4096;
    if bytes.iter().all(|&byte| byte == 0) {
        return Some(Other::Zeros);
    }
    let head = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    let head = match core::str::from_utf8(head) {
        Ok(text) => text,
        // A character may be cut in two where the look ends.
        Err(error) if error.error_len().is_none() => {
            core::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let printable = |char: char| !char.is_control() || "\n\r\t\u{c}\u{1b}".contains(char);
    (!head.is_empty() && head.chars().all(printable)).then_some(Other::Text)
}

#[cfg(test)]
mod tests;

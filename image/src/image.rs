//! A kernel file taken apart, from the outside in.

use crate::bzimage::{BzImage, BzImageError};
use crate::elf::{Elf, ElfError, Kind};
use crate::multiboot::{Multiboot, MultibootError};
use crate::other::Other;
use crate::packed::{Codec, Packed, UnpackError};
use crate::relocations::Relocations;
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::{GIB, Reader};

/// An opened kernel file: its layers from the outside in, everything in it unpacked as far as it
/// goes.
///
/// Its [`Display`](fmt::Display) is the chain of formats: `bzImage 2.15 → zstd → ELF64 x86-64`.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// Never empty; the innermost is a kernel.
    layers: Vec<Layer<'a>>,
}

/// One layer of an image: the file, or what a layer unpacks to.
#[derive(Clone)]
pub struct Layer<'a> {
    format: Format,
    bytes: Cow<'a, [u8]>,
}

/// What a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Linux/x86 kernel with its compressed self in it.
    BzImage(BzImage),
    /// An ELF file.
    Elf(Elf),
    /// A flat file with a multiboot header.
    Multiboot(Multiboot),
    /// A compressed stream from the first byte on.
    Packed(Packed),
    /// Something that is recognised, but is no kernel that can be booted.
    Other(Other),
}

/// How far an image may be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that a layer may unpack to.
    pub unpacked: u64,
    /// The most layers that may be unpacked, one from the other.
    pub depth: usize,
}

impl Default for Limits {
    /// 1 GiB and 5: several times what real kernels need.
    fn default() -> Self {
        Self {
            unpacked: GIB,
            depth: 5,
        }
    }
}

impl<'a> Image<'a> {
    /// Takes `file` apart down to the kernel's ELF, or to a bzImage without a payload. What a
    /// bzImage has in it must be an ELF, so there is one of each at most.
    ///
    /// # Errors
    ///
    /// [`ImageError`] says what the file is, as far as it is known, and why there is no kernel to
    /// boot in it.
    pub fn open(file: &'a [u8], limits: &Limits) -> Result<Self, ImageError> {
        let mut image = Self::open_outer(file, limits)?;
        if let Some(payload) = image.payload() {
            image.unpack(&payload, limits)?;
        }
        image.check_is_kernel()
    }

    /// The image that [`open`](Self::open) or [`open_outer`](Self::open_outer) gave, from the bytes
    /// of its layers, which somebody kept: the file itself first.
    ///
    /// Every layer is parsed again, and must be what the one round it says: nothing is unpacked,
    /// and nothing but headers is read. That the bytes are those that the outer layer would unpack
    /// to cannot be told without unpacking; who keeps them answers for that.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and [`ImageError::Layers`] where the layers do not belong
    /// together.
    pub fn reopen(layers: Vec<Cow<'a, [u8]>>) -> Result<Self, ImageError> {
        let mut image = Self { layers: Vec::new() };
        for (index, bytes) in layers.into_iter().enumerate() {
            if index > 0 {
                image.check_holds(bytes.len() as u64)?;
            }
            image.push(bytes)?;
        }
        let Some(last) = image.layers.last() else {
            return Err(ImageError::Layers {
                of: "no layer".to_string(),
                why: "an image has at least one",
            });
        };
        if matches!(last.format, Format::Packed(_)) {
            return Err(image.layers_error("what the last one unpacks to is missing"));
        }
        image.check_is_kernel()
    }

    /// Sees that the innermost layer unpacks to something, and to `len` bytes where it says to how
    /// many.
    fn check_holds(&self, len: u64) -> Result<(), ImageError> {
        let Some(packed) = self.packed() else {
            return Err(self.layers_error("there is nothing in the innermost that is one more"));
        };
        let known = match packed.codec {
            Codec::Stored => packed.range.end.checked_sub(packed.range.start),
            _ => packed.unpacked_len,
        };
        match known {
            Some(known) if known != len => {
                Err(self.layers_error("the next is not as long as the one before it says"))
            }
            _ => Ok(()),
        }
    }

    fn layers_error(&self, why: &'static str) -> ImageError {
        ImageError::Layers {
            of: self.to_string(),
            why,
        }
    }

    /// Takes `file` apart only so far that there is something to boot: a bzImage stays packed,
    /// for the guest to unpack.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_outer(file: &'a [u8], limits: &Limits) -> Result<Self, ImageError> {
        let mut image = Self { layers: Vec::new() };
        image.push(Cow::Borrowed(file))?;
        while let Format::Packed(packed) = image.kernel().format.clone() {
            image.unpack(&packed, limits)?;
        }
        image.check_is_kernel()
    }

    /// The layers from the outside in, the file itself first.
    #[must_use]
    pub fn layers(&self) -> &[Layer<'a>] {
        &self.layers
    }

    /// The layers' bytes from the outside in, for [`reopen`](Self::reopen) to begin with.
    #[must_use]
    pub fn into_layers(self) -> Vec<Cow<'a, [u8]>> {
        self.layers.into_iter().map(|layer| layer.bytes).collect()
    }

    /// The innermost layer.
    ///
    /// # Panics
    ///
    /// Never: an image has at least one layer.
    #[must_use]
    pub fn kernel(&self) -> &Layer<'a> {
        self.layers.last().expect("the file itself is a layer")
    }

    /// The bzImage among the layers, and which layer it is.
    #[must_use]
    pub fn bzimage(&self) -> Option<(usize, &BzImage)> {
        self.layers
            .iter()
            .enumerate()
            .find_map(|(index, layer)| match &layer.format {
                Format::BzImage(bzimage) => Some((index, bzimage)),
                Format::Elf(_) | Format::Multiboot(_) | Format::Packed(_) | Format::Other(_) => {
                    None
                }
            })
    }

    /// The ELF among the layers, and which layer it is.
    #[must_use]
    pub fn elf(&self) -> Option<(usize, &Elf)> {
        self.layers
            .iter()
            .enumerate()
            .find_map(|(index, layer)| match &layer.format {
                Format::Elf(elf) => Some((index, elf)),
                Format::BzImage(_)
                | Format::Multiboot(_)
                | Format::Packed(_)
                | Format::Other(_) => None,
            })
    }

    /// The multiboot headers of the innermost layer, and which layer that is: of a flat file, or of
    /// an ELF file, whose first 32 KiB are searched for them now.
    ///
    /// # Errors
    ///
    /// [`MultibootError`] where one of them has a right checksum, and is broken all the same.
    pub fn multiboot(&self) -> Result<Option<(usize, Multiboot)>, MultibootError> {
        let kernel = self.kernel();
        let headers = match &kernel.format {
            Format::Multiboot(headers) => Some(headers.clone()),
            Format::Elf(_) => Multiboot::find(kernel.bytes())?,
            Format::BzImage(_) | Format::Packed(_) | Format::Other(_) => None,
        };
        Ok(headers.map(|headers| (self.layers.len().saturating_sub(1), headers)))
    }

    /// The kernel's version string, where the image carries one in a header.
    #[must_use]
    pub fn kernel_version(&self) -> Option<&str> {
        self.bzimage()?.1.kernel_version.as_deref()
    }

    /// The relocation table behind the ELF among the layers. It is searched for now, which takes
    /// a look at every entry.
    #[must_use]
    pub fn relocations(&self) -> Option<Relocations> {
        let (index, elf) = self.elf()?;
        elf.relocations(self.layers.get(index)?.bytes())
    }

    /// What is packed in the innermost layer.
    fn packed(&self) -> Option<Packed> {
        match &self.layers.last()?.format {
            Format::BzImage(bzimage) => bzimage.payload.clone(),
            Format::Packed(packed) => Some(packed.clone()),
            Format::Elf(_) | Format::Multiboot(_) | Format::Other(_) => None,
        }
    }

    /// The compressed kernel in the innermost layer, where that is a bzImage.
    fn payload(&self) -> Option<Packed> {
        match &self.kernel().format {
            Format::BzImage(bzimage) => bzimage.payload.clone(),
            Format::Elf(_) | Format::Multiboot(_) | Format::Packed(_) | Format::Other(_) => None,
        }
    }

    /// Unpacks `packed`, a stream in the innermost layer, to a layer of its own.
    fn unpack(&mut self, packed: &Packed, limits: &Limits) -> Result<(), ImageError> {
        if self.layers.len() > limits.depth {
            return Err(ImageError::TooDeep {
                of: self.to_string(),
                depth: limits.depth,
            });
        }
        let unpacked = packed
            .unpack(self.kernel().bytes(), limits.unpacked)
            .map_err(|source| ImageError::Unpack {
                of: self.to_string(),
                source,
            })?;
        self.push(Cow::Owned(unpacked))
    }

    fn push(&mut self, bytes: Cow<'a, [u8]>) -> Result<(), ImageError> {
        let format = Format::of(&bytes).map_err(|source| ImageError::Broken {
            of: self.chain(Some(source.format())),
            source,
        })?;
        self.layers.push(Layer { format, bytes });
        Ok(())
    }

    /// The names of the formats from the outside in, and of one `more` where there is one. A
    /// bzImage's codec is named where something follows it.
    fn chain(&self, more: Option<&str>) -> String {
        let mut names = Vec::new();
        let mut codec = None;
        for layer in &self.layers {
            names.extend(codec.take());
            names.push(layer.format.to_string());
            if let Format::BzImage(bzimage) = &layer.format {
                codec = bzimage
                    .payload
                    .as_ref()
                    .map(|payload| payload.codec.to_string());
            }
        }
        if let Some(more) = more {
            names.extend(codec);
            names.push(more.to_string());
        }
        names.join(" → ")
    }

    fn check_is_kernel(self) -> Result<Self, ImageError> {
        let is_inside_bzimage = self
            .bzimage()
            .is_some_and(|(index, _)| self.layers.len() > index.saturating_add(1));
        let why = match &self.kernel().format {
            Format::Elf(elf) => why_no_kernel(elf),
            Format::Other(other) => Some(other.why_not()),
            Format::Multiboot(headers) if !headers.is_flat() => {
                Some("its multiboot header does not say where to load it, and it is no ELF file")
            }
            Format::BzImage(_) | Format::Multiboot(_) | Format::Packed(_) if is_inside_bzimage => {
                Some("what a bzImage has in it is an ELF file")
            }
            Format::BzImage(_) | Format::Multiboot(_) | Format::Packed(_) => None,
        };
        let Some(why) = why else {
            return Ok(self);
        };
        Err(ImageError::NotAKernel {
            is: self.to_string(),
            why,
        })
    }
}

/// Why an ELF file is no kernel, whatever it runs on.
fn why_no_kernel(elf: &Elf) -> Option<&'static str> {
    match elf.kind {
        Kind::Relocatable => return Some("it is an object file or kernel module, to be linked"),
        Kind::Core => return Some("it is a memory dump"),
        Kind::Other(_) => return Some("it is of no type that can be executed"),
        Kind::Executable | Kind::Dynamic => {}
    }
    if elf.is_program && elf.pvh.is_none() {
        return Some("it is a program for an operating system");
    }
    if elf.segments.is_empty() {
        return Some("it has no segment to load");
    }
    None
}

impl fmt::Display for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.chain(None))
    }
}

impl Layer<'_> {
    /// What it is.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("format", &self.format)
            .field("bytes", &Reader::new(&self.bytes))
            .finish()
    }
}

impl Format {
    /// What `bytes` are. The order is that in which formats hide in each other: a bzImage may
    /// begin as a PE file does, an arm64 Image too.
    fn of(bytes: &[u8]) -> Result<Self, FormatError> {
        let file = Reader::new(bytes);
        if BzImage::is(file) {
            return Ok(Self::BzImage(BzImage::parse(bytes)?));
        }
        if Elf::is(bytes) {
            return Ok(Self::Elf(Elf::parse(bytes)?));
        }
        match Codec::of(bytes) {
            Codec::Unknown(_) | Codec::Stored => {}
            codec => {
                return Ok(Self::Packed(Packed {
                    codec,
                    range: 0..bytes.len() as u64,
                    unpacked_len: None,
                }));
            }
        }
        if let Some(other) = Other::by_magic(bytes) {
            return Ok(Self::Other(other));
        }
        // The headers are looked for all over the file's beginning, and so may be those of a kernel
        // that lies in an archive.
        if let Some(headers) = Multiboot::find(bytes)? {
            return Ok(Self::Multiboot(headers));
        }
        Ok(Self::Other(Other::by_looks(bytes)))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BzImage(bzimage) => fmt::Display::fmt(bzimage, f),
            Self::Elf(elf) => fmt::Display::fmt(elf, f),
            Self::Multiboot(headers) => fmt::Display::fmt(headers, f),
            Self::Packed(packed) => fmt::Display::fmt(&packed.codec, f),
            Self::Other(other) => fmt::Display::fmt(other, f),
        }
    }
}

/// What is wrong with a layer that carries a format's mark, and breaks its rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A broken Linux/x86 kernel.
    #[error(transparent)]
    BzImage(#[from] BzImageError),
    /// A broken ELF file.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// A flat file with a broken multiboot header.
    #[error(transparent)]
    Multiboot(#[from] MultibootError),
}

impl FormatError {
    /// What it would be if it were not broken.
    const fn format(&self) -> &'static str {
        match self {
            Self::BzImage(_) => "bzImage",
            Self::Elf(_) => "ELF file",
            Self::Multiboot(_) => "multiboot kernel",
        }
    }
}

/// Why a file cannot be booted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It is something else.
    #[error("it is {is}: {why}")]
    NotAKernel {
        /// What it is: the chain of formats.
        is: String,
        /// Why that is no kernel.
        why: &'static str,
    },
    /// It carries the marks of a format, and is broken.
    #[error("it is a broken {of}")]
    Broken {
        /// The chain of formats.
        of: String,
        /// What is wrong.
        source: FormatError,
    },
    /// What is in it cannot be unpacked.
    #[error("cannot unpack the {of}")]
    Unpack {
        /// The chain of formats.
        of: String,
        /// What is wrong.
        source: UnpackError,
    },
    /// Layers that were kept are not those of one image.
    #[error("the layers that were kept do not belong together: {of}: {why}")]
    Layers {
        /// The chain of formats, as far as it holds together.
        of: String,
        /// What is wrong with the next.
        why: &'static str,
    },
    /// Too many layers lie in each other.
    #[error("{of} is packed more than {depth} deep")]
    TooDeep {
        /// The chain of formats.
        of: String,
        /// How deep it may be.
        depth: usize,
    },
}

#[cfg(test)]
mod tests;

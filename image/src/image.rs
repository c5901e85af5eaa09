//! A kernel file taken apart, from the outside in.

mod parts;

use crate::android::{AndroidBoot, AndroidBootError};
use crate::architecture::Architecture;
use crate::arm64::Arm64Image;
use crate::bzimage::{BzImage, BzImageError};
use crate::elf::{Elf, ElfError, Kind};
use crate::firmware::{Firmware, FirmwareVolumeError};
use crate::linux_image::LinuxImageError;
use crate::multiboot::{Multiboot, MultibootError};
use crate::other::Other;
use crate::packed::{Codec, Packed, UnpackError};
use crate::pe::Pe;
use crate::relocations::Relocations;
use crate::riscv::RiscvImage;
use crate::setup_header::XLoadFlags;
use crate::uimage::{UImage, UImageError};
use crate::uki::{Uki, UkiError, UkiProfile};
use crate::zboot::{Zboot, ZbootError};
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::{GIB, Reader};

pub use parts::{Part, Parts};

/// An opened kernel file: its layers from the outside in, everything in it unpacked as far as it
/// goes.
///
/// Its [`Display`](fmt::Display) is the chain of formats: `bzImage 2.15 → zstd → ELF64 x86-64`.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// Never empty; the innermost is a kernel.
    layers: Vec<Layer<'a>>,
    /// Which profile of a unified kernel image was opened.
    profile: usize,
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
    /// A Linux kernel for 64-bit Arm.
    Arm64(Arm64Image),
    /// A Linux kernel for RISC-V.
    Riscv(RiscvImage),
    /// An ELF file.
    Elf(Elf),
    /// A flat file with a multiboot header.
    Multiboot(Multiboot),
    /// An EFI application that unpacks the kernel in it.
    Zboot(Zboot),
    /// A unified kernel image.
    Uki(Uki),
    /// A kernel, or something else, wrapped for U-Boot.
    UImage(UImage),
    /// An Android boot image.
    Android(AndroidBoot),
    /// A compressed stream from the first byte on.
    Packed(Packed),
    /// What a machine starts with instead of a kernel.
    Firmware(Firmware),
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
    /// Takes `file` apart down to the kernel itself: an ELF file, an `Image` of arm64 or riscv, a
    /// flat multiboot kernel, or a bzImage without a payload. What a bzImage has in it must be an
    /// ELF, so there is one of each at most. Of a unified kernel image with profiles it is the
    /// first one.
    ///
    /// # Errors
    ///
    /// [`ImageError`] says what the file is, as far as it is known, and why there is no kernel to
    /// boot in it.
    pub fn open(file: &'a [u8], limits: &Limits) -> Result<Self, ImageError> {
        Self::open_profile(file, limits, 0)
    }

    /// As [`open`](Self::open), but a profile of a unified kernel image by its number. Number 0 is
    /// there in every image.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and [`ImageError::NoProfile`].
    pub fn open_profile(
        file: &'a [u8],
        limits: &Limits,
        profile: usize,
    ) -> Result<Self, ImageError> {
        let mut image = Self::new(profile);
        image.push(Cow::Borrowed(file))?;
        while let Some(packed) = image.packed() {
            image.unpack(&packed, limits)?;
        }
        image.finish()
    }

    /// Takes `file` apart only so far that there is something to boot: a bzImage stays packed,
    /// for the guest to unpack.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_outer(file: &'a [u8], limits: &Limits) -> Result<Self, ImageError> {
        Self::open_outer_profile(file, limits, 0)
    }

    /// As [`open_outer`](Self::open_outer), but a profile of a unified kernel image by its number.
    ///
    /// # Errors
    ///
    /// As [`open_profile`](Self::open_profile).
    pub fn open_outer_profile(
        file: &'a [u8],
        limits: &Limits,
        profile: usize,
    ) -> Result<Self, ImageError> {
        let mut image = Self::new(profile);
        image.push(Cow::Borrowed(file))?;
        while let (None, Some(packed)) = (image.bzimage(), image.packed()) {
            image.unpack(&packed, limits)?;
        }
        image.finish()
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
        Self::reopen_profile(layers, 0)
    }

    /// As [`reopen`](Self::reopen), for an image of which a profile was opened.
    ///
    /// # Errors
    ///
    /// As [`reopen`](Self::reopen).
    pub fn reopen_profile(layers: Vec<Cow<'a, [u8]>>, profile: usize) -> Result<Self, ImageError> {
        let mut image = Self::new(profile);
        for (index, bytes) in layers.into_iter().enumerate() {
            if index > 0 {
                image.check_holds(bytes.len() as u64)?;
            }
            image.push(bytes)?;
        }
        if image.layers.is_empty() {
            return Err(ImageError::Layers {
                of: "no layer".to_string(),
                why: "an image has at least one",
            });
        }
        // A bzImage may have been left packed.
        if image.packed().is_some() && !matches!(image.kernel().format, Format::BzImage(_)) {
            return Err(image.layers_error("what the last one unpacks to is missing"));
        }
        image.finish()
    }

    fn new(profile: usize) -> Self {
        Self {
            layers: Vec::new(),
            profile,
        }
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
        self.find(|format| match format {
            Format::BzImage(bzimage) => Some(bzimage),
            _ => None,
        })
    }

    /// The ELF among the layers, and which layer it is.
    #[must_use]
    pub fn elf(&self) -> Option<(usize, &Elf)> {
        self.find(|format| match format {
            Format::Elf(elf) => Some(elf),
            _ => None,
        })
    }

    /// The arm64 `Image` among the layers, and which layer it is.
    #[must_use]
    pub fn arm64(&self) -> Option<(usize, &Arm64Image)> {
        self.find(|format| match format {
            Format::Arm64(image) => Some(image),
            _ => None,
        })
    }

    /// The riscv `Image` among the layers, and which layer it is.
    #[must_use]
    pub fn riscv(&self) -> Option<(usize, &RiscvImage)> {
        self.find(|format| match format {
            Format::Riscv(image) => Some(image),
            _ => None,
        })
    }

    /// The outermost unified kernel image among the layers, and which layer it is.
    #[must_use]
    pub fn uki(&self) -> Option<(usize, &Uki)> {
        self.find(|format| match format {
            Format::Uki(uki) => Some(uki),
            _ => None,
        })
    }

    fn find<T>(&self, wanted: impl Fn(&Format) -> Option<&T>) -> Option<(usize, &T)> {
        self.layers
            .iter()
            .enumerate()
            .find_map(|(index, layer)| Some((index, wanted(&layer.format)?)))
    }

    /// The firmware that the innermost layer is, where it is any.
    #[must_use]
    pub fn firmware(&self) -> Option<&Firmware> {
        match &self.kernel().format {
            Format::Firmware(firmware) => Some(firmware),
            _ => None,
        }
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
            Format::BzImage(_)
            | Format::Arm64(_)
            | Format::Riscv(_)
            | Format::Zboot(_)
            | Format::Uki(_)
            | Format::UImage(_)
            | Format::Android(_)
            | Format::Packed(_)
            | Format::Firmware(_)
            | Format::Other(_) => None,
        };
        Ok(headers.map(|headers| (self.layers.len().saturating_sub(1), headers)))
    }

    /// What the kernel runs on, as the innermost layer that says so has it.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        let says = |layer: &Layer<'_>| layer.format.architecture();
        let mut said = self.layers.iter().rev().filter_map(says);
        said.find(|&architecture| architecture != Architecture::Unknown)
            .unwrap_or(Architecture::Unknown)
    }

    /// The kernel's version string, where the image carries one in a header.
    #[must_use]
    pub fn kernel_version(&self) -> Option<&str> {
        let of_bzimage = self
            .bzimage()
            .and_then(|(_, bzimage)| bzimage.kernel_version.as_deref());
        of_bzimage.or_else(|| self.uki()?.1.kernel_release.as_deref())
    }

    /// The profiles that there are to choose from in a unified kernel image; none in most images.
    #[must_use]
    pub fn profiles(&self) -> &[UkiProfile] {
        self.uki().map_or(&[], |(_, uki)| &uki.profiles)
    }

    /// The number of the profile that was opened; 0 where there is no choice.
    #[must_use]
    pub fn profile(&self) -> usize {
        self.profile
    }

    /// The relocation table behind the ELF among the layers. It is searched for now, which takes
    /// a look at every entry.
    #[must_use]
    pub fn relocations(&self) -> Option<Relocations> {
        let (index, elf) = self.elf()?;
        elf.relocations(self.layers.get(index)?.bytes())
    }

    /// What is in the innermost layer, to be unpacked or taken out. What a bzImage unpacks to is
    /// not taken apart any more: it is an ELF or an error.
    fn packed(&self) -> Option<Packed> {
        let (innermost, outer) = self.layers.split_last()?;
        let in_bzimage = outer
            .iter()
            .any(|layer| matches!(layer.format, Format::BzImage(_)));
        if in_bzimage {
            return None;
        }
        innermost.format.packed(self.profile)
    }

    /// Unpacks `packed`, a stream in the innermost layer, to a layer of its own. What only lies in
    /// the file is not copied.
    fn unpack(&mut self, packed: &Packed, limits: &Limits) -> Result<(), ImageError> {
        if self.layers.len() > limits.depth {
            return Err(ImageError::TooDeep {
                of: self.to_string(),
                depth: limits.depth,
            });
        }
        let layer = self.kernel();
        layer
            .format
            .check_data(layer.bytes())
            .map_err(|source| ImageError::Broken {
                of: self.to_string(),
                source,
            })?;
        let unpacked = match (&layer.bytes, packed.codec) {
            (Cow::Borrowed(bytes), Codec::Stored) => {
                packed.stored(bytes, limits.unpacked).map(Cow::Borrowed)
            }
            (bytes, _) => packed.unpack(bytes, limits.unpacked).map(Cow::Owned),
        };
        self.push(unpacked.map_err(|source| ImageError::Unpack {
            of: self.to_string(),
            source,
        })?)
    }

    fn push(&mut self, bytes: Cow<'a, [u8]>) -> Result<(), ImageError> {
        let format = Format::of(&bytes).map_err(|source| ImageError::Broken {
            of: self.chain(Some(source.format())),
            source,
        })?;
        self.layers.push(Layer { format, bytes });
        Ok(())
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

    /// The names of the formats from the outside in, and of one `more` where there is one. A codec
    /// that a format names for what is in it is told where something follows it.
    fn chain(&self, more: Option<&str>) -> String {
        let mut names = Vec::new();
        let mut codec = None;
        for layer in &self.layers {
            names.extend(codec.take());
            names.push(layer.format.to_string());
            codec = layer.format.inner_codec().map(|codec| codec.to_string());
        }
        if let Some(more) = more {
            names.extend(codec);
            names.push(more.to_string());
        }
        names.join(" → ")
    }

    /// Sees that the innermost layer is a kernel, and that the profile is one that there is.
    fn finish(self) -> Result<Self, ImageError> {
        let in_bzimage = self
            .bzimage()
            .is_some_and(|(index, _)| self.layers.len() > index.saturating_add(1));
        let why = match self.kernel().format.why_no_kernel() {
            None if in_bzimage && !matches!(self.kernel().format, Format::Elf(_)) => {
                Some("what a bzImage has in it is an ELF file")
            }
            why => why,
        };
        if let Some(why) = why {
            return Err(ImageError::NotAKernel {
                is: self.to_string(),
                why,
            });
        }
        let count = self.profiles().len().max(1);
        if self.profile >= count {
            return Err(ImageError::NoProfile {
                of: self.to_string(),
                profile: self.profile,
                count,
            });
        }
        Ok(self)
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
    /// What `bytes` are. The order is that in which formats hide in each other: a bzImage may begin
    /// as a PE file does, and an `Image` too; marks at fixed places come before those that may
    /// stand anywhere.
    fn of(bytes: &[u8]) -> Result<Self, FormatError> {
        let file = Reader::new(bytes);
        if BzImage::is(file) {
            return Ok(Self::BzImage(BzImage::parse(bytes)?));
        }
        if Elf::is(bytes) {
            return Ok(Self::Elf(Elf::parse(bytes)?));
        }
        if Zboot::is(file) {
            return Ok(Self::Zboot(Zboot::parse(bytes)?));
        }
        if Arm64Image::is(file) {
            return Ok(Self::Arm64(
                Arm64Image::parse(bytes).map_err(FormatError::Arm64)?,
            ));
        }
        if RiscvImage::is(file) {
            return Ok(Self::Riscv(
                RiscvImage::parse(bytes).map_err(FormatError::Riscv)?,
            ));
        }
        if let Some(pe) = Pe::read(bytes).filter(|&pe| Uki::is(pe)) {
            return Ok(Self::Uki(Uki::parse(pe, bytes)?));
        }
        if Firmware::is(file) {
            return Ok(Self::Firmware(Firmware::parse(bytes)?));
        }
        if UImage::is(file) {
            return Ok(Self::UImage(UImage::parse(bytes)?));
        }
        if AndroidBoot::is(file) {
            return Ok(Self::Android(AndroidBoot::parse(bytes)?));
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

    /// What is in it, to be unpacked or taken out.
    fn packed(&self, profile: usize) -> Option<Packed> {
        match self {
            Self::BzImage(bzimage) => bzimage.payload.clone(),
            Self::Zboot(zboot) => Some(zboot.payload.clone()),
            Self::Uki(uki) => uki.kernel(profile),
            Self::UImage(uimage) => uimage.kernel(),
            Self::Android(boot) => Some(boot.packed_kernel()),
            Self::Packed(packed) => Some(packed.clone()),
            Self::Arm64(_)
            | Self::Riscv(_)
            | Self::Elf(_)
            | Self::Multiboot(_)
            | Self::Firmware(_)
            | Self::Other(_) => None,
        }
    }

    /// How what is in it is compressed, where that belongs to the format. That nothing is, is worth
    /// a word in a bzImage only.
    fn inner_codec(&self) -> Option<Codec> {
        match self {
            Self::BzImage(bzimage) => bzimage.payload.as_ref().map(|payload| payload.codec),
            Self::Zboot(zboot) => Some(zboot.payload.codec),
            Self::UImage(uimage) => Some(uimage.codec).filter(|&codec| codec != Codec::Stored),
            Self::Uki(_)
            | Self::Android(_)
            | Self::Packed(_)
            | Self::Arm64(_)
            | Self::Riscv(_)
            | Self::Elf(_)
            | Self::Multiboot(_)
            | Self::Firmware(_)
            | Self::Other(_) => None,
        }
    }

    /// Checks what takes a look at every byte, and so is left to the moment of unpacking.
    fn check_data(&self, bytes: &[u8]) -> Result<(), FormatError> {
        if let Self::UImage(uimage) = self {
            uimage.check_data(bytes)?;
        }
        Ok(())
    }

    /// What it runs on, where it says so.
    fn architecture(&self) -> Option<Architecture> {
        match self {
            Self::BzImage(bzimage) => Some(
                if bzimage.setup.xloadflags().contains(XLoadFlags::KERNEL_64) {
                    Architecture::X86_64
                } else {
                    Architecture::I386
                },
            ),
            Self::Arm64(_) => Some(Architecture::Arm64),
            Self::Riscv(image) => Some(image.architecture),
            Self::Elf(elf) => Some(elf.architecture()),
            Self::Multiboot(_) => Some(Architecture::I386),
            Self::Zboot(zboot) => Some(zboot.architecture),
            Self::Uki(uki) => Some(uki.architecture),
            Self::UImage(uimage) => Some(uimage.architecture),
            Self::Firmware(firmware) => Some(firmware.architecture),
            Self::Android(_) | Self::Packed(_) | Self::Other(_) => None,
        }
    }

    /// Why it is no kernel that can be booted; `None` where it is one.
    fn why_no_kernel(&self) -> Option<&'static str> {
        /// As [`ElfError::BigEndian`] has it.
        const BIG_ENDIAN: &str = "it is big-endian, and only little-endian kernels can be booted";
        /// Said of containers, whose kernel would be the innermost layer.
        const WITHOUT: &str = "there is no kernel in it";
        match self {
            Self::BzImage(_) => None,
            Self::Arm64(image) => image.is_big_endian.then_some(BIG_ENDIAN),
            Self::Riscv(image) => image.is_big_endian.then_some(BIG_ENDIAN),
            Self::Elf(elf) => why_no_kernel(elf),
            Self::Multiboot(headers) => (!headers.is_flat()).then_some(
                "its multiboot header does not say where to load it, and it is no ELF file",
            ),
            Self::UImage(uimage) => Some(uimage.kind.why_not().unwrap_or(WITHOUT)),
            Self::Zboot(_) | Self::Uki(_) | Self::Android(_) | Self::Packed(_) => Some(WITHOUT),
            Self::Firmware(firmware) => firmware.why_not(),
            Self::Other(other) => Some(other.why_not()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BzImage(bzimage) => fmt::Display::fmt(bzimage, f),
            Self::Arm64(image) => fmt::Display::fmt(image, f),
            Self::Riscv(image) => fmt::Display::fmt(image, f),
            Self::Elf(elf) => fmt::Display::fmt(elf, f),
            Self::Multiboot(headers) => fmt::Display::fmt(headers, f),
            Self::Zboot(zboot) => fmt::Display::fmt(zboot, f),
            Self::Uki(uki) => fmt::Display::fmt(uki, f),
            Self::UImage(uimage) => fmt::Display::fmt(uimage, f),
            Self::Android(boot) => fmt::Display::fmt(boot, f),
            Self::Packed(packed) => fmt::Display::fmt(&packed.codec, f),
            Self::Firmware(firmware) => fmt::Display::fmt(firmware, f),
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
    /// A broken Linux kernel for 64-bit Arm.
    #[error(transparent)]
    Arm64(LinuxImageError),
    /// A broken Linux kernel for RISC-V.
    #[error(transparent)]
    Riscv(LinuxImageError),
    /// A broken EFI zboot image.
    #[error(transparent)]
    Zboot(#[from] ZbootError),
    /// A broken unified kernel image.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// A broken uImage.
    #[error(transparent)]
    UImage(#[from] UImageError),
    /// A broken Android boot image.
    #[error(transparent)]
    Android(#[from] AndroidBootError),
    /// Broken UEFI firmware.
    #[error(transparent)]
    Firmware(#[from] FirmwareVolumeError),
}

impl FormatError {
    /// What it would be if it were not broken.
    const fn format(&self) -> &'static str {
        match self {
            Self::BzImage(_) => "bzImage",
            Self::Elf(_) => "ELF file",
            Self::Multiboot(_) => "multiboot kernel",
            Self::Arm64(_) => "arm64 Image",
            Self::Riscv(_) => "riscv Image",
            Self::Zboot(_) => "EFI zboot image",
            Self::Uki(_) => "unified kernel image",
            Self::UImage(_) => "uImage",
            Self::Android(_) => "Android boot image",
            Self::Firmware(_) => "UEFI firmware image",
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
    /// A unified kernel image has no profile of this number.
    #[error("there is no profile {profile} in {of}: {} is the highest number", count.saturating_sub(1))]
    NoProfile {
        /// The chain of formats.
        of: String,
        /// The number asked for.
        profile: usize,
        /// How many there are.
        count: usize,
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

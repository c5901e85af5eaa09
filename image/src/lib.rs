//! Finds out what a kernel file is, and unpacks it.
//!
//! [`Image::open`] takes a file apart, from the outside in: a bzImage, the compressed stream in it,
//! the ELF in that. What it finds are plain values, offsets and ranges, so that planning a boot
//! needs no bytes. It decides nothing: where things go is for `firstlight-boot` to say.
//!
//! ```
//! use firstlight_image::{Image, Limits};
//!
//! let error = Image::open(b"menuentry 'Debian' {\n", &Limits::default()).unwrap_err();
//! assert_eq!(error.to_string(), "it is a text file: that is no kernel");
//! ```
//!
//! Every byte comes from outside. Nothing here panics on one, and nothing is allocated by a number
//! that has not been checked.
#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

extern crate alloc;

mod android;
mod architecture;
mod arm64;
mod bzimage;
mod crc32;
mod elf;
mod firmware;
mod image;
mod linux_image;
mod multiboot;
mod note;
mod other;
mod packed;
mod pe;
mod relocations;
mod riscv;
mod setup_header;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod uimage;
mod uki;
mod zboot;

pub use android::{AndroidBoot, AndroidBootError};
pub use architecture::Architecture;
pub use arm64::Arm64Image;
pub use bzimage::{BzImage, BzImageError, KernelInfo};
pub use elf::{Class, Elf, ElfError, Kind, Machine, Segment, SegmentFlags};
pub use firmware::{Firmware, FirmwareVolumeError};
pub use image::{Format, FormatError, Image, ImageError, Layer, Limits, Part, Parts};
pub use linux_image::LinuxImageError;
pub use multiboot::{
    Multiboot, Multiboot1, Multiboot1Flags, Multiboot2, MultibootAddresses, MultibootError,
    MultibootLoad, MultibootRelocation, MultibootVideo,
};
pub use note::{PvhEntry, PvhRelocation};
pub use other::Other;
pub use packed::{Codec, Packed, UnpackError};
pub use relocations::{RelocationRuns, Relocations};
pub use riscv::RiscvImage;
pub use setup_header::{LoadFlags, SetupHeader, Version, XLoadFlags};
pub use uimage::{UImage, UImageError, UImageKind};
pub use uki::{Uki, UkiError, UkiProfile, UkiSection, UkiSectionKind};
pub use zboot::{Zboot, ZbootError};

//! The boot plan: every byte and every register, decided and checked, nothing written yet.

use crate::{Platform, Protocol};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::{GpaRange, VcpuState};
use firstlight_image::Relocations;

/// A sound plan: what lies where, what the tables say and what the boot vCPU's registers hold.
#[derive(Clone, Debug)]
pub struct BootPlan {
    pub(crate) platform: Platform,
    pub(crate) protocol: Protocol,
    pub(crate) image: String,
    pub(crate) cmdline: String,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) e820: Vec<E820Entry>,
    pub(crate) moved: u64,
    pub(crate) relocate: Option<Relocate>,
    pub(crate) boot_vcpu: VcpuState,
}

/// A shift of the kernel's virtual addresses, to be applied to its code and data once they are in
/// guest memory: what the kernel's own unpacking code would do
/// (`arch/x86/boot/compressed/misc.c`, `handle_relocations`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocate {
    /// Which of the image's layers the places to change are listed in.
    pub layer: usize,
    /// Where they are listed. Every entry is a link-time virtual address.
    pub places: Relocations,
    /// What is added to a place's link-time virtual address, modulo 2⁶⁴, to get its
    /// guest-physical one.
    pub to_physical: u64,
    /// What is added to the virtual addresses at the 64-bit and 32-bit places, and subtracted from
    /// those at the inverse ones.
    pub shift: u64,
    /// The kernel: every place lies in it, whole.
    pub within: GpaRange,
}

/// One thing in guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is, in a word or three: `boot_params`, `kernel segment 0`, `initrd`.
    pub name: Cow<'static, str>,
    /// Where it lies.
    pub range: GpaRange,
    /// What is put there.
    pub content: Content,
    /// Why it is there and not elsewhere.
    pub why: Cow<'static, str>,
}

/// What a [`Piece`] is filled with. What the content does not fill of its range is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes of the image: `len` of them at `offset` of its layer number `layer`.
    Image {
        /// Index into the image's layers, the file itself being 0.
        layer: usize,
        /// Where in that layer the bytes begin.
        offset: u64,
        /// How many there are.
        len: u64,
    },
    /// The initial ramdisk, whole.
    Initrd,
    /// The request's module of that number, whole.
    Module(usize),
    /// Nothing: the kernel uses the range while it starts, so it must be free RAM.
    Window,
}

/// A line of the memory map that the guest is given (ACPI 6.5, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct E820Entry {
    /// The addresses it speaks of.
    pub range: GpaRange,
    /// What they are.
    pub kind: E820Kind,
}

/// What a range of addresses is to the guest (ACPI 6.5, table 15.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Kind {
    /// RAM that the guest may use.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
    /// ACPI tables: RAM once they have been read.
    AcpiTables = 3,
}

impl fmt::Display for E820Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ram => "RAM",
            Self::Reserved => "reserved",
            Self::AcpiTables => "ACPI tables",
        })
    }
}

impl BootPlan {
    /// The machine the plan is for.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The way in.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What the image is: the chain of its formats, as people read it.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The kernel's command line.
    #[must_use]
    pub fn cmdline(&self) -> &str {
        &self.cmdline
    }

    /// Everything in guest memory, by ascending address.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The memory map that the guest is given, ascending.
    #[must_use]
    pub fn e820(&self) -> &[E820Entry] {
        &self.e820
    }

    /// The device tree that the guest is given, where its machine has one.
    #[must_use]
    pub fn device_tree(&self) -> Option<&[u8]> {
        if matches!(self.platform, Platform::Pc(_)) {
            return None;
        }
        self.pieces.iter().find_map(|piece| match &piece.content {
            Content::Bytes(bytes) => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// How much higher than it was linked to the kernel lies in guest memory, modulo 2⁶⁴.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The shift of the kernel's virtual addresses, where there is one.
    #[must_use]
    pub fn relocate(&self) -> Option<&Relocate> {
        self.relocate.as_ref()
    }

    /// What the boot vCPU's registers hold when it is entered.
    #[must_use]
    pub fn boot_vcpu(&self) -> &VcpuState {
        &self.boot_vcpu
    }
}

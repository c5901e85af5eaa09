//! Why there is no sound plan.

use crate::Protocol;
use crate::firmware::fdt::FdtError;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::{Gpa, GpaRange};
use firstlight_image::Version;

/// Why an image cannot be booted as it was asked for: the rule, and the numbers that break it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A machine that nobody can build.
    #[error("{asked} vCPUs were asked for; this machine can have 1 to {most}")]
    Cpus {
        /// How many were asked for.
        asked: u32,
        /// How many there can be.
        most: u32,
    },
    /// Less memory than a PC begins with, or more than it can address.
    #[error(
        "{asked:#x} bytes of memory were asked for; this machine can have {least:#x} to {most:#x}"
    )]
    Memory {
        /// How many bytes were asked for.
        asked: u64,
        /// How few bytes there can be.
        least: u64,
        /// How many bytes there can be.
        most: u64,
    },
    /// More virtio transports than the machine has room for.
    #[error("{asked} virtio transports were asked for; this machine can have {most}")]
    Transports {
        /// How many were asked for.
        asked: u32,
        /// How many there can be.
        most: u32,
    },
    /// Memory that outlives the guest has a size that Linux does not take.
    #[error(
        "pmem {number} is to have {len:#x} bytes; it has a whole number of 2 MiB, and at least one"
    )]
    PmemLength {
        /// Which, counted from 0.
        number: usize,
        /// How many bytes were asked for.
        len: u64,
    },
    /// The image has no such way in.
    #[error("{image} cannot be entered by {protocol}: {why}")]
    NoEntry {
        /// What the image is.
        image: String,
        /// The way in that was asked for.
        protocol: Protocol,
        /// What it lacks.
        why: String,
    },
    /// The image is none that this machine can run.
    #[error("{image} cannot be booted: {why}")]
    NotBootable {
        /// What the image is.
        image: String,
        /// What it lacks.
        why: String,
    },
    /// Firmware is longer than the flash that it is to lie in.
    #[error("the firmware has {len:#x} bytes, but the flash {flash} has {:#x}", flash.len())]
    FirmwareTooLong {
        /// How many bytes it has.
        len: u64,
        /// Where the flash is.
        flash: GpaRange,
    },
    /// Firmware is not as long as a PC's flash can be, or leaves no room for its variables.
    #[error(
        "the firmware has {len:#x} bytes; a PC's flash has whole pages, {most:#x} bytes at most, and what \
         the firmware leaves of a power of two is for its variables: is this the code alone, as \
         OVMF_CODE_4M.fd is?"
    )]
    FirmwareLength {
        /// How many bytes it has.
        len: u64,
        /// How many flash has at most.
        most: u64,
    },
    /// The kernel would be entered outside of itself.
    #[error("the kernel's entry {entry} lies outside the kernel, which lies at {kernel}")]
    EntryOutside {
        /// Where it is entered.
        entry: Gpa,
        /// Where it lies.
        kernel: GpaRange,
    },
    /// The kernel lies where the tables that it is entered with do not reach.
    #[error("the kernel lies at {kernel}, but can be entered in long mode only below {limit}")]
    NotMapped {
        /// Where it lies.
        kernel: GpaRange,
        /// How far the tables reach.
        limit: Gpa,
    },
    /// A kernel was asked for at an address where it cannot go.
    #[error("the kernel was asked for at {asked}, but has to lie at {must}: {why}")]
    Immovable {
        /// Where it was asked for.
        asked: Gpa,
        /// Where it has to lie.
        must: Gpa,
        /// Why.
        why: &'static str,
    },
    /// A kernel that can be moved was asked for where it cannot be moved to.
    #[error(
        "the kernel was asked for at {asked} with {len:#x} bytes, but may lie only at a multiple \
         of {align:#x} within {within}"
    )]
    Misplaced {
        /// Where it was asked for.
        asked: Gpa,
        /// How many bytes it takes there.
        len: u64,
        /// What its address has to be a multiple of.
        align: u64,
        /// Where every byte of it has to lie.
        within: GpaRange,
    },
    /// The command line is longer than the kernel takes.
    #[error("the command line has {len} bytes, but this kernel takes {limit} (its cmdline_size)")]
    CmdlineTooLong {
        /// How long it is.
        len: u64,
        /// How long it may be.
        limit: u64,
    },
    /// The command line has a NUL in it.
    #[error("the command line has a NUL at byte {at}, where the kernel would take it to end")]
    CmdlineNul {
        /// Where.
        at: usize,
    },
    /// An initial ramdisk without a byte.
    #[error("the initial ramdisk is empty")]
    EmptyInitrd,
    /// The way in hands over no modules.
    #[error("modules were given, but a kernel that is entered by {protocol} is handed none")]
    NoModules {
        /// The way in.
        protocol: Protocol,
    },
    /// A module without a byte.
    #[error("module {number} is empty")]
    EmptyModule {
        /// Which, counted from 0.
        number: usize,
    },
    /// The boot protocol has no way to tell the kernel something.
    #[error("a kernel that is entered by {protocol} cannot be given {what}")]
    Untold {
        /// The way in.
        protocol: Protocol,
        /// What was to be told.
        what: &'static str,
    },
    /// The memory map has more lines than the kernel has room for.
    #[error("the memory map has {lines} lines, but a kernel entered by {protocol} takes {most}")]
    MemoryMapTooLong {
        /// The way in.
        protocol: Protocol,
        /// How many lines it has.
        lines: usize,
        /// How many it may have.
        most: usize,
    },
    /// The kernel's boot protocol has no field for what was asked for.
    #[error("{what} was asked for, which came with protocol {since}; this kernel has {version}")]
    TooOld {
        /// What was asked for.
        what: &'static str,
        /// The kernel's protocol.
        version: Version,
        /// The first that has it.
        since: Version,
    },
    /// What was given as a device tree is none, or not all of one.
    #[error("the device tree {}", Tree(*.len, *.claimed))]
    NoDeviceTree {
        /// How many bytes there are.
        len: usize,
        /// How many it says it has, where it is one.
        claimed: Option<u32>,
    },
    /// The machine cannot be described to the kernel.
    #[error(transparent)]
    DeviceTree(#[from] FdtError),
    /// The kernel does not know a type of `setup_data`.
    #[error("setup_data of type {kind:#x} was asked for, {}", Known(*.most))]
    SetupDataUnknown {
        /// The type.
        kind: u32,
        /// The highest that it knows, where it says so.
        most: Option<u32>,
    },
    /// Something would lie behind the last address there is.
    #[error("{name} has to lie at {at:#x} with {len:#x} bytes, which is no range of addresses")]
    Wraps {
        /// What has to lie there.
        name: String,
        /// Where it would begin.
        at: u64,
        /// How many bytes it would have.
        len: u64,
    },
    /// Something has to lie where no RAM is.
    #[error("{name} has to lie at {range}, which is not all RAM; RAM is {}", List(.ram))]
    NotRam {
        /// What has to lie there.
        name: String,
        /// Where.
        range: GpaRange,
        /// What RAM there is.
        ram: Vec<GpaRange>,
    },
    /// Two things would lie in one place.
    #[error("{name} at {range} and {other} at {other_range} overlap")]
    Overlap {
        /// The one.
        name: String,
        /// Where it lies.
        range: GpaRange,
        /// The other.
        other: String,
        /// Where that lies.
        other_range: GpaRange,
    },
    /// Nowhere is enough room.
    #[error(
        "{name} needs {len:#x} bytes aligned to {align:#x} within {within}, {}",
        Largest(*.largest)
    )]
    NoRoom {
        /// What needs room.
        name: String,
        /// How many bytes.
        len: u64,
        /// What its address has to be a multiple of.
        align: u64,
        /// Where it has to lie.
        within: GpaRange,
        /// The largest free range there.
        largest: Option<GpaRange>,
    },
}

struct List<'a>(&'a [GpaRange]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (range, separator) in self
            .0
            .iter()
            .zip([""].into_iter().chain(core::iter::repeat(", ")))
        {
            write!(f, "{separator}{range}")?;
        }
        Ok(())
    }
}

struct Tree(usize, Option<u32>);

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(claimed) => write!(
                f,
                "has {:#x} bytes, but says that it has {claimed:#x}",
                self.0
            ),
            None => f.write_str("is none: it does not begin with 0xd00dfeed"),
        }
    }
}

struct Known(Option<u32>);

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(most) => write!(f, "but this kernel knows types up to {most:#x}"),
            None => f.write_str("but this kernel does not say which types it knows"),
        }
    }
}

struct Largest(Option<GpaRange>);

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(range) => write!(
                f,
                "but the largest free range there is {range} ({:#x} bytes)",
                range.len()
            ),
            None => f.write_str("but nothing is free there"),
        }
    }
}

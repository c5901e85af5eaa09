//! What somebody wants booted, and how.

use alloc::string::String;
use core::fmt;

/// What is wanted of a boot, beside the kernel's image.
#[derive(Clone, Debug)]
pub struct Request {
    /// Bytes of guest RAM.
    pub memory: u64,
    /// How many vCPUs.
    pub cpus: u32,
    /// The kernel's command line, without a NUL.
    pub cmdline: String,
    /// Bytes of the initial ramdisk, where there is one.
    pub initrd: Option<u64>,
    /// The way in.
    pub protocol: ProtocolChoice,
    /// Who unpacks a packed kernel.
    pub unpack: Unpack,
    /// Whether the guest may end its machine with a status of its own choice.
    pub debug_exit: bool,
    /// Random bytes for the kernel's entropy pool; fresh for every start.
    pub rng_seed: [u8; 32],
}

/// Who unpacks a packed kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// The host, before the guest runs.
    Host,
    /// The kernel's own start-up code, in the guest.
    Guest,
}

/// The way in that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolChoice {
    /// The fastest that the image offers.
    Auto,
    /// This one or none.
    Only(Protocol),
}

/// A boot protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The 64-bit entry of the Linux/x86 boot protocol (`Documentation/arch/x86/boot.rst`).
    Linux64,
    /// The 32-bit entry of the same.
    Linux32,
    /// The x86/HVM direct boot ABI (Xen's `docs/misc/pvh.pandoc`).
    Pvh,
}

impl Protocol {
    /// Every protocol, fastest first.
    pub const ALL: [Self; 3] = [Self::Linux64, Self::Pvh, Self::Linux32];

    /// The name on the command line and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux64 => "linux64",
            Self::Linux32 => "linux32",
            Self::Pvh => "pvh",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

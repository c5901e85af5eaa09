//! The processors that guests run on, and what each is called by whom.

use crate::failure::{Failure, Outcome};

/// A guest's architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Architecture {
    X86_64,
    Arm64,
    Riscv64,
}

impl Architecture {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::X86_64, Self::Arm64, Self::Riscv64];

    /// What this program runs on.
    pub(crate) fn of_this_machine() -> Outcome<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Arm64),
            "riscv64" => Ok(Self::Riscv64),
            other => Err(Failure::new(format!("there are no guests for {other}"))),
        }
    }

    /// Firstlight's own name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// What images and modules for it are marked as.
    pub(crate) fn of_images(self) -> firstlight_initramfs::Architecture {
        match self {
            Self::X86_64 => firstlight_initramfs::Architecture::X86_64,
            Self::Arm64 => firstlight_initramfs::Architecture::Arm64,
            Self::Riscv64 => firstlight_initramfs::Architecture::Riscv64,
        }
    }

    /// Debian's name for it, which kernel packages end with.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// QEMU's and the GNU tools' name for it.
    pub(crate) fn gnu(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// Rust's target for Linux on it.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
            Self::Riscv64 => "riscv64gc-unknown-linux-gnu",
        }
    }

    /// Linux's name for the serial port of its machines.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Self::X86_64 | Self::Riscv64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}

impl std::str::FromStr for Architecture {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = |one: &Self| name == one.name() || name == one.gnu() || name == one.debian();
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(known);
        found.ok_or_else(|| format!("there are {names}"))
    }
}

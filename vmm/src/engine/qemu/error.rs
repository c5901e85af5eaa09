//! Why QEMU cannot run a guest.

use firstlight_boot::{FirmwareError, ResetRomError};
use firstlight_image::Architecture;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Why QEMU cannot run a guest.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// There is no QEMU.
    #[error("{program} is not installed: install the package {packages}")]
    Missing {
        /// The program.
        program: &'static str,
        /// What it is packed in.
        packages: &'static str,
    },
    /// Guests of this kind have no machine here.
    #[error("there is no machine for {architecture} guests")]
    Machine {
        /// What they are built for.
        architecture: Architecture,
    },
    /// There is no such program as the environment names.
    #[error("{variable} names {program}, which is not there")]
    NotThere {
        /// The variable of the environment.
        variable: &'static str,
        /// What it holds.
        program: String,
    },
    /// The plan's registers cannot be reached from reset.
    #[error("no way leads from reset to the plan's registers")]
    Rom(#[from] ResetRomError),
    /// No machine-mode firmware can be made for the plan.
    #[error("no firmware leads from reset to the plan's registers")]
    Firmware(#[from] FirmwareError),
    /// The program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// What the host said.
        source: io::Error,
    },
    /// QEMU ended by itself.
    #[error("it ended by itself, {status}{}", said(.stderr))]
    Ended {
        /// Its exit status or the signal that ended it.
        status: ExitStatus,
        /// What it said on stderr.
        stderr: String,
    },
    /// QEMU stopped the guest for a reason of its own.
    #[error("it stopped the guest: {reason}{}", said(.stderr))]
    Stopped {
        /// The reason in its protocol's words.
        reason: String,
        /// What it said on stderr.
        stderr: String,
    },
    /// QEMU does not make its machine.
    #[error("it started, but has not made its machine after {} s", .0.as_secs())]
    Silent(Duration),
    /// QEMU refuses one of our requests.
    #[error("it refuses a request: {what}")]
    Refused {
        /// In QEMU's words.
        what: String,
    },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() {
        ", saying nothing".to_owned()
    } else {
        format!(", saying:\n{stderr}")
    }
}

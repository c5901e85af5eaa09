//! What a host can refuse.

use firstlight_base::{GpaRange, Irq};
use std::io;

/// The host's hypervisor failed or cannot.
#[derive(Debug, thiserror::Error)]
pub enum HvError {
    /// There is no hypervisor to talk to.
    #[error(transparent)]
    NoKvm(#[from] NoKvm),
    /// The host's KVM is too old or too small.
    #[error("the host's KVM lacks {0}")]
    MissingCapability(&'static str),
    /// The host refused a step.
    #[error("the host's KVM refuses to {what}")]
    Refused {
        /// The step, as a verb and its object.
        what: &'static str,
        /// The host's reason.
        source: io::Error,
    },
    /// Guest memory at addresses that the hypervisor uses itself.
    #[error("guest memory at {memory} overlaps {reserved}, which KVM uses itself")]
    Reserved {
        /// The guest memory.
        memory: GpaRange,
        /// KVM's addresses.
        reserved: GpaRange,
    },
    /// Guest memory at addresses that the host's processor cannot give a guest.
    #[error(
        "guest memory at {memory} has addresses beyond the {bits} bits that this host's guests can have"
    )]
    BeyondAddresses {
        /// The guest memory.
        memory: GpaRange,
        /// How many bits a guest-physical address has.
        bits: u32,
    },
    /// A machine or registers of another architecture than the host's.
    #[error("the host's KVM runs guests for its own processor only, and this one is for another")]
    OtherArchitecture,
    /// An interrupt line that the machine does not have.
    #[error("the machine has no interrupt line {0}")]
    NoSuchLine(Irq),
    /// A vCPU that no interrupt controller outside the hypervisor can be wired to.
    #[error("this host's vCPUs have no interrupt pin: their controllers are inside KVM")]
    NoPin,
    /// More vCPUs than the machine can have.
    #[error("the host's KVM has at most {most} vCPUs, and not {wanted}")]
    TooManyVcpus {
        /// How many were wanted.
        wanted: u32,
        /// How many there can be.
        most: u32,
    },
}

/// What keeps KVM away although the processor could.
const MODULE: &str = "the kernel module is not loaded (on x86 kvm_intel or kvm_amd, on RISC-V kvm), \
                      or the kernel was not started where it could (on Arm, at EL2)";

/// Why `/dev/kvm` cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum NoKvm {
    /// No such file.
    #[error(
        "there is no /dev/kvm: the processor has no virtualisation, it is switched off in the \
         firmware, or {MODULE}"
    )]
    Missing,
    /// Not for this user.
    #[error("this user may not open /dev/kvm: join its group (usually `kvm`) and log in again")]
    Denied,
    /// Held by another hypervisor.
    #[error("/dev/kvm is busy: another hypervisor holds the processor's virtualisation")]
    Busy,
    /// A device without a driver behind it.
    #[error("/dev/kvm has no driver behind it: {MODULE}")]
    NoDriver,
    /// Anything else.
    #[error("/dev/kvm cannot be opened")]
    Other(#[source] io::Error),
    /// A file that is not KVM's device.
    #[error("/dev/kvm is something else than KVM's device")]
    SomethingElse,
    /// A KVM from before Linux 2.6.22, or one to come.
    #[error("/dev/kvm speaks version {0} of the KVM API, not 12")]
    Version(u32),
}

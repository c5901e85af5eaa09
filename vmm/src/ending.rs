//! How a guest's run ends.

use crate::AllocateError;
use crate::engine::qemu::QemuError;
use crate::{DeviceError, MemoryFileError, PolicyError, PostMortem};
use firstlight_base::{VcpuId, VcpuState};
use std::io;

/// How a guest's run ended.
#[derive(Debug)]
pub enum Ending {
    /// The guest turned its machine off.
    PowerOff,
    /// The guest asked for a reset; its caller may plan and run it again.
    Reset,
    /// A vCPU cannot go on: triple fault, or something the engine cannot carry out.
    Crashed(Box<PostMortem>),
    /// The guest's kernel panicked.
    Panicked,
    /// The guest did not feed its watchdog.
    WatchdogFired,
    /// The time limit ran out; with the place it was at where the console had stayed silent.
    TimedOut(Option<Box<PostMortem>>),
    /// The guest ended its machine with a status of its own, 0 to 127.
    ExitCode(u8),
    /// The person at the console left it with `Ctrl-A x`.
    Left,
    /// A signal asked us to end; its number. The caller raises it again.
    Signalled(i32),
}

/// How a machine stopped, as its engine saw it. What the console said decides what it means.
#[derive(Debug)]
pub enum Stop {
    /// Soft off.
    PowerOff,
    /// A reset register or the keyboard controller's reset line.
    Reset,
    /// The guest's kernel said through `pvpanic` that it panicked.
    Panicked,
    /// Its watchdog was not fed.
    WatchdogFired,
    /// The guest wrote its status to the debug exit port.
    ExitCode(u8),
    /// A vCPU cannot go on.
    Crashed(Box<Crash>),
}

/// What is known of a vCPU that cannot go on.
#[derive(Debug)]
pub struct Crash {
    /// Which one.
    pub vcpu: VcpuId,
    /// What happened.
    pub kind: CrashKind,
    /// Its registers, where the engine can still read them.
    pub registers: Option<VcpuState>,
    /// The bytes of the instruction as the engine saw them, where it said so.
    pub instruction: Vec<u8>,
}

/// What can stop a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// A fault while handling the fault that handling a fault had caused (SDM volume 3A, section
    /// 6.15, interrupt 8): the processor shuts down, and a PC resets. Some kernels do it on
    /// purpose to reset.
    TripleFault,
    /// Anything else, in the engine's words.
    Other(String),
}

/// The host could not run the guest.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No memory for the guest.
    #[error("cannot allocate the guest's memory")]
    Memory(#[from] firstlight_load::AllocateError),
    /// The plan's files are not what they were.
    #[error("cannot put the kernel into the guest's memory")]
    Place(#[from] firstlight_load::PlaceError),
    /// The hypervisor failed.
    #[error("KVM cannot run the guest")]
    Hypervisor(#[from] firstlight_hv::HvError),
    /// QEMU failed.
    #[error("QEMU cannot run the guest")]
    Qemu(#[from] QemuError),
    /// The vCPUs cannot be scheduled as was asked for.
    #[error("cannot run the vCPUs as wanted")]
    Policy(#[from] PolicyError),
    /// A device cannot be had from the host.
    #[error("cannot give the guest its devices")]
    Device(#[from] DeviceError),
    /// The machine has no room for a device.
    #[error("cannot give the guest its devices")]
    Seat(#[from] AllocateError),
    /// What is to outlive the guest cannot be kept.
    #[error("cannot keep what is to outlive the guest")]
    MemoryFile(#[from] MemoryFileError),
    /// The interrupt controllers cannot be where they are wanted.
    #[error("cannot give the guest its interrupt controllers")]
    Irqchip(#[from] crate::IrqchipError),
    /// The guest's memory cannot be swapped.
    #[error("cannot swap the guest's memory")]
    Swap(#[from] crate::SwapError),
    /// The console's output cannot be written.
    #[error("cannot write the guest's console output")]
    Output(#[source] io::Error),
    /// A system call failed.
    #[error("cannot {doing}")]
    Host {
        /// What was tried, to be read after "cannot".
        doing: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

impl RunError {
    /// For `map_err`: what was tried, to be read after "cannot".
    pub(crate) fn host<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Host {
            doing,
            source: source.into(),
        }
    }
}

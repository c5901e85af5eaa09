//! Runs a planned guest: on KVM with devices of our own, or on QEMU.
//!
//! [`choose`] finds the engine, [`Engine::prepare`] carries the plan out, and [`Machine::run`]
//! runs the guest until it ends, serving its console on the calling thread.

pub mod arch;
mod battery;
mod bell;
mod board;
mod child;
mod console;
mod cpu_set;
mod crash_log;
mod debug_console;
mod devices;
mod ending;
mod engine;
mod escape;
mod flash;
mod irqchip;
mod jail;
mod listener;
mod machine;
mod memory_file;
mod notebook;
mod panic_watch;
mod pci;
mod post_mortem;
mod reports;
mod session;
mod signals;
mod suspension;
mod swap;
mod system_allocator;
mod terminal;
#[cfg(test)]
mod testing;
mod trim;
mod vcpu_policy;
mod virtio;

pub use arch::{HostCpuError, HostCpus, LinuxArch};
pub use battery::Battery;
pub use console::{Console, ConsoleOutput};
pub use cpu_set::{CpuSet, CpuSetError};
pub use crash_log::{CrashRecord, RecordKind, crash_records};
pub use debug_console::DebugConsole;
pub use devices::{
    ConsoleKind, Contents, DeviceError, Devices, Disk, GuestCid, Net, OfferedFile, OpenDevices,
    Share, Tag, Transport, Vsock,
};
pub use ending::{Crash, CrashKind, Ending, RunError, Stop};
pub use engine::qemu::QemuError;
pub use engine::{Chosen, Engine, EngineChoice, Equipment, NoEngine, choose};
pub use firstlight_devices::{BatteryHealth, BatteryState, BatteryStateError, BatteryStatus};
pub use irqchip::{IrqchipError, IrqchipMode};
pub use jail::{JailError, Sandbox, has_landlock, serve_if_jailed};
pub use listener::{ListenError, Listener, connect_to};
pub use machine::{Limits, Machine, Running};
pub use memory_file::{MemoryFile, MemoryFileError, MemoryFilePurpose};
pub use pci::vfio::{HostPciAddress, NoPciAddress, VfioError};
pub use post_mortem::{Decoded, PostMortem, Progress, Reason};
pub use signals::leave_to_others as leave_signals_to_others;
pub use suspension::{Suspension, Wakefulness};
pub use swap::{Swap, SwapError, SwapStatus};
pub use system_allocator::{
    AllocateError, Holder, IrqRange, MmioWindow, Pool, PortRange, Resource, Room, SystemAllocator,
    SystemAllocatorConfig,
};
pub use vcpu_policy::{Enforcement, PolicyError, VcpuAffinity, VcpuPolicy};
pub use virtio::{ForeignDevice, ForeignKind, FrontEndError, PasstError, TapError, VirtioDevice};

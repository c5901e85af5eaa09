//! Hypervisors behind one set of names.
//!
//! A [`Hypervisor`] makes a [`Vm`]; a VM is given memory and makes its [`Vcpu`]s; a vCPU runs until
//! the guest wants something, and says what in an [`Exit`]. [`kvm`] is the Linux hypervisor;
//! [`script`] plays back exits, so that a run loop can be tested on a machine without one.
//!
//! ```
//! use firstlight_base::{Port, VcpuId};
//! use firstlight_hv::script::{Script, Step};
//! use firstlight_hv::{Exit, Features, HvError, Hypervisor, Vcpu, Vm};
//!
//! /// Runs a guest until it faults, and collects what it writes to port 0xe9.
//! fn listen(hypervisor: &impl Hypervisor) -> Result<Vec<u8>, HvError> {
//!     let mut vcpus = hypervisor.create_vm()?.create_vcpus(1, Features::default())?;
//!     let mut heard = Vec::new();
//!     loop {
//!         match vcpus[0].run()? {
//!             Exit::PortWrite { port: Port(0xe9), data } => heard.extend_from_slice(data),
//!             Exit::PortRead { data, .. } | Exit::MmioRead { data, .. } => data.fill(0xff),
//!             Exit::Shutdown => return Ok(heard),
//!             _ => {}
//!         }
//!     }
//! }
//!
//! let port = Port(0xe9);
//! let guest = [
//!     Step::PortWrite { port, data: b"h".to_vec() },
//!     Step::PortWrite { port, data: b"i".to_vec() },
//!     Step::Shutdown,
//! ];
//! let script = Script::new().vcpu(VcpuId::BOOT, guest);
//! assert_eq!(listen(&script)?, b"hi");
//! # Ok::<(), HvError>(())
//! ```

mod error;
mod exit;
mod interconnect;
mod irqchip;
pub mod kvm;
mod offer;
pub mod probe;
pub mod script;

pub use error::{HvError, NoKvm};
pub use exit::{Exit, InternalError, SbiCall, SystemEvent};
pub use interconnect::{Doorbell, Hung, Interconnect, LevelEvents, Message};
pub use irqchip::{Aia, Irqchip, OwnInterrupts};
pub use offer::{Arm64Offer, Features, Offer, Riscv64Offer};

use firstlight_base::{Irq, VcpuState};
use firstlight_load::GuestMemory;
use std::fmt;
use std::sync::Arc;
pub use vfio_ioctls::VfioDeviceFd;

/// What makes virtual machines.
pub trait Hypervisor {
    /// The machines it makes.
    type Vm: Vm;

    /// An empty machine.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses.
    fn create_vm(&self) -> Result<Self::Vm, HvError>;
}

/// A virtual machine: memory, interrupt controllers, vCPUs.
///
/// Call [`map`](Vm::map), then [`create_irqchip`](Vm::create_irqchip), then
/// [`create_vcpus`](Vm::create_vcpus). KVM takes milliseconds longer where memory comes later, and
/// refuses interrupt controllers that come after vCPUs.
pub trait Vm: Send + Sync {
    /// Its vCPUs.
    type Vcpu: Vcpu + 'static;
    /// Its interrupt lines.
    type IrqLine: IrqLine + 'static;

    /// Gives the machine all of `memory` at its guest-physical addresses, and keeps it alive.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses, or the hypervisor needs some of the addresses itself.
    fn map(&mut self, memory: Arc<GuestMemory>) -> Result<(), HvError>;

    /// Gives the machine all of `memory` to read, as [`map`](Vm::map) does: a write to it is an exit, as a
    /// write to where no memory is. For each of its regions there is a [`Rom`], in order.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn map_rom(&mut self, memory: Arc<GuestMemory>) -> Result<Vec<Arc<dyn Rom>>, HvError>;

    /// Gives the machine interrupt controllers inside the hypervisor, and with those of a PC its
    /// timer. A machine without them has none, or has them outside and drives the vCPUs'
    /// [pins](Vcpu::interrupt_pin).
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn create_irqchip(&mut self, irqchip: &Irqchip) -> Result<(), HvError>;

    /// Makes the machine's vCPUs, numbered from [`VcpuId::BOOT`](firstlight_base::VcpuId::BOOT)
    /// on: all that it will have, because KVM sets up most interrupt controllers only when it
    /// knows all of them.
    ///
    /// The first runs from the state it is given. Every other one waits until the guest starts
    /// it; on x86 only where there are interrupt controllers.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn create_vcpus(&self, count: u32, features: Features) -> Result<Vec<Self::Vcpu>, HvError>;

    /// The interrupt line `irq`, for the chip that drives it.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the machine has no such line.
    fn irq_line(&self, irq: Irq) -> Result<Self::IrqLine, HvError>;

    /// What passes between the machine's devices and its processors beside lines.
    fn interconnect(&self) -> Arc<dyn Interconnect>;

    /// What the hypervisor is told by which devices of the host its guest has; `None` where it need not
    /// know.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses.
    fn vfio(&self) -> Result<Option<VfioDeviceFd>, HvError> {
        Ok(None)
    }
}

/// Memory that the guest can only read.
pub trait Rom: Send + Sync {
    /// Lets the guest read the memory, or makes its reads exits, too.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses.
    fn show(&self, is_shown: bool) -> Result<(), HvError>;
}

/// An interrupt line into the machine's interrupt controllers.
pub trait IrqLine: Send + Sync {
    /// Raises and lowers the line: one interrupt of an edge-triggered source.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses.
    fn pulse(&self) -> Result<(), HvError>;

    /// Raises or lowers the line of a level-triggered source.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses.
    fn set(&self, high: bool) -> Result<(), HvError>;
}

impl<T: IrqLine + ?Sized> IrqLine for Box<T> {
    fn pulse(&self) -> Result<(), HvError> {
        (**self).pulse()
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        (**self).set(high)
    }
}

/// A virtual CPU. One thread runs it; it may move to another thread between two runs.
pub trait Vcpu: Send {
    /// Sets the registers that a boot protocol speaks of; all others are as after reset.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses them.
    fn set_state(&mut self, state: &VcpuState) -> Result<(), HvError>;

    /// The registers as they are now.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses.
    fn state(&self) -> Result<VcpuState, HvError>;

    /// Runs the guest until it wants something.
    ///
    /// What a read is to be answered with is put into the exit's `data` before the next run.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host cannot go on with this vCPU.
    fn run(&mut self) -> Result<Exit<'_>, HvError>;

    /// What makes [`run`](Vcpu::run) return, from any thread.
    fn kicker(&self) -> Kicker;

    /// Whether the vCPU takes an interrupt now that comes from outside the hypervisor, on x86: it is not in the middle of
    /// another, and the guest lets it.
    fn takes_interrupt(&self) -> bool {
        false
    }

    /// Gives the vCPU, which [takes](Vcpu::takes_interrupt) it, an interrupt with this vector.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn interrupt(&mut self, _vector: u8) -> Result<(), HvError> {
        Err(HvError::NoPin)
    }

    /// Gives the vCPU a non-maskable interrupt, on x86.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn interrupt_unmaskably(&mut self) -> Result<(), HvError> {
        Err(HvError::NoPin)
    }

    /// The upper half of the task priority of a vCPU whose local APIC is outside the hypervisor: the register CR8.
    fn task_priority(&self) -> u8 {
        0
    }

    /// Sets it for the next run.
    fn set_task_priority(&mut self, _class: u8) {}

    /// What the vCPU's own parts asked for when it ran last. A run ends where that changes, if the machine has no interrupt
    /// controllers inside the hypervisor.
    fn own_interrupts(&self) -> OwnInterrupts {
        OwnInterrupts::default()
    }

    /// Makes [`run`](Vcpu::run) return as soon as the vCPU takes an interrupt, or not any more.
    fn stop_to_interrupt(&mut self, _wanted: bool) {}

    /// The pin on which the vCPU is told of interrupts by a controller outside the hypervisor.
    ///
    /// # Errors
    ///
    /// [`HvError::NoPin`] where it has none, as on x86; [`HvError`] where the host cannot drive it.
    fn interrupt_pin(&self) -> Result<Box<dyn IrqLine>, HvError>;
}

/// Makes a vCPU's run return [`Exit::Interrupted`]: the one under way, or else the next one.
///
/// Some run may return so although nobody kicked; the caller looks why it might have been.
#[derive(Clone)]
pub struct Kicker(Arc<dyn Fn() + Send + Sync>);

impl Kicker {
    /// A kicker that does `kick`.
    pub fn new(kick: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(kick))
    }

    /// Makes the run return.
    pub fn kick(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Kicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kicker")
    }
}

//! Hypervisors behind one set of names.
//!
//! A [`Hypervisor`] makes a [`Vm`]; a VM is given memory and makes [`Vcpu`]s; a vCPU runs until
//! the guest wants something, and says what in an [`Exit`]. [`kvm`] is the Linux hypervisor;
//! [`script`] plays back exits, so that a run loop can be tested on a machine without one.
//!
//! ```
//! use firstlight_base::{Port, VcpuId};
//! use firstlight_hv::script::{Script, Step};
//! use firstlight_hv::{Exit, HvError, Hypervisor, Vcpu, Vm};
//!
//! /// Runs a guest until it faults, and collects what it writes to port 0xe9.
//! fn listen(hypervisor: &impl Hypervisor) -> Result<Vec<u8>, HvError> {
//!     let mut vcpu = hypervisor.create_vm()?.create_vcpu(VcpuId::BOOT, 1)?;
//!     let mut heard = Vec::new();
//!     loop {
//!         match vcpu.run()? {
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
pub mod kvm;
pub mod probe;
pub mod script;

pub use error::{HvError, NoKvm};
pub use exit::{Exit, InternalError};

use firstlight_base::{Irq, VcpuId, VcpuState};
use firstlight_load::GuestMemory;
use std::fmt;
use std::sync::Arc;

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
/// Call [`map`](Vm::map) before [`create_irqchip`](Vm::create_irqchip) before
/// [`create_vcpu`](Vm::create_vcpu): KVM takes milliseconds longer for any other order.
pub trait Vm: Send + Sync {
    /// Its vCPUs.
    type Vcpu: Vcpu;
    /// Its interrupt lines.
    type IrqLine: IrqLine;

    /// Gives the machine all of `memory` at its guest-physical addresses, and keeps it alive.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses, or the hypervisor needs some of the addresses itself.
    fn map(&mut self, memory: Arc<GuestMemory>) -> Result<(), HvError>;

    /// Gives the machine the interrupt controllers and the timer of a PC.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn create_irqchip(&mut self) -> Result<(), HvError>;

    /// Makes vCPU `id` of a machine that will have `of` in all.
    ///
    /// [`VcpuId::BOOT`] runs from the state it is given; with interrupt controllers in the
    /// machine, every other one waits until the guest starts it.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses or cannot.
    fn create_vcpu(&self, id: VcpuId, of: u32) -> Result<Self::Vcpu, HvError>;

    /// The interrupt line `irq`, for the chip that drives it.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the machine has no such line.
    fn irq_line(&self, irq: Irq) -> Result<Self::IrqLine, HvError>;
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

//! Where a machine's interrupt controllers are.

use thiserror::Error;

/// Who is a machine's interrupt controllers, on the kvm engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IrqchipMode {
    /// The hypervisor, as far as it can.
    #[default]
    Kernel,
    /// The hypervisor is the local APICs, in every vCPU; 8259s, I/O APIC and timer are in this process. On x86.
    Split,
    /// This process is all of them. On x86, and on arm64 where the plan has a GICv2.
    User,
}

impl IrqchipMode {
    /// Refuses what machines of `architecture` have no choice for.
    pub(crate) fn is_kernel(self, architecture: &'static str) -> Result<(), IrqchipError> {
        match self {
            Self::Kernel => Ok(()),
            Self::Split | Self::User => Err(IrqchipError::Hypervisor { architecture }),
        }
    }
}

/// Why a machine cannot have its interrupt controllers there.
#[derive(Debug, Error)]
pub enum IrqchipError {
    /// The engine has its own.
    #[error("on the {engine} engine, interrupt controllers are the engine's own")]
    Engine {
        /// Which one.
        engine: &'static str,
    },
    /// The plan has the other kind of controller.
    #[error("of Arm's interrupt controllers, this process can be a GICv2 only")]
    Gic,
    /// More vCPUs than that has room for.
    #[error("a GICv2 has room for {most} vCPUs")]
    Vcpus {
        /// So many at most.
        most: u32,
    },
    /// Machines of this architecture have them in the hypervisor where that has any.
    #[error(
        "interrupt controllers of {architecture} machines are the hypervisor's where it has any"
    )]
    Hypervisor {
        /// Which one.
        architecture: &'static str,
    },
}

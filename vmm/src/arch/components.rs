//! What a machine is made of.

use super::Allocation;
use crate::flash::FlashMemory;
use crate::{IrqchipMode, OpenDevices, VcpuPolicy};
use firstlight_base::VcpuState;

/// What a machine is made of, beside its memory.
#[derive(Debug)]
pub struct VmComponents<P> {
    /// Where its memory and devices are.
    pub platform: P,
    /// How many vCPUs it has.
    pub cpus: u32,
    /// The registers that its boot vCPU begins with.
    pub boot_vcpu: VcpuState,
    /// Who has what of it, and where its virtio devices are.
    pub allocation: Allocation,
    /// Its virtio devices, in the order of the allocation.
    pub devices: OpenDevices,
    /// Who is its interrupt controllers.
    pub irqchip: IrqchipMode,
    /// What its flash holds, where its platform has any.
    pub flash: Option<FlashMemory>,
    /// How its vCPUs' threads are scheduled.
    pub policy: VcpuPolicy,
}

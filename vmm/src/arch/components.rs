//! What a machine is made of.

use crate::VcpuPolicy;
use crate::virtio::VirtioDevice;
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
    /// Its virtio devices, in order.
    pub devices: Vec<VirtioDevice>,
    /// Into how many slots devices can be plugged while it runs.
    pub hotplug_slots: u8,
    /// How its vCPUs' threads are scheduled.
    pub policy: VcpuPolicy,
}

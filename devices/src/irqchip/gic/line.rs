//! What leads into a GIC.

use firstlight_base::{Irq, VcpuId};

/// A line into a GIC, numbered as in device trees (`arm,gic.yaml`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GicLine {
    /// A shared peripheral interrupt: identifier 32 and up.
    Shared(Irq),
    /// A private peripheral interrupt of a CPU, 0 to 15: identifier 16 and up.
    Private(VcpuId, Irq),
}

const FIRST_PRIVATE: u32 = 16;
const FIRST_SHARED: u32 = 32;

impl GicLine {
    /// Whose the interrupt is (of a shared one, that does not matter) and its identifier.
    pub(super) fn interrupt(self) -> Option<(VcpuId, u32)> {
        match self {
            Self::Shared(irq) => Some((VcpuId::BOOT, irq.0.checked_add(FIRST_SHARED)?)),
            Self::Private(cpu, irq) => {
                let is_one = irq.0 < FIRST_SHARED - FIRST_PRIVATE;
                is_one.then(|| (cpu, irq.0 + FIRST_PRIVATE))
            }
        }
    }

    /// The line to the interrupt `id`: none leads to what CPUs send each other.
    pub(super) fn of(cpu: Option<VcpuId>, id: u32) -> Option<Self> {
        Some(match cpu {
            Some(cpu) => Self::Private(cpu, Irq(id.checked_sub(FIRST_PRIVATE)?)),
            None => Self::Shared(Irq(id.checked_sub(FIRST_SHARED)?)),
        })
    }
}

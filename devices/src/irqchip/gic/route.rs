//! To which CPUs a shared interrupt goes.

use firstlight_base::VcpuId;

/// Where a shared interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the CPUs of a mask, of which the first to acknowledge it has it (GICD_ITARGETSR).
    Targets(u8),
    /// To one CPU (GICD_IROUTER).
    Affinity(Affinity),
    /// To any CPU that can take it; the affinity is what the register holds beside that.
    Any(Affinity),
}

/// GICD_IROUTER.Interrupt_Routing_Mode.
const ANY: u64 = 1 << 31;

impl Route {
    /// `GICD_IROUTER<n>` (IHI 0069H).
    pub(super) fn from_register(value: u64) -> Self {
        let affinity = Affinity::from_mpidr(value);
        if value & ANY == 0 {
            Self::Affinity(affinity)
        } else {
            Self::Any(affinity)
        }
    }

    pub(super) fn register(self) -> u64 {
        match self {
            Self::Targets(_) => 0,
            Self::Affinity(affinity) => affinity.mpidr(),
            Self::Any(affinity) => affinity.mpidr() | ANY,
        }
    }
}

/// By what a GICv3 knows a CPU: the affinity levels of its MPIDR_EL1, level 0 in the lowest byte
/// and level 3 in the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Affinity(pub u32);

impl Affinity {
    /// How many CPUs share the first level, as in the device tree that a guest is given.
    const FIRST_LEVEL: u32 = 16;

    /// The affinity of a vCPU: 16 share the first level, as many as a list of targets has.
    #[must_use]
    pub fn of(VcpuId(number): VcpuId) -> Self {
        Self(((number / Self::FIRST_LEVEL) << 8) | (number % Self::FIRST_LEVEL))
    }

    /// From the fields of MPIDR_EL1, and of GICD_IROUTER.
    #[must_use]
    pub fn from_mpidr(mpidr: u64) -> Self {
        let [level_0, level_1, level_2, _, level_3, ..] = mpidr.to_le_bytes();
        Self(u32::from_le_bytes([level_0, level_1, level_2, level_3]))
    }

    /// In the fields of MPIDR_EL1.
    #[must_use]
    pub fn mpidr(self) -> u64 {
        let [level_0, level_1, level_2, level_3] = self.0.to_le_bytes();
        u64::from_le_bytes([level_0, level_1, level_2, 0, level_3, 0, 0, 0])
    }
}

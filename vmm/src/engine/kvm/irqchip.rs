//! The interrupt controllers of a platform: inside the hypervisor where it has them, else on the
//! board.

use super::plic::PlicLine;
use firstlight_boot::Platform;
use firstlight_boot::platform::{Gic, RiscvIrqchip, VirtArm64, VirtRiscv64};
use firstlight_hv::{Aia, Features, HvError, IrqLine, Irqchip};

/// What the hypervisor is to supply; nothing where the controllers are on the board.
pub(super) fn supplied(platform: &Platform) -> Option<Irqchip> {
    match platform {
        Platform::Pc(_) => Some(Irqchip::Pc),
        Platform::VirtArm64(machine) => Some(match machine.gic {
            Gic::V2 => Irqchip::GicV2 {
                distributor: VirtArm64::GIC_DISTRIBUTOR.start(),
                cpu_interface: VirtArm64::GICV2_CPU.start(),
            },
            Gic::V3 { its } => Irqchip::GicV3 {
                distributor: VirtArm64::GIC_DISTRIBUTOR.start(),
                redistributors: VirtArm64::GICV3_REDISTRIBUTORS.start(),
                its: its.then(|| VirtArm64::GICV3_ITS.start()),
            },
        }),
        Platform::VirtRiscv64(machine) => match machine.irqchip {
            RiscvIrqchip::Plic => None,
            RiscvIrqchip::Aia => Some(Irqchip::Aia(Aia {
                aplic: VirtRiscv64::APLIC,
                imsics: VirtRiscv64::IMSICS,
                sources: VirtRiscv64::SOURCES,
                identities: VirtRiscv64::IMSIC_IDENTITIES,
            })),
        },
    }
}

/// What the plan has told the guest of its vCPUs.
pub(super) fn features(platform: &Platform) -> Features {
    match platform {
        Platform::Pc(_) | Platform::VirtRiscv64(_) => Features::default(),
        Platform::VirtArm64(machine) => Features {
            pmu: machine.pmu,
            el2: machine.el2,
        },
    }
}

/// An interrupt line of a board.
pub(super) enum Line<L> {
    /// Into controllers inside the hypervisor.
    Supplied(L),
    /// Into a PLIC on the board.
    Plic(PlicLine),
}

impl<L: IrqLine> IrqLine for Line<L> {
    fn pulse(&self) -> Result<(), HvError> {
        match self {
            Self::Supplied(line) => line.pulse(),
            Self::Plic(line) => line.pulse(),
        }
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        match self {
            Self::Supplied(line) => line.set(high),
            Self::Plic(line) => line.set(high),
        }
    }
}

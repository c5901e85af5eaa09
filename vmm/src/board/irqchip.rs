//! The interrupt controllers of a platform: inside the hypervisor where it has them, else on the
//! board.

use firstlight_boot::Platform;
use firstlight_boot::platform::{Gic, RiscvIrqchip, VirtArm64, VirtRiscv64};
use firstlight_hv::{Aia, Features, Irqchip};

/// What the hypervisor is to supply; nothing where the controllers are on the board.
pub(crate) fn supplied(platform: &Platform) -> Option<Irqchip> {
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
pub(crate) fn features(platform: &Platform) -> Features {
    match platform {
        Platform::Pc(_) | Platform::VirtRiscv64(_) => Features::default(),
        Platform::VirtArm64(machine) => Features {
            pmu: machine.pmu,
            el2: machine.el2,
        },
    }
}

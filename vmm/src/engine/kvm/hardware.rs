//! What a machine in KVM is made of on this host, for the plan to describe.

use crate::IrqchipMode;
use firstlight_boot::Hardware;
use firstlight_boot::platform::{Gic, Hart, Isa, Mmu, RiscvIrqchip};
use firstlight_hv::{Arm64Offer, Offer, Riscv64Offer};
use std::borrow::Cow;

/// The hardware that makes the most of what a host offers. A host that offers less than a machine
/// needs says so when it is to make one.
pub(super) fn of(offer: &Offer, irqchip: IrqchipMode) -> Hardware {
    match offer {
        Offer::X86 => Hardware::default(),
        Offer::Arm64(offer) => of_arm64(*offer, irqchip),
        Offer::Riscv64(offer) => of_riscv64(offer),
    }
}

/// Who is the interrupt controllers where `wanted` is: a host may have none for arm64.
pub(super) fn irqchip(offer: &Offer, wanted: IrqchipMode) -> IrqchipMode {
    match offer {
        Offer::Arm64(offer) if !offer.gic_v2 && !offer.gic_v3 => IrqchipMode::User,
        _ => wanted,
    }
}

fn of_arm64(offer: Arm64Offer, irqchip: IrqchipMode) -> Hardware {
    let gic = match irqchip {
        IrqchipMode::Kernel | IrqchipMode::Split if offer.gic_v3 => Gic::V3 { its: offer.its },
        // Also where there is none: it is our own then.
        _ => Gic::V2,
    };
    Hardware {
        gic,
        pmu: offer.pmu,
        ..Hardware::default()
    }
}

fn of_riscv64(offer: &Riscv64Offer) -> Hardware {
    // Without controllers of the architecture, a kernel must not look for a hart's part of it.
    let extensions = offer
        .extensions
        .iter()
        .filter(|name| offer.aia || **name != "ssaia");
    let block = |size: u64| u32::try_from(size).ok().filter(|&size| size > 0);
    let hart = Hart {
        isa: Isa(extensions.map(|name| Cow::Borrowed(*name)).collect()),
        mmu: match offer.satp_mode {
            10.. => Mmu::Sv57,
            9 => Mmu::Sv48,
            _ => Mmu::Sv39,
        },
        timebase: u32::try_from(offer.timebase).unwrap_or(u32::MAX),
        cbom_block: block(offer.cbom_block),
        cboz_block: block(offer.cboz_block),
    };
    Hardware {
        irqchip: if offer.aia {
            RiscvIrqchip::Aia
        } else {
            RiscvIrqchip::Plic
        },
        hart,
        ..Hardware::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm64_machine_has_the_newest_controller_that_the_host_has() {
        let offer = |gic_v2, gic_v3| {
            let offer = Arm64Offer {
                gic_v2,
                gic_v3,
                its: gic_v3,
                pmu: false,
                el2: true,
            };
            Offer::Arm64(offer)
        };
        let wired = |gic_v2, gic_v3, mode| of(&offer(gic_v2, gic_v3), mode);
        let own = |gic_v2, gic_v3| irqchip(&offer(gic_v2, gic_v3), IrqchipMode::Kernel);
        let user = wired(false, true, IrqchipMode::User);
        assert_eq!(user.gic, Gic::V2);
        assert_eq!(own(false, false), IrqchipMode::User);
        assert_eq!(own(false, true), IrqchipMode::Kernel);
        assert_eq!(own(true, false), IrqchipMode::Kernel);
        let offer = |gic_v2, gic_v3| wired(gic_v2, gic_v3, IrqchipMode::Kernel);
        assert_eq!(offer(false, false).gic, Gic::V2);
        assert_eq!(offer(true, true).gic, Gic::V3 { its: true });
        assert_eq!(offer(false, true).gic, Gic::V3 { its: true });
        assert_eq!(offer(true, false).gic, Gic::V2);
        assert!(!offer(true, true).pmu && !offer(true, true).el2);
    }

    #[test]
    fn a_riscv64_machine_has_the_harts_of_its_host() {
        let mut offer = Riscv64Offer {
            aia: true,
            extensions: vec!["i", "m", "ssaia", "zicboz"],
            satp_mode: 10,
            timebase: 10_000_000,
            cbom_block: 0,
            cboz_block: 64,
        };
        let hardware = of(&Offer::Riscv64(offer.clone()), IrqchipMode::Kernel);
        assert_eq!(hardware.irqchip, RiscvIrqchip::Aia);
        assert_eq!(hardware.hart.mmu, Mmu::Sv57);
        assert_eq!(hardware.hart.isa.0, ["i", "m", "ssaia", "zicboz"]);
        assert_eq!(hardware.hart.cbom_block, None);
        assert_eq!(hardware.hart.cboz_block, Some(64));
        offer.aia = false;
        let hardware = of(&Offer::Riscv64(offer), IrqchipMode::Kernel);
        assert_eq!(hardware.irqchip, RiscvIrqchip::Plic);
        assert_eq!(hardware.hart.isa.0, ["i", "m", "zicboz"]);
    }
}

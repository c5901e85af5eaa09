//! The generic interrupt controllers inside KVM (`Documentation/virt/kvm/devices/arm-vgic.rst`,
//! `arm-vgic-v3.rst`, `arm-vgic-its.rst`).

use super::super::device::{Attribute, Device};
use super::super::refused;
use super::{FIRST_SHARED, SHARED, VGIC_ITS, VGIC_V2, VGIC_V3};
use crate::{HvError, Irqchip};
use firstlight_base::Gpa;
use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_ITS_ADDR_TYPE, KVM_VGIC_V2_ADDR_TYPE_CPU,
    KVM_VGIC_V2_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST,
};
use kvm_ioctls::VmFd;
use std::ops::Range;

/// A machine's interrupt controller.
#[derive(Debug)]
pub(in crate::kvm) struct Controllers {
    gic: Device,
    its: Option<Device>,
}

/// Makes a controller that has its place, and waits for the machine's vCPUs.
pub(in crate::kvm) fn create_irqchip(vm: &VmFd, irqchip: &Irqchip) -> Result<Controllers, HvError> {
    let (gic, its) = match *irqchip {
        Irqchip::GicV2 {
            distributor,
            cpu_interface,
        } => {
            let places = [
                (KVM_VGIC_V2_ADDR_TYPE_DIST, distributor),
                (KVM_VGIC_V2_ADDR_TYPE_CPU, cpu_interface),
            ];
            (place(vm, VGIC_V2, &places)?, None)
        }
        Irqchip::GicV3 {
            distributor,
            redistributors,
            its,
        } => {
            let places = [
                (KVM_VGIC_V3_ADDR_TYPE_DIST, distributor),
                (KVM_VGIC_V3_ADDR_TYPE_REDIST, redistributors),
            ];
            let its = its.map(|its| place(vm, VGIC_ITS, &[(KVM_VGIC_ITS_ADDR_TYPE, its)]));
            (place(vm, VGIC_V3, &places)?, its.transpose()?)
        }
        Irqchip::Pc | Irqchip::LocalApics | Irqchip::Aia(_) => {
            return Err(HvError::OtherArchitecture);
        }
    };
    let interrupts = FIRST_SHARED + SHARED;
    let number = Attribute {
        group: KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
        number: 0,
    };
    gic.set_u32(number, interrupts)
        .map_err(refused("give the interrupt controller its lines"))?;
    Ok(Controllers { gic, its })
}

fn place(vm: &VmFd, kind: u32, places: &[(u32, Gpa)]) -> Result<Device, HvError> {
    let device = Device::create(vm, kind).map_err(refused("create an interrupt controller"))?;
    for &(part, at) in places {
        let address = Attribute {
            group: KVM_DEV_ARM_VGIC_GRP_ADDR,
            number: part.into(),
        };
        device
            .set_u64(address, at.get())
            .map_err(refused("place the interrupt controller"))?;
    }
    Ok(device)
}

impl Controllers {
    /// The lines that can be driven.
    #[expect(
        clippy::unused_self,
        reason = "other architectures' controllers differ"
    )]
    pub(in crate::kvm) fn lines(&self) -> Range<u32> {
        0..SHARED
    }

    /// Makes them work. All vCPUs are there.
    pub(super) fn complete(&self) -> Result<(), HvError> {
        const INIT: Attribute = Attribute {
            group: KVM_DEV_ARM_VGIC_GRP_CTRL,
            number: KVM_DEV_ARM_VGIC_CTRL_INIT as u64,
        };
        [Some(&self.gic), self.its.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|device| device.carry_out(INIT))
            .map_err(refused("complete the interrupt controller"))
    }
}

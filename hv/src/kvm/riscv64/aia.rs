//! The advanced interrupt architecture inside KVM (`arch/riscv/include/uapi/asm/kvm.h`,
//! `KVM_DEV_RISCV_AIA_*`).

use super::super::device::{Attribute, Device};
use super::super::refused;
use super::RISCV_AIA;
use crate::{Aia, HvError, Irqchip};
use kvm_bindings::{
    KVM_DEV_RISCV_AIA_ADDR_APLIC, KVM_DEV_RISCV_AIA_CONFIG_GROUP_BITS,
    KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS,
    KVM_DEV_RISCV_AIA_CONFIG_IDS, KVM_DEV_RISCV_AIA_CONFIG_SRCS, KVM_DEV_RISCV_AIA_CTRL_INIT,
    KVM_DEV_RISCV_AIA_GRP_ADDR, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_GRP_CTRL,
    KVM_DEV_RISCV_IMSIC_SIZE,
};
use kvm_ioctls::VmFd;
use std::ops::Range;

/// A machine's interrupt controllers.
#[derive(Debug)]
pub(in crate::kvm) struct Controllers {
    device: Device,
    aia: Aia,
}

/// Makes controllers that wait for the machine's vCPUs. Whether KVM emulates the IMSICs or has the
/// processor's do it is left to KVM.
pub(in crate::kvm) fn create_irqchip(vm: &VmFd, irqchip: &Irqchip) -> Result<Controllers, HvError> {
    let aia = match irqchip {
        Irqchip::Aia(aia) => aia.clone(),
        Irqchip::Pc | Irqchip::LocalApics | Irqchip::GicV2 { .. } | Irqchip::GicV3 { .. } => {
            return Err(HvError::OtherArchitecture);
        }
    };
    let device =
        Device::create(vm, RISCV_AIA).map_err(refused("create the interrupt controllers"))?;
    Ok(Controllers { device, aia })
}

impl Controllers {
    /// The lines that can be driven.
    pub(in crate::kvm) fn lines(&self) -> Range<u32> {
        1..self.aia.sources.saturating_add(1)
    }

    /// Makes them work for so many harts.
    pub(super) fn complete(&self, harts: usize) -> Result<(), HvError> {
        // Each hart's IMSIC follows the last one's; none is for guests of the guest.
        let hart_bits = harts.next_power_of_two().trailing_zeros();
        let configuration = [
            (KVM_DEV_RISCV_AIA_CONFIG_IDS, self.aia.identities),
            (KVM_DEV_RISCV_AIA_CONFIG_SRCS, self.aia.sources),
            (KVM_DEV_RISCV_AIA_CONFIG_GROUP_BITS, 0),
            (KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, hart_bits),
            (KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS, 0),
        ];
        for (number, value) in configuration {
            let attribute = attribute(KVM_DEV_RISCV_AIA_GRP_CONFIG, number.into());
            self.device
                .set_u32(attribute, value)
                .map_err(refused("configure the interrupt controllers"))?;
        }
        self.place(harts)?;
        let init = attribute(
            KVM_DEV_RISCV_AIA_GRP_CTRL,
            KVM_DEV_RISCV_AIA_CTRL_INIT.into(),
        );
        self.device
            .carry_out(init)
            .map_err(refused("complete the interrupt controllers"))
    }

    fn place(&self, harts: usize) -> Result<(), HvError> {
        let place = |number, at| {
            let address = attribute(KVM_DEV_RISCV_AIA_GRP_ADDR, number);
            self.device
                .set_u64(address, at)
                .map_err(refused("place the interrupt controllers"))
        };
        let aplic = KVM_DEV_RISCV_AIA_ADDR_APLIC.into();
        place(aplic, self.aia.aplic.start().get())?;
        for hart in 0..harts as u64 {
            let imsic = hart * u64::from(KVM_DEV_RISCV_IMSIC_SIZE);
            place(aplic + 1 + hart, self.aia.imsics.get() + imsic)?;
        }
        Ok(())
    }
}

const fn attribute(group: u32, number: u64) -> Attribute {
    Attribute { group, number }
}

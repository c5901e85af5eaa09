//! What KVM needs to be told of a 64-bit Arm guest.

mod gic;
mod registers;

pub(super) use gic::{Controllers, create_irqchip};
pub(super) use registers::{set_state, state};

use super::device::{Attribute, with_value, without_value};
use super::{Machine, ioctl, refused};
use crate::probe::Architecture;
use crate::{Arm64Offer, Features, HvError, IrqLine, Offer, OwnInterrupts};
use firstlight_base::{GpaRange, Irq, VcpuId};
use kvm_bindings::{
    KVM_ARM_DEV_EL1_PTIMER, KVM_ARM_DEV_EL1_VTIMER, KVM_ARM_DEV_PMU, KVM_ARM_IRQ_CPU_IRQ,
    KVM_ARM_IRQ_TYPE_CPU, KVM_ARM_IRQ_TYPE_SHIFT, KVM_ARM_IRQ_TYPE_SPI, KVM_ARM_IRQ_VCPU_MASK,
    KVM_ARM_IRQ_VCPU_SHIFT, KVM_ARM_VCPU_HAS_EL2, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL,
    KVM_ARM_VCPU_PMU_V3_INIT, KVM_ARM_VCPU_PMU_V3_IRQ, KVM_ARM_VCPU_POWER_OFF,
    KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC,
    KVM_ARM_VCPU_SVE, KVM_CAP_ARM_NISV_TO_USER, KVM_CAP_ARM_USER_IRQ, KVM_MSI_VALID_DEVID,
    kvm_enable_cap, kvm_vcpu_init,
};
use kvm_bindings::{
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS as VGIC_ITS,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2 as VGIC_V2,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3 as VGIC_V3,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use std::sync::Arc;

/// The architecture of all this.
pub(super) const ARCHITECTURE: Architecture = Architecture::Arm64;

pub(super) const NEEDED: &[(Cap, &str)] = &[
    (Cap::OneReg, "KVM_CAP_ONE_REG"),
    (Cap::ArmPsci02, "KVM_CAP_ARM_PSCI_0_2"),
    (Cap::DeviceCtrl, "KVM_CAP_DEVICE_CTRL"),
];

/// Shared peripheral interrupts: as many as QEMU's `virt` machine has.
const SHARED: u32 = 256;
/// The interrupt that the first of them is: before it are those of single processors (IHI 0048,
/// section 2.2.1).
const FIRST_SHARED: u32 = 32;

/// What KVM calls a line: its kind, and the interrupt that it is to the controller.
pub(super) fn line_number(irq: Irq) -> u32 {
    KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (FIRST_SHARED + irq.0)
}

/// What a message says of its sender: which device it is, as an interrupt translation service wants
/// to know.
pub(super) const MESSAGE_FLAGS: u32 = KVM_MSI_VALID_DEVID;

/// The errors of a run that are the guest's own doing: none, KVM has exits or exceptions for them.
pub(super) const GUEST_FAULTS: &[i32] = &[];

/// `KVM_CAP_ARM_EL2`, of Linux 6.16.
const CAP_EL2: libc::c_ulong = 240;

/// What the host can do for its guests.
#[derive(Debug)]
pub(super) struct Host {
    /// How many bits a guest-physical address has.
    address_bits: u32,
    pmu: bool,
    sve: bool,
    pointer_authentication: bool,
    el2: bool,
}

impl Host {
    pub(super) fn ask(kvm: &kvm_ioctls::Kvm) -> Result<Self, HvError> {
        // Before Linux 4.20 nobody could ask, and it was always 40.
        let address_bits = match u32::try_from(kvm.check_extension_int(Cap::ArmVmIPASize)) {
            Ok(0) | Err(_) => 40,
            Ok(bits) => bits,
        };
        Ok(Self {
            address_bits,
            pmu: kvm.check_extension(Cap::ArmPmuV3),
            sve: kvm.check_extension(Cap::ArmSve),
            pointer_authentication: kvm.check_extension(Cap::ArmPtrAuthAddress)
                && kvm.check_extension(Cap::ArmPtrAuthGeneric),
            el2: kvm.check_extension_raw(CAP_EL2) > 0,
        })
    }
}

/// Whether the guest can have memory there.
pub(super) fn check_memory(host: &Host, memory: GpaRange) -> Result<(), HvError> {
    let bits = host.address_bits;
    if memory.end().get() > 1 << bits {
        return Err(HvError::BeyondAddresses { memory, bits });
    }
    Ok(())
}

pub(super) fn offer(kvm: &kvm_ioctls::Kvm, host: &Host) -> Result<Offer, HvError> {
    let vm = kvm.create_vm().map_err(refused("create a machine"))?;
    Ok(Offer::Arm64(Arm64Offer {
        gic_v2: ioctl::can_have_device(&vm, VGIC_V2),
        gic_v3: ioctl::can_have_device(&vm, VGIC_V3),
        its: ioctl::can_have_device(&vm, VGIC_ITS),
        pmu: host.pmu,
        el2: host.el2,
    }))
}

pub(super) fn prepare_vm(vm: &VmFd) -> Result<(), HvError> {
    let tell_of_undescribed_accesses = kvm_enable_cap {
        cap: KVM_CAP_ARM_NISV_TO_USER,
        ..kvm_enable_cap::default()
    };
    // Before Linux 5.5 such an access was an error of the host's.
    if vm.check_extension_raw(KVM_CAP_ARM_NISV_TO_USER.into()) > 0 {
        vm.enable_cap(&tell_of_undescribed_accesses)
            .map_err(refused("tell of accesses that it cannot describe"))?;
    }
    Ok(())
}

/// A machine whose vCPUs are being made.
pub(super) struct Making<'a> {
    pub(super) host: &'a Host,
    pub(super) irqchip: Option<&'a Controllers>,
    pub(super) features: Features,
}

impl Making<'_> {
    /// Gives the vCPUs, which are in order, all but their registers, and their interrupt
    /// controllers what needs all of the vCPUs.
    pub(super) fn prepare(&self, vm: &VmFd, vcpus: &[VcpuFd]) -> Result<(), HvError> {
        let boot = self.features_of_all(vm)?;
        let mut other = boot;
        set_feature(&mut other, KVM_ARM_VCPU_POWER_OFF);
        for (index, vcpu) in vcpus.iter().enumerate() {
            let init = if index == 0 { &boot } else { &other };
            self.prepare_vcpu(vcpu, init)?;
        }
        if let Some(controllers) = self.irqchip {
            controllers.complete()?;
        }
        if self.features.pmu {
            let wires = self.irqchip.is_some();
            vcpus.iter().try_for_each(|vcpu| start_pmu(vcpu, wires))?;
        }
        Ok(())
    }

    /// What the host's processor can do, and what the machine is to have of that.
    fn features_of_all(&self, vm: &VmFd) -> Result<kvm_vcpu_init, HvError> {
        let Self { host, features, .. } = self;
        let lacking = |name| Err(HvError::MissingCapability(name));
        if features.pmu && !host.pmu {
            return lacking("KVM_CAP_ARM_PMU_V3");
        }
        if features.el2 && !host.el2 {
            return lacking("KVM_CAP_ARM_EL2");
        }
        let mut init = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut init)
            .map_err(refused("say which processor it prefers"))?;
        let wanted = [
            (true, KVM_ARM_VCPU_PSCI_0_2),
            (features.pmu, KVM_ARM_VCPU_PMU_V3),
            (features.el2, KVM_ARM_VCPU_HAS_EL2),
            (host.sve, KVM_ARM_VCPU_SVE),
            (host.pointer_authentication, KVM_ARM_VCPU_PTRAUTH_ADDRESS),
            (host.pointer_authentication, KVM_ARM_VCPU_PTRAUTH_GENERIC),
        ];
        for (_, feature) in wanted.iter().filter(|(wanted, _)| *wanted) {
            set_feature(&mut init, *feature);
        }
        Ok(init)
    }

    fn prepare_vcpu(&self, vcpu: &VcpuFd, init: &kvm_vcpu_init) -> Result<(), HvError> {
        let refused = refused("give a vCPU its features");
        vcpu.vcpu_init(init).map_err(&refused)?;
        if self.host.sve {
            let sve = KVM_ARM_VCPU_SVE.cast_signed();
            vcpu.vcpu_finalize(&sve).map_err(&refused)?;
        }
        Ok(())
    }
}

fn set_feature(init: &mut kvm_vcpu_init, feature: u32) {
    init.features[0] |= 1 << feature;
}

/// Makes a vCPU's performance monitoring unit work, and wires it to its interrupt where the controller is KVM's.
fn start_pmu(vcpu: &VcpuFd, wires: bool) -> Result<(), HvError> {
    /// Private peripheral interrupt 7 (DEN0094, section 3.6).
    const INTERRUPT: u32 = 23;
    let attribute = |number: u32| Attribute {
        group: KVM_ARM_VCPU_PMU_V3_CTRL,
        number: number.into(),
    };
    let refused = refused("give a vCPU a performance monitoring unit");
    if wires {
        let wire = attribute(KVM_ARM_VCPU_PMU_V3_IRQ);
        with_value(wire, &INTERRUPT, |wire| vcpu.set_device_attr(wire)).map_err(&refused)?;
    }
    vcpu.set_device_attr(&without_value(attribute(KVM_ARM_VCPU_PMU_V3_INIT)))
        .map_err(&refused)
}

/// What the levels of a vCPU's own lines say.
pub(super) fn own_interrupts(levels: u64) -> OwnInterrupts {
    let is_high = |line: u32| levels & u64::from(line) != 0;
    OwnInterrupts {
        virtual_timer: is_high(KVM_ARM_DEV_EL1_VTIMER),
        physical_timer: is_high(KVM_ARM_DEV_EL1_PTIMER),
        pmu: is_high(KVM_ARM_DEV_PMU),
    }
}

/// The pin of a vCPU whose controller is not inside KVM (KVM API, sections 4.25 and 8.6).
pub(super) fn interrupt_pin(
    (_, id): (&VcpuFd, VcpuId),
    machine: &Arc<Machine>,
) -> Result<Box<dyn IrqLine>, HvError> {
    let can_do_without = machine.fd.check_extension_raw(KVM_CAP_ARM_USER_IRQ.into()) > 0;
    if !can_do_without {
        return Err(HvError::MissingCapability("KVM_CAP_ARM_USER_IRQ"));
    }
    if id.0 > KVM_ARM_IRQ_VCPU_MASK {
        return Err(HvError::NoPin);
    }
    Ok(Box::new(Pin {
        number: KVM_ARM_IRQ_TYPE_CPU << KVM_ARM_IRQ_TYPE_SHIFT
            | id.0 << KVM_ARM_IRQ_VCPU_SHIFT
            | KVM_ARM_IRQ_CPU_IRQ,
        machine: Arc::clone(machine),
    }))
}

/// The pin, which KVM lets be driven while the vCPU runs.
#[derive(Debug)]
struct Pin {
    number: u32,
    machine: Arc<Machine>,
}

impl IrqLine for Pin {
    fn pulse(&self) -> Result<(), HvError> {
        self.set(true)?;
        self.set(false)
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        let vm = &self.machine.fd;
        vm.set_irq_line(self.number, high)
            .map_err(refused("drive a vCPU's interrupt pin"))
    }
}

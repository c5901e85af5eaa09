//! What KVM needs to be told of a 64-bit RISC-V guest.

mod aia;
mod extension;
mod registers;

pub(super) use aia::{Controllers, create_irqchip};
pub(super) use registers::{set_state, state};

use super::{Machine, ioctl, refused};
use crate::probe::Architecture;
use crate::{Features, HvError, IrqLine, Offer, Riscv64Offer};
use firstlight_base::{GpaRange, Irq, VcpuId};
use kvm_bindings::{
    KVM_CAP_VM_GPA_BITS, KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET,
    kvm_device_type_KVM_DEV_TYPE_RISCV_AIA as RISCV_AIA, kvm_riscv_config, kvm_riscv_timer,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use registers::{config, get, timer};
use std::fs::File;
use std::mem::offset_of;
use std::sync::Arc;

/// The architecture of all this.
pub(super) const ARCHITECTURE: Architecture = Architecture::Riscv64;

pub(super) const NEEDED: &[(Cap, &str)] = &[(Cap::OneReg, "KVM_CAP_ONE_REG")];

/// What KVM calls a line: the number of its source.
pub(super) fn line_number(irq: Irq) -> u32 {
    irq.0
}

/// What a message says of its sender: nothing, any may write to any IMSIC.
pub(super) const MESSAGE_FLAGS: u32 = 0;

/// The errors of a run that are the guest's own doing: it fetched an instruction from where no
/// memory is, or accessed such an address by an instruction that KVM does not know.
pub(super) const GUEST_FAULTS: &[i32] = &[libc::EOPNOTSUPP];

/// What the host can do for its guests.
#[derive(Debug)]
pub(super) struct Host {
    /// How many bits a guest-physical address has.
    address_bits: u32,
}

impl Host {
    pub(super) fn ask(kvm: &kvm_ioctls::Kvm) -> Result<Self, HvError> {
        // Before Linux 5.19 nobody could ask; with Sv39 it is 41.
        let bits = kvm.check_extension_raw(KVM_CAP_VM_GPA_BITS.into());
        let address_bits = u32::try_from(bits).ok().filter(|&bits| bits > 0);
        Ok(Self {
            address_bits: address_bits.unwrap_or(41),
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

/// KVM says what a hart is only where there is one.
pub(super) fn offer(kvm: &kvm_ioctls::Kvm, _host: &Host) -> Result<Offer, HvError> {
    let vm = kvm.create_vm().map_err(refused("create a machine"))?;
    let vcpu = vm.create_vcpu(0).map_err(refused("create a vCPU"))?;
    extension::hide_unanswered(&vcpu);
    let extensions = extension::enabled(&vcpu);
    // Without the extension KVM does not know the block's size.
    let block = |name, at| match extensions.contains(&name) {
        true => get(&vcpu, config(at)),
        false => Ok(0),
    };
    Ok(Offer::Riscv64(Riscv64Offer {
        aia: ioctl::can_have_device(&vm, RISCV_AIA),
        satp_mode: get(&vcpu, config(offset_of!(kvm_riscv_config, satp_mode)))?,
        timebase: get(&vcpu, timer(offset_of!(kvm_riscv_timer, frequency)))?,
        cbom_block: block("zicbom", offset_of!(kvm_riscv_config, zicbom_block_size))?,
        cboz_block: block("zicboz", offset_of!(kvm_riscv_config, zicboz_block_size))?,
        extensions,
    }))
}

pub(super) fn prepare_vm(_vm: &VmFd) -> Result<(), HvError> {
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
    /// controllers what needs all of the vCPUs. KVM itself lets all but the first wait.
    pub(super) fn prepare(&self, _vm: &VmFd, vcpus: &[VcpuFd]) -> Result<(), HvError> {
        let Features { pmu, el2 } = self.features;
        if pmu || el2 {
            return Err(HvError::OtherArchitecture);
        }
        let Host { address_bits: _ } = self.host;
        for vcpu in vcpus {
            extension::hide_unanswered(vcpu);
            extension::offer_console(vcpu);
        }
        match self.irqchip {
            Some(controllers) => controllers.complete(vcpus.len()),
            None => Ok(()),
        }
    }
}

/// The pin of a hart's external interrupt.
pub(super) fn interrupt_pin(
    (vcpu, _id): (&VcpuFd, VcpuId),
    machine: &Arc<Machine>,
) -> Result<Box<dyn IrqLine>, HvError> {
    let vcpu = ioctl::duplicate(vcpu).map_err(|source| HvError::Refused {
        what: "share a vCPU's file",
        source,
    })?;
    Ok(Box::new(Pin {
        vcpu,
        _machine: Arc::clone(machine),
    }))
}

/// The pin, driven by the vCPU's file: KVM allows that while the vCPU runs.
#[derive(Debug)]
struct Pin {
    vcpu: File,
    /// Keeps the guest's memory alive as long as the vCPU.
    _machine: Arc<Machine>,
}

impl IrqLine for Pin {
    fn pulse(&self) -> Result<(), HvError> {
        self.set(true)?;
        self.set(false)
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        let level = if high {
            KVM_INTERRUPT_SET
        } else {
            KVM_INTERRUPT_UNSET
        };
        ioctl::interrupt(&self.vcpu, level.cast_unsigned()).map_err(|source| HvError::Refused {
            what: "drive a vCPU's interrupt pin",
            source,
        })
    }
}

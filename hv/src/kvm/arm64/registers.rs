//! The registers of a 64-bit Arm vCPU, and KVM's numbers for them (KVM API, section 4.68).

use super::super::one_reg::{get, set};
use crate::HvError;
use firstlight_base::VcpuState;
use firstlight_base::arm64::{Pstate, Registers, System};
use kvm_bindings::{
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64, kvm_regs,
};
use kvm_ioctls::VcpuFd;
use std::mem::offset_of;

const X: usize = offset_of!(kvm_regs, regs.regs);
const SP_EL0: usize = offset_of!(kvm_regs, regs.sp);
const PC: usize = offset_of!(kvm_regs, regs.pc);
const PSTATE: usize = offset_of!(kvm_regs, regs.pstate);
const SP_EL1: usize = offset_of!(kvm_regs, sp_el1);
const ELR_EL1: usize = offset_of!(kvm_regs, elr_el1);

const SP_EL2: u64 = system(3, [6, 4, 1, 0]);
const SCTLR_EL1: u64 = system(3, [0, 1, 0, 0]);
const TTBR0_EL1: u64 = system(3, [0, 2, 0, 0]);
const TTBR1_EL1: u64 = system(3, [0, 2, 0, 1]);
const TCR_EL1: u64 = system(3, [0, 2, 0, 2]);
const ESR_EL1: u64 = system(3, [0, 5, 2, 0]);
const FAR_EL1: u64 = system(3, [0, 6, 0, 0]);
const VBAR_EL1: u64 = system(3, [0, 12, 0, 0]);

/// The number of what is at `offset` in `struct kvm_regs`, which KVM counts in words of 32 bits.
fn core(offset: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | (offset / 4) as u64
}

/// The number of a system register: op0, and then op1, CRn, CRm and op2.
const fn system(op0: u64, [op1, crn, crm, op2]: [u64; 4]) -> u64 {
    KVM_REG_ARM64
        | KVM_REG_SIZE_U64
        | KVM_REG_ARM64_SYSREG as u64
        | op0 << 14
        | op1 << 11
        | crn << 7
        | crm << 3
        | op2
}

/// The number of the stack pointer that is current in this processor state.
fn stack_pointer(pstate: Pstate) -> u64 {
    if !pstate.contains(Pstate::SP) {
        core(SP_EL0)
    } else if pstate.contains(Pstate::EL2) {
        SP_EL2
    } else {
        core(SP_EL1)
    }
}

pub(in crate::kvm) fn set_state(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), HvError> {
    let VcpuState::Arm64(wanted) = state else {
        return Err(HvError::OtherArchitecture);
    };
    for (index, value) in wanted.x.iter().enumerate() {
        set(vcpu, core(X + 8 * index), *value)?;
    }
    set(vcpu, core(PSTATE), wanted.pstate.bits())?;
    set(vcpu, stack_pointer(wanted.pstate), wanted.sp)?;
    set(vcpu, core(PC), wanted.pc)
}

pub(in crate::kvm) fn state(vcpu: &VcpuFd) -> Result<VcpuState, HvError> {
    let mut x = [0; 31];
    for (index, value) in x.iter_mut().enumerate() {
        *value = get(vcpu, core(X + 8 * index))?;
    }
    let pstate = Pstate::from_bits_retain(get(vcpu, core(PSTATE))?);
    Ok(VcpuState::Arm64(Registers {
        x,
        sp: get(vcpu, stack_pointer(pstate))?,
        pc: get(vcpu, core(PC))?,
        pstate,
        system: System {
            sctlr: get(vcpu, SCTLR_EL1)?,
            tcr: get(vcpu, TCR_EL1)?,
            ttbr0: get(vcpu, TTBR0_EL1)?,
            ttbr1: get(vcpu, TTBR1_EL1)?,
            vbar: get(vcpu, VBAR_EL1)?,
            esr: get(vcpu, ESR_EL1)?,
            far: get(vcpu, FAR_EL1)?,
            elr: get(vcpu, core(ELR_EL1))?,
        },
    }))
}

//! The registers of a RISC-V hart, and KVM's numbers for them (KVM API, section 4.68).

pub(super) use super::super::one_reg::get;

use super::super::one_reg::set;
use crate::HvError;
use firstlight_base::VcpuState;
use firstlight_base::riscv64::{Mode, Registers, Trap};
use kvm_bindings::{
    KVM_REG_RISCV, KVM_REG_RISCV_CONFIG, KVM_REG_RISCV_CORE, KVM_REG_RISCV_CSR,
    KVM_REG_RISCV_TIMER, KVM_REG_SIZE_U64, KVM_RISCV_MODE_S, KVM_RISCV_MODE_U, kvm_riscv_core,
    kvm_riscv_csr,
};
use kvm_ioctls::VcpuFd;
use std::mem::offset_of;

const PC: usize = offset_of!(kvm_riscv_core, regs.pc);
/// `x1`, which the others follow.
const X1: usize = offset_of!(kvm_riscv_core, regs.ra);
const MODE: usize = offset_of!(kvm_riscv_core, mode);

/// The number of register `number` of a kind, `KVM_REG_RISCV_*`.
pub(super) fn number(kind: u32, number: u64) -> u64 {
    KVM_REG_RISCV.cast_unsigned() | KVM_REG_SIZE_U64 | u64::from(kind) | number
}

/// The number of what is at `offset` in `struct kvm_riscv_config`.
pub(super) fn config(offset: usize) -> u64 {
    number(KVM_REG_RISCV_CONFIG, words(offset))
}

/// The number of what is at `offset` in `struct kvm_riscv_timer`.
pub(super) fn timer(offset: usize) -> u64 {
    number(KVM_REG_RISCV_TIMER, words(offset))
}

/// The number of what is at `offset` in `struct kvm_riscv_core`.
fn core(offset: usize) -> u64 {
    number(KVM_REG_RISCV_CORE, words(offset))
}

/// The number of what is at `offset` in `struct kvm_riscv_csr`.
fn csr(offset: usize) -> u64 {
    number(KVM_REG_RISCV_CSR, words(offset))
}

fn words(offset: usize) -> u64 {
    (offset / 8) as u64
}

/// The number of `x1` to `x31`, by index.
fn x(index: usize) -> u64 {
    core(X1 + 8 * (index - 1))
}

pub(in crate::kvm) fn set_state(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), HvError> {
    let VcpuState::Riscv64(wanted) = state else {
        return Err(HvError::OtherArchitecture);
    };
    for (index, value) in wanted.x.iter().enumerate().skip(1) {
        set(vcpu, x(index), *value)?;
    }
    let mode = match wanted.mode {
        Mode::User => KVM_RISCV_MODE_U,
        Mode::Supervisor => KVM_RISCV_MODE_S,
    };
    set(vcpu, core(MODE), mode.into())?;
    set(vcpu, csr(offset_of!(kvm_riscv_csr, satp)), wanted.satp)?;
    set(
        vcpu,
        csr(offset_of!(kvm_riscv_csr, sstatus)),
        wanted.sstatus,
    )?;
    set(vcpu, csr(offset_of!(kvm_riscv_csr, sie)), wanted.sie)?;
    set(vcpu, core(PC), wanted.pc)
}

pub(in crate::kvm) fn state(vcpu: &VcpuFd) -> Result<VcpuState, HvError> {
    let mut integers = [0; 32];
    for (index, value) in integers.iter_mut().enumerate().skip(1) {
        *value = get(vcpu, x(index))?;
    }
    let csr = |offset| get(vcpu, csr(offset));
    let user = get(vcpu, core(MODE))? == u64::from(KVM_RISCV_MODE_U);
    Ok(VcpuState::Riscv64(Registers {
        x: integers,
        pc: get(vcpu, core(PC))?,
        mode: if user { Mode::User } else { Mode::Supervisor },
        satp: csr(offset_of!(kvm_riscv_csr, satp))?,
        sstatus: csr(offset_of!(kvm_riscv_csr, sstatus))?,
        sie: csr(offset_of!(kvm_riscv_csr, sie))?,
        trap: Trap {
            stvec: csr(offset_of!(kvm_riscv_csr, stvec))?,
            sepc: csr(offset_of!(kvm_riscv_csr, sepc))?,
            scause: csr(offset_of!(kvm_riscv_csr, scause))?,
            stval: csr(offset_of!(kvm_riscv_csr, stval))?,
        },
    }))
}

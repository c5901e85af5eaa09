//! Registers of a vCPU, one by one (KVM API, sections 4.68 and 4.69).

use super::refused;
use crate::HvError;
use kvm_ioctls::VcpuFd;

/// Reads a register of 64 bits.
pub(super) fn get(vcpu: &VcpuFd, register: u64) -> Result<u64, HvError> {
    let mut value = [0; 8];
    vcpu.get_one_reg(register, &mut value)
        .map_err(refused("read a vCPU's registers"))?;
    Ok(u64::from_ne_bytes(value))
}

/// Sets a register of 64 bits.
pub(super) fn set(vcpu: &VcpuFd, register: u64, value: u64) -> Result<(), HvError> {
    vcpu.set_one_reg(register, &value.to_ne_bytes())
        .map_err(refused("set a vCPU's registers"))?;
    Ok(())
}

//! What a hart can do, and what its execution environment does for it, as KVM lists it
//! (`arch/riscv/include/uapi/asm/kvm.h`, `KVM_RISCV_ISA_EXT_ID` and `KVM_RISCV_SBI_EXT_ID`).

use super::super::one_reg::set;
use super::registers::{get, number};
use kvm_bindings::{
    KVM_REG_RISCV_ISA_EXT, KVM_REG_RISCV_SBI_EXT,
    KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKR as ZKR,
    KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_DBCN as DBCN,
};
use kvm_ioctls::VcpuFd;

/// The extensions in KVM's order, in the names of `riscv,isa-extensions`.
const NAMES: [&str; 71] = [
    "a",
    "c",
    "d",
    "f",
    "h",
    "i",
    "m",
    "svpbmt",
    "sstc",
    "svinval",
    "zihintpause",
    "zicbom",
    "zicboz",
    "zbb",
    "ssaia",
    "v",
    "svnapot",
    "zba",
    "zbs",
    "zicntr",
    "zicsr",
    "zifencei",
    "zihpm",
    "smstateen",
    "zicond",
    "zbc",
    "zbkb",
    "zbkc",
    "zbkx",
    "zknd",
    "zkne",
    "zknh",
    "zkr",
    "zksed",
    "zksh",
    "zkt",
    "zvbb",
    "zvbc",
    "zvkb",
    "zvkg",
    "zvkned",
    "zvknha",
    "zvknhb",
    "zvksed",
    "zvksh",
    "zvkt",
    "zfh",
    "zfhmin",
    "zihintntl",
    "zvfh",
    "zvfhmin",
    "zfa",
    "ztso",
    "zacas",
    "sscofpmf",
    "zimop",
    "zca",
    "zcb",
    "zcd",
    "zcf",
    "zcmop",
    "zawrs",
    "smnpm",
    "ssnpm",
    "svade",
    "svadu",
    "svvptc",
    "zabha",
    "ziccrse",
    "zaamo",
    "zalrsc",
];

/// The names of what the hart can do. What KVM does not know, or the host cannot, is not in it.
pub(super) fn enabled(vcpu: &VcpuFd) -> Vec<&'static str> {
    let is_on = |id| matches!(get(vcpu, number(KVM_REG_RISCV_ISA_EXT, id)), Ok(1));
    (0..)
        .zip(NAMES)
        .filter(|(id, _)| is_on(*id))
        .map(|(_, name)| name)
        .collect()
}

/// Takes from the hart what KVM would stop for: the entropy source, for which nobody here has
/// entropy. A host without it refuses, and that is as good.
pub(super) fn hide_unanswered(vcpu: &VcpuFd) {
    let _ = set(vcpu, number(KVM_REG_RISCV_ISA_EXT, ZKR.into()), 0);
}

/// Lets the guest find the debug console, which KVM leaves to its user. Before Linux 6.8 there is
/// none, and a guest does without.
pub(super) fn offer_console(vcpu: &VcpuFd) {
    let _ = set(vcpu, number(KVM_REG_RISCV_SBI_EXT, DBCN.into()), 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_kvms_numbers() {
        assert_eq!(NAMES[ZKR as usize], "zkr");
        assert_eq!(NAMES[19..22], ["zicntr", "zicsr", "zifencei"]);
    }
}

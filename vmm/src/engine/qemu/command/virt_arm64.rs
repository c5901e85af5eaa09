//! The 64-bit Arm machine: that whose addresses [`VirtArm64`] has.

use firstlight_boot::platform::{Gic, VirtArm64};

/// With EL2 the guest calls PSCI by `smc`, otherwise by `hvc`: QEMU answers what the machine's
/// levels leave free, and keeps all vCPUs but the first one off.
pub(super) fn machine(platform: &VirtArm64) -> String {
    let gic = match platform.gic {
        Gic::V2 => "gic-version=2".to_owned(),
        Gic::V3 { its } => format!("gic-version=3,its={}", on(its)),
    };
    let el2 = on(platform.el2);
    format!("virt,{gic},virtualization={el2},acpi=off,memory-backend=ram")
}

/// Everything that QEMU emulates, but what slows all code down: signed pointers, and the wide
/// vectors that no kernel needs. Tables for 52 bits stop kernels before 5.12.
pub(super) fn cpu(platform: &VirtArm64) -> String {
    let pmu = on(platform.pmu);
    format!("max,pauth=off,sve=off,sme=off,lpa2=off,pmu={pmu}")
}

const fn on(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

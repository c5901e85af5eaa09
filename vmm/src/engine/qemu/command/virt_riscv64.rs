//! The 64-bit RISC-V machine: that whose addresses [`VirtRiscv64`] has.

use firstlight_boot::platform::{RiscvIrqchip, VirtRiscv64};

/// Timers and software interrupts are those of a CLINT, which the machine-mode firmware serves.
pub(super) fn machine(platform: &VirtRiscv64) -> String {
    let aia = match platform.irqchip {
        RiscvIrqchip::Plic => "none",
        RiscvIrqchip::Aia => "aplic-imsic",
    };
    format!("virt,aclint=off,aia={aia},memory-backend=ram")
}

/// A processor with what the platform's harts have beyond what QEMU's has by itself.
pub(super) fn cpu(platform: &VirtRiscv64) -> String {
    let extensions = platform.hart.isa.0.iter();
    let switched = extensions
        .filter(|extension| SWITCHED.contains(&extension.as_ref()))
        .map(|extension| format!(",{extension}=on"));
    format!("rv64{}", switched.collect::<String>())
}

/// The extensions that QEMU 7.2 can switch, under the names that device trees have for them.
const SWITCHED: [&str; 14] = [
    "h", "v", "sstc", "svinval", "svnapot", "svpbmt", "zba", "zbb", "zbc", "zbs", "zfh", "zicbom",
    "zicboz", "zawrs",
];

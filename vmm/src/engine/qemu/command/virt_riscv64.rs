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

/// A processor with the extensions of the platform's harts, and without those that QEMU's has by
/// itself or not, depending on its version.
pub(super) fn cpu(platform: &VirtRiscv64) -> String {
    let isa = &platform.hart.isa.0;
    let mut cpu = "rv64".to_owned();
    for extension in SWITCHED {
        let state = if isa.iter().any(|one| one == extension) {
            "on"
        } else {
            "off"
        };
        cpu.push_str(&format!(",{extension}={state}"));
    }
    for extension in isa.iter().filter(|one| ADDED.contains(&one.as_ref())) {
        cpu.push_str(&format!(",{extension}=on"));
    }
    cpu
}

/// The extensions that QEMU 7.2 can switch, under the names that device trees have for them.
const SWITCHED: [&str; 10] = [
    "h", "v", "zba", "zbb", "zbc", "zbs", "sstc", "svinval", "svnapot", "svpbmt",
];
/// Those that only a later QEMU can.
const ADDED: [&str; 4] = ["zfh", "zicbom", "zicboz", "zawrs"];

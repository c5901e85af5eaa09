//! Linux for 64-bit Arm (`Documentation/arch/arm64/booting.rst`).

use super::flat::Rules;
use crate::{Platform, Protocol};
use firstlight_base::arm64::{Pstate, Registers};
use firstlight_base::{GIB, Gpa, VcpuState};

pub(crate) const RULES: Rules = Rules {
    protocol: Protocol::Arm64,
    // `COMMAND_LINE_SIZE`, less the NUL (`arch/arm64/include/uapi/asm/setup.h`).
    cmdline_limit: 2047,
    // The page size is not always said; the largest there is.
    end_align: 64 << 10,
    initrd_window: Some(32 * GIB),
    enter,
};

/// The address of the device tree in x0, x1 to x3 zero, everything masked, MMU and caches off
/// ("Call the kernel image").
fn enter(platform: &Platform, kernel: Gpa, tree: Gpa) -> VcpuState {
    let mut x = [0; 31];
    x[0] = tree.get();
    let el2 = matches!(platform, Platform::VirtArm64(virt) if virt.el2);
    VcpuState::Arm64(Registers {
        x,
        pc: kernel.get(),
        pstate: if el2 {
            Pstate::ENTRY_EL2
        } else {
            Pstate::ENTRY_EL1
        },
        ..Registers::default()
    })
}

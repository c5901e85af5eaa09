//! Linux for 64-bit RISC-V (`Documentation/arch/riscv/boot.rst`).

use super::flat::Rules;
use crate::{Platform, Protocol};
use firstlight_base::riscv64::{A0, A1, Registers};
use firstlight_base::{Gpa, MIB, VcpuId, VcpuState};

pub(crate) const RULES: Rules = Rules {
    protocol: Protocol::Riscv64,
    // `COMMAND_LINE_SIZE`, less the NUL (`arch/riscv/include/uapi/asm/setup.h`).
    cmdline_limit: 1023,
    // The document does not say so, but Linux keeps whole large pages for itself and then will not
    // have an initial ramdisk that begins in the last of them (`arch/riscv/mm/init.c`,
    // `setup_bootmem`).
    end_align: 2 * MIB,
    initrd_window: None,
    enter,
};

/// The hart's id in a0, the address of the device tree in a1, no address translation, interrupts
/// off ("Register state").
fn enter(_: &Platform, kernel: Gpa, tree: Gpa) -> VcpuState {
    let mut x = [0; 32];
    x[A0] = u64::from(VcpuId::BOOT.0);
    x[A1] = tree.get();
    VcpuState::Riscv64(Registers {
        x,
        pc: kernel.get(),
        ..Registers::default()
    })
}

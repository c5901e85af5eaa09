//! The ROM that takes a processor from its reset to a plan's registers.

mod arm64;
mod x86;

use crate::firmware::PC_TABLES;
use crate::{BootPlan, Content};
use alloc::vec::Vec;
use firstlight_base::VcpuState;

/// The ROM whose processor arrives with the registers of `plan`: on x86 the 64 KiB below 4 GiB, with the
/// plan's tables that are hidden behind it, on arm64 what lies at address 0.
///
/// On x86 two things cannot be chosen: a task register that is unusable keeps what reset gave it,
/// and `CR0.ET` reads 1.
///
/// # Errors
///
/// [`ResetRomError`] where the ROM has no way to these registers.
pub fn reset_rom(plan: &BootPlan) -> Result<Vec<u8>, ResetRomError> {
    match plan.boot_vcpu() {
        VcpuState::X86(registers) => {
            let mut rom = x86::rom(registers)?;
            for piece in plan.pieces() {
                match &piece.content {
                    Content::Bytes(bytes) if PC_TABLES.contains(piece.range) => {
                        x86::burn(&mut rom, piece.range.start(), bytes);
                    }
                    _ => {}
                }
            }
            Ok(rom)
        }
        VcpuState::Arm64(registers) => arm64::rom(registers),
        VcpuState::Riscv64(_) => Err(ResetRomError::Riscv64),
    }
}

/// There is no way from reset to these registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetRomError {
    /// The ROM has no way to what a register is to hold.
    #[error("the reset ROM cannot give {register} the value {value:#x}: {rule}")]
    Register {
        /// The register.
        register: &'static str,
        /// What it was to hold.
        value: u64,
        /// What it can hold.
        rule: &'static str,
    },
    /// A riscv64 kernel needs a firmware below it that stays, not one that leads to it.
    #[error("no reset ROM enters a riscv64 kernel: it calls machine-mode firmware while it runs")]
    Riscv64,
}

/// Refuses with `rule` unless `sound`.
fn need(
    sound: bool,
    register: &'static str,
    value: u64,
    rule: &'static str,
) -> Result<(), ResetRomError> {
    if sound {
        Ok(())
    } else {
        Err(ResetRomError::Register {
            register,
            value,
            rule,
        })
    }
}

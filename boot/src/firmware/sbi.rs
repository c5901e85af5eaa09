//! The machine-mode firmware of a RISC-V machine: what a supervisor calls (RISC-V Supervisor Binary
//! Interface Specification 2.0), and the way from reset to the plan's registers.
//!
//! Every hart comes out of reset at the firmware's first byte, in machine mode (`hw/riscv/boot.c`
//! of QEMU, `riscv_setup_rom_reset_vec`). The first one goes on to the kernel, the others wait
//! until the kernel asks for them. The firmware is code for this one machine: it is made from the
//! plan, reads no device tree and looks for nothing. It says nothing either.
//!
//! It needs what the machine's harts have: Sstc, `menvcfg`, and physical memory protection. A trap
//! that is none of its business ends the machine.

mod assembler;
mod call;
mod console;
mod hart;
mod hsm;
mod request;
mod reset;
mod routine;
mod trap;

pub use assembler::AssemblerError;

use crate::platform::VirtRiscv64;
use crate::{BootPlan, Platform};
use alloc::vec::Vec;
use assembler::Assembler;
use firstlight_base::riscv64::Registers;
use firstlight_base::{Gpa, GpaRange, VcpuState};
use routine::Routines;

/// Where the harts' areas begin in the firmware, in bytes; the code lies before them.
const AREAS: u64 = 0x2_0000;

/// The firmware that takes the machine of `plan` to the plan's registers, and stays behind them: to
/// be loaded at the beginning of RAM, where every hart begins.
///
/// Its length grows with the number of harts; it is at most 256 KiB.
///
/// # Errors
///
/// [`FirmwareError`] where the plan is for another machine, or for one that the firmware has no
/// room for.
pub fn riscv_firmware(plan: &BootPlan) -> Result<Vec<u8>, FirmwareError> {
    let (Platform::VirtRiscv64(platform), VcpuState::Riscv64(registers)) =
        (plan.platform(), plan.boot_vcpu())
    else {
        return Err(FirmwareError::OtherMachine);
    };
    firmware(platform, registers)
}

/// No firmware can be made for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// The plan is for a machine of another architecture.
    #[error("a RISC-V firmware is for RISC-V machines")]
    OtherMachine,
    /// There are more harts than the firmware has room for, or none.
    #[error(
        "the firmware can keep 1 to {} harts, not {harts}",
        VirtRiscv64::MAX_CPUS
    )]
    Harts {
        /// How many there are.
        harts: u32,
    },
    /// The firmware itself does not lie in RAM.
    #[error("the firmware at {firmware} does not lie in RAM")]
    NoRam {
        /// Where it has to lie.
        firmware: GpaRange,
    },
    /// The code cannot be written.
    #[error(transparent)]
    Code(#[from] AssemblerError),
}

fn firmware(platform: &VirtRiscv64, registers: &Registers) -> Result<Vec<u8>, FirmwareError> {
    let harts = platform.cpus;
    if !(1..=VirtRiscv64::MAX_CPUS).contains(&harts) {
        return Err(FirmwareError::Harts { harts });
    }
    let firmware = VirtRiscv64::FIRMWARE;
    let ram = platform.ram.iter().find(|ram| ram.contains(firmware));
    let ram_end = ram.ok_or(FirmwareError::NoRam { firmware })?.end();
    let machine = Machine { harts, ram_end };
    let mut bytes = code(&machine, registers)?;
    bytes.resize(to_usize(AREAS), 0);
    bytes.extend((0..harts).flat_map(hart::first_area));
    Ok(bytes)
}

fn code(machine: &Machine, registers: &Registers) -> Result<Vec<u8>, AssemblerError> {
    let mut code = Assembler::default();
    let routines = Routines::new(&mut code);
    hart::begin(&mut code, &routines, machine, registers);
    hart::park(&mut code, &routines);
    trap::handle(&mut code, &routines);
    call::dispatch(&mut code, &routines, machine);
    request::answer(&mut code, &routines);
    request::choose(&mut code, &routines, machine);
    let code = code.finish()?;
    assert!(code.len() < to_usize(AREAS), "the code is a few KiB");
    Ok(code)
}

/// What the firmware knows of its machine.
#[derive(Clone, Copy, Debug)]
struct Machine {
    /// How many harts there are; their ids count from 0.
    harts: u32,
    /// Where the RAM ends that the firmware lies in.
    ram_end: Gpa,
}

fn to_usize(small: u64) -> usize {
    usize::try_from(small).expect("less than the firmware's 256 KiB")
}

#[cfg(test)]
mod tests;

//! A 64-bit RISC-V hart's (`riscv_cpu_dump_state`, `target/riscv/cpu.c` of QEMU).

use super::Dump;
use firstlight_base::riscv64::{Mode, Registers, Trap};

pub(super) fn registers(dump: &Dump) -> Option<Registers> {
    /// `mstatus` has the fields of `sstatus`, and others (The RISC-V Instruction Set Manual,
    /// volume II, section 12.1.1): SIE, SPIE, UBE, SPP, VS, FS, XS, SUM, MXR, UXL and SD.
    const SSTATUS: u64 = 0x8000_0003_000d_e762;
    /// Likewise `mie` and `sie`: software, timer and external interrupts of the supervisor.
    const SIE: u64 = 0x222;
    let mut x = [0; 32];
    for (value, name) in x.iter_mut().zip(NAMES) {
        *value = dump.number_after(name)?;
    }
    let number = |name: &str| dump.number_after(name);
    Some(Registers {
        x,
        pc: number("pc")?,
        mode: Mode::Supervisor,
        satp: number("satp")?,
        sstatus: number("mstatus")? & SSTATUS,
        sie: number("mie")? & SIE,
        trap: Trap {
            stvec: number("stvec")?,
            sepc: number("sepc")?,
            scause: number("scause")?,
            stval: number("stval")?,
        },
    })
}

/// What the dump calls the integer registers.
const NAMES: [&str; 32] = [
    "x0/zero", "x1/ra", "x2/sp", "x3/gp", "x4/tp", "x5/t0", "x6/t1", "x7/t2", "x8/s0", "x9/s1",
    "x10/a0", "x11/a1", "x12/a2", "x13/a3", "x14/a4", "x15/a5", "x16/a6", "x17/a7", "x18/s2",
    "x19/s3", "x20/s4", "x21/s5", "x22/s6", "x23/s7", "x24/s8", "x25/s9", "x26/s10", "x27/s11",
    "x28/t3", "x29/t4", "x30/t5", "x31/t6",
];

#[cfg(test)]
mod tests;

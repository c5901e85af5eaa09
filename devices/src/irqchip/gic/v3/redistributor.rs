//! A GICv3's redistributors: two frames of 64 KiB for each CPU (IHI 0069H, GICR_*).

use super::super::registers::{BankRegister, Written};
use super::{GicV3, IMPLEMENTER, PERIPHERAL_ID_2};
use firstlight_base::VcpuId;

/// How many bytes of addresses a CPU's takes.
pub(super) const REDISTRIBUTOR_LEN: u64 = 0x2_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Implementer,
    /// The lower half of GICR_TYPER.
    Type,
    Affinity,
    Waker,
    PeripheralId2,
    /// Of the CPU's own interrupts.
    Bank(BankRegister),
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x0004 => Self::Implementer,
            0x0008 => Self::Type,
            0x000c => Self::Affinity,
            0x0014 => Self::Waker,
            0xffe8 => Self::PeripheralId2,
            SGI_FRAME.. => {
                let register = BankRegister::at(offset - SGI_FRAME);
                Self::Bank(register.filter(|it| it.bank() == 0)?)
            }
            _ => return None,
        })
    }
}

/// Where the frame begins that shows the CPU's own interrupts.
const SGI_FRAME: u64 = 0x1_0000;

/// GICR_TYPER.Last: no redistributor follows.
const LAST: u32 = 1 << 4;

/// GICR_WAKER.ProcessorSleep and ChildrenAsleep.
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;

impl GicV3 {
    pub(super) fn redistributor_word(&self, offset: u64) -> u32 {
        let (cpu, offset) = frame(offset);
        let Some(it) = self.gic.cpu(cpu) else {
            return 0;
        };
        match Register::at(offset) {
            Some(Register::Implementer) => IMPLEMENTER,
            Some(Register::Type) => {
                let last = cpu.0 + 1 == self.gic.cpus();
                (cpu.0 << 8) | (u32::from(last) * LAST)
            }
            Some(Register::Affinity) => it.affinity.0,
            Some(Register::Waker) => u32::from(it.asleep) * (PROCESSOR_SLEEP | CHILDREN_ASLEEP),
            Some(Register::PeripheralId2) => PERIPHERAL_ID_2,
            Some(Register::Bank(register)) => self.gic.read_bank(cpu, register),
            None => 0,
        }
    }

    /// A CPU that sleeps is not chosen for interrupts that any can take. Others it is given: what
    /// hardware does is to ask for its power, and a vCPU always has that.
    pub(super) fn set_redistributor_word(&mut self, offset: u64, written: Written) {
        let (cpu, offset) = frame(offset);
        match Register::at(offset) {
            Some(Register::Waker) => {
                if let Some(it) = self.gic.cpu_mut(cpu) {
                    let old = u32::from(it.asleep) * PROCESSOR_SLEEP;
                    it.asleep = written.over(old) & PROCESSOR_SLEEP != 0;
                }
            }
            Some(Register::Bank(register)) => self.gic.write_bank(cpu, register, written),
            Some(
                Register::Implementer
                | Register::Type
                | Register::Affinity
                | Register::PeripheralId2,
            )
            | None => {}
        }
    }
}

/// Whose redistributor is at `offset`, and where in it that is.
fn frame(offset: u64) -> (VcpuId, u64) {
    let cpu = u32::try_from(offset / REDISTRIBUTOR_LEN).unwrap_or(u32::MAX);
    (VcpuId(cpu), offset % REDISTRIBUTOR_LEN)
}

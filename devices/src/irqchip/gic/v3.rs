//! GICv3: a distributor and redistributors in memory and CPU interfaces in system registers
//! (IHI 0069H), with one security state, affinity routing always on, and neither physical LPIs nor
//! an ITS.
//!
//! As in KVM's, all interrupts are in group 1 after reset. Group 0 has the FIQ line and group 1
//! the IRQ line. There are 32 priorities.

mod distributor;
mod redistributor;
mod system_register;
#[cfg(test)]
mod tests;

pub use system_register::IccRegister;

use super::registers::Written;
use super::route::{Affinity, Route};
use super::{Cpu, Gic};
use crate::words::Words;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use firstlight_base::VcpuId;
use redistributor::REDISTRIBUTOR_LEN;

/// A GICv3: a [`Gic`] and its registers.
#[derive(Debug)]
pub struct GicV3 {
    gic: Gic,
}

/// The identification registers that say GICv3: the upper four bits of GICD_PIDR2 and GICR_PIDR2.
const PERIPHERAL_ID_2: u32 = 0x3b;

/// GICD_IIDR.Implementer and GICR_IIDR.Implementer: Arm.
const IMPLEMENTER: u32 = 0x43b;

impl GicV3 {
    /// The most CPUs, as many as KVM has.
    pub const MAX_CPUS: usize = 512;
    /// How many bytes of addresses the distributor takes.
    pub const DISTRIBUTOR_LEN: u64 = 0x1_0000;

    /// A GIC after reset, of CPUs with these affinities, in their order, and with `shared`
    /// interrupts that are not a CPU's own: a multiple of 32, or [`Gic::MAX_SHARED`]; nothing for
    /// what there cannot be, two CPUs of one affinity among it.
    #[must_use]
    pub fn new(affinities: &[Affinity], shared: u32) -> Option<Self> {
        let (first, others) = affinities.split_first()?;
        let twice = |index| {
            let (before, from) = affinities.split_at(index);
            from.first().is_some_and(|it| before.contains(it))
        };
        if affinities.len() > Self::MAX_CPUS || (1..=others.len()).any(twice) {
            return None;
        }
        let mut cpus: Vec<Cpu> = affinities.iter().map(|&it| Cpu::new(it)).collect();
        for cpu in &mut cpus {
            cpu.asleep = true;
            cpu.interface.group_0_is_fiq = true;
        }
        let mut gic = Gic::new(cpus, shared, Route::Affinity(*first))?;
        let private = gic.cpus.iter_mut().map(|cpu| &mut cpu.private);
        for bank in private.chain(&mut gic.shared) {
            bank.group_1 = bank.present;
        }
        Some(Self { gic })
    }

    /// How many bytes of addresses the redistributors take, one after the other.
    #[must_use]
    pub fn redistributors_len(&self) -> u64 {
        u64::from(self.gic.cpus()) * REDISTRIBUTOR_LEN
    }

    /// Fills `data` with what the distributor's registers from `offset` read as.
    pub fn read_distributor(&self, offset: u64, data: &mut [u8]) {
        let len = Self::DISTRIBUTOR_LEN;
        Words { len }.read(offset, data, |at| self.distributor_word(at));
    }

    /// Writes `data` to the distributor's registers from `offset`.
    pub fn write_distributor(&mut self, offset: u64, data: &[u8]) {
        Written::each(offset, data, |at, written| {
            if at < Self::DISTRIBUTOR_LEN {
                self.set_distributor_word(at, written);
            }
        });
    }

    /// Fills `data` with what the redistributors' registers from `offset` read as.
    pub fn read_redistributor(&self, offset: u64, data: &mut [u8]) {
        let len = self.redistributors_len();
        Words { len }.read(offset, data, |at| self.redistributor_word(at));
    }

    /// Writes `data` to the redistributors' registers from `offset`.
    pub fn write_redistributor(&mut self, offset: u64, data: &[u8]) {
        let len = self.redistributors_len();
        Written::each(offset, data, |at, written| {
            if at < len {
                self.set_redistributor_word(at, written);
            }
        });
    }

    /// What `cpu` reads from a system register; nothing if it is one that cannot be read, which
    /// is an undefined instruction.
    pub fn read_system_register(&mut self, cpu: VcpuId, register: IccRegister) -> Option<u64> {
        self.system_register(cpu, register)
    }

    /// Writes a system register as `cpu`. Answers with false if it is one that cannot be written,
    /// which is an undefined instruction.
    pub fn write_system_register(
        &mut self,
        cpu: VcpuId,
        register: IccRegister,
        value: u64,
    ) -> bool {
        self.set_system_register(cpu, register, value)
    }
}

impl Deref for GicV3 {
    type Target = Gic;

    fn deref(&self) -> &Gic {
        &self.gic
    }
}

impl DerefMut for GicV3 {
    fn deref_mut(&mut self) -> &mut Gic {
        &mut self.gic
    }
}

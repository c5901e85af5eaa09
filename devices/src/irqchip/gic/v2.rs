//! GICv2: a distributor and CPU interfaces in memory (IHI 0048B.b), without the Security
//! Extensions and with interrupt groups.
//!
//! As in KVM's, all interrupts are in group 0 after reset, and a group 0 interrupt has the IRQ
//! line unless the guest sets GICC_CTLR.FIQEn. There are 32 priorities.

mod cpu_interface;
mod distributor;
#[cfg(test)]
mod tests;

use super::registers::Written;
use super::route::{Affinity, Route};
use super::{Cpu, Gic};
use crate::words::Words;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use firstlight_base::VcpuId;

/// A GICv2: a [`Gic`] and its registers. Which CPU makes an access matters for many of them.
#[derive(Debug)]
pub struct GicV2 {
    gic: Gic,
    /// GICC_CTLR.AckCtl of each CPU.
    acknowledges_group_1: Vec<bool>,
}

impl GicV2 {
    /// The most CPUs.
    pub const MAX_CPUS: u32 = 8;
    /// How many bytes of addresses the distributor takes.
    pub const DISTRIBUTOR_LEN: u64 = 0x1000;
    /// How many bytes of addresses a CPU interface takes; every CPU sees its own at the same.
    pub const CPU_INTERFACE_LEN: u64 = 0x2000;

    /// A GIC after reset, with `shared` interrupts that are not a CPU's own: a multiple of 32, or
    /// [`Gic::MAX_SHARED`]; nothing for what there cannot be.
    #[must_use]
    pub fn new(cpus: u32, shared: u32) -> Option<Self> {
        if cpus > Self::MAX_CPUS {
            return None;
        }
        let each: Vec<Cpu> = (0..cpus)
            .map(|cpu| Cpu::new(Affinity::of(VcpuId(cpu))))
            .collect();
        // "In a uniprocessor implementation, all interrupts target the one processor" (section
        // 4.3.12).
        let route = Route::Targets(u8::from(cpus == 1));
        Some(Self {
            acknowledges_group_1: each.iter().map(|_| false).collect(),
            gic: Gic::new(each, shared, route)?,
        })
    }

    /// Fills `data` with what `cpu` reads from the distributor.
    pub fn read_distributor(&self, cpu: VcpuId, offset: u64, data: &mut [u8]) {
        let words = self.words(cpu, Self::DISTRIBUTOR_LEN);
        words.read(offset, data, |at| self.distributor_word(cpu, at));
    }

    /// Writes `data` to the distributor as `cpu`.
    pub fn write_distributor(&mut self, cpu: VcpuId, offset: u64, data: &[u8]) {
        let len = self.words(cpu, Self::DISTRIBUTOR_LEN).len;
        Written::each(offset, data, |at, written| {
            if at < len {
                self.set_distributor_word(cpu, at, written);
            }
        });
    }

    /// Fills `data` with what `cpu` reads from its interface.
    pub fn read_cpu_interface(&mut self, cpu: VcpuId, offset: u64, data: &mut [u8]) {
        let words = self.words(cpu, Self::CPU_INTERFACE_LEN);
        words.read(offset, data, |at| self.cpu_interface_word(cpu, at));
    }

    /// Writes `data` to the interface of `cpu`.
    pub fn write_cpu_interface(&mut self, cpu: VcpuId, offset: u64, data: &[u8]) {
        let len = self.words(cpu, Self::CPU_INTERFACE_LEN).len;
        Written::each(offset, data, |at, written| {
            if at < len {
                self.set_cpu_interface_word(cpu, at, written);
            }
        });
    }

    /// The registers that a CPU sees: none if it is not there.
    fn words(&self, cpu: VcpuId, len: u64) -> Words {
        Words {
            len: if cpu.0 < self.gic.cpus() { len } else { 0 },
        }
    }
}

impl Deref for GicV2 {
    type Target = Gic;

    fn deref(&self) -> &Gic {
        &self.gic
    }
}

impl DerefMut for GicV2 {
    fn deref_mut(&mut self) -> &mut Gic {
        &mut self.gic
    }
}

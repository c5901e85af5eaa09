//! A GICv2's distributor (IHI 0048B.b, section 4.3).

use super::super::registers::{BankRegister, Field, Written};
use super::super::route::Route;
use super::super::sgi::SGIS;
use super::super::{bit, members};
use super::GicV2;
use firstlight_base::VcpuId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Control,
    Type,
    Implementer,
    Bank(BankRegister),
    /// The targets of four interrupts, from this one.
    Targets(u32),
    SendSgi,
    /// The senders of four interrupts from other CPUs, from this one.
    ClearSgis(u32),
    SetSgis(u32),
    /// The identification register at this offset.
    Id(u64),
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        let four = |first: u64| u32::try_from(offset - first).ok();
        Some(match offset {
            0x000 => Self::Control,
            0x004 => Self::Type,
            0x008 => Self::Implementer,
            0x800..0xc00 => Self::Targets(four(0x800)?),
            0xf00 => Self::SendSgi,
            0xf10..0xf20 => Self::ClearSgis(four(0xf10)?),
            0xf20..0xf30 => Self::SetSgis(four(0xf20)?),
            0xfd0.. => Self::Id(offset),
            _ => Self::Bank(BankRegister::at(offset)?),
        })
    }
}

/// GICD_CTLR.EnableGrp0 and EnableGrp1.
const ENABLE_GROUP_0: u32 = 1 << 0;
const ENABLE_GROUP_1: u32 = 1 << 1;

/// GICD_IIDR.Implementer: Arm.
const IMPLEMENTER: u32 = 0x43b;

/// The interrupts that CPUs send each other: the first 16 of a CPU's own.
const SGI_BITS: u32 = (1 << SGIS) - 1;

impl GicV2 {
    pub(super) fn distributor_word(&self, cpu: VcpuId, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::Control) => {
                (u32::from(self.gic.forwarded.zero) * ENABLE_GROUP_0)
                    | (u32::from(self.gic.forwarded.one) * ENABLE_GROUP_1)
            }
            Some(Register::Type) => self.gic.lines() | (self.gic.cpus() - 1) << 5,
            Some(Register::Implementer) => IMPLEMENTER,
            Some(Register::Bank(register)) => self.gic.read_bank(cpu, register),
            Some(Register::Targets(first)) => {
                u32::from_le_bytes([0, 1, 2, 3].map(|index| self.targets(cpu, first + index)))
            }
            Some(Register::ClearSgis(first) | Register::SetSgis(first)) => {
                u32::from_le_bytes([0, 1, 2, 3].map(|index| self.senders(cpu, first + index)))
            }
            Some(Register::Id(offset)) => id(offset).into(),
            Some(Register::SendSgi) | None => 0,
        }
    }

    pub(super) fn set_distributor_word(&mut self, cpu: VcpuId, offset: u64, written: Written) {
        match Register::at(offset) {
            Some(Register::Control) => {
                let value = written.over(self.distributor_word(cpu, offset));
                self.gic.forwarded.zero = value & ENABLE_GROUP_0 != 0;
                self.gic.forwarded.one = value & ENABLE_GROUP_1 != 0;
            }
            Some(Register::Bank(register)) => self.set_bank(cpu, register, written),
            Some(Register::Targets(first)) => {
                for (index, targets) in written.bytes() {
                    self.set_targets(first + index, targets);
                }
            }
            Some(Register::SendSgi) => self.send_sgi(cpu, written.value),
            Some(Register::ClearSgis(first)) => {
                for (index, senders) in written.bytes() {
                    self.withdraw(cpu, first + index, senders);
                }
            }
            Some(Register::SetSgis(first)) => {
                for (index, senders) in written.bytes() {
                    self.send(cpu, first + index, senders);
                }
            }
            Some(Register::Type | Register::Implementer | Register::Id(_)) | None => {}
        }
    }

    /// GICD_ISPENDR and GICD_ICPENDR only show what CPUs send each other (sections 4.3.7 and
    /// 4.3.8): that is set and cleared with its senders.
    fn set_bank(&mut self, cpu: VcpuId, register: BankRegister, mut written: Written) {
        let of_pending = matches!(register.field(), Field::SetPending | Field::ClearPending);
        if of_pending && register.bank() == 0 {
            written.mask &= !SGI_BITS;
        }
        self.gic.write_bank(cpu, register, written);
    }

    /// GICD_ITARGETSR: a CPU's own interrupts have it as their target; where there is one CPU, the
    /// registers read as zero (section 4.3.12).
    fn targets(&self, cpu: VcpuId, id: u32) -> u8 {
        match self.gic.route(id) {
            _ if self.gic.cpus() == 1 => 0,
            Some(Route::Targets(mask)) => mask,
            Some(Route::Affinity(_) | Route::Any(_)) => 0,
            None if id < 32 => self.one(cpu),
            None => 0,
        }
    }

    fn set_targets(&mut self, id: u32, targets: u8) {
        let targets = targets & self.all();
        if self.gic.cpus() > 1
            && let Some(route) = self.gic.route_mut(id)
        {
            *route = Route::Targets(targets);
        }
    }

    /// GICD_SGIR (section 4.3.15).
    fn send_sgi(&mut self, sender: VcpuId, value: u32) {
        let [id, _, listed, filter] = value.to_le_bytes();
        let targets = match filter & 0b11 {
            0b00 => listed & self.all(),
            0b01 => self.all() & !self.one(sender),
            0b10 => self.one(sender),
            // Reserved.
            _ => 0,
        };
        for cpu in members(targets.into()).map(VcpuId) {
            self.send(cpu, u32::from(id) % SGIS, self.one(sender));
        }
    }

    fn send(&mut self, cpu: VcpuId, id: u32, senders: u8) {
        let senders = senders & self.all();
        if let Some(it) = self.gic.cpu_mut(cpu)
            && senders != 0
        {
            it.sgis.send(id, senders);
            it.private.latch(bit(id));
        }
    }

    fn withdraw(&mut self, cpu: VcpuId, id: u32, senders: u8) {
        if let Some(it) = self.gic.cpu_mut(cpu) {
            it.sgis.withdraw(id, senders);
            if !it.sgis.are_pending(id) {
                it.private.latched &= !bit(id);
            }
            if !it.sgis.are_listed(id) {
                it.private.latched_there &= !bit(id);
            }
        }
    }

    fn senders(&self, cpu: VcpuId, id: u32) -> u8 {
        self.gic.cpu(cpu).map_or(0, |it| it.sgis.senders(id))
    }

    /// A mask of all CPUs.
    fn all(&self) -> u8 {
        self.gic.cpus().checked_sub(1).map_or(0, up_to)
    }

    /// A mask of one CPU.
    fn one(&self, VcpuId(cpu): VcpuId) -> u8 {
        let [mask, ..] = bit(cpu).to_le_bytes();
        mask
    }
}

/// A mask of the CPUs up to this one.
fn up_to(cpu: u32) -> u8 {
    let [mask, ..] = (u32::MAX >> (31 - cpu.min(31))).to_le_bytes();
    mask
}

/// The identification registers: those of the GIC-400 (DDI 0471B).
fn id(offset: u64) -> u8 {
    match offset {
        0xfd0 => 0x04,
        0xfe0 => 0x90,
        0xfe4 => 0xb4,
        // The architecture, in the upper four bits.
        0xfe8 => 0x2b,
        0xff0 => 0x0d,
        0xff4 => 0xf0,
        0xff8 => 0x05,
        0xffc => 0xb1,
        _ => 0,
    }
}

//! A GICv2 on the board: the chip between lines and the vCPUs' interrupt pins.

#[cfg(test)]
mod tests;

use super::{Board, InterruptControllers, LevelLine};
use firstlight_base::{Gpa, GpaRange, Irq, VcpuId};
use firstlight_boot::platform::VirtArm64;
use firstlight_devices::{GicLine, GicV2};
use firstlight_hv::{HvError, IrqLine, Kicker, OwnInterrupts, Vcpu};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A GIC with the vCPUs that it interrupts.
pub(crate) struct Gic {
    works: Mutex<Works>,
}

struct Works {
    chip: GicV2,
    /// By the vCPUs' numbers.
    vcpus: Vec<Wired>,
}

/// A vCPU's pin, and what it asks for itself.
struct Wired {
    pin: LevelLine,
    own: OwnInterrupts,
}

/// The registers of each vCPU's, by where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Distributor(u64),
    CpuInterface(u64),
}

impl Register {
    fn at(at: Gpa) -> Option<Self> {
        let inside = |range: GpaRange, len: u64| {
            let offset = at.get().checked_sub(range.start().get())?;
            (offset < len).then_some(offset)
        };
        let distributor = inside(VirtArm64::GIC_DISTRIBUTOR, GicV2::DISTRIBUTOR_LEN);
        let cpu_interface = || inside(VirtArm64::GICV2_CPU, GicV2::CPU_INTERFACE_LEN);
        match distributor {
            Some(offset) => Some(Self::Distributor(offset)),
            None => cpu_interface().map(Self::CpuInterface),
        }
    }
}

/// So many lines come from devices, as of KVM's controllers.
const SHARED: u32 = 256;
/// The interrupts of a vCPU's own parts, counted as private ones are (DEN0094, section 3.6).
const PMU: Irq = Irq(7);
const VIRTUAL_TIMER: Irq = Irq(11);
const PHYSICAL_TIMER: Irq = Irq(14);

impl Gic {
    /// One of the vCPUs with these pins; nothing for more than there can be.
    pub(crate) fn new(pins: Vec<Box<dyn IrqLine>>) -> Option<Self> {
        let wired = |pin| Wired {
            pin: LevelLine::new(pin),
            own: OwnInterrupts::default(),
        };
        Some(Self {
            works: Mutex::new(Works {
                chip: GicV2::new(u32::try_from(pins.len()).ok()?, SHARED)?,
                vcpus: pins.into_iter().map(wired).collect(),
            }),
        })
    }

    /// Puts it between the vCPUs and all else that is on the board.
    pub(crate) fn attach(self: &Arc<Self>, board: &mut Board) {
        board.set_controllers(Arc::<Self>::clone(self));
    }

    /// A device's line.
    pub(crate) fn line(self: &Arc<Self>, irq: Irq) -> Result<Box<dyn IrqLine>, HvError> {
        match irq.0 {
            ..SHARED => Ok(Box::new(Line {
                gic: Arc::clone(self),
                line: GicLine::Shared(irq),
            })),
            _ => Err(HvError::NoSuchLine(irq)),
        }
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Works {
    fn notify(&mut self) {
        for (id, vcpu) in (0..).map(VcpuId).zip(&mut self.vcpus) {
            vcpu.pin.set(self.chip.notifies(id));
        }
    }

    /// Drives the lines of a vCPU's own parts.
    fn set_own(&mut self, id: VcpuId, own: OwnInterrupts) {
        let index = usize::try_from(id.0).ok();
        let Some(vcpu) = index.and_then(|index| self.vcpus.get_mut(index)) else {
            return;
        };
        if vcpu.own == own {
            return;
        }
        vcpu.own = own;
        for (irq, high) in [
            (PMU, own.pmu),
            (VIRTUAL_TIMER, own.virtual_timer),
            (PHYSICAL_TIMER, own.physical_timer),
        ] {
            self.chip.set(GicLine::Private(id, irq), high);
        }
        self.notify();
    }
}

impl InterruptControllers for Gic {
    fn kicker(self: Arc<Self>, _id: VcpuId, kicker: Kicker) -> Kicker {
        kicker
    }

    /// The pins bring interrupts to the vCPUs, which stop where their own parts ask for one.
    fn deliver(&self, id: VcpuId, vcpu: &mut dyn Vcpu) -> Result<bool, HvError> {
        self.works().set_own(id, vcpu.own_interrupts());
        Ok(true)
    }

    fn read_local(&self, id: VcpuId, at: Gpa, data: &mut [u8]) -> bool {
        let Some(register) = Register::at(at) else {
            return false;
        };
        let mut works = self.works();
        match register {
            Register::Distributor(offset) => works.chip.read_distributor(id, offset, data),
            // Reading may acknowledge an interrupt.
            Register::CpuInterface(offset) => works.chip.read_cpu_interface(id, offset, data),
        }
        works.notify();
        true
    }

    fn write_local(&self, id: VcpuId, at: Gpa, data: &[u8]) -> bool {
        let Some(register) = Register::at(at) else {
            return false;
        };
        let mut works = self.works();
        match register {
            Register::Distributor(offset) => works.chip.write_distributor(id, offset, data),
            Register::CpuInterface(offset) => works.chip.write_cpu_interface(id, offset, data),
        }
        works.notify();
        true
    }
}

/// A device's line.
struct Line {
    gic: Arc<Gic>,
    line: GicLine,
}

impl IrqLine for Line {
    fn pulse(&self) -> Result<(), HvError> {
        let mut works = self.gic.works();
        works.chip.pulse(self.line);
        works.notify();
        Ok(())
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        let mut works = self.gic.works();
        works.chip.set(self.line, high);
        works.notify();
        Ok(())
    }
}

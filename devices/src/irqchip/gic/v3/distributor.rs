//! A GICv3's distributor (IHI 0069H, GICD_*).

use super::super::registers::{BankRegister, Written};
use super::super::route::Route;
use super::{GicV3, IMPLEMENTER, PERIPHERAL_ID_2};
use firstlight_base::VcpuId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Control,
    Type,
    Implementer,
    /// Not of a CPU's own interrupts: those are in its redistributor.
    Bank(BankRegister),
    /// A half of the route of a shared interrupt.
    Router(u32, Half),
    PeripheralId2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Low,
    High,
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x0000 => Self::Control,
            0x0004 => Self::Type,
            0x0008 => Self::Implementer,
            0x6000..0x8000 => {
                let half = if offset.is_multiple_of(8) {
                    Half::Low
                } else {
                    Half::High
                };
                Self::Router(u32::try_from((offset - 0x6000) / 8).ok()?, half)
            }
            0xffe8 => Self::PeripheralId2,
            _ => Self::Bank(BankRegister::at(offset).filter(|it| it.bank() > 0)?),
        })
    }
}

/// GICD_CTLR.EnableGrp0 and EnableGrp1, as with one security state.
const ENABLE_GROUP_0: u32 = 1 << 0;
const ENABLE_GROUP_1: u32 = 1 << 1;
/// GICD_CTLR.ARE and DS: affinity routing is on, and there is one security state.
const CONTROL: u32 = 1 << 4 | 1 << 6;

/// GICD_TYPER: identifiers of 10 bits; CPUs whose highest affinity level is not 0; CPUs whose
/// lowest is above 15 can be sent interrupts.
const TYPE: u32 = 9 << 19 | 1 << 24 | 1 << 26;

impl GicV3 {
    pub(super) fn distributor_word(&self, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::Control) => {
                CONTROL
                    | (u32::from(self.gic.forwarded.zero) * ENABLE_GROUP_0)
                    | (u32::from(self.gic.forwarded.one) * ENABLE_GROUP_1)
            }
            Some(Register::Type) => TYPE | self.gic.lines(),
            Some(Register::Implementer) => IMPLEMENTER,
            Some(Register::Bank(register)) => self.gic.read_bank(VcpuId::BOOT, register),
            Some(Register::Router(id, half)) => {
                let (low, high) = halves(self.gic.route(id).map_or(0, Route::register));
                match half {
                    Half::Low => low,
                    Half::High => high,
                }
            }
            Some(Register::PeripheralId2) => PERIPHERAL_ID_2,
            None => 0,
        }
    }

    pub(super) fn set_distributor_word(&mut self, offset: u64, written: Written) {
        match Register::at(offset) {
            Some(Register::Control) => {
                let value = written.over(self.distributor_word(offset));
                self.gic.forwarded.zero = value & ENABLE_GROUP_0 != 0;
                self.gic.forwarded.one = value & ENABLE_GROUP_1 != 0;
            }
            Some(Register::Bank(register)) => {
                self.gic.write_bank(VcpuId::BOOT, register, written);
            }
            Some(Register::Router(id, half)) => {
                if let Some(route) = self.gic.route_mut(id) {
                    let (low, high) = halves(route.register());
                    let (low, high) = match half {
                        Half::Low => (written.over(low), high),
                        Half::High => (low, written.over(high)),
                    };
                    *route = Route::from_register(u64::from(high) << 32 | u64::from(low));
                }
            }
            Some(Register::Type | Register::Implementer | Register::PeripheralId2) | None => {}
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

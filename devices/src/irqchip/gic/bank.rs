//! 32 interrupts, in the words in which the registers show them.

use super::interface::{Candidate, Group, PRIORITIES, PerGroup};
use super::sgi::SGIS;
use super::{bit, members};
use firstlight_base::VcpuId;

/// A bank of interrupts: a bit for each, the lowest for the first.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    pub(super) present: u32,
    pub(super) enabled: u32,
    /// Pending whatever the line does: by an edge, or by software.
    pub(super) latched: u32,
    /// Whose line is high.
    high: u32,
    /// For which edges count, and not levels.
    edge: u32,
    /// Whose configuration cannot be changed.
    fixed: u32,
    pub(super) active: u32,
    pub(super) group_1: u32,
    /// Which were deactivated since the owner was last told.
    ended: u32,
    /// Which are in list registers: to nobody else they are given.
    taken: u32,
    /// Of those, which are latched there: pending, though they are not latched here.
    pub(super) latched_there: u32,
    /// Of those, which were activated or deactivated here meanwhile: what the list register says
    /// of that does not count.
    overruled: u32,
    priorities: [u8; 32],
    /// The CPU that each was given to; [`NOBODY`] if software made it active.
    holders: [u32; 32],
    /// The host's interrupt behind each, 0 for none.
    physical: [u16; 32],
}

/// What is so of an interrupt, or what a list register says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) pending: bool,
    pub(super) active: bool,
}

const NOBODY: u32 = u32::MAX;

impl Bank {
    /// A CPU's own: what CPUs send each other is enabled and edge-triggered from the start.
    pub(super) fn private() -> Self {
        let sgis = (1 << SGIS) - 1;
        Self {
            enabled: sgis,
            edge: sgis,
            fixed: sgis,
            ..Self::shared(32)
        }
    }

    /// As many of `count` as it has room for.
    pub(super) fn shared(count: u32) -> Self {
        Self {
            present: u32::MAX >> (32 - count.clamp(1, 32)),
            enabled: 0,
            latched: 0,
            high: 0,
            edge: 0,
            fixed: 0,
            active: 0,
            group_1: 0,
            ended: 0,
            taken: 0,
            latched_there: 0,
            overruled: 0,
            priorities: [0; 32],
            holders: [NOBODY; 32],
            physical: [0; 32],
        }
    }

    pub(super) fn pending(&self) -> u32 {
        self.latched | self.latched_there | (self.high & !self.edge)
    }

    /// The pending interrupts that may be given to somebody.
    pub(super) fn waiting(&self, groups: PerGroup<bool>) -> u32 {
        self.pending() & self.enabled & !self.active & !self.taken & self.of(groups)
    }

    /// Those of the groups.
    pub(super) fn of(&self, groups: PerGroup<bool>) -> u32 {
        let mut of_groups = 0;
        if groups.zero {
            of_groups |= !self.group_1;
        }
        if groups.one {
            of_groups |= self.group_1;
        }
        of_groups
    }

    /// `interrupts` as candidates, in a bank whose first has the identifier `first`.
    pub(super) fn candidates(
        &self,
        interrupts: u32,
        first: u32,
    ) -> impl Iterator<Item = Candidate> {
        members(interrupts).map(move |index| Candidate {
            id: first + index,
            priority: self.priority(index),
            group: self.group(bit(index)),
        })
    }

    pub(super) fn group(&self, bit: u32) -> Group {
        if self.group_1 & bit == 0 {
            Group::Zero
        } else {
            Group::One
        }
    }

    pub(super) fn set_line(&mut self, bit: u32, high: bool) {
        if high {
            self.latched |= bit & self.edge & !self.high;
            self.high |= bit;
        } else {
            self.high &= !bit;
        }
    }

    pub(super) fn latch(&mut self, bits: u32) {
        self.latched |= bits & self.present;
    }

    pub(super) fn unlatch(&mut self, bits: u32) {
        self.latched &= !bits;
        self.latched_there &= !bits;
    }

    /// Software says that they are active.
    pub(super) fn activate(&mut self, bits: u32) {
        self.hold(bits & !self.active, VcpuId(NOBODY));
        self.overruled |= bits & self.taken;
    }

    /// Active, since `holder` acknowledged them.
    pub(super) fn hold(&mut self, bits: u32, holder: VcpuId) {
        self.active |= bits & self.present;
        for index in members(bits) {
            if let Some(it) = at(index).and_then(|at| self.holders.get_mut(at)) {
                *it = holder.0;
            }
        }
    }

    pub(super) fn deactivate(&mut self, bits: u32) {
        self.ended |= self.active & bits & !self.fixed;
        self.active &= !bits;
        self.overruled |= bits & self.taken;
    }

    /// Which are active and in no list register.
    pub(super) fn held(&self) -> u32 {
        self.active & !self.taken
    }

    /// Who was given it; nobody if software made it active.
    pub(super) fn holder(&self, index: u32) -> Option<VcpuId> {
        let holder = at(index).and_then(|at| self.holders.get(at))?;
        (*holder != NOBODY).then_some(VcpuId(*holder))
    }

    /// The host's interrupt behind it.
    pub(super) fn physical(&self, index: u32) -> Option<u16> {
        let physical = at(index).and_then(|at| self.physical.get(at))?;
        (*physical != 0).then_some(*physical)
    }

    pub(super) fn set_physical(&mut self, index: u32, physical: Option<u16>) {
        if let Some(it) = at(index).and_then(|at| self.physical.get_mut(at)) {
            *it = physical.unwrap_or(0);
        }
    }

    /// It goes into a list register.
    pub(super) fn take(&mut self, bit: u32) {
        self.taken |= bit;
        self.overruled &= !bit;
    }

    pub(super) fn is_overruled(&self, bit: u32) -> bool {
        self.overruled & bit != 0
    }

    /// It comes out of the list register of `holder`, which it went into as it `was`.
    pub(super) fn give_back(&mut self, bit: u32, holder: VcpuId, (was, now): (State, State)) {
        let has_ended = (was.active && !now.active)
            || (was.active && was.pending && !now.pending)
            || (was.pending && !now.pending && !now.active);
        if now.pending {
            self.latched |= self.latched_there & bit;
        }
        self.latched_there &= !bit;
        self.taken &= !bit;
        if has_ended || (self.is_overruled(bit) && now.active && self.active & bit == 0) {
            self.ended |= bit & !self.fixed;
        }
        if self.is_overruled(bit) {
            return;
        }
        if now.active {
            self.hold(bit, holder);
        } else {
            self.active &= !bit;
        }
    }

    /// Which edges count for. What was pending by its level stays pending.
    pub(super) fn set_edge(&mut self, edge: u32) {
        let edge = (self.edge & self.fixed) | (edge & !self.fixed & self.present);
        self.latched |= self.high & edge & !self.edge;
        self.edge = edge;
    }

    pub(super) fn edge(&self) -> u32 {
        self.edge
    }

    pub(super) fn priority(&self, index: u32) -> u8 {
        at(index)
            .and_then(|at| self.priorities.get(at))
            .map_or(0, |it| *it)
    }

    pub(super) fn set_priority(&mut self, index: u32, priority: u8) {
        let is_there = self.present & bit(index) != 0;
        if let Some(it) = at(index).and_then(|at| self.priorities.get_mut(at))
            && is_there
        {
            *it = priority & PRIORITIES;
        }
    }

    pub(super) fn take_ended(&mut self) -> Option<u32> {
        let first = members(self.ended).next()?;
        self.ended &= !bit(first);
        Some(first)
    }
}

fn at(index: u32) -> Option<usize> {
    usize::try_from(index).ok()
}

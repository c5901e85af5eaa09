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
    priorities: [u8; 32],
    /// The CPU that each was given to.
    holders: [u32; 32],
}

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
            priorities: [0; 32],
            holders: [0; 32],
        }
    }

    pub(super) fn pending(&self) -> u32 {
        self.latched | (self.high & !self.edge)
    }

    /// The pending interrupts that may be given to somebody.
    pub(super) fn waiting(&self, groups: PerGroup<bool>) -> u32 {
        let mut of_groups = 0;
        if groups.zero {
            of_groups |= !self.group_1;
        }
        if groups.one {
            of_groups |= self.group_1;
        }
        self.pending() & self.enabled & !self.active & of_groups
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
    }

    pub(super) fn activate(&mut self, bits: u32, holder: VcpuId) {
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

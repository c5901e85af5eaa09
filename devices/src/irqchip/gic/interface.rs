//! What a CPU's interface to a GIC decides: which interrupt is urgent enough for it.

use super::Line;

/// The interface of a CPU.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) enabled: PerGroup<bool>,
    /// Only what is of a higher priority, a lower number, is signalled.
    priority_mask: u8,
    binary_points: PerGroup<u8>,
    /// Group 1 uses group 0's binary point.
    pub(super) shares_binary_point: bool,
    /// A bit for each priority at which an interrupt was acknowledged and has not ended.
    pub(super) active: PerGroup<u32>,
    /// The end of an interrupt does not deactivate it (EOImode).
    pub(super) deactivates_apart: bool,
    /// Group 0 has the FIQ line.
    pub(super) group_0_is_fiq: bool,
}

/// The priorities that there are: 5 bits, as most of Arm's GICs have.
pub(super) const PRIORITY_BITS: u32 = 5;
pub(super) const PRIORITIES: u8 = 0xff << (8 - PRIORITY_BITS);

/// The priority of a CPU that services no interrupt.
const IDLE: u8 = 0xff;

/// The smallest binary points: as many priorities that preempt each other as there are
/// priorities (IHI 0048B.b, section 3.3.3). Group 1 counts from one higher.
const SMALLEST_POINTS: PerGroup<u8> = PerGroup { zero: 2, one: 3 };
const LARGEST_POINT: u8 = 7;

/// A pending interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) priority: u8,
    pub(super) group: Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Zero,
    One,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PerGroup<T> {
    pub(super) zero: T,
    pub(super) one: T,
}

impl<T: Copy> PerGroup<T> {
    pub(super) fn of(&self, group: Group) -> T {
        match group {
            Group::Zero => self.zero,
            Group::One => self.one,
        }
    }

    pub(super) fn of_mut(&mut self, group: Group) -> &mut T {
        match group {
            Group::Zero => &mut self.zero,
            Group::One => &mut self.one,
        }
    }
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            enabled: PerGroup::default(),
            priority_mask: 0,
            binary_points: SMALLEST_POINTS,
            shares_binary_point: false,
            active: PerGroup::default(),
            deactivates_apart: false,
            group_0_is_fiq: false,
        }
    }
}

impl Interface {
    pub(super) fn line_of(&self, group: Group) -> Line {
        match group {
            Group::Zero if self.group_0_is_fiq => Line::Fiq,
            Group::Zero | Group::One => Line::Irq,
        }
    }

    /// Whether the interrupt would be signalled if it were the highest that is pending.
    pub(super) fn takes(&self, candidate: Candidate) -> bool {
        self.enabled.of(candidate.group) && self.preempted_by(candidate)
    }

    /// Whether the interrupt is more urgent than the mask and than what the CPU is at.
    pub(super) fn preempted_by(&self, candidate: Candidate) -> bool {
        candidate.priority < self.priority_mask
            && self.group_priority(candidate) < self.running_priority()
    }

    /// The part of a priority by which interrupts preempt each other (IHI 0048B.b, section
    /// 3.3.3).
    fn group_priority(&self, candidate: Candidate) -> u8 {
        let subpriority_bits = match candidate.group {
            Group::One if !self.shares_binary_point => self.binary_points.one,
            Group::Zero | Group::One => self.binary_points.zero + 1,
        };
        let [mask, ..] = (0xff_u32 << subpriority_bits).to_le_bytes();
        candidate.priority & mask
    }

    /// The priority of the most urgent interrupt that has not ended, and 0xff where there is none.
    pub(super) fn running_priority(&self) -> u8 {
        let active = self.active.zero | self.active.one;
        if active == 0 {
            return IDLE;
        }
        let [level, ..] = active.trailing_zeros().to_le_bytes();
        level << (8 - PRIORITY_BITS)
    }

    pub(super) fn activate(&mut self, candidate: Candidate) {
        let level = self.group_priority(candidate) >> (8 - PRIORITY_BITS);
        *self.active.of_mut(candidate.group) |= 1 << level;
    }

    /// The most urgent interrupt of the group has ended, if there was one.
    pub(super) fn drop_priority(&mut self, group: Group) {
        let active = self.active.of_mut(group);
        *active &= active.wrapping_sub(1);
    }

    pub(super) fn priority_mask(&self) -> u8 {
        self.priority_mask
    }

    pub(super) fn set_priority_mask(&mut self, mask: u8) {
        self.priority_mask = mask & PRIORITIES;
    }

    /// The binary point's register: a shared one reads as one more in group 1's (IHI 0069H,
    /// `ICV_BPR1_EL1`).
    pub(super) fn binary_point(&self, group: Group) -> u8 {
        match group {
            Group::One if self.shares_binary_point => {
                LARGEST_POINT.min(self.binary_points.zero + 1)
            }
            Group::Zero | Group::One => self.binary_points.of(group),
        }
    }

    /// "An attempt to program the binary point field to a value less than the minimum value sets
    /// the field to the minimum value" (the same place).
    pub(super) fn set_binary_point(&mut self, group: Group, point: u8) {
        if group == Group::Zero || !self.shares_binary_point {
            let point = (point & LARGEST_POINT).max(SMALLEST_POINTS.of(group));
            *self.binary_points.of_mut(group) = point;
        }
    }
}

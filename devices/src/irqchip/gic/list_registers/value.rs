//! The value of a list register: `ICH_LR<n>_EL2` (IHI 0069H).

use super::super::bank::State;
use super::super::interface::Group;

#[derive(Clone, Copy, Debug)]
pub(super) struct ListRegister {
    /// With the sender, of what a CPU of a GICv2 sent, as the guest is to see it.
    pub(super) virtual_id: u32,
    pub(super) priority: u8,
    pub(super) group: Group,
    pub(super) source: Source,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The host's interrupt, which is deactivated with this.
    Hardware(u16),
    Software,
    /// The same with a maintenance interrupt when it has been deactivated.
    SoftwareThatSeesTheEnd,
}

const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const HARDWARE: u64 = 1 << 61;
const GROUP_1: u64 = 1 << 60;
const PRIORITY_SHIFT: u32 = 48;
/// Where the host's interrupt stands, if there is one.
const PHYSICAL_SHIFT: u32 = 32;
/// Where there is none: a maintenance interrupt for the end.
const SEES_THE_END: u64 = 1 << 41;

impl ListRegister {
    pub(super) fn encode(self) -> u64 {
        let source = match self.source {
            Source::Hardware(physical) => HARDWARE | (u64::from(physical) << PHYSICAL_SHIFT),
            Source::Software => 0,
            Source::SoftwareThatSeesTheEnd => SEES_THE_END,
        };
        let group = match self.group {
            Group::Zero => 0,
            Group::One => GROUP_1,
        };
        (u64::from(self.state.pending) * PENDING)
            | (u64::from(self.state.active) * ACTIVE)
            | group
            | source
            | (u64::from(self.priority) << PRIORITY_SHIFT)
            | u64::from(self.virtual_id)
    }
}

/// What a list register says of its interrupt.
pub(super) fn state(register: u64) -> State {
    State {
        pending: register & PENDING != 0,
        active: register & ACTIVE != 0,
    }
}

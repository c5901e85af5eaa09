//! The parts of the firmware that others jump to.

use super::assembler::{Assembler, Label};

/// Where the parts begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routines {
    /// Waits to be started. SP is at the hart's own area.
    pub(super) park: Label,
    /// Leaves nothing of what the supervisor had before. Uses T0.
    pub(super) quieten: Label,
    /// Where traps are taken.
    pub(super) trap: Label,
    /// Goes on with the supervisor, with what it called for done.
    pub(super) success: Label,
    /// The same, with a value for it in A1.
    pub(super) value: Label,
    /// Goes on with the supervisor, A0 and A1 being its.
    pub(super) leave: Label,
    /// Tells the supervisor why its call failed.
    pub(super) failures: Failures,
    /// A call by the supervisor.
    pub(super) call: Label,
    /// Something that must not happen: ends the machine.
    pub(super) die: Label,
    /// Silences the hart's own bell and does what other harts have asked for. Uses A2, A3.
    pub(super) answer: Label,
    /// The same, with the bell as it is.
    pub(super) answer_fences: Label,
    /// Finds out which harts A0 and A1 mean, for [`super::request::each`]. Uses T0, T1.
    pub(super) choose: Label,
}

/// The errors of SBI that the firmware knows (section 3.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    pub(super) not_supported: Label,
    pub(super) invalid_parameter: Label,
    pub(super) invalid_address: Label,
    pub(super) already_available: Label,
}

impl Failures {
    /// Each with its number.
    pub(super) fn numbered(&self) -> [(Label, i64); 4] {
        [
            (self.not_supported, -2),
            (self.invalid_parameter, -3),
            (self.invalid_address, -5),
            (self.already_available, -6),
        ]
    }
}

impl Routines {
    pub(super) fn new(code: &mut Assembler) -> Self {
        Self {
            park: code.label(),
            quieten: code.label(),
            trap: code.label(),
            success: code.label(),
            value: code.label(),
            leave: code.label(),
            failures: Failures {
                not_supported: code.label(),
                invalid_parameter: code.label(),
                invalid_address: code.label(),
                already_available: code.label(),
            },
            call: code.label(),
            die: code.label(),
            answer: code.label(),
            answer_fences: code.label(),
            choose: code.label(),
        }
    }
}

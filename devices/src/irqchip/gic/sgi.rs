//! Who sent the interrupts that CPUs of a GICv2 send each other: each has up to eight senders, and
//! is given once for each (IHI 0048B.b, section 3.1.3).

/// How many there are.
pub(super) const SGIS: u32 = 16;

/// A CPU's interrupts from other CPUs. Those of a GICv3 have no sender, and are none here.
#[derive(Clone, Debug, Default)]
pub(super) struct Sgis {
    pending: [u8; 16],
    /// Who sent the one that is active.
    active: [u8; 16],
}

impl Sgis {
    /// A mask of those whose interrupt `id` is pending.
    pub(super) fn senders(&self, id: u32) -> u8 {
        at(id)
            .and_then(|at| self.pending.get(at))
            .map_or(0, |it| *it)
    }

    pub(super) fn are_pending(&self, id: u32) -> bool {
        self.senders(id) != 0
    }

    pub(super) fn send(&mut self, id: u32, senders: u8) {
        if let Some(pending) = at(id).and_then(|at| self.pending.get_mut(at)) {
            *pending |= senders;
        }
    }

    pub(super) fn withdraw(&mut self, id: u32, senders: u8) {
        if let Some(pending) = at(id).and_then(|at| self.pending.get_mut(at)) {
            *pending &= !senders;
        }
    }

    /// The first sender, whose interrupt is not pending any more but active.
    pub(super) fn take(&mut self, id: u32) -> u32 {
        let senders = self.senders(id);
        let Some(active) = at(id).and_then(|at| self.active.get_mut(at)) else {
            return 0;
        };
        let first = senders & senders.wrapping_neg();
        *active = first;
        self.withdraw(id, first);
        if first == 0 {
            0
        } else {
            first.trailing_zeros()
        }
    }
}

fn at(id: u32) -> Option<usize> {
    usize::try_from(id).ok()
}

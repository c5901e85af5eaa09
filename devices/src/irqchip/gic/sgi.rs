//! Who sent the interrupts that CPUs of a GICv2 send each other: each has up to eight senders, and
//! is given once for each (IHI 0048B.b, section 2.2.1).

use super::slot;

/// How many there are.
pub(super) const SGIS: u32 = 16;

/// A CPU's interrupts from other CPUs. Those of a GICv3 have no sender, and are none here.
#[derive(Clone, Debug, Default)]
pub(super) struct Sgis {
    pending: [u8; 16],
    /// Who sent the one that is pending in a list register.
    listed: [u8; 16],
    /// Who sent the one that is active.
    active: [u8; 16],
}

impl Sgis {
    /// A mask of those whose interrupt `id` is pending, in a list register or not.
    pub(super) fn senders(&self, id: u32) -> u8 {
        of(&self.pending, id) | of(&self.listed, id)
    }

    /// Whether it is pending and in no list register.
    pub(super) fn are_pending(&self, id: u32) -> bool {
        of(&self.pending, id) != 0
    }

    pub(super) fn are_listed(&self, id: u32) -> bool {
        of(&self.listed, id) != 0
    }

    /// Whether it is listed, and the same sender has sent another.
    pub(super) fn is_sent_again(&self, id: u32) -> bool {
        of(&self.listed, id) & of(&self.pending, id) != 0
    }

    pub(super) fn send(&mut self, id: u32, senders: u8) {
        change(&mut self.pending, id, |pending| pending | senders);
    }

    pub(super) fn withdraw(&mut self, id: u32, senders: u8) {
        change(&mut self.pending, id, |pending| pending & !senders);
        change(&mut self.listed, id, |listed| listed & !senders);
    }

    /// The first sender, whose interrupt is not pending any more but active.
    pub(super) fn take(&mut self, id: u32) -> u32 {
        let first = self.first(id);
        change(&mut self.active, id, |_| first);
        change(&mut self.pending, id, |pending| pending & !first);
        number(first)
    }

    /// The first sender, whose interrupt goes into a list register.
    pub(super) fn list(&mut self, id: u32) -> u32 {
        let first = self.first(id);
        change(&mut self.listed, id, |_| first);
        change(&mut self.pending, id, |pending| pending & !first);
        number(first)
    }

    /// The interrupt comes out of its list register: pending again, or not.
    pub(super) fn unlist(&mut self, id: u32, is_pending: bool) {
        let listed = of(&self.listed, id);
        change(&mut self.listed, id, |_| 0);
        if is_pending {
            self.send(id, listed);
        }
    }

    /// Who sent the one that is active.
    pub(super) fn active_sender(&self, id: u32) -> u32 {
        number(of(&self.active, id))
    }

    pub(super) fn set_active_sender(&mut self, id: u32, sender: u32) {
        change(&mut self.active, id, |_| {
            1u8.checked_shl(sender).unwrap_or(0)
        });
    }

    /// A mask of the first sender, or of none.
    fn first(&self, id: u32) -> u8 {
        let pending = of(&self.pending, id);
        pending & pending.wrapping_neg()
    }
}

/// Whose number the only bit of the mask is.
fn number(mask: u8) -> u32 {
    if mask == 0 { 0 } else { mask.trailing_zeros() }
}

fn of(masks: &[u8; 16], id: u32) -> u8 {
    slot(id).and_then(|at| masks.get(at)).map_or(0, |it| *it)
}

fn change(masks: &mut [u8; 16], id: u32, new: impl FnOnce(u8) -> u8) {
    if let Some(it) = slot(id).and_then(|at| masks.get_mut(at)) {
        *it = new(*it);
    }
}

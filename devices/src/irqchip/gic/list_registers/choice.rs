//! Which interrupts get the list registers, where there are more than registers.

use super::super::interface::Candidate;
use super::MOST;

/// An interrupt that could be listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) candidate: Candidate,
    /// It is active, pending beside that or not; otherwise it is pending.
    pub(super) is_active: bool,
}

impl Entry {
    /// What the guest comes to first: what it has not ended before what has the same priority and
    /// waits for that.
    pub(super) fn order(&self) -> (u8, bool, u32) {
        (self.candidate.priority, !self.is_active, self.candidate.id)
    }
}

/// The most urgent entries.
#[derive(Debug)]
pub(super) struct Choice {
    room: usize,
    /// In order.
    chosen: [Option<Entry>; MOST],
    waiting: usize,
    active: usize,
    first_waiting: Option<Entry>,
}

impl Choice {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            chosen: [None; MOST],
            waiting: 0,
            active: 0,
            first_waiting: None,
        }
    }

    pub(super) fn consider(&mut self, entry: Entry) {
        if entry.is_active {
            self.active += 1;
        } else {
            self.waiting += 1;
            let first = self.first_waiting.filter(|it| it.order() < entry.order());
            self.first_waiting = first.or(Some(entry));
        }
        let mut chosen = self.chosen.iter().take(self.room);
        let later = chosen.position(|it| it.is_none_or(|it| entry.order() < it.order()));
        if let Some(tail) = later.and_then(|at| self.chosen.get_mut(at..self.room)) {
            tail.rotate_right(1);
            if let Some(place) = tail.first_mut() {
                *place = Some(entry);
            }
        }
    }

    /// The chosen ones. If something waits, one of them does: interrupts that the guest services
    /// for long, at no priority, must not keep it from others.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let chosen = self.chosen.iter().flatten();
        let some_waits = chosen.clone().any(|it| !it.is_active);
        let last = self.first_waiting.filter(|_| !some_waits);
        let kept = self.room - usize::from(last.is_some());
        chosen.take(kept).copied().chain(last)
    }

    pub(super) fn leaves_waiting(&self) -> bool {
        self.entries().filter(|it| !it.is_active).count() < self.waiting
    }

    pub(super) fn leaves_active(&self) -> bool {
        self.entries().filter(|it| it.is_active).count() < self.active
    }
}

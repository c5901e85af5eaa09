//! Numbers on a line, and who has which.

use super::{AllocateError, Holder, Pool, Resource, Room};
use std::collections::BTreeMap;

/// Neighbouring numbers, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    /// The first number behind it.
    pub(super) end: u64,
}

impl Span {
    pub(super) const fn len(self) -> u64 {
        self.end - self.start
    }
}

/// Which numbers are taken, and by whom. No two spans have a number in common.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// What numbers stand for, as errors name it.
    name: fn(Span) -> Resource,
    /// By their first number: the first behind them, and who has them.
    taken: BTreeMap<u64, (u64, Holder)>,
}

impl Space {
    pub(super) const fn new(name: fn(Span) -> Resource) -> Self {
        Self {
            name,
            taken: BTreeMap::new(),
        }
    }

    /// Takes the lowest free numbers `within`.
    pub(super) fn allocate(
        &mut self,
        pool: Pool,
        within: Option<Span>,
        room: Room,
        holder: Holder,
    ) -> Result<Span, AllocateError> {
        if room.len == 0 || !room.align.is_power_of_two() {
            return Err(AllocateError::Room { pool, room, holder });
        }
        let free: Vec<Span> = within.map_or_else(Vec::new, |within| self.free_within(within));
        match free.iter().find_map(|&gap| fit(gap, room)) {
            Some(span) => {
                self.taken.insert(span.start, (span.end, holder));
                Ok(span)
            }
            None => Err(AllocateError::Exhausted {
                pool,
                room,
                holder,
                free: free.into_iter().map(self.name).collect(),
            }),
        }
    }

    /// Takes `span`.
    pub(super) fn reserve(&mut self, span: Span, holder: Holder) -> Result<(), AllocateError> {
        if let Some((taken, by)) = self.meets(span) {
            return Err(AllocateError::Taken {
                wanted: (self.name)(span),
                holder,
                taken: (self.name)(taken),
                by: by.clone(),
            });
        }
        self.taken.insert(span.start, (span.end, holder));
        Ok(())
    }

    /// Gives `span` back, which was taken as a whole.
    pub(super) fn free(&mut self, span: Span) -> Result<Holder, AllocateError> {
        match self.taken.remove(&span.start) {
            Some((end, holder)) if end == span.end => return Ok(holder),
            Some(other) => {
                self.taken.insert(span.start, other);
            }
            None => {}
        }
        Err(AllocateError::NotGiven {
            what: (self.name)(span),
            given: self
                .meets(span)
                .map(|(given, holder)| ((self.name)(given), holder.clone())),
        })
    }

    /// What is taken, ascending.
    pub(super) fn taken(&self) -> impl Iterator<Item = (Span, &str)> {
        self.taken
            .iter()
            .map(|(&start, (end, holder))| (Span { start, end: *end }, &**holder))
    }

    /// The lowest span that is taken and has a number in common with this one.
    fn meets(&self, span: Span) -> Option<(Span, &Holder)> {
        let before = self.taken.range(..span.start).next_back();
        let inside = self.taken.range(span.start..span.end).next();
        before
            .filter(|(_, (end, _))| *end > span.start)
            .or(inside)
            .map(|(&start, (end, holder))| (Span { start, end: *end }, holder))
    }

    /// What is not taken of `within`, ascending.
    fn free_within(&self, within: Span) -> Vec<Span> {
        let mut free = Vec::new();
        let mut start = within.start;
        let before = self.taken.range(..within.start).next_back();
        let inside = self.taken.range(within.start..within.end);
        for (&taken, &(end, _)) in before.into_iter().chain(inside) {
            if taken > start {
                free.push(Span { start, end: taken });
            }
            start = start.max(end);
        }
        if start < within.end {
            free.push(Span {
                start,
                end: within.end,
            });
        }
        free
    }
}

/// The lowest place for `room` in `gap`.
fn fit(gap: Span, room: Room) -> Option<Span> {
    let start = gap.start.checked_next_multiple_of(room.align)?;
    let end = start.checked_add(room.len)?;
    (end <= gap.end).then_some(Span { start, end })
}

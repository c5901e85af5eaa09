//! The split ring (virtio 1.2 section 2.7): a table of descriptors, a ring of those that are
//! available and one of those that are used.

use super::chain::{Buffer, Chain, Token};
use super::descriptor::{self, Flags, Table};
use super::{Finished, Part, QueueError, QueueSetup, RingPart, behind, load, store};
use core::sync::atomic::{Ordering, fence};
use firstlight_base::{Gpa, GuestMem};

/// Either ring begins with whether its writer wants to be told, and an index (sections 2.7.6 and 2.7.8).
const WISH: u64 = 0;
const INDEX: u64 = 2;
const ENTRIES: u64 = 4;
/// The bytes of the entries behind them, and of what follows those with `EVENT_IDX`.
const AVAILABLE: u64 = 2;
const USED: u64 = 8;
const EVENT: u64 = 2;

/// The available ring's flag that asks for no interrupts, and the used ring's for no doorbells.
const QUIET: u16 = 1;

/// The parts of a ring of that size, which must be a power of two.
pub(super) fn parts(setup: &QueueSetup) -> Result<[Part; 3], QueueError> {
    let QueueSetup { size, layout, .. } = *setup;
    if !size.is_power_of_two() {
        return Err(QueueError::Size { size, layout });
    }
    let size = u64::from(size);
    let event = if setup.event_idx { EVENT } else { 0 };
    let available = ENTRIES + AVAILABLE * size + event;
    let used = ENTRIES + USED * size + event;
    let table = descriptor::LEN * size;
    Ok([
        Part::new(RingPart::Descriptors, setup.descriptors, table, 16),
        Part::new(RingPart::Driver, setup.driver, available, 2),
        Part::new(RingPart::Device, setup.device, used, 4),
    ])
}

/// A running split ring.
#[derive(Debug)]
pub(super) struct Split {
    size: u16,
    descriptors: Gpa,
    available: Gpa,
    used: Gpa,
    event_idx: bool,
    indirect: bool,
    /// The next available entry to be popped.
    next: u16,
    /// The driver's index when it was last read: what is before it is there.
    seen: u16,
    /// The next used entry to be written.
    next_used: u16,
    /// How many were pushed since the driver's wish for interrupts was looked at.
    pushed: u32,
}

impl Split {
    /// The ring of a setup that has been checked.
    pub(super) const fn new(setup: &QueueSetup) -> Self {
        Self {
            size: setup.size,
            descriptors: setup.descriptors,
            available: setup.driver,
            used: setup.device,
            event_idx: setup.event_idx,
            indirect: setup.indirect,
            next: 0,
            seen: 0,
            next_used: 0,
            pushed: 0,
        }
    }

    /// Goes on behind so many requests, all of which have been given back.
    pub(super) const fn set_position(&mut self, position: u16) {
        self.next = position;
        self.seen = position;
        self.next_used = position;
    }

    /// How many requests have been taken, modulo 2^16.
    pub(super) const fn position(&self) -> u16 {
        self.next
    }

    pub(super) fn pop(
        &mut self,
        memory: &impl GuestMem,
        chain: &mut Chain,
    ) -> Result<bool, QueueError> {
        if self.seen == self.next && !self.look(memory)? {
            return Ok(false);
        }
        let entry = ENTRIES + AVAILABLE * self.slot(self.next);
        let head = load(memory, behind(self.available, entry))?;
        self.next = self.next.wrapping_add(1);
        self.walk(memory, head, chain)?;
        chain.finish(Token {
            id: head,
            descriptors: 1,
        });
        Ok(true)
    }

    /// Reads the driver's index; true where something is available.
    fn look(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        let index = load(memory, behind(self.available, INDEX))?;
        if index.wrapping_sub(self.next) > self.size {
            return Err(QueueError::AvailableIndex {
                index,
                next: self.next,
                size: self.size,
            });
        }
        self.seen = index;
        Ok(self.seen != self.next)
    }

    /// Which entry of a ring has this index.
    const fn slot(&self, index: u16) -> u64 {
        (index % self.size) as u64
    }

    fn walk(&self, memory: &impl GuestMem, head: u16, chain: &mut Chain) -> Result<(), QueueError> {
        let mut table = Table::new(self.descriptors, self.size.into());
        let mut index = head;
        let mut is_nested = false;
        loop {
            let found = table.get(memory, index.into())?;
            let flags = Flags::from_bits_truncate(found.third);
            if flags.contains(Flags::INDIRECT) {
                if is_nested {
                    return Err(QueueError::IndirectNested { table: found.at });
                }
                table = Table::behind(&found, flags, self.indirect)?;
                index = 0;
                is_nested = true;
                continue;
            }
            chain.add(memory, Buffer::of(&found, flags), self.size)?;
            if !flags.contains(Flags::NEXT) {
                return Ok(());
            }
            index = found.fourth;
        }
    }

    /// Writes used entries, which are there with the index behind them.
    pub(super) fn push(
        &mut self,
        memory: &impl GuestMem,
        finished: &[Finished],
    ) -> Result<(), QueueError> {
        for &Finished { token, written } in finished {
            let [a, b, c, d] = u32::from(token.id).to_le_bytes();
            let [e, f, g, h] = written.to_le_bytes();
            let at = behind(self.used, ENTRIES + USED * self.slot(self.next_used));
            memory
                .write(at, &[a, b, c, d, e, f, g, h])
                .map_err(QueueError::RingGone)?;
            self.next_used = self.next_used.wrapping_add(1);
            self.pushed = self.pushed.saturating_add(1);
        }
        store(memory, behind(self.used, INDEX), self.next_used)
    }

    pub(super) fn wants_interrupt(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        let pushed = core::mem::take(&mut self.pushed);
        if pushed == 0 {
            return Ok(false);
        }
        // What was pushed is seen before we look whether the driver waits for it, or the driver
        // finds it itself (section 2.7.7).
        fence(Ordering::SeqCst);
        if !self.event_idx {
            return Ok(load(memory, self.interrupt_wish())? & QUIET == 0);
        }
        let event = load(memory, self.interrupt_event())?;
        let before = self.next_used.wrapping_sub(1).wrapping_sub(event);
        Ok(u32::from(before) < pushed)
    }

    pub(super) fn listen(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        if self.event_idx {
            store(memory, self.doorbell_event(), self.next)?;
        } else {
            store(memory, behind(self.used, WISH), 0)?;
        }
        // The driver sees that before we look whether it has made something available (section
        // 2.7.10).
        fence(Ordering::SeqCst);
        self.look(memory)
    }

    /// With `EVENT_IDX` there is nothing to be said: the index that we last listened at is behind.
    pub(super) fn ignore(&self, memory: &impl GuestMem) -> Result<(), QueueError> {
        if self.event_idx {
            return Ok(());
        }
        store(memory, behind(self.used, WISH), QUIET)
    }

    fn interrupt_wish(&self) -> Gpa {
        behind(self.available, WISH)
    }

    /// `used_event`: at which used entry the driver wants an interrupt.
    fn interrupt_event(&self) -> Gpa {
        behind(self.available, ENTRIES + AVAILABLE * u64::from(self.size))
    }

    /// `avail_event`: at which available entry we want a doorbell.
    fn doorbell_event(&self) -> Gpa {
        behind(self.used, ENTRIES + USED * u64::from(self.size))
    }
}

//! The packed ring (virtio 1.2 section 2.8): descriptors that the driver makes available and the
//! device overwrites with used ones, each of which says by two flags whose it is.

use super::chain::{Buffer, Chain, Token};
use super::descriptor::{self, Flags, Table};
use super::{Finished, Part, QueueError, QueueSetup, RingPart, behind, load, store};
use core::sync::atomic::{Ordering, fence};
use firstlight_base::{Gpa, GuestMem};

/// The most entries (section 2.8.10.1).
const MOST: u16 = 1 << 15;

/// Where in a descriptor its length and its flags are.
const LENGTH: u64 = 8;
const FLAGS: u64 = 14;

/// An event suppression structure (section 2.8.14): a place in the ring, and a wish.
const PLACE: u64 = 0;
const WISH: u64 = 2;
const SUPPRESSION: u64 = 4;
/// The wishes: to be told, not to be told, and to be told at the place.
const ALWAYS: u16 = 0;
const NEVER: u16 = 1;
const AT_PLACE: u16 = 2;
/// The bits of a wish; the others are reserved.
const WISH_BITS: u16 = 3;

/// The parts of a ring.
pub(super) fn parts(setup: &QueueSetup) -> Result<[Part; 3], QueueError> {
    let QueueSetup { size, layout, .. } = *setup;
    if !(1..=MOST).contains(&size) {
        return Err(QueueError::Size { size, layout });
    }
    let ring = descriptor::LEN * u64::from(size);
    Ok([
        Part::new(RingPart::Descriptors, setup.descriptors, ring, 16),
        Part::new(RingPart::Driver, setup.driver, SUPPRESSION, 4),
        Part::new(RingPart::Device, setup.device, SUPPRESSION, 4),
    ])
}

/// A running packed ring.
#[derive(Debug)]
pub(super) struct Packed {
    size: u16,
    ring: Gpa,
    interrupts: Gpa,
    doorbells: Gpa,
    event_idx: bool,
    indirect: bool,
    /// The next descriptor to be popped.
    next: Place,
    /// The next to be overwritten by a used one.
    next_used: Place,
    /// Where that was when the driver's wish for interrupts was looked at.
    asked: Place,
    /// How many descriptors were pushed since.
    pushed: u32,
}

/// A place in the ring, and in which of two alternating rounds (section 2.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Place {
    const START: Self = Self {
        index: 0,
        wrap: true,
    };

    /// The place `count` further on, which is at most a round.
    fn further(self, count: u16, size: u16) -> Self {
        // No ring has more than 2¹⁵, so that the sum fits.
        let index = self.index.saturating_add(count);
        match index.checked_sub(size) {
            Some(index) => Self {
                index,
                wrap: !self.wrap,
            },
            None => Self { index, ..self },
        }
    }

    /// How many places it is behind `other`, of those of two rounds.
    fn distance_from(self, other: Self, size: u16) -> u32 {
        let two_rounds = 2 * u32::from(size);
        let number = |place: Self| {
            let round = if place.wrap { 0 } else { u32::from(size) };
            round + u32::from(place.index)
        };
        (number(self) + two_rounds - number(other)) % two_rounds
    }

    /// How an event suppression structure says it.
    const fn to_bits(self) -> u16 {
        self.index | (self.wrap as u16) << 15
    }

    /// What one says; `None` where no ring of that size has the place.
    fn from_bits(bits: u16, size: u16) -> Option<Self> {
        let place = Self {
            index: bits & 0x7fff,
            wrap: bits & 0x8000 != 0,
        };
        (place.index < size).then_some(place)
    }
}

impl Packed {
    /// The ring of a setup that has been checked.
    pub(super) const fn new(setup: &QueueSetup) -> Self {
        Self {
            size: setup.size,
            ring: setup.descriptors,
            interrupts: setup.driver,
            doorbells: setup.device,
            event_idx: setup.event_idx,
            indirect: setup.indirect,
            next: Place::START,
            next_used: Place::START,
            asked: Place::START,
            pushed: 0,
        }
    }

    pub(super) fn pop(
        &mut self,
        memory: &impl GuestMem,
        chain: &mut Chain,
    ) -> Result<bool, QueueError> {
        let Some(flags) = self.look(memory)? else {
            return Ok(false);
        };
        let token = self.walk(memory, flags, chain)?;
        self.next = self.next.further(token.descriptors, self.size);
        chain.finish(token);
        Ok(true)
    }

    /// The flags of the next descriptor, if it is available: its bit for that says this round, and
    /// the one for used does not yet.
    fn look(&self, memory: &impl GuestMem) -> Result<Option<Flags>, QueueError> {
        let at = behind(self.entry(self.next.index), FLAGS);
        let flags = Flags::from_bits_truncate(load(memory, at)?);
        let wrap = self.next.wrap;
        let is_available =
            flags.contains(Flags::AVAILABLE) == wrap && flags.contains(Flags::USED) != wrap;
        Ok(is_available.then_some(flags))
    }

    fn entry(&self, index: u16) -> Gpa {
        behind(self.ring, descriptor::LEN * u64::from(index))
    }

    /// Gathers the chain that begins with a descriptor of these flags. Those behind it were written
    /// before it was made available (section 2.8.21.1).
    fn walk(
        &self,
        memory: &impl GuestMem,
        first: Flags,
        chain: &mut Chain,
    ) -> Result<Token, QueueError> {
        let ring = Table::new(self.ring, self.size.into());
        let mut place = self.next;
        let mut flags = first;
        for descriptors in 1..=self.size {
            let found = ring.get(memory, place.index.into())?;
            if descriptors > 1 {
                flags = Flags::from_bits_truncate(found.fourth);
            }
            if flags.contains(Flags::INDIRECT) {
                // Lists are of one kind (section 2.8.5).
                if descriptors > 1 {
                    return Err(QueueError::IndirectBehindOthers);
                }
                self.add_table(memory, Table::behind(&found, flags, self.indirect)?, chain)?;
            } else {
                chain.add(memory, Buffer::of(&found, flags), self.size)?;
            }
            if !flags.contains(Flags::NEXT) {
                let id = found.third;
                return Ok(Token { id, descriptors });
            }
            place = place.further(1, self.size);
        }
        Err(QueueError::ChainLength { most: self.size })
    }

    /// Adds the buffers of all of a table's descriptors. They follow one another, and all of their
    /// flags but that for writing "are reserved and are ignored by the device" (section 2.8.7).
    fn add_table(
        &self,
        memory: &impl GuestMem,
        table: Table,
        chain: &mut Chain,
    ) -> Result<(), QueueError> {
        for index in 0..table.len() {
            let found = table.get(memory, index)?;
            let flags = Flags::from_bits_truncate(found.fourth);
            chain.add(memory, Buffer::of(&found, flags), self.size)?;
        }
        Ok(())
    }

    /// Writes used descriptors over the next ones, the first one's flags last: until then the driver
    /// looks at none (section 2.8.9).
    pub(super) fn push(
        &mut self,
        memory: &impl GuestMem,
        finished: &[Finished],
    ) -> Result<(), QueueError> {
        let Some((first, others)) = finished.split_first() else {
            return Ok(());
        };
        let (flags_at, flags) = self.write_used(memory, *first)?;
        for &other in others {
            let (flags_at, flags) = self.write_used(memory, other)?;
            store(memory, flags_at, flags.bits())?;
        }
        store(memory, flags_at, flags.bits())
    }

    /// Writes the next used descriptor but for its flags (sections 2.8.3 and 2.8.4). Returns what they are, and
    /// where.
    fn write_used(
        &mut self,
        memory: &impl GuestMem,
        Finished { token, written }: Finished,
    ) -> Result<(Gpa, Flags), QueueError> {
        let mut flags = Flags::empty();
        flags.set(Flags::WRITE, written > 0);
        flags.set(Flags::AVAILABLE | Flags::USED, self.next_used.wrap);
        let entry = self.entry(self.next_used.index);
        let [a, b, c, d] = written.to_le_bytes();
        let [e, f] = token.id.to_le_bytes();
        memory
            .write(behind(entry, LENGTH), &[a, b, c, d, e, f])
            .map_err(QueueError::RingGone)?;
        self.next_used = self.next_used.further(token.descriptors, self.size);
        self.pushed = self.pushed.saturating_add(token.descriptors.into());
        Ok((behind(entry, FLAGS), flags))
    }

    pub(super) fn wants_interrupt(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        let pushed = core::mem::take(&mut self.pushed);
        let asked = core::mem::replace(&mut self.asked, self.next_used);
        if pushed == 0 {
            return Ok(false);
        }
        // What was pushed is seen before we look whether the driver waits for it, or the driver
        // finds it itself.
        fence(Ordering::SeqCst);
        match load(memory, behind(self.interrupts, WISH))? & WISH_BITS {
            NEVER => Ok(false),
            AT_PLACE if self.event_idx => {
                let bits = load(memory, behind(self.interrupts, PLACE))?;
                let place = Place::from_bits(bits, self.size);
                // A place that is none is not worth a request that nobody hears of.
                Ok(place.is_none_or(|place| place.distance_from(asked, self.size) < pushed))
            }
            _ => Ok(true),
        }
    }

    pub(super) fn listen(&mut self, memory: &impl GuestMem) -> Result<bool, QueueError> {
        let wish = behind(self.doorbells, WISH);
        if self.event_idx {
            store(memory, behind(self.doorbells, PLACE), self.next.to_bits())?;
            store(memory, wish, AT_PLACE)?;
        } else {
            store(memory, wish, ALWAYS)?;
        }
        // The driver sees that before we look whether it has made something available.
        fence(Ordering::SeqCst);
        Ok(self.look(memory)?.is_some())
    }

    pub(super) fn ignore(&self, memory: &impl GuestMem) -> Result<(), QueueError> {
        store(memory, behind(self.doorbells, WISH), NEVER)
    }
}

//! What is where in the BAR: each region begins a page of its own.

use super::{BAR, common};
use crate::pci::{Bar, BarKind, MsiX, MsiXPlace};

/// The layout of the BAR of a device with so many queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    queues: u16,
    vectors: u16,
}

/// A part of the BAR (section 4.1.4; PCI section 6.8.2 for the last two).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    Common,
    Isr,
    Device,
    Notify,
    Table,
    Pending,
}

const REGIONS: [Region; 6] = [
    Region::Common,
    Region::Isr,
    Region::Device,
    Region::Notify,
    Region::Table,
    Region::Pending,
];

const PAGE: u32 = 0x1000;
/// As many vectors as there can be.
const VECTORS_MAX: u16 = 2048;

impl Place {
    /// How far apart doorbells are: `notify_off_multiplier` (section 4.1.4.4).
    pub(super) const DOORBELL_LEN: u32 = 4;

    /// A vector for each queue and one for the configuration, as far as there are as many.
    pub(super) fn new(queues: usize) -> Self {
        let queues = u16::try_from(queues).unwrap_or(u16::MAX);
        Self {
            queues,
            vectors: queues.saturating_add(1).min(VECTORS_MAX),
        }
    }

    pub(super) const fn vectors(self) -> u16 {
        self.vectors
    }

    /// What the function asks for. Reading the ISR has a side effect, and yet the range is called
    /// prefetchable, by the guidance in PCIe section 7.5.1.2.1: nothing on the way prefetches, and
    /// so it may be above 4 GiB behind a port too.
    pub(super) fn bar(self) -> Bar {
        Bar::new(BarKind::Memory64Prefetchable, self.len()).expect("a power of two, of pages")
    }

    pub(super) const fn len(self) -> u64 {
        let (offset, len) = self.region(Region::Pending);
        (offset as u64 + len as u64).next_power_of_two()
    }

    pub(super) const fn msix(self) -> MsiXPlace {
        let (table, _) = self.region(Region::Table);
        let (pba, _) = self.region(Region::Pending);
        MsiXPlace {
            bar: BAR,
            table,
            pba,
        }
    }

    /// A region's offset in the BAR, and its length.
    pub(super) const fn region(self, region: Region) -> (u32, u32) {
        let doorbells = self.queues as u32 * Self::DOORBELL_LEN;
        let notify = 3 * PAGE;
        let table = notify + pages(doorbells);
        let pending = table + pages(MsiX::table_len(self.vectors));
        match region {
            Region::Common => (0, common::LEN),
            Region::Isr => (PAGE, 1),
            Region::Device => (2 * PAGE, PAGE),
            Region::Notify => (notify, doorbells),
            Region::Table => (table, MsiX::table_len(self.vectors)),
            Region::Pending => (pending, MsiX::pba_len(self.vectors)),
        }
    }

    /// What is at `offset`, where in it that is, and how many of `len` bytes are in it.
    pub(super) fn find(self, offset: u64, len: usize) -> Option<(Region, u64, usize)> {
        REGIONS.into_iter().find_map(|region| {
            let (start, region_len) = self.region(region);
            let at = offset.checked_sub(start.into())?;
            let rest = u64::from(region_len)
                .checked_sub(at)
                .filter(|&rest| rest > 0)?;
            let rest = usize::try_from(rest).unwrap_or(usize::MAX);
            Some((region, at, len.min(rest)))
        })
    }

    /// The offset of a queue's doorbell in the BAR.
    pub(super) fn doorbell(self, queue: u16) -> Option<u64> {
        let (notify, _) = self.region(Region::Notify);
        let at = notify + u32::from(queue) * Self::DOORBELL_LEN;
        (queue < self.queues).then_some(at.into())
    }

    /// Whose doorbell is at this offset in its region. What is written to it does not matter.
    pub(super) fn queue_of(at: u64) -> Option<u32> {
        u32::try_from(at / u64::from(Self::DOORBELL_LEN)).ok()
    }
}

const fn pages(len: u32) -> u32 {
    len.next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_do_not_overlap_and_fit_into_the_bar_however_many_queues_there_are() {
        for queues in [0, 1, 2, 3, 1023, 1024, 1025, 2047, 2048, 0xffff, usize::MAX] {
            let place = Place::new(queues);
            let mut end = 0;
            for region in REGIONS {
                let (offset, len) = place.region(region);
                assert!(offset >= end && offset % PAGE == 0);
                end = offset + len;
            }
            assert!(u64::from(end) <= place.len());
            assert!(place.len() <= 1 << 20);
            let _ = place.bar();
        }
        assert_eq!(Place::new(2).len(), 0x8000);
    }

    #[test]
    fn an_access_is_in_the_region_where_it_begins_and_ends_with_it() {
        let place = Place::new(2);
        assert_eq!(place.find(0x3a, 4), Some((Region::Common, 0x3a, 2)));
        assert_eq!(place.find(0x3c, 4), None);
        assert_eq!(place.find(0x1000, 8), Some((Region::Isr, 0, 1)));
        assert_eq!(place.find(0x3004, 2), Some((Region::Notify, 4, 2)));
        assert_eq!(place.find(0x3008, 1), None);
        assert_eq!(place.find(u64::MAX, 1), None);
    }
}

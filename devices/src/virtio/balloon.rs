//! The memory balloon (virtio 1.2, section 5.5): memory that the guest does without for now.
//!
//! [`Balloon`] is what the driver sees of it; [`runs`] are the pages that it gives or takes back.

mod runs;
#[cfg(test)]
mod tests;

pub use runs::{PAGE, runs};

use super::{Device, DeviceKind, read_bytes};

/// The queue of pages that the guest gives.
pub const INFLATE: usize = 0;
/// The queue of pages that the guest takes back.
pub const DEFLATE: usize = 1;

/// VIRTIO_BALLOON_F_DEFLATE_ON_OOM (section 5.5.3): the guest may take pages back before it kills
/// programs.
const DEFLATE_ON_OOM: u64 = 1 << 2;
/// VIRTIO_BALLOON_F_PAGE_REPORTING: the guest says which pages are free, and goes on having them.
const PAGE_REPORTING: u64 = 1 << 5;

/// The most entries that a queue can have.
const QUEUE: u16 = 128;

/// Where the driver says how many pages it has given (section 5.5.4).
const ACTUAL: u64 = 4;

/// What the driver sees of a memory balloon.
///
/// The queue of reported pages has number 4 in the document, where the two before it are those of
/// features that are not offered here. Linux leaves queues out that are not there when it numbers
/// them, so that it has number 2. There are five, and whatever comes through the last three is
/// reported pages.
#[derive(Clone, Copy, Debug)]
pub struct Balloon {
    ram_pages: u32,
    target: u32,
    actual: [u8; 4],
}

impl Balloon {
    /// An empty balloon of a guest that has so many pages of 4 KiB.
    #[must_use]
    pub const fn new(ram_pages: u32) -> Self {
        Self {
            ram_pages,
            target: 0,
            actual: [0; 4],
        }
    }

    /// Asks for so many pages, and at most for all; true where that is something new, of which the
    /// driver is to be told that the configuration has changed.
    pub const fn set_target(&mut self, pages: u32) -> bool {
        let pages = if pages < self.ram_pages {
            pages
        } else {
            self.ram_pages
        };
        let is_new = self.target != pages;
        self.target = pages;
        is_new
    }

    /// How many pages were asked for.
    #[must_use]
    pub const fn target(&self) -> u32 {
        self.target
    }

    /// How many pages the driver says that it has given: its own words, but no more than there are.
    #[must_use]
    pub const fn actual(&self) -> u32 {
        let claimed = u32::from_le_bytes(self.actual);
        if claimed < self.ram_pages {
            claimed
        } else {
            self.ram_pages
        }
    }

    /// Whether a queue is one of pages that the guest reports to be free.
    #[must_use]
    pub const fn is_reporting(queue: usize) -> bool {
        queue > DEFLATE
    }
}

impl Device for Balloon {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Balloon
    }

    fn features(&self) -> u64 {
        DEFLATE_ON_OOM | PAGE_REPORTING
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE; 5]
    }

    /// `num_pages` and `actual` of `struct virtio_balloon_config` (section 5.5.4): the rest belongs
    /// to features that are not offered.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 8];
        let target = self.target.to_le_bytes();
        for (byte, value) in config.iter_mut().zip(target.into_iter().chain(self.actual)) {
            *byte = value;
        }
        read_bytes(&config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        let mut written = false;
        for (index, &value) in (0..).zip(data) {
            let at = offset
                .checked_add(index)
                .and_then(|at| at.checked_sub(ACTUAL));
            if let Some(Ok(at)) = at.map(usize::try_from)
                && let Some(byte) = self.actual.get_mut(at)
            {
                *byte = value;
                written = true;
            }
        }
        written
    }

    fn reset(&mut self) {
        self.actual = [0; 4];
    }
}

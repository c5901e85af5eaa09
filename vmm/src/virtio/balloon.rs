//! The memory balloon's other half: what the guest does without goes back to the host.

#[cfg(test)]
mod tests;

use super::{Backend, Io, VirtioDevice};
use crate::RunError;
use crate::bell::Bell;
use firstlight_base::GpaRange;
use firstlight_devices::virtio::balloon::{Balloon, INFLATE, runs};
use firstlight_devices::virtio::queue::{Chain, ChainReader};
use firstlight_devices::virtio::{Device, DeviceKind, QueueError};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many bytes of pages' numbers are looked at at a time: Linux names 256 pages in a request.
const NUMBERS: usize = 1024;

/// How many bytes of pages' numbers of one request are looked at. Further pages stay the guest's: it
/// may name any number of them, and the device is to be stoppable.
const MOST_NUMBERS: u64 = 256 << 10;

/// The balloon as the host sees it: how much it is to hold, and how much it does.
#[derive(Debug)]
pub(crate) struct BalloonControl {
    balloon: Arc<Mutex<Balloon>>,
    changed: Arc<Bell>,
}

/// A balloon of a guest that has so many pages of 4 KiB, and what it is controlled by.
///
/// # Errors
///
/// [`RunError`] where the host has no descriptors left.
pub(crate) fn balloon(ram_pages: u32) -> Result<(VirtioDevice, BalloonControl), RunError> {
    let chip = Balloon::new(ram_pages);
    let balloon = Arc::new(Mutex::new(chip));
    let changed = Arc::new(Bell::new()?);
    let shared = Shared {
        new: chip,
        balloon: Arc::clone(&balloon),
    };
    let backend = BalloonBackend {
        changed: Arc::clone(&changed),
    };
    let device = VirtioDevice::new("balloon", shared, backend);
    Ok((device, BalloonControl { balloon, changed }))
}

impl BalloonControl {
    /// Asks the guest for so many pages, and at most for all.
    pub(crate) fn set_target(&self, pages: u32) {
        if lock(&self.balloon).set_target(pages) {
            self.changed.ring();
        }
    }

    /// How many pages the guest was asked for.
    pub(crate) fn target(&self) -> u32 {
        lock(&self.balloon).target()
    }

    /// How many pages the guest says that it has given.
    pub(crate) fn actual(&self) -> u32 {
        lock(&self.balloon).actual()
    }
}

/// What the driver sees, which the host changes.
#[derive(Debug)]
struct Shared {
    /// What never changes of it.
    new: Balloon,
    balloon: Arc<Mutex<Balloon>>,
}

impl Device for Shared {
    fn kind(&self) -> DeviceKind {
        self.new.kind()
    }

    fn features(&self) -> u64 {
        self.new.features()
    }

    fn queue_sizes(&self) -> &[u16] {
        self.new.queue_sizes()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        lock(&self.balloon).read_config(offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        lock(&self.balloon).write_config(offset, data)
    }

    fn reset(&mut self) {
        lock(&self.balloon).reset();
    }
}

fn lock(balloon: &Mutex<Balloon>) -> MutexGuard<'_, Balloon> {
    balloon.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The device's other half.
#[derive(Debug)]
struct BalloonBackend {
    changed: Arc<Bell>,
}

impl Backend for BalloonBackend {
    fn waits(&self) -> Vec<PollFd<'_>> {
        vec![PollFd::new(&self.changed, PollFlags::IN)]
    }

    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |request, memory| {
            if queue == INFLATE {
                inflate(request.reader(memory), memory);
            } else if Balloon::is_reporting(queue) {
                take_reported(request, memory);
            }
            // Pages that the guest takes back are there again as it touches them.
            Ok(0)
        })
    }

    fn ready(&mut self, _ready: &[PollFlags], io: &mut Io<'_>) -> Result<(), QueueError> {
        self.changed.answer();
        io.tell_of_configuration();
        Ok(())
    }
}

/// Gives the pages of a request back to the host.
fn inflate(mut request: ChainReader<'_, GuestMemory>, memory: &GuestMemory) {
    let mut left = request.len().min(MOST_NUMBERS);
    let mut numbers = [0; NUMBERS];
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(NUMBERS).min(NUMBERS);
        let Some(numbers) = numbers.get_mut(..len) else {
            return;
        };
        if request.read_exact(numbers).is_err() {
            return;
        }
        for run in runs(numbers) {
            give_back(memory, run);
        }
        left -= len as u64;
    }
}

/// Gives the memory that a request names as free back to the host.
fn take_reported(request: &Chain, memory: &GuestMemory) {
    for range in request.writable() {
        give_back(memory, *range);
    }
}

/// Gives as much of `range` back to the host as is memory.
fn give_back(memory: &GuestMemory, range: GpaRange) {
    for region in memory.regions() {
        if let Some(part) = region.range().intersection(range) {
            // Memory that the host does not take back stays as it is.
            let _ = memory.discard(part);
        }
    }
}

//! The memory balloon's other half: what the guest does without goes back to the host.

#[cfg(test)]
mod tests;

use super::{Backend, Io};
use firstlight_base::GpaRange;
use firstlight_devices::virtio::QueueError;
use firstlight_devices::virtio::balloon::{Balloon, INFLATE, runs};
use firstlight_devices::virtio::queue::{Chain, ChainReader};
use firstlight_load::GuestMemory;

/// How many bytes of pages' numbers are looked at at a time: Linux names 256 pages in a request.
const NUMBERS: usize = 1024;

/// How many bytes of pages' numbers of one request are looked at. Further pages stay the guest's: it
/// may name any number of them, and the device is to be stoppable.
const MOST_NUMBERS: u64 = 256 << 10;

/// The device's other half.
#[derive(Debug, Default)]
pub(crate) struct BalloonBackend;

impl Backend for BalloonBackend {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |request, memory| {
            if queue == INFLATE {
                inflate(request.reader(memory), memory);
            } else if Balloon::is_reporting(queue) {
                take_reported(request, memory);
            }
            // Pages that the guest takes back are there again as it touches them.
            0
        })
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

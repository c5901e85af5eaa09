//! Random numbers of the host's for the guest's source of them.

use super::{Backend, Io, VirtioDevice};
use firstlight_devices::virtio::QueueError;
use firstlight_devices::virtio::rng::{Rng, answer};
use rustix::rand::{GetRandomFlags, getrandom};

/// A source of random numbers.
pub(crate) fn rng() -> VirtioDevice {
    VirtioDevice::new("rng", Rng::new(), Source)
}

struct Source;

impl Backend for Source {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |chain, memory| answer(chain, memory, fill))
    }
}

/// Up to 256 bytes come whole once the host's own pool is filled (getrandom(2)), as it is long before
/// anybody runs a guest.
fn fill(bytes: &mut [u8]) {
    let filled = getrandom(&mut *bytes, GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(bytes.len()));
}

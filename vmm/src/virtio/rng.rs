//! Random numbers of the host's for a virtio source of them.

use super::{Backend, Io, VirtioDevice};
use firstlight_devices::virtio::{Chain, QueueError, Rng};
use firstlight_load::GuestMemory;
use rustix::rand::{GetRandomFlags, getrandom};

/// A source of random numbers.
pub(crate) fn rng() -> VirtioDevice {
    VirtioDevice::new("rng", Rng::new(), Source)
}

struct Source;

impl Backend for Source {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, fill)
    }
}

/// Fills what the driver gives, up to a limit: it asks again for more.
fn fill(chain: &Chain, memory: &GuestMemory) -> u32 {
    let mut writer = chain.writer(memory);
    let mut bytes = [0; 256];
    let mut left = Rng::MOST_BYTES.min(writer.room());
    while left > 0 {
        let len = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let bytes = &mut bytes[..len];
        // So few come whole, and the host's pool has long been filled.
        if getrandom(&mut *bytes, GetRandomFlags::empty()).is_err() || writer.write_all(bytes).is_err()
        {
            break;
        }
        left -= len as u64;
    }
    writer.written()
}

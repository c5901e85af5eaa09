//! Persistent memory: a file of the host as memory of the guest's (virtio 1.2, section 5.19).
//!
//! [`Pmem`] is what the driver sees: where the memory is. [`answer`] takes its requests, all of which are
//! to have what was written there kept.

use super::queue::{Chain, ChainError};
use super::{Device, DeviceKind, read_bytes};
use firstlight_base::{GpaRange, GuestMem};

/// The entries of the queue. Linux makes a request of two descriptors and waits for its answer.
const QUEUE: u16 = 64;

/// VIRTIO_PMEM_REQ_TYPE_FLUSH (section 5.19.6), the one type of request.
const FLUSH: u32 = 0;
/// VIRTIO_PMEM_RESP_TYPE_OK and VIRTIO_PMEM_RESP_TYPE_EIO (section 5.19.7).
const OK: u32 = 0;
const EIO: u32 = 1;

/// What the driver sees of persistent memory.
#[derive(Clone, Copy, Debug)]
pub struct Pmem {
    range: GpaRange,
}

impl Pmem {
    /// Memory that is at `range`.
    #[must_use]
    pub const fn new(range: GpaRange) -> Self {
        Self { range }
    }
}

impl Device for Pmem {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Pmem
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE]
    }

    /// `struct virtio_pmem_config` (section 5.19.4): `start` and `size`.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let start = self.range.start().get().to_le_bytes();
        let mut config = [0; 16];
        let fields = start.into_iter().chain(self.range.len().to_le_bytes());
        for (byte, value) in config.iter_mut().zip(fields) {
            *byte = value;
        }
        read_bytes(&config, offset, data);
    }
}

/// Answers a request, for which `flush` says whether all that was written is kept now, and says how many
/// bytes the answer has. A request of another type, or of none, is answered with an error.
///
/// # Errors
///
/// [`ChainError`] where the request is no longer memory, or has no room for the answer.
pub fn answer(
    chain: &Chain,
    memory: &impl GuestMem,
    flush: impl FnOnce() -> bool,
) -> Result<u32, ChainError> {
    let mut kind = [0; 4];
    let is_flush =
        chain.reader(memory).read_exact(&mut kind).is_ok() && u32::from_le_bytes(kind) == FLUSH;
    let is_kept = is_flush && flush();
    let mut writer = chain.writer(memory);
    writer.write_all(&(if is_kept { OK } else { EIO }).to_le_bytes())?;
    Ok(writer.written())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::testing::request;
    use firstlight_base::Gpa;

    /// What the driver is answered, and whether it was flushed for that.
    fn answered(readable: &[&[u8]], flushed: bool) -> (u32, bool) {
        let (ram, chain) = request(readable, &[4]);
        let mut asked = false;
        let written = answer(&chain, &ram, || {
            asked = true;
            flushed
        });
        assert_eq!(written.unwrap(), 4);
        let at = chain.writable()[0].start();
        let bytes = ram.bytes(at, 4).try_into().unwrap();
        (u32::from_le_bytes(bytes), asked)
    }

    #[test]
    fn a_flush_is_answered_by_whether_the_host_kept_it() {
        assert_eq!(answered(&[&[0; 4]], true), (OK, true));
        assert_eq!(answered(&[&[0; 2], &[0; 2]], true), (OK, true));
        assert_eq!(answered(&[&[0; 4]], false), (EIO, true));
    }

    #[test]
    fn what_is_no_flush_is_refused_and_flushes_nothing() {
        assert_eq!(answered(&[&[1, 0, 0, 0]], true), (EIO, false));
        assert_eq!(answered(&[&[0; 3]], true), (EIO, false));
        assert_eq!(answered(&[], true), (EIO, false));
    }

    #[test]
    fn a_request_without_room_for_an_answer_breaks_the_device() {
        for room in [&[][..], &[3]] {
            let (ram, chain) = request(&[&[0; 4]], room);
            assert!(answer(&chain, &ram, || true).is_err(), "{room:?}");
        }
    }

    #[test]
    fn the_configuration_says_where_the_memory_is() {
        let range = GpaRange::new(Gpa::new(0x1_4000_0000), 0x20_0000).unwrap();
        let mut data = [0xff; 17];
        Pmem::new(range).read_config(0, &mut data);
        assert_eq!(data[..8], 0x1_4000_0000_u64.to_le_bytes());
        assert_eq!(data[8..16], 0x20_0000_u64.to_le_bytes());
        assert_eq!(data[16], 0xff);
    }
}

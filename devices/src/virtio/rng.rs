//! The source of random numbers (virtio 1.2 section 5.4).

use super::device::{Device, DeviceKind};
use super::queue::{Chain, ChainError};
use firstlight_base::{GuestMem, KIB};

/// A source of random numbers, as its driver sees it.
#[derive(Debug, Default)]
pub struct Rng {}

/// The entries of the queue. A driver waits for one request before it makes the next.
const QUEUE: u16 = 8;

/// The most bytes that one request gets: enough for any seed, and soon done.
const MOST: u64 = 64 * KIB;

/// How many bytes are fetched at once.
const PIECE: usize = 256;

impl Rng {
    /// A source.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}

impl Device for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE]
    }

    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}
}

/// Answers a request with random bytes, with which `fill` fills what it is given, and says how many
/// they were.
///
/// # Errors
///
/// [`ChainError`] where the room is no longer memory.
pub fn answer(
    chain: &Chain,
    memory: &impl GuestMem,
    mut fill: impl FnMut(&mut [u8]),
) -> Result<u32, ChainError> {
    let mut writer = chain.writer(memory);
    let mut left = writer.room().min(MOST);
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut piece = [0; PIECE];
        let piece = &mut piece[..len];
        fill(piece);
        writer.write_all(piece)?;
        left -= len as u64;
    }
    Ok(writer.written())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::testing::request;

    /// Counts its bytes, which are all 0xaa.
    fn answered(readable: &[&[u8]], writable: &[u32]) -> (u32, usize) {
        let (ram, chain) = request(readable, writable);
        let mut asked = 0;
        let written = answer(&chain, &ram, |piece| {
            asked += piece.len();
            piece.fill(0xaa);
        });
        let mut left = usize::try_from(*written.as_ref().unwrap()).unwrap();
        for range in chain.writable() {
            let len = usize::try_from(range.len()).unwrap();
            let bytes = ram.bytes(range.start(), len);
            let (filled, rest) = bytes.split_at(len.min(left));
            assert!(filled.iter().all(|&byte| byte == 0xaa));
            assert!(rest.iter().all(|&byte| byte == 0x55));
            left -= filled.len();
        }
        (written.unwrap(), asked)
    }

    #[test]
    fn all_of_a_requests_room_is_filled() {
        assert_eq!(answered(&[], &[1]), (1, 1));
        assert_eq!(answered(&[], &[255, 2, 300]), (557, 557));
    }

    #[test]
    fn a_request_gets_no_more_than_64_kib() {
        assert_eq!(answered(&[], &[0x1_0000]), (0x1_0000, 0x1_0000));
        assert_eq!(answered(&[], &[0xffff, 0x2_0000]), (0x1_0000, 0x1_0000));
    }

    #[test]
    fn a_request_without_room_gets_nothing() {
        assert_eq!(answered(&[b"random, please"], &[]), (0, 0));
    }

    #[test]
    fn it_has_one_queue_and_no_configuration() {
        let mut data = [0xff; 4];
        Rng::new().read_config(0, &mut data);
        assert_eq!(data, [0xff; 4]);
        assert_eq!(Rng::new().queue_sizes().len(), 1);
        assert_eq!(Rng::new().kind().id(), 4);
        assert_eq!(Rng::new().features(), 0);
    }
}

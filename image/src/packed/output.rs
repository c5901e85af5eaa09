//! Where a decoder writes: memory that grows as it is filled, up to a limit.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Why a decoder stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is more than the output may hold.
    Full,
    /// The host gave no memory for so many bytes.
    NoMemory(u64),
    /// The stream ends early.
    Ends,
    /// The stream is broken.
    Broken(String),
}

impl Fault {
    pub(super) fn broken(what: &str) -> Self {
        Self::Broken(what.to_string())
    }
}

/// Bytes that have been unpacked, and room for more.
///
/// There is always room for one byte more than the output may hold, so that a decoder that fills
/// it exactly is not told from one that still has bytes to write by guessing.
pub(super) struct Output {
    /// The unpacked bytes, then zeros.
    bytes: Vec<u8>,
    /// How many are unpacked bytes.
    len: usize,
    /// How many there may be.
    most: usize,
}

impl Output {
    /// Room to begin with where nothing is claimed.
    const FIRST: u64 = 1 << 20;

    /// Room for as much as is `claimed`, where a stream can `plausibl`y hold that, and for at most
    /// that or `limit`.
    pub(super) fn new(claimed: Option<u64>, plausible: u64, limit: u64) -> Result<Self, Fault> {
        let most = claimed.map_or(limit, |claimed| claimed.min(limit));
        let first = claimed.unwrap_or(Self::FIRST).min(plausible).min(most);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut output = Self {
            bytes: Vec::new(),
            len: 0,
            most,
        };
        output.grow(
            usize::try_from(first)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
        )?;
        Ok(output)
    }

    /// All the memory there is, of which the first [`len`](Self::len) bytes are unpacked: for
    /// decoders that look back into what they wrote.
    pub(super) fn whole(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// How many bytes are unpacked.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Room behind the unpacked bytes: at least one byte.
    pub(super) fn spare(&mut self) -> Result<&mut [u8], Fault> {
        if self.len >= self.bytes.len() {
            self.make_room(1)?;
        }
        self.bytes.get_mut(self.len..).ok_or(Fault::Full)
    }

    /// The last `window` unpacked bytes, or as many as there are, and the room behind them.
    pub(super) fn window_and_room(&mut self, window: usize) -> (&[u8], &mut [u8]) {
        let Some((unpacked, room)) = self.bytes.split_at_mut_checked(self.len) else {
            return (&[], &mut []);
        };
        let start = unpacked.len().saturating_sub(window);
        (unpacked.get(start..).unwrap_or_default(), room)
    }

    /// Sees that there is room for `len` bytes, or for as many as the output may still hold.
    pub(super) fn make_room(&mut self, len: usize) -> Result<(), Fault> {
        let wanted = self.len.saturating_add(len);
        if wanted > self.bytes.len() {
            self.grow(wanted.max(self.bytes.len().saturating_mul(2)))?;
        }
        Ok(())
    }

    /// Says that a decoder wrote `len` bytes into the room.
    pub(super) fn advance(&mut self, len: usize) -> Result<(), Fault> {
        self.len = self.len.saturating_add(len);
        if self.len > self.most {
            return Err(Fault::Full);
        }
        Ok(())
    }

    /// Puts `bytes` behind those that are there.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.make_room(bytes.len())?;
        let room = self.spare()?;
        let room = room.get_mut(..bytes.len()).ok_or(Fault::Full)?;
        room.copy_from_slice(bytes);
        self.advance(bytes.len())
    }

    /// The unpacked bytes from `start`.
    pub(super) fn since(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.len).unwrap_or_default()
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    fn grow(&mut self, wanted: usize) -> Result<(), Fault> {
        let wanted = wanted.min(self.most.saturating_add(1));
        let more = wanted
            .checked_sub(self.bytes.len())
            .filter(|&more| more > 0)
            .ok_or(Fault::Full)?;
        if self.bytes.is_empty() {
            // Probed first, because only this way of asking for zeros gets pages that the host has
            // zeroed already, but it has no way to fail.
            Vec::<u8>::new()
                .try_reserve_exact(wanted)
                .or(Err(Fault::NoMemory(wanted as u64)))?;
            self.bytes = alloc::vec![0; wanted];
        } else {
            self.bytes
                .try_reserve_exact(more)
                .or(Err(Fault::NoMemory(wanted as u64)))?;
            self.bytes.resize(wanted, 0);
        }
        Ok(())
    }
}

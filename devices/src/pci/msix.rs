//! MSI-X: a message of its own for each of up to 2048 causes of interrupts (PCI section 6.8.2).
//!
//! What is raised while its vector or the function is masked, or while the function may not access
//! memory, is pending until that is over: it comes out of [`MsiX::take_message`], which is to be
//! asked after every write to the table or to configuration space.

#[cfg(test)]
mod tests;

use super::{ConfigSpace, Message};
use alloc::vec;
use alloc::vec::Vec;

/// The table, the pending bits, and the capability in configuration space.
#[derive(Clone, Debug)]
pub struct MsiX {
    /// Where the capability is.
    at: u8,
    table: Vec<Entry>,
    /// How many entries are pending.
    pending: usize,
}

/// Where a function has its table and its pending bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiXPlace {
    /// The BAR that both are in, 0 to 5.
    pub bar: u8,
    /// The table's offset in it, a multiple of 8.
    pub table: u32,
    /// That of the pending bits, a multiple of 8.
    pub pba: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Message address, message data, vector control (PCI figure 6-11).
    bytes: [u8; ENTRY_LEN],
    is_pending: bool,
}

/// The id of the capability, and message control in it (PCI figure 6-9).
const ID: u8 = 0x11;
const CONTROL: u8 = 2;

bitflags::bitflags! {
    /// Message control (PCI section 6.8.2.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Control: u16 {
        const FUNCTION_MASK = 1 << 14;
        const ENABLE = 1 << 15;
    }
}

/// As many vectors as message control can say.
const VECTORS_MAX: u16 = 2048;
const ENTRY_LEN: usize = 16;
/// Where vector control is, and its one bit.
const VECTOR_CONTROL: usize = 12;
const MASKED: u8 = 1;
/// What of an entry can be written: the two lowest bits of an address are zero.
const ENTRY_WRITABLE: [u8; ENTRY_LEN] = {
    let mut writable = [0xff; ENTRY_LEN];
    writable[0] = 0xfc;
    writable[VECTOR_CONTROL] = MASKED;
    writable[VECTOR_CONTROL + 1] = 0;
    writable[VECTOR_CONTROL + 2] = 0;
    writable[VECTOR_CONTROL + 3] = 0;
    writable
};

impl MsiX {
    /// Gives a function so many vectors.
    ///
    /// # Panics
    ///
    /// Where they are none or more than 2048, or `place` is out of the question.
    pub fn add_to(config: &mut ConfigSpace, vectors: u16, place: MsiXPlace) -> Self {
        assert!((1..=VECTORS_MAX).contains(&vectors), "{vectors} vectors");
        let MsiXPlace { bar, table, pba } = place;
        assert!(bar < 6 && table % 8 == 0 && pba % 8 == 0, "{place:?}");
        let [table, pba] = [table, pba].map(|offset| offset | u32::from(bar));
        let at = config.add_capability(ID, &body(vectors, table, pba));
        Self::of(config, at, vectors)
    }

    /// One at `at`, whose registers for the places of both are these: an offset, and a BAR in its three lowest
    /// bits.
    pub(super) fn place_in(
        config: &mut ConfigSpace,
        at: u8,
        vectors: u16,
        (table, pba): (u32, u32),
    ) -> Self {
        assert!((1..=VECTORS_MAX).contains(&vectors), "{vectors} vectors");
        config.place_capability(at, ID, &body(vectors, table, pba));
        Self::of(config, at, vectors)
    }

    fn of(config: &mut ConfigSpace, at: u8, vectors: u16) -> Self {
        config.make_writable(at + CONTROL, &Control::all().bits().to_le_bytes());
        Self {
            at,
            table: vec![Entry::new(); vectors.into()],
            pending: 0,
        }
    }

    /// How many vectors there are.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        u16::try_from(self.table.len()).unwrap_or(VECTORS_MAX)
    }

    /// How many bytes the table of so many vectors takes.
    #[must_use]
    pub const fn table_len(vectors: u16) -> u32 {
        vectors as u32 * 16
    }

    /// How many bytes the pending bits of so many vectors take.
    #[must_use]
    pub const fn pba_len(vectors: u16) -> u32 {
        vectors.div_ceil(64) as u32 * 8
    }

    /// Whether interrupts come as these messages, and not by pin.
    #[must_use]
    pub fn is_enabled(&self, config: &ConfigSpace) -> bool {
        self.control(config).contains(Control::ENABLE)
    }

    /// Raises a vector: it is to be sent now, or pending. Nothing comes of a vector that there is
    /// not, nor of any while messages are not enabled.
    pub fn raise(&mut self, vector: u16, config: &ConfigSpace) -> Option<Message> {
        if !self.is_enabled(config) {
            return None;
        }
        let is_open = self.is_open(config);
        let entry = self.table.get_mut(usize::from(vector))?;
        if is_open && !entry.is_masked() {
            return Some(entry.message());
        }
        if !entry.is_pending {
            entry.is_pending = true;
            self.pending += 1;
        }
        None
    }

    /// The next message that was pending, and is to be sent now.
    pub fn take_message(&mut self, config: &ConfigSpace) -> Option<Message> {
        if self.pending == 0 || !self.is_open(config) {
            return None;
        }
        let mut entries = self.table.iter_mut();
        let entry = entries.find(|entry| entry.is_pending && !entry.is_masked())?;
        entry.is_pending = false;
        self.pending -= 1;
        Some(entry.message())
    }

    /// Fills `data` with what the table reads as from `offset`.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        for (byte, index) in data.iter_mut().zip(0..) {
            let (entry, at) = place(offset, index);
            let entry = self.table.get(entry).map(|entry| entry.bytes);
            *byte = entry.map_or(0xff, |bytes| bytes.get(at).copied().unwrap_or(0xff));
        }
    }

    /// Writes `data` to the table from `offset`.
    pub fn write_table(&mut self, offset: u64, data: &[u8]) {
        for (&value, index) in data.iter().zip(0..) {
            let (entry, at) = place(offset, index);
            if let Some(entry) = self.table.get_mut(entry) {
                entry.write(at, value);
            }
        }
    }

    /// Fills `data` with what the pending bits read as from `offset`. Writes to them are dropped.
    pub fn read_pba(&self, offset: u64, data: &mut [u8]) {
        let len = u64::from(Self::pba_len(self.vectors()));
        for (byte, index) in data.iter_mut().zip(0..) {
            let at = offset.saturating_add(index);
            *byte = if at < len {
                self.pending_byte(at)
            } else {
                0xff
            };
        }
    }

    /// Masks every vector and forgets what is pending. The capability is reset with its
    /// configuration space.
    pub fn reset(&mut self) {
        self.table.fill(Entry::new());
        self.pending = 0;
    }

    /// The pending bits of the eight vectors of a byte.
    fn pending_byte(&self, at: u64) -> u8 {
        let first = usize::try_from(at.saturating_mul(8)).unwrap_or(usize::MAX);
        let entries = self.table.iter().skip(first).zip(0..8);
        entries.fold(0, |byte, (entry, bit)| {
            byte | u8::from(entry.is_pending) << bit
        })
    }

    fn control(&self, config: &ConfigSpace) -> Control {
        Control::from_bits_retain(config.u16_at(self.at + CONTROL))
    }

    /// Whether the function as a whole sends messages.
    fn is_open(&self, config: &ConfigSpace) -> bool {
        let control = self.control(config);
        control.contains(Control::ENABLE)
            && !control.contains(Control::FUNCTION_MASK)
            && config.is_bus_master()
    }
}

impl Entry {
    /// An entry after reset: masked.
    const fn new() -> Self {
        let mut bytes = [0; ENTRY_LEN];
        bytes[VECTOR_CONTROL] = MASKED;
        Self {
            bytes,
            is_pending: false,
        }
    }

    const fn is_masked(&self) -> bool {
        self.bytes[VECTOR_CONTROL] & MASKED != 0
    }

    const fn message(&self) -> Message {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = self.bytes;
        Message {
            address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            data: u32::from_le_bytes([i, j, k, l]),
        }
    }

    fn write(&mut self, at: usize, value: u8) {
        if let (Some(byte), Some(writable)) = (self.bytes.get_mut(at), ENTRY_WRITABLE.get(at)) {
            *byte = value & writable;
        }
    }
}

/// What is in the capability behind its header.
fn body(vectors: u16, table: u32, pba: u32) -> [u8; 10] {
    let [c0, c1] = (vectors - 1).to_le_bytes();
    let [t0, t1, t2, t3] = table.to_le_bytes();
    let [p0, p1, p2, p3] = pba.to_le_bytes();
    [c0, c1, t0, t1, t2, t3, p0, p1, p2, p3]
}

/// Which entry of the table a byte is in, and where in it.
fn place(offset: u64, index: u64) -> (usize, usize) {
    let at = usize::try_from(offset.saturating_add(index)).unwrap_or(usize::MAX);
    (at / ENTRY_LEN, at % ENTRY_LEN)
}

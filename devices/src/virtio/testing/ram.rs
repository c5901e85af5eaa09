//! A guest's memory.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use firstlight_base::{Gpa, GpaRange, GuestMem, OutsideRam};

/// A guest's memory: pieces with holes between them, all zeros at first.
#[derive(Debug)]
pub struct Ram {
    pieces: RefCell<Vec<(Gpa, Vec<u8>)>>,
}

impl Ram {
    /// The first `len` bytes.
    ///
    /// # Panics
    ///
    /// Where that is none, or more than the host has.
    #[must_use]
    pub fn new(len: u64) -> Self {
        Self::of(&[GpaRange::new(Gpa::new(0), len).expect("a memory has bytes")])
    }

    /// These ranges.
    ///
    /// # Panics
    ///
    /// Where the host has less memory.
    #[must_use]
    pub fn of(ranges: &[GpaRange]) -> Self {
        let piece = |range: &GpaRange| {
            let len = usize::try_from(range.len()).expect("the host has that much memory");
            (range.start(), vec![0; len])
        };
        Self {
            pieces: RefCell::new(ranges.iter().map(piece).collect()),
        }
    }

    /// The `len` bytes from `at`.
    ///
    /// # Panics
    ///
    /// Where they are not all memory.
    #[must_use]
    pub fn bytes(&self, at: Gpa, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes).expect("the bytes are memory");
        bytes
    }

    /// Makes the `len` bytes from `at` all `value`.
    ///
    /// # Panics
    ///
    /// Where they are not all memory.
    pub fn fill(&self, at: Gpa, len: u32, value: u8) {
        let len = usize::try_from(len).expect("a length fits");
        self.write(at, &vec![value; len])
            .expect("the bytes are memory");
    }

    /// Writes a number of 16 bits.
    ///
    /// # Panics
    ///
    /// Where it is not memory, or the address is odd.
    pub fn put_u16(&self, at: u64, value: u16) {
        self.store_u16(Gpa::new(at), value)
            .expect("the number is memory");
    }

    /// Writes a number of 64 bits.
    ///
    /// # Panics
    ///
    /// Where it is not memory.
    pub fn put_u64(&self, at: u64, value: u64) {
        self.write(Gpa::new(at), &value.to_le_bytes())
            .expect("the number is memory");
    }

    /// Calls `with` with the bytes from `at`.
    fn part(&self, at: Gpa, len: usize, with: impl FnOnce(&mut [u8])) -> Result<(), OutsideRam> {
        let outside = OutsideRam {
            at,
            len: len as u64,
        };
        for (start, bytes) in self.pieces.borrow_mut().iter_mut() {
            let Some(offset) = at.get().checked_sub(start.get()) else {
                continue;
            };
            let from = usize::try_from(offset).ok();
            let behind = from.and_then(|from| bytes.get_mut(from..));
            if let Some(part) = behind.and_then(|behind| behind.get_mut(..len)) {
                with(part);
                return Ok(());
            }
        }
        Err(outside)
    }
}

impl GuestMem for Ram {
    fn holds(&self, range: GpaRange) -> bool {
        usize::try_from(range.len())
            .is_ok_and(|len| self.part(range.start(), len, |_part| ()).is_ok())
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.part(at, into.len(), |part| into.copy_from_slice(part))
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.part(at, from.len(), |part| part.copy_from_slice(from))
    }

    fn load_u16(&self, at: Gpa) -> Result<u16, OutsideRam> {
        if !at.is_aligned(2) {
            return Err(OutsideRam { at, len: 2 });
        }
        let mut bytes = [0; 2];
        self.read(at, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, at: Gpa, value: u16) -> Result<(), OutsideRam> {
        if !at.is_aligned(2) {
            return Err(OutsideRam { at, len: 2 });
        }
        self.write(at, &value.to_le_bytes())
    }
}

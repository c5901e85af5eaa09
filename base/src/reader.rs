//! A checked reader of untrusted bytes: every offset is compared with the end, nothing wraps.

use core::fmt;

/// Reads little- and big-endian numbers and slices at offsets that came from outside.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no byte at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The `len` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where they are not all there.
    pub fn slice(self, offset: u64, len: u64) -> Result<&'a [u8], PastEnd> {
        let past_end = PastEnd {
            offset,
            len,
            available: self.bytes.len() as u64,
        };
        let end = offset.checked_add(len).ok_or(past_end)?;
        let start = usize::try_from(offset).or(Err(past_end))?;
        let end = usize::try_from(end).or(Err(past_end))?;
        self.bytes.get(start..end).ok_or(past_end)
    }

    /// The bytes from `offset` to the end.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where `offset` lies behind the end.
    pub fn tail(self, offset: u64) -> Result<&'a [u8], PastEnd> {
        self.slice(offset, (self.bytes.len() as u64).saturating_sub(offset))
    }

    /// The `N` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where they are not all there.
    pub fn array<const N: usize>(self, offset: u64) -> Result<[u8; N], PastEnd> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(offset, N as u64)?);
        Ok(array)
    }

    /// The byte at `offset`.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where it is not there.
    pub fn u8(self, offset: u64) -> Result<u8, PastEnd> {
        self.array(offset).map(u8::from_le_bytes)
    }

    /// The little-endian 16-bit number at `offset`.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where it is not all there.
    pub fn u16_le(self, offset: u64) -> Result<u16, PastEnd> {
        self.array(offset).map(u16::from_le_bytes)
    }

    /// The little-endian 32-bit number at `offset`.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where it is not all there.
    pub fn u32_le(self, offset: u64) -> Result<u32, PastEnd> {
        self.array(offset).map(u32::from_le_bytes)
    }

    /// The little-endian 64-bit number at `offset`.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where it is not all there.
    pub fn u64_le(self, offset: u64) -> Result<u64, PastEnd> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// The big-endian 32-bit number at `offset`.
    ///
    /// # Errors
    ///
    /// [`PastEnd`] where it is not all there.
    pub fn u32_be(self, offset: u64) -> Result<u32, PastEnd> {
        self.array(offset).map(u32::from_be_bytes)
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader of {:#x} bytes", self.bytes.len())
    }
}

/// A read that wanted bytes behind the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastEnd {
    /// Where the read began.
    pub offset: u64,
    /// How many bytes it wanted.
    pub len: u64,
    /// How many bytes there are in all.
    pub available: u64,
}

impl fmt::Display for PastEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            offset,
            len,
            available,
        } = self;
        write!(
            f,
            "{len:#x} bytes wanted at offset {offset:#x}, but it ends at {available:#x}"
        )
    }
}

impl core::error::Error for PastEnd {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_the_byte_order_asked_for() {
        let reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(reader.u16_le(1), Ok(0x0302));
        assert_eq!(reader.u32_be(0), Ok(0x0102_0304));
        assert_eq!(reader.u64_le(1), Ok(0x0908_0706_0504_0302));
    }

    #[test]
    fn an_offset_that_wraps_is_past_the_end() {
        let reader = Reader::new(&[0; 8]);
        let wrapped = PastEnd {
            offset: u64::MAX,
            len: 4,
            available: 8,
        };
        assert_eq!(reader.u32_le(u64::MAX), Err(wrapped));
        assert_eq!(reader.slice(4, u64::MAX).unwrap_err().len, u64::MAX);
    }

    #[test]
    fn the_last_byte_is_inside_and_the_next_is_not() {
        let reader = Reader::new(&[7; 8]);
        assert_eq!(reader.u8(7), Ok(7));
        assert!(reader.u8(8).is_err());
        assert_eq!(reader.tail(8), Ok(&[][..]));
        assert!(reader.tail(9).is_err());
    }
}

//! The last eight words of an Arm PrimeCell's 4 KiB, by which an AMBA bus finds out what it is
//! (DDI 0183, sections 3.3.15 and 3.3.16).

/// How many bytes of addresses a PrimeCell takes.
pub(crate) const LEN: u64 = 0x1000;

/// Which PrimeCell it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrimeCell {
    /// The part number's digits: 0x011 is the PL011.
    pub(crate) part: u16,
    /// How often it was revised.
    pub(crate) revision: u8,
}

/// Arm's JEP106 code.
const DESIGNER: u8 = 0x41;

impl PrimeCell {
    /// The identification register at `offset`, if there is one.
    pub(crate) const fn id(self, offset: u64) -> Option<u8> {
        let [part_low, part_high] = self.part.to_le_bytes();
        Some(match offset {
            0xfe0 => part_low,
            0xfe4 => part_high | DESIGNER << 4,
            0xfe8 => DESIGNER >> 4 | self.revision << 4,
            0xfec => 0,
            0xff0 => 0x0d,
            0xff4 => 0xf0,
            0xff8 => 0x05,
            0xffc => 0xb1,
            _ => return None,
        })
    }
}

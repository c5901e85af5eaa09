//! What a chip is to the bus.

/// Registers at offsets from the chip's first address.
///
/// `data` is never empty; an access may have any width and begin at any offset inside the chip,
/// and the bus never lets one reach beyond it.
pub trait Chip {
    /// Fills `data` with what the registers from `offset` read as.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes `data` to the registers from `offset`.
    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect>;
}

/// A chip whose registers are one byte each, as on the ISA bus: a wider access is several
/// accesses of one byte, lowest address first.
pub trait ByteWide {
    /// What the register at `offset` reads as.
    fn read_byte(&mut self, offset: u64) -> u8;

    /// Writes the register at `offset`.
    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect>;
}

impl<T: ByteWide> Chip for T {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, offset) in data.iter_mut().zip(offset..) {
            *byte = self.read_byte(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        data.iter()
            .zip(offset..)
            .filter_map(|(&byte, offset)| self.write_byte(offset, byte))
            .reduce(|first, _later| first)
    }
}

/// What a write means for the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The guest turned its machine off.
    PowerOff,
    /// The guest wants its machine to be reset.
    Reset,
    /// The guest's kernel panicked.
    Panicked,
    /// The guest's kernel panicked and goes on into its crash kernel.
    CrashLoaded,
    /// The guest ended its machine with a status of its own choice, 0 to 127.
    Exit(u8),
}

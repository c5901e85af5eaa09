//! What a chip is to the bus, and to the interrupt controller.

use core::time::Duration;

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

/// A chip with an interrupt line.
pub trait Interrupting: Chip {
    /// Whether the chip asserts its line: to be asked after everything that was done to the chip,
    /// and when the time comes that [`irq_in`](Self::irq_in) tells.
    fn irq(&mut self) -> bool;

    /// How long until the chip asserts its line with nothing done to it, if it will.
    fn irq_in(&mut self) -> Option<Duration> {
        None
    }
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
        for (byte, index) in data.iter_mut().zip(0..) {
            *byte = self.read_byte(offset.wrapping_add(index));
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        data.iter()
            .zip(0..)
            .filter_map(|(&byte, index)| self.write_byte(offset.wrapping_add(index), byte))
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads and writes every offset of a chip of `len` bytes, and beyond, at every width and with
    /// telling values. Beyond its end a chip reads all ones and a write has no effect.
    pub(crate) fn survives_every_access(chip: &mut impl Chip, len: u64) {
        for offset in (0..len + 16).chain([u64::MAX - 15]) {
            for width in [1, 2, 3, 4, 8, 16] {
                for value in [0, 1, 0x55, 0x80, 0xfe, 0xff] {
                    let effect = chip.write(offset, &[value; 16][..width]);
                    let mut data = [value; 16];
                    chip.read(offset, &mut data[..width]);
                    assert!(data[width..].iter().all(|&byte| byte == value));
                    if offset >= len {
                        assert_eq!(effect, None);
                        assert!(data[..width].iter().all(|&byte| byte == 0xff));
                    }
                }
            }
        }
    }

    struct Counting(u64);

    impl ByteWide for Counting {
        fn read_byte(&mut self, offset: u64) -> u8 {
            self.0 = self.0 * 10 + offset;
            0
        }

        fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
            self.0 = self.0 * 10 + offset;
            (value > 1).then_some(Effect::Exit(value))
        }
    }

    #[test]
    fn a_wide_access_reaches_every_byte_in_order_and_the_first_effect_counts() {
        let mut chip = Counting(0);
        chip.read(1, &mut [0; 4]);
        assert_eq!(chip.0, 1234);
        let effect = chip.write(5, &[0, 2, 1, 3]);
        assert_eq!(chip.0, 12_345_678);
        assert_eq!(effect, Some(Effect::Exit(2)));
    }
}

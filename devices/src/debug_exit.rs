//! The port through which a guest ends its machine with a status of its own choice, at the place
//! of QEMU's `isa-debug-exit`.

use crate::{ByteWide, Effect};

/// A debug exit port.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugExit;

/// Statuses from 128 on are the shell's.
const STATUS: u8 = 0x7f;

impl ByteWide for DebugExit {
    fn read_byte(&mut self, _offset: u64) -> u8 {
        0xff
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        (offset == 0).then_some(Effect::Exit(value & STATUS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chip;
    use crate::chip::tests::survives_every_access;

    #[test]
    fn the_low_seven_bits_are_the_status() {
        for (written, status) in [(0, 0), (42, 42), (0x7f, 0x7f), (0x80, 0), (0xff, 0x7f)] {
            assert_eq!(DebugExit.write_byte(0, written), Some(Effect::Exit(status)));
        }
    }

    #[test]
    fn of_a_wide_write_only_the_first_byte_counts() {
        assert_eq!(DebugExit.write(0, &[7, 8, 9, 10]), Some(Effect::Exit(7)));
    }

    #[test]
    fn every_access_is_survived() {
        survives_every_access(&mut DebugExit, 1);
    }
}

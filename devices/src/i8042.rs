//! The keyboard controller of a PC, as far as kernels use it to reset the machine (IBM PC/AT
//! Technical Reference, 8042 command 0xfe: pulse output port bit 0).
//!
//! There is no keyboard behind it. The status says so, in a way that a kernel that looks for one
//! gives up at once.

use crate::{ByteWide, Effect};

/// The command and status port of a keyboard controller.
#[derive(Clone, Copy, Debug, Default)]
pub struct I8042;

/// Pulses the line that is wired to the processor's reset.
const PULSE_RESET: u8 = 0xfe;

/// Nothing to read, and ready for a command: what a kernel waits for before it asks for a reset.
const STATUS: u8 = 0;

impl ByteWide for I8042 {
    fn read_byte(&mut self, offset: u64) -> u8 {
        if offset == 0 { STATUS } else { 0xff }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        (offset == 0 && value == PULSE_RESET).then_some(Effect::Reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::tests::survives_every_access;

    #[test]
    fn only_the_reset_command_does_something() {
        for value in 0..=u8::MAX {
            let effect = I8042.write_byte(0, value);
            assert_eq!(effect, (value == 0xfe).then_some(Effect::Reset));
        }
    }

    #[test]
    fn it_is_always_ready_for_a_command_and_has_nothing_to_say() {
        assert_eq!(I8042.read_byte(0) & 0b11, 0);
    }

    #[test]
    fn every_access_is_survived() {
        survives_every_access(&mut I8042, 1);
    }
}

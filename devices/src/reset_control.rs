//! A PC's reset control register, port 0xcf9 (Intel ICH9 Family Datasheet, section 13.7.5).

use crate::{ByteWide, Effect};

/// The register.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResetControl {
    value: u8,
}

/// Reset when this is set and was not before; the other bits say how much of the machine.
const RESET_CPU: u8 = 1 << 2;
const WRITABLE: u8 = 1 << 3 | RESET_CPU | 1 << 1;

impl ByteWide for ResetControl {
    fn read_byte(&mut self, offset: u64) -> u8 {
        match offset {
            0 => self.value,
            _ => 0xff,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        if offset != 0 {
            return None;
        }
        let was = core::mem::replace(&mut self.value, value & WRITABLE);
        (self.value & !was & RESET_CPU != 0).then_some(Effect::Reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::tests::survives_every_access;

    #[test]
    fn the_processors_reset_when_their_bit_rises() {
        let mut register = ResetControl::default();
        assert_eq!(register.write_byte(0, 0x02), None);
        assert_eq!(register.write_byte(0, 0x06), Some(Effect::Reset));
        assert_eq!(register.write_byte(0, 0x0e), None);
        assert_eq!(register.read_byte(0), 0x0e);
        assert_eq!(register.write_byte(0, 0xf0), None);
        assert_eq!(register.write_byte(0, 0x04), Some(Effect::Reset));
    }

    #[test]
    fn every_access_is_survived() {
        survives_every_access(&mut ResetControl::default(), 1);
    }
}

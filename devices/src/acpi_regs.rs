//! The registers by which ACPI turns off or resets a machine without the legacy power hardware:
//! sleep control, sleep status and reset, one byte each (ACPI 6.5, sections 4.8.3.6, 4.8.3.7).

use crate::{ByteWide, Effect};

/// Sleep control, sleep status and reset registers, in this order.
#[derive(Clone, Copy, Debug)]
pub struct AcpiRegs {
    off: u8,
    reset: u8,
}

/// The registers, by their offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    SleepControl,
    SleepStatus,
    Reset,
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        match offset {
            0 => Some(Self::SleepControl),
            1 => Some(Self::SleepStatus),
            2 => Some(Self::Reset),
            _ => None,
        }
    }
}

/// Sleep control: enter the state of the type in bits 2 to 4.
const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u32 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111;

impl AcpiRegs {
    /// Registers that turn the machine off for sleep type `off`, and reset it for the value
    /// `reset`: what the DSDT and the FADT tell the guest.
    #[must_use]
    pub const fn new(off: u8, reset: u8) -> Self {
        Self { off, reset }
    }
}

impl ByteWide for AcpiRegs {
    fn read_byte(&mut self, offset: u64) -> u8 {
        match Register::at(offset) {
            // Never asleep, never woken.
            Some(Register::SleepControl | Register::SleepStatus | Register::Reset) => 0,
            None => 0xff,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        match Register::at(offset)? {
            Register::SleepControl => {
                let wanted = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
                (value & SLEEP_ENABLE != 0 && wanted == self.off).then_some(Effect::PowerOff)
            }
            // Its one bit is cleared by writing it, and is never set.
            Register::SleepStatus => None,
            Register::Reset => (value == self.reset).then_some(Effect::Reset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chip;
    use crate::chip::tests::survives_every_access;

    fn registers() -> AcpiRegs {
        AcpiRegs::new(5, 0x42)
    }

    #[test]
    fn the_off_state_must_be_both_named_and_enabled() {
        let effect = |value| registers().write_byte(0, value);
        assert_eq!(effect(5 << 2 | 0x20), Some(Effect::PowerOff));
        assert_eq!(effect(5 << 2), None);
        assert_eq!(effect(3 << 2 | 0x20), None);
        assert_eq!(effect(0x20), None);
    }

    #[test]
    fn only_the_value_of_the_fadt_resets() {
        let effect = |value| registers().write_byte(2, value);
        assert_eq!(effect(0x42), Some(Effect::Reset));
        assert_eq!(effect(0x43), None);
    }

    #[test]
    fn a_wide_write_is_a_write_of_each_register() {
        let effect = registers().write(0, &[0, 0, 0x42, 0]);
        assert_eq!(effect, Some(Effect::Reset));
    }

    #[test]
    fn every_access_is_survived() {
        survives_every_access(&mut registers(), 3);
    }
}

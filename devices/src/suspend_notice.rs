//! The port by which the machine's firmware says that its system goes to sleep without turning
//! anything off, and that it has woken (ACPI 6.5, section 5.2.9, `LOW_POWER_S0_IDLE_CAPABLE`; the
//! device `PNP0D80`). The code in the DSDT writes there what the system tells that device.

use crate::{ByteWide, Effect};

/// One port of which `say` is told whenever the system goes to sleep, and when it has woken.
#[derive(Clone, Copy, Debug)]
pub struct SuspendNotice<S> {
    say: S,
    is_suspended: bool,
}

impl<S: FnMut(bool)> SuspendNotice<S> {
    /// Written when the system goes to sleep.
    pub const SUSPENDED: u8 = 1;
    /// Written when it has woken.
    pub const AWAKE: u8 = 0;

    /// A port of a system that is awake.
    pub const fn new(say: S) -> Self {
        Self {
            say,
            is_suspended: false,
        }
    }
}

impl<S: FnMut(bool)> ByteWide for SuspendNotice<S> {
    fn read_byte(&mut self, offset: u64) -> u8 {
        match offset {
            0 => self.is_suspended.into(),
            _ => 0xff,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        let is_suspended = match (offset, value) {
            (0, Self::SUSPENDED) => true,
            (0, Self::AWAKE) => false,
            _ => return None,
        };
        if self.is_suspended != is_suspended {
            self.is_suspended = is_suspended;
            (self.say)(is_suspended);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chip;
    use crate::chip::tests::survives_every_access;
    use alloc::vec::Vec;

    #[test]
    fn each_way_is_said_once() {
        let mut said = Vec::new();
        let mut port = SuspendNotice::new(|is_suspended| said.push(is_suspended));
        for value in [0, 1, 1, 7, 0xff, 0, 0, 1] {
            assert_eq!(port.write(0, &[value]), None);
        }
        let mut byte = [0];
        port.read(0, &mut byte);
        assert_eq!((byte, said), ([1], [true, false, true].into()));
    }

    #[test]
    fn only_its_own_port_says_anything() {
        let mut said = Vec::new();
        let mut port = SuspendNotice::new(|is_suspended| said.push(is_suspended));
        port.write(1, &[1]);
        port.write(0, &[2, 1]);
        survives_every_access(&mut port, 1);
        assert!(
            said.iter()
                .zip([true, false].iter().cycle())
                .all(|(a, b)| a == b)
        );
    }
}

//! The panic notification port: the guest's kernel says that it has panicked (QEMU,
//! `docs/specs/pvpanic.rst`).

use crate::{ByteWide, Effect};

/// A panic notification port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pvpanic;

bitflags::bitflags! {
    /// The events.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Events: u8 {
        /// The kernel panicked.
        const PANICKED = 1 << 0;
        /// The kernel panicked, and its crash kernel takes over.
        const CRASH_LOADED = 1 << 1;
    }
}

impl ByteWide for Pvpanic {
    fn read_byte(&mut self, offset: u64) -> u8 {
        // Which events there are.
        if offset == 0 {
            Events::all().bits()
        } else {
            0xff
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        let events = Events::from_bits_truncate(value);
        if offset != 0 {
            None
        } else if events.contains(Events::PANICKED) {
            Some(Effect::Panicked)
        } else if events.contains(Events::CRASH_LOADED) {
            Some(Effect::CrashLoaded)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::tests::survives_every_access;

    #[test]
    fn the_guest_learns_which_events_there_are() {
        assert_eq!(Pvpanic.read_byte(0), 0b11);
    }

    #[test]
    fn each_event_has_its_effect_and_unknown_ones_have_none() {
        assert_eq!(Pvpanic.write_byte(0, 1), Some(Effect::Panicked));
        assert_eq!(Pvpanic.write_byte(0, 2), Some(Effect::CrashLoaded));
        assert_eq!(Pvpanic.write_byte(0, 3), Some(Effect::Panicked));
        assert_eq!(Pvpanic.write_byte(0, 0xfc), None);
        assert_eq!(Pvpanic.write_byte(0, 0), None);
    }

    #[test]
    fn every_access_is_survived() {
        survives_every_access(&mut Pvpanic, 1);
    }
}

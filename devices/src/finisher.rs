//! The register by which RISC-V's `virt` machine is turned off or reset: SiFive's test finisher
//! (`sifive,test0`; QEMU, `include/hw/misc/sifive_test.h`). Kernels know it as a `syscon` with
//! `syscon-poweroff` and `syscon-reboot`.

use crate::words::Words;
use crate::{Chip, Effect};

/// A finisher.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finisher;

/// What the low half of the register says. The high half is the status of a failure.
const FAIL: u16 = 0x3333;
const PASS: u16 = 0x5555;
const RESET: u16 = 0x7777;

/// The greatest status; those from 128 on are the shell's.
const MAX_STATUS: u8 = 0x7f;

impl Finisher {
    const WORDS: Words = Words { len: 4 };
}

impl Chip for Finisher {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        Self::WORDS.read(offset, data, |_| 0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        Self::WORDS.write(offset, data, |_, value| finish(value))
    }
}

fn finish(value: u32) -> Option<Effect> {
    let [low @ .., a, b] = value.to_le_bytes();
    match u16::from_le_bytes(low) {
        PASS => Some(Effect::PowerOff),
        RESET => Some(Effect::Reset),
        FAIL => {
            let status = u8::try_from(u16::from_le_bytes([a, b])).unwrap_or(MAX_STATUS);
            Some(Effect::Exit(status.min(MAX_STATUS)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::tests::survives_every_access;

    fn write(value: u32) -> Option<Effect> {
        Finisher.write(0, &value.to_le_bytes())
    }

    #[test]
    fn passing_turns_the_machine_off() {
        assert_eq!(write(0x5555), Some(Effect::PowerOff));
        assert_eq!(Finisher.write(0, &[0x55, 0x55]), Some(Effect::PowerOff));
    }

    #[test]
    fn a_reset_is_asked_for_by_its_value() {
        assert_eq!(write(0x7777), Some(Effect::Reset));
    }

    #[test]
    fn a_failure_has_a_status_and_a_great_one_is_never_a_success() {
        for (value, status) in [
            (0x0001_3333, 1),
            (0x007f_3333, 0x7f),
            (0x0080_3333, 0x7f),
            (0x0100_3333, 0x7f),
            (0xffff_3333, 0x7f),
            (0x0000_3333, 0),
        ] {
            assert_eq!(write(value), Some(Effect::Exit(status)));
        }
    }

    #[test]
    fn other_values_and_halves_do_nothing() {
        for value in [0, 0x55, 0x5554, 0x3332, 0x7778, 0x5555_0000, u32::MAX] {
            assert_eq!(write(value), None);
        }
        assert_eq!(Finisher.write(0, &[0x55]), None);
        assert_eq!(Finisher.write(1, &[0x55, 0x55]), None);
    }

    #[test]
    fn it_reads_as_zero() {
        let mut data = [0xff; 4];
        Finisher.read(0, &mut data);
        assert_eq!(data, [0; 4]);
    }

    #[test]
    fn every_access_is_survived() {
        survives_every_access(&mut Finisher, 4);
    }
}

//! The fixed power management hardware of ACPI, as an ICH9 has it: status, enable and control registers,
//! and a timer (ACPI 6.5, sections 4.8.3.1 to 4.8.3.3; Intel ICH9 Family Datasheet, section 13.8.3).
//!
//! Firmware measures time by the timer and turns its machine off by the control register. Nothing here
//! ever happens that the status register would tell of.

use crate::{Chip, Effect};
use core::time::Duration;

/// The registers on twelve ports; `N` says for how long the machine has been there.
#[derive(Debug)]
pub struct PowerManagement<N> {
    now: N,
    enable: u16,
    control: u16,
}

/// The registers, by their offset.
const ENABLE: usize = 2;
const CONTROL: usize = 4;
const TIMER: usize = 8;

/// Ticks of the timer in a second, of which 24 bits are shown.
const FREQUENCY: u128 = 3_579_545;
const TIMER_MASK: u32 = 0x00ff_ffff;

/// The events that there can be: timer, global lock, buttons, clock, PCI Express.
const EVENTS: u16 = 0x4721;
/// Control: interrupts by ACPI, and the sleep type in bits 10 to 12.
const SCI_ENABLE: u16 = 1 << 0;
const SLEEP_TYPE: u16 = 0b111 << 10;
/// Enter the state of that type. It reads as zero.
const SLEEP_ENABLE: u16 = 1 << 13;
/// The type of the soft-off state, as firmware for QEMU has it.
const OFF: u16 = 0;

impl<N> PowerManagement<N> {
    /// How many ports they are on.
    pub const PORTS: u64 = 12;

    /// Registers after reset.
    pub const fn new(now: N) -> Self {
        Self {
            now,
            enable: 0,
            control: 0,
        }
    }
}

impl<N: FnMut() -> Duration> PowerManagement<N> {
    fn registers(&mut self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let ticks = (self.now)().as_nanos().wrapping_mul(FREQUENCY) / 1_000_000_000;
        let [a, b, c, d, ..] = ticks.to_le_bytes();
        let timer = u32::from_le_bytes([a, b, c, d]) & TIMER_MASK;
        bytes[ENABLE..CONTROL].copy_from_slice(&self.enable.to_le_bytes());
        bytes[CONTROL..CONTROL + 2].copy_from_slice(&self.control.to_le_bytes());
        bytes[TIMER..].copy_from_slice(&timer.to_le_bytes());
        bytes
    }
}

impl<N: FnMut() -> Duration> Chip for PowerManagement<N> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let registers = self.registers();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut bytes = registers.iter().skip(from);
        data.fill_with(|| bytes.next().copied().unwrap_or(0xff));
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        // What is not written stays as it is.
        let mut registers = self.registers();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (register, byte) in registers.iter_mut().skip(from).zip(data) {
            *register = *byte;
        }
        let [_, _, enable_low, enable_high, low, high, ..] = registers;
        self.enable = u16::from_le_bytes([enable_low, enable_high]) & EVENTS;
        let control = u16::from_le_bytes([low, high]);
        self.control = control & (SCI_ENABLE | SLEEP_TYPE);
        let is_off = control & SLEEP_ENABLE != 0 && control & SLEEP_TYPE == OFF;
        is_off.then_some(Effect::PowerOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::tests::survives_every_access;

    fn at(seconds: u64) -> PowerManagement<impl FnMut() -> Duration> {
        PowerManagement::new(move || Duration::from_secs(seconds))
    }

    #[test]
    fn the_timer_counts_its_frequency_and_wraps_at_24_bits() {
        let timer = |seconds| {
            let mut data = [0; 4];
            at(seconds).read(8, &mut data);
            u32::from_le_bytes(data)
        };
        assert_eq!(timer(1), 3_579_545);
        assert_eq!(timer(5), 5 * 3_579_545 - (1 << 24));
        assert_eq!(
            timer(1 << 40),
            ((1_u128 << 40) * 3_579_545 % (1 << 24)) as u32
        );
    }

    #[test]
    fn off_is_type_0_and_enabled() {
        let effect = |control: u16| at(0).write(4, &control.to_le_bytes());
        assert_eq!(effect(0x2001), Some(Effect::PowerOff));
        assert_eq!(effect(0x0001), None);
        assert_eq!(effect(5 << 10 | 0x2000), None);
        // Only the enabling half is written, and the other is nothing yet.
        assert_eq!(at(0).write(5, &[0x20]), Some(Effect::PowerOff));
    }

    #[test]
    fn what_is_written_is_read_back_as_far_as_it_is_there() {
        let mut chip = at(0);
        chip.write(2, &[0xff; 4]);
        let mut data = [0; 6];
        chip.read(0, &mut data);
        assert_eq!(data, [0, 0, 0x21, 0x47, 0x01, 0x1c]);
    }

    #[test]
    fn every_access_is_survived() {
        survives_every_access(&mut at(3), PowerManagement::<fn() -> Duration>::PORTS);
    }
}

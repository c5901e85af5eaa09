//! The PL011 of an Arm machine.

use super::{SerialChip, Signal};
use firstlight_devices::{Chip, Interrupting, Pl011};

impl SerialChip for Pl011 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        Chip::read(self, offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<u8> {
        Chip::write(self, offset, data);
        self.take_transmitted()
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        Self::receive(self, bytes)
    }

    fn wants_input(&mut self) -> bool {
        Self::wants_input(self)
    }

    fn signal(&mut self) -> Signal {
        Signal::Level(self.irq())
    }
}

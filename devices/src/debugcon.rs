//! The debug console: a port that takes bytes and nothing else, as Bochs has one and QEMU's
//! `isa-debugcon` (`hw/char/debugcon.c`), so that firmware and kernels can speak before they have a
//! driver for anything.

use crate::{ByteWide, Effect};

/// A debug console, whose bytes `say` takes.
#[derive(Clone, Copy, Debug)]
pub struct Debugcon<S> {
    say: S,
}

/// What the port reads as: so a guest finds that it is there.
const THERE: u8 = 0xe9;

impl<S: FnMut(u8)> Debugcon<S> {
    /// A debug console that hands each byte to `say`.
    pub const fn new(say: S) -> Self {
        Self { say }
    }
}

impl<S: FnMut(u8)> ByteWide for Debugcon<S> {
    fn read_byte(&mut self, offset: u64) -> u8 {
        if offset == 0 { THERE } else { 0xff }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        if offset == 0 {
            (self.say)(value);
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
    fn what_is_written_is_said_in_order() {
        let mut said = Vec::new();
        let mut console = Debugcon::new(|byte| said.push(byte));
        for byte in *b"boot\0\xff\n" {
            assert_eq!(console.write(0, &[byte]), None);
        }
        assert_eq!(said, b"boot\0\xff\n");
    }

    #[test]
    fn a_guest_finds_it_by_reading() {
        let mut byte = [0];
        Debugcon::new(|_| ()).read(0, &mut byte);
        assert_eq!(byte, [0xe9]);
    }

    #[test]
    fn only_its_own_port_says_anything() {
        let mut said = Vec::new();
        let mut console = Debugcon::new(|byte| said.push(byte));
        survives_every_access(&mut console, 1);
        console.write(0, b"xyz");
        assert_eq!(said.last(), Some(&b'x'));
    }
}

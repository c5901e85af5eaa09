//! The 16550 of a PC or a RISC-V machine: `vm-superio`'s, with its interrupt as an edge or a level
//! (TI PC16550D data sheet).

#[cfg(test)]
mod tests;

use super::{SerialChip, Signal};
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger as Request};

/// How the interrupt line is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// By an edge, as on the ISA bus.
    Edge,
    /// By a level, as on a PLIC.
    Level,
}

/// A 16550 whose eight registers are a byte each, at consecutive ports or addresses.
pub(crate) struct Ns16550 {
    chip: Serial<Requests, NoEvents, Sent>,
    trigger: Trigger,
}

/// The registers that are looked at here.
const INTERRUPT_IDENTIFICATION: u8 = 2;
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;

/// Interrupt enable (section 8.4) and interrupt identification (section 8.5).
const ENABLE_RECEIVED: u8 = 1 << 0;
const ENABLE_EMPTY: u8 = 1 << 1;
const ID_NONE: u8 = 1 << 0;
const ID_EMPTY: u8 = 1 << 1;
const ID_RECEIVED: u8 = 1 << 2;
const ID_FIFOS_ENABLED: u8 = 0b11 << 6;
/// Modem control: what is sent is received (section 8.7).
const LOOPBACK: u8 = 1 << 4;
/// Line status: a byte was received (section 8.3).
const DATA_READY: u8 = 1 << 0;

impl Ns16550 {
    /// How many registers it has.
    pub(crate) const REGISTERS: u64 = 8;

    pub(crate) fn new(trigger: Trigger) -> Self {
        Self {
            chip: Serial::new(Requests(Cell::new(false)), Sent(None)),
            trigger,
        }
    }

    fn read_register(&mut self, register: u8) -> u8 {
        match (register, self.trigger) {
            (INTERRUPT_IDENTIFICATION, Trigger::Level) => self.identify(),
            _ => self.chip.read(register),
        }
    }

    /// The chip forgets all causes when it is asked for one, which loses those that a level stands
    /// for. The data sheet's table has received data first, until it is read; reading clears only
    /// the other cause.
    fn identify(&mut self) -> u8 {
        let state = self.chip.state();
        let cause = if has_received(&state) {
            ID_RECEIVED
        } else if is_empty(&state) {
            self.chip.read(INTERRUPT_IDENTIFICATION);
            ID_EMPTY
        } else {
            ID_NONE
        };
        cause | ID_FIFOS_ENABLED
    }
}

/// Whether there is data to read, and the guest wants an interrupt for it.
fn has_received(state: &SerialState) -> bool {
    state.interrupt_enable & ENABLE_RECEIVED != 0 && !state.in_buffer.is_empty()
}

/// Whether the transmitter has become empty since that was last identified, and the guest wants an
/// interrupt for it.
fn is_empty(state: &SerialState) -> bool {
    state.interrupt_enable & ENABLE_EMPTY != 0 && state.interrupt_identification & ID_EMPTY != 0
}

/// The registers from `offset` on; beyond the last there is nothing.
fn registers(offset: u64) -> impl Iterator<Item = u8> {
    (0..8).filter(move |&register| u64::from(register) >= offset)
}

impl SerialChip for Ns16550 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, register) in data.iter_mut().zip(registers(offset)) {
            *byte = self.read_register(register);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<u8> {
        for (&value, register) in data.iter().zip(registers(offset)) {
            // Neither the line nor the writer can fail.
            let _ = self.chip.write(register, value);
        }
        self.chip.writer_mut().0.take()
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        self.chip.enqueue_raw_bytes(bytes).unwrap_or(0)
    }

    fn wants_input(&mut self) -> bool {
        self.chip.read(LINE_STATUS) & DATA_READY == 0
            && self.chip.read(MODEM_CONTROL) & LOOPBACK == 0
    }

    fn signal(&mut self) -> Signal {
        let requested = self.chip.interrupt_evt().0.take();
        match self.trigger {
            Trigger::Edge if requested => Signal::Pulse,
            Trigger::Edge => Signal::None,
            Trigger::Level => {
                let state = self.chip.state();
                Signal::Level(has_received(&state) || is_empty(&state))
            }
        }
    }
}

/// Whether the chip has requested an interrupt since that was last asked.
struct Requests(Cell<bool>);

impl Request for Requests {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// The byte that the chip has just sent: it is passed on when the chip is free again.
struct Sent(Option<u8>);

impl io::Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = bytes.last().copied();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

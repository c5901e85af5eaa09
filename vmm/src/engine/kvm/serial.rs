//! A 16550 serial port on the board: `vm-superio`'s chip between an interrupt line, the console's
//! output and what is typed.

use super::board::Bell;
use crate::ConsoleOutput;
use firstlight_hv::{HvError, IrqLine};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};

/// The modem control register, with its loop-back bit (TI PC16550D data sheet, section 8.7).
const MODEM_CONTROL: u8 = 4;

/// A serial port with everything it is connected to.
pub(super) struct Uart<L: IrqLine> {
    chip: Mutex<Chip<L>>,
    output: OnceLock<ConsoleOutput>,
    hunger: Arc<Hunger>,
}

type Chip<L> = Serial<Line<L>, Arc<Hunger>, Sent>;

impl<L: IrqLine> Uart<L> {
    /// How many ports it takes.
    pub(super) const PORTS: u64 = 8;

    pub(super) fn new(line: L, bell: &Arc<Bell>) -> Self {
        let hunger = Arc::new(Hunger {
            input_waits: AtomicBool::new(false),
            bell: Arc::clone(bell),
        });
        Self {
            chip: Mutex::new(Serial::with_events(
                Line(line),
                Arc::clone(&hunger),
                Sent(None),
            )),
            output: OnceLock::new(),
            hunger,
        }
    }

    /// Where the bytes go from now on; before, and without it, they go nowhere.
    pub(super) fn connect(&self, output: &ConsoleOutput) {
        // A machine is started once.
        let _ = self.output.set(output.clone());
    }

    /// What the registers from `offset` read as, a byte each.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let mut chip = self.chip();
        for (byte, register) in data.iter_mut().zip(registers(offset)) {
            *byte = chip.read(register);
        }
    }

    /// Writes the registers from `offset`, a byte each. Waits for the console's reader without
    /// holding the chip, so that input and other vCPUs do not wait with it.
    pub(super) fn write(&self, offset: u64, data: &[u8]) {
        for (&value, register) in data.iter().zip(registers(offset)) {
            let sent = {
                let mut chip = self.chip();
                // The one thing that can go wrong is the interrupt line: the guest then misses
                // an interrupt, as with a broken wire.
                let _ = chip.write(register, value);
                chip.writer_mut().0.take()
            };
            if let (Some(byte), Some(output)) = (sent, self.output.get()) {
                output.write(&[byte]);
            }
            if register == MODEM_CONTROL {
                // The end of loop-back mode, in which no input is taken.
                self.hunger.feed();
            }
        }
    }

    /// Puts as much of `bytes` into the receive FIFO as it can hold, and says how much that was;
    /// the bell rings when there is room for the rest.
    pub(super) fn send(&self, bytes: &[u8]) -> usize {
        let mut chip = self.chip();
        let taken = chip.enqueue_raw_bytes(bytes).unwrap_or(0);
        if taken < bytes.len() {
            self.hunger.input_waits.store(true, Ordering::SeqCst);
        }
        taken
    }

    fn chip(&self) -> MutexGuard<'_, Chip<L>> {
        self.chip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registers from `offset` on. The bus never asks for one that a port does not have.
fn registers(offset: u64) -> impl Iterator<Item = u8> {
    (0..8).filter(move |&register| u64::from(register) >= offset)
}

/// The interrupt line as `vm-superio` wants it.
struct Line<L>(L);

impl<L: IrqLine> Trigger for Line<L> {
    type E = HvError;

    fn trigger(&self) -> Result<(), HvError> {
        self.0.pulse()
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

/// Tells the session that the receive FIFO is empty, if input waits for that.
struct Hunger {
    input_waits: AtomicBool,
    bell: Arc<Bell>,
}

impl Hunger {
    fn feed(&self) {
        if self.input_waits.load(Ordering::SeqCst) && self.input_waits.swap(false, Ordering::SeqCst)
        {
            self.bell.ring();
        }
    }
}

impl SerialEvents for Hunger {
    fn buffer_read(&self) {}

    fn out_byte(&self) {}

    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        self.feed();
    }
}

//! A serial port on the board: a chip between an interrupt line, the console's output and what is
//! typed.

mod ns16550;
mod pl011;

pub(crate) use ns16550::{Ns16550, Trigger};

use super::{Attached, LevelLine};
use crate::ConsoleOutput;
use crate::bell::Bell;
use firstlight_devices::Effect;
use firstlight_hv::IrqLine;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A serial chip, as the port round it needs it.
pub(crate) trait SerialChip: Send {
    /// What the registers from `offset` read as.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes the registers from `offset`; with the byte that the guest sent by that.
    fn write(&mut self, offset: u64, data: &[u8]) -> Option<u8>;

    /// Receives as many of `bytes` as there is room for, and says how many.
    fn receive(&mut self, bytes: &[u8]) -> usize;

    /// Whether the guest has taken all that was received, and would receive more.
    fn wants_input(&mut self) -> bool;

    /// What to do with the interrupt line after anything was done to the chip.
    fn signal(&mut self) -> Signal;
}

/// What a chip does to its interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing.
    None,
    /// An edge.
    Pulse,
    /// Holds it there.
    Level(bool),
}

/// A serial port with everything it is connected to.
pub(crate) struct Uart {
    port: Mutex<Port>,
    bell: Arc<Bell>,
    output: OnceLock<ConsoleOutput>,
}

struct Port {
    chip: Box<dyn SerialChip>,
    line: LevelLine,
    /// Whether bytes had no room when they were typed.
    input_waits: bool,
}

impl Uart {
    pub(crate) fn new(
        chip: impl SerialChip + 'static,
        line: Box<dyn IrqLine>,
        bell: &Arc<Bell>,
    ) -> Self {
        Self {
            port: Mutex::new(Port {
                chip: Box::new(chip),
                line: LevelLine::new(line),
                input_waits: false,
            }),
            bell: Arc::clone(bell),
            output: OnceLock::new(),
        }
    }

    /// Where the bytes go from now on; before, and without it, they go nowhere.
    pub(crate) fn connect(&self, output: &ConsoleOutput) {
        // A machine is started once.
        let _ = self.output.set(output.clone());
    }

    /// Passes bytes on to where those go that the guest sends.
    pub(crate) fn print(&self, bytes: &[u8]) {
        if let Some(output) = self.output.get() {
            output.write(bytes);
        }
    }

    /// Puts as much of `bytes` into the receive FIFO as it can hold, and says how much that was;
    /// the bell rings when there is room for the rest.
    pub(crate) fn send(&self, bytes: &[u8]) -> usize {
        let mut port = self.port();
        let taken = port.chip.receive(bytes);
        port.input_waits |= taken < bytes.len();
        port.signal();
        taken
    }

    /// Drives the line, and tells the session if input waits and may come now.
    fn settle(&self, port: &mut Port) {
        port.signal();
        if port.input_waits && port.chip.wants_input() {
            port.input_waits = false;
            self.bell.ring();
        }
    }

    fn port(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached for Uart {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut port = self.port();
        port.chip.read(offset, data);
        self.settle(&mut port);
    }

    /// Waits for the console's reader without holding the chip, so that input and other vCPUs do not
    /// wait with it.
    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let sent = {
            let mut port = self.port();
            let sent = port.chip.write(offset, data);
            self.settle(&mut port);
            sent
        };
        if let Some(byte) = sent {
            self.print(&[byte]);
        }
        None
    }
}

impl Port {
    fn signal(&mut self) {
        match self.chip.signal() {
            Signal::None => {}
            Signal::Pulse => self.line.pulse(),
            Signal::Level(high) => self.line.set(high),
        }
    }
}

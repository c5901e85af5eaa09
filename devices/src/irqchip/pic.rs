//! The pair of interrupt controllers of a PC (Intel 8259A data sheet, order number 231468), with
//! the registers that choose between edge and level for each line (Intel I/O Controller Hub 10
//! data sheet, section 13.4: "ELCR1", "ELCR2").
//!
//! The second controller's output is line 2 of the first. That is wired: what ICW3 says of it is
//! read over, and so are the parts of ICW1 and ICW4 that no PC uses (the bank-wide trigger mode,
//! buffers, vectors for MCS-80).
//!
//! A rising edge is a request that stays until it is acknowledged, whatever becomes of the line and
//! of the mask; a level is one only as long as it lasts. A level that is gone when the processor
//! acknowledges it is the spurious interrupt, number 7 of its controller.
//!
//! Nothing is allocated.

#[cfg(test)]
mod tests;
mod unit;

use crate::{ByteWide, Effect};
use firstlight_base::{Irq, Port};
use unit::{Pic, Spurious};

/// Both interrupt controllers of a PC.
#[derive(Clone, Debug)]
pub struct Pics {
    first: Pic,
    second: Pic,
}

/// Which of the pair's registers are meant; each two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PicWindow {
    /// Those of the first controller, at port 0x20.
    First,
    /// Those of the second controller, at port 0xa0.
    Second,
    /// The trigger modes of both, at port 0x4d0.
    Triggers,
}

impl PicWindow {
    /// All of them, with the first of the two ports that each is at in a PC.
    pub const PORTS: [(Self, Port); 3] = [
        (Self::First, Port(0x20)),
        (Self::Second, Port(0xa0)),
        (Self::Triggers, Port(0x4d0)),
    ];
}

/// Some of the pair's registers, as a chip of two bytes.
#[derive(Debug)]
pub struct PicRegisters<'a> {
    pics: &'a mut Pics,
    window: PicWindow,
}

/// The first controller's line that the second drives.
const CASCADE: u32 = 2;
/// Lines for which there is a choice: not for the timer, the keyboard and the cascade, nor for the
/// clock and the coprocessor.
const FIRST_TRIGGERS: u8 = 0xf8;
const SECOND_TRIGGERS: u8 = 0xde;

impl Default for Pics {
    fn default() -> Self {
        Self::new()
    }
}

impl Pics {
    /// How many lines there are, the cascade's among them.
    pub const LINES: u32 = 16;

    /// Two controllers after power-on: they interrupt nobody before they are initialised.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: Pic::new(1 << CASCADE),
            second: Pic::new(0),
        }
    }

    /// Raises or lowers a line. The cascade's is not to be had, and there are no more than 16.
    pub fn set(&mut self, line: Irq, high: bool) {
        match line.0 {
            CASCADE => {}
            line @ ..8 => self.first.set(line, high),
            line @ 8..Self::LINES => self.second.set(line - 8, high),
            Self::LINES.. => {}
        }
        self.cascade();
    }

    /// Raises and lowers a line.
    pub fn pulse(&mut self, line: Irq) {
        self.set(line, true);
        self.set(line, false);
    }

    /// Whether the processor is notified of an interrupt: the level of the first controller's INT
    /// pin. To be asked after everything that was done to the pair.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.first.request().is_some()
    }

    /// What the processor's interrupt acknowledge cycle is answered with: a vector.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.first.acknowledge() {
            Ok(CASCADE) => self.second_answers(),
            Ok(line) => self.first.vector(line),
            Err(Spurious(line)) => self.first.vector(line),
        };
        self.cascade();
        vector
    }

    fn second_answers(&mut self) -> u8 {
        let (Ok(line) | Err(Spurious(line))) = self.second.acknowledge();
        // Its INT pin falls with the acknowledgement: what is left is a new edge.
        self.first.set(CASCADE, false);
        self.second.vector(line)
    }

    /// Carries the second controller's INT pin to the first.
    fn cascade(&mut self) {
        let notifies = self.second.request().is_some();
        self.first.set(CASCADE, notifies);
    }

    /// The registers of a window.
    pub const fn window(&mut self, window: PicWindow) -> PicRegisters<'_> {
        PicRegisters { pics: self, window }
    }
}

/// The registers of a window, by their offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Command(Which),
    Data(Which),
    Triggers(Which),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    First,
    Second,
}

impl Register {
    fn at(window: PicWindow, offset: u64) -> Option<Self> {
        match (window, offset) {
            (PicWindow::First, 0) => Some(Self::Command(Which::First)),
            (PicWindow::First, 1) => Some(Self::Data(Which::First)),
            (PicWindow::Second, 0) => Some(Self::Command(Which::Second)),
            (PicWindow::Second, 1) => Some(Self::Data(Which::Second)),
            (PicWindow::Triggers, 0) => Some(Self::Triggers(Which::First)),
            (PicWindow::Triggers, 1) => Some(Self::Triggers(Which::Second)),
            (PicWindow::First | PicWindow::Second | PicWindow::Triggers, _) => None,
        }
    }
}

impl Pics {
    const fn unit(&mut self, which: Which) -> &mut Pic {
        match which {
            Which::First => &mut self.first,
            Which::Second => &mut self.second,
        }
    }

    fn read_register(&mut self, register: Register) -> u8 {
        let value = match register {
            Register::Command(which) => {
                let polled = self.poll(which);
                polled.unwrap_or_else(|| self.unit(which).status())
            }
            Register::Data(which) => {
                let polled = self.poll(which);
                polled.unwrap_or_else(|| self.unit(which).mask())
            }
            Register::Triggers(which) => self.unit(which).triggers(),
        };
        self.cascade();
        value
    }

    /// What a read is answered with after a poll command, whichever register it is of: it is an
    /// acknowledgement (section "Poll Command").
    fn poll(&mut self, which: Which) -> Option<u8> {
        let polled = self.unit(which).poll()?;
        if which == Which::Second {
            self.first.set(CASCADE, false);
        }
        Some(polled)
    }

    fn write_register(&mut self, register: Register, value: u8) {
        match register {
            Register::Command(which) => self.unit(which).command(value),
            Register::Data(which) => self.unit(which).data(value),
            Register::Triggers(Which::First) => self.first.set_triggers(value & FIRST_TRIGGERS),
            Register::Triggers(Which::Second) => self.second.set_triggers(value & SECOND_TRIGGERS),
        }
        self.cascade();
    }
}

impl ByteWide for PicRegisters<'_> {
    fn read_byte(&mut self, offset: u64) -> u8 {
        let register = Register::at(self.window, offset);
        register.map_or(0xff, |register| self.pics.read_register(register))
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Effect> {
        let register = Register::at(self.window, offset)?;
        self.pics.write_register(register, value);
        None
    }
}

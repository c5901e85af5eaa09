//! The PL011 serial port (Arm PrimeCell UART PL011 Technical Reference Manual, DDI 0183, revision
//! r1p5).
//!
//! There is no line behind it, only bytes: what the guest sends has left at once, baud rate and
//! framing are kept and mean nothing, and the time in which no more data must come before the
//! receive timeout is over as soon as data has come. Modem status says that somebody is there.
//! There is no DMA controller to ask for transfers, and no infrared.

mod receive;
#[cfg(test)]
mod tests;

use crate::primecell::{self, PrimeCell};
use crate::words::Words;
use crate::{Chip, Effect, Interrupting};
use receive::{Holds, Receiver};

/// A PL011.
#[derive(Debug)]
pub struct Pl011 {
    receiver: Receiver,
    transmitted: Option<u8>,
    control: Control,
    raw: Interrupts,
    mask: Interrupts,
    infrared_divisor: u32,
    integer_divisor: u32,
    fractional_divisor: u32,
    line_control: u32,
    dma_control: u32,
}

/// The registers (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Data,
    /// Receive status; a write clears its errors.
    Status,
    Flags,
    InfraredDivisor,
    IntegerDivisor,
    FractionalDivisor,
    LineControl,
    Control,
    FifoLevel,
    Mask,
    Raw,
    Masked,
    Clear,
    DmaControl,
    Id(u8),
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x000 => Self::Data,
            0x004 => Self::Status,
            0x018 => Self::Flags,
            0x020 => Self::InfraredDivisor,
            0x024 => Self::IntegerDivisor,
            0x028 => Self::FractionalDivisor,
            0x02c => Self::LineControl,
            0x030 => Self::Control,
            0x034 => Self::FifoLevel,
            0x038 => Self::Mask,
            0x03c => Self::Raw,
            0x040 => Self::Masked,
            0x044 => Self::Clear,
            0x048 => Self::DmaControl,
            other => Self::Id(PRIMECELL.id(other)?),
        })
    }
}

/// Revision 3 is the one whose FIFOs hold 32 bytes.
const PRIMECELL: PrimeCell = PrimeCell {
    part: 0x011,
    revision: 3,
};

bitflags::bitflags! {
    /// UARTFR (section 3.3.3). The transmitter is never busy and its FIFO never full.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Flags: u32 {
        const CTS = 1 << 0;
        const DSR = 1 << 1;
        const DCD = 1 << 2;
        const RECEIVE_EMPTY = 1 << 4;
        const RECEIVE_FULL = 1 << 6;
        const TRANSMIT_EMPTY = 1 << 7;
        const RI = 1 << 8;
    }

    /// UARTCR (section 3.3.8).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Control: u32 {
        const ENABLE = 1 << 0;
        const INFRARED = 1 << 1;
        const INFRARED_LOW_POWER = 1 << 2;
        const LOOPBACK = 1 << 7;
        const TRANSMIT_ENABLE = 1 << 8;
        const RECEIVE_ENABLE = 1 << 9;
        const DTR = 1 << 10;
        const RTS = 1 << 11;
        const OUT1 = 1 << 12;
        const OUT2 = 1 << 13;
        const RTS_FLOW = 1 << 14;
        const CTS_FLOW = 1 << 15;
    }

    /// UARTIMSC, UARTRIS, UARTMIS and UARTICR (sections 3.3.10 to 3.3.13).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Interrupts: u32 {
        const RI = 1 << 0;
        const CTS = 1 << 1;
        const DCD = 1 << 2;
        const DSR = 1 << 3;
        const RECEIVE = 1 << 4;
        const TRANSMIT = 1 << 5;
        const TIMEOUT = 1 << 6;
        const FRAMING = 1 << 7;
        const PARITY = 1 << 8;
        const BREAK = 1 << 9;
        const OVERRUN = 1 << 10;
    }
}

/// UARTLCR_H (section 3.3.7): bit 4 enables the FIFOs.
const FIFO_ENABLE: u32 = 1 << 4;

/// The bits that the registers without a meaning here have.
const BITS_3: u32 = 0x7;
const BITS_6: u32 = 0x3f;
const BITS_8: u32 = 0xff;
const BITS_16: u32 = 0xffff;

impl Pl011 {
    const WORDS: Words = Words {
        len: primecell::LEN,
    };

    /// A port after reset.
    #[must_use]
    pub fn new() -> Self {
        Self {
            receiver: Receiver::new(),
            transmitted: None,
            control: Control::TRANSMIT_ENABLE | Control::RECEIVE_ENABLE,
            raw: Interrupts::empty(),
            mask: Interrupts::empty(),
            infrared_divisor: 0,
            integer_divisor: 0,
            fractional_divisor: 0,
            line_control: 0,
            dma_control: 0,
        }
    }

    /// The byte that the guest has just sent. To be asked after every write: a later one replaces
    /// it.
    pub const fn take_transmitted(&mut self) -> Option<u8> {
        self.transmitted.take()
    }

    /// Receives as many of `bytes` as there is room for, and says how many.
    ///
    /// While the guest has the receiver disabled there is room for none. Whether it has enabled the
    /// port as a whole is not asked: small kernels leave that to the firmware, and there is none.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        if !self.listens() {
            return 0;
        }
        let taken = bytes.len().min(self.receiver.room());
        for &byte in bytes.iter().take(taken) {
            self.arrive(byte);
        }
        taken
    }

    /// Whether the guest has taken all that it received, and would receive more.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.listens() && self.receiver.is_empty()
    }

    /// Whether bytes from outside reach the receiver.
    fn listens(&self) -> bool {
        self.control.contains(Control::RECEIVE_ENABLE) && !self.control.contains(Control::LOOPBACK)
    }

    /// A byte comes to the receiver (section 2.8: UARTRXINTR, UARTRTINTR and UARTEINTR).
    fn arrive(&mut self, byte: u8) {
        if !self.receiver.put(byte) {
            self.raw |= Interrupts::OVERRUN;
            return;
        }
        if self.receiver.has_just_reached_level() {
            self.raw |= Interrupts::RECEIVE;
        }
        self.raw |= Interrupts::TIMEOUT;
    }

    fn read_word(&mut self, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::Data) => self.take_received(),
            Some(Register::Status) => self.receiver.status(),
            Some(Register::Flags) => self.flags().bits(),
            Some(Register::InfraredDivisor) => self.infrared_divisor,
            Some(Register::IntegerDivisor) => self.integer_divisor,
            Some(Register::FractionalDivisor) => self.fractional_divisor,
            Some(Register::LineControl) => self.line_control,
            Some(Register::Control) => self.control.bits(),
            Some(Register::FifoLevel) => self.receiver.level_select,
            Some(Register::Mask) => self.mask.bits(),
            Some(Register::Raw) => self.raw.bits(),
            Some(Register::Masked) => (self.raw & self.mask).bits(),
            Some(Register::DmaControl) => self.dma_control,
            Some(Register::Id(byte)) => byte.into(),
            Some(Register::Clear) | None => 0,
        }
    }

    fn take_received(&mut self) -> u32 {
        let data = self.receiver.take();
        self.withdraw_receive_interrupts();
        data
    }

    /// The receive interrupt goes when fewer bytes are left than its level, the timeout when none
    /// is.
    fn withdraw_receive_interrupts(&mut self) {
        if self.receiver.is_below_level() {
            self.raw -= Interrupts::RECEIVE;
        }
        if self.receiver.is_empty() {
            self.raw -= Interrupts::TIMEOUT;
        }
    }

    fn flags(&self) -> Flags {
        let mut flags = Flags::TRANSMIT_EMPTY | self.modem();
        flags.set(Flags::RECEIVE_EMPTY, self.receiver.is_empty());
        flags.set(Flags::RECEIVE_FULL, self.receiver.room() == 0);
        flags
    }

    /// What the modem's lines say. In loopback they are the port's own outputs (section 3.3.8,
    /// LBE).
    fn modem(&self) -> Flags {
        if !self.control.contains(Control::LOOPBACK) {
            return Flags::CTS | Flags::DSR | Flags::DCD;
        }
        let mut modem = Flags::empty();
        modem.set(Flags::CTS, self.control.contains(Control::RTS));
        modem.set(Flags::DSR, self.control.contains(Control::DTR));
        modem.set(Flags::DCD, self.control.contains(Control::OUT1));
        modem.set(Flags::RI, self.control.contains(Control::OUT2));
        modem
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        match Register::at(offset) {
            Some(Register::Data) => {
                let [byte, ..] = value.to_le_bytes();
                self.transmit(byte);
            }
            Some(Register::Status) => self.receiver.forgive(),
            Some(Register::InfraredDivisor) => self.infrared_divisor = value & BITS_8,
            Some(Register::IntegerDivisor) => self.integer_divisor = value & BITS_16,
            Some(Register::FractionalDivisor) => self.fractional_divisor = value & BITS_6,
            Some(Register::LineControl) => self.set_line(value),
            Some(Register::Control) => self.set_control(Control::from_bits_truncate(value)),
            Some(Register::FifoLevel) => self.receiver.level_select = value & BITS_6,
            Some(Register::Mask) => self.mask = Interrupts::from_bits_truncate(value),
            Some(Register::Clear) => self.raw -= Interrupts::from_bits_truncate(value),
            Some(Register::DmaControl) => self.dma_control = value & BITS_3,
            Some(Register::Flags | Register::Raw | Register::Masked | Register::Id(_)) | None => {}
        }
    }

    /// A byte leaves at once: the transmit FIFO fell to its level, whatever that is (section 2.8,
    /// UARTTXINTR).
    fn transmit(&mut self, byte: u8) {
        if self.control.contains(Control::LOOPBACK) {
            self.arrive(byte);
        } else {
            self.transmitted = Some(byte);
        }
        self.raw |= Interrupts::TRANSMIT;
    }

    fn set_line(&mut self, value: u32) {
        self.line_control = value & BITS_8;
        self.receiver.hold(if value & FIFO_ENABLE == 0 {
            Holds::Byte
        } else {
            Holds::Fifo
        });
        self.withdraw_receive_interrupts();
    }

    /// Every change of a modem line is an interrupt (section 2.8, UARTMSINTR).
    fn set_control(&mut self, control: Control) {
        let before = self.modem();
        self.control = control;
        for (line, interrupt) in [
            (Flags::RI, Interrupts::RI),
            (Flags::CTS, Interrupts::CTS),
            (Flags::DCD, Interrupts::DCD),
            (Flags::DSR, Interrupts::DSR),
        ] {
            if (before ^ self.modem()).contains(line) {
                self.raw |= interrupt;
            }
        }
    }
}

impl Default for Pl011 {
    fn default() -> Self {
        Self::new()
    }
}

impl Chip for Pl011 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        Self::WORDS.read(offset, data, |at| self.read_word(at));
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        Self::WORDS.write(offset, data, |at, value| {
            self.write_word(at, value);
            None
        })
    }
}

impl Interrupting for Pl011 {
    /// UARTINTR, the one of all.
    fn irq(&mut self) -> bool {
        self.raw.intersects(self.mask)
    }
}

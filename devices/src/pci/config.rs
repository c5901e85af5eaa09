//! The configuration space of a function (PCI chapter 6, PCIe section 7.5).
//!
//! Every bit is read-only, writable, or cleared by writing a one to it; a write of any width does
//! to each bit what that bit allows. Behind the first 256 bytes there are no extended capabilities,
//! which reads as zeros.

#[cfg(test)]
pub(crate) mod tests;

use firstlight_base::{Gpa, GpaRange};

/// The configuration space of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; LEN],
    /// What `bytes` are after reset.
    initial: [u8; LEN],
    /// Bits that take what is written.
    writable: [u8; LEN],
    /// Bits that become zero where a one is written.
    clearable: [u8; LEN],
    bars: [Option<Bar>; BARS],
    /// Where the next capability goes.
    free: u8,
    /// The byte that will point to it.
    link: u8,
}

/// What a function says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: u16,
    /// Which of the vendor's it is.
    pub device: u16,
    /// Base class, subclass and programming interface, as 0xbbsspp.
    pub class: u32,
    /// Which revision it is.
    pub revision: u8,
    /// Who made the board. A bridge has none.
    pub subsystem_vendor: u16,
    /// Which board it is. A bridge has none.
    pub subsystem: u16,
}

/// A range of addresses that a function asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    kind: BarKind,
    len: u64,
}

/// Where the addresses of a BAR may be. I/O ports are not among them: nothing here has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// In the first 4 GiB.
    Memory32,
    /// Anywhere; takes two registers.
    Memory64,
    /// Anywhere, and reads have no side effects, so that it may go into a bridge's prefetchable
    /// window, the only one that reaches above 4 GiB; takes two registers.
    Memory64Prefetchable,
}

/// How much there is before the extended configuration space, and with it.
const LEN: usize = 0x100;
const EXTENDED_LEN: usize = 0x1000;
const BARS: usize = 6;

// Registers (PCI section 6.1).
const VENDOR: u8 = 0x00;
const COMMAND: u8 = 0x04;
const STATUS: u8 = 0x06;
const REVISION: u8 = 0x08;
const CACHE_LINE_SIZE: u8 = 0x0c;
const HEADER_TYPE: u8 = 0x0e;
const BAR_0: u8 = 0x10;
const SUBSYSTEM_VENDOR: u8 = 0x2c;
const CAPABILITIES: u8 = 0x34;
const INTERRUPT_LINE: u8 = 0x3c;
const INTERRUPT_PIN: u8 = 0x3d;
/// Where the registers that every function has end.
const HEADER_END: u8 = 0x40;

/// A header of a bridge (PCI-to-PCI Bridge Architecture, section 3.2).
const BRIDGE: u8 = 1;

bitflags::bitflags! {
    /// The command register (PCI section 6.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Command: u16 {
        const MEMORY = 1 << 1;
        const BUS_MASTER = 1 << 2;
        const PARITY = 1 << 6;
        const SERR = 1 << 8;
        const INTX_DISABLE = 1 << 10;
    }

    /// The status register (PCI section 6.2.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Status: u16 {
        const INTERRUPT = 1 << 3;
        const CAPABILITIES = 1 << 4;
    }
}

/// Memory BARs (PCI section 6.2.5.1): type in bits 2 and 1, prefetchable in bit 3.
const BAR_64: u8 = 0b10 << 1;
const BAR_PREFETCHABLE: u8 = 1 << 3;
/// The smallest and the largest memory BARs: 4 bits are read-only, and all of 2^63 and 2^31 can
/// be said.
const BAR_MIN: u64 = 1 << 4;
const BAR_MAX_32: u64 = 1 << 31;

impl ConfigSpace {
    /// That of a function which is no bridge.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let mut config = Self::with_header(identity);
        config.define(SUBSYSTEM_VENDOR, &identity.subsystem_vendor.to_le_bytes());
        config.define(SUBSYSTEM_VENDOR + 2, &identity.subsystem.to_le_bytes());
        config
    }

    /// That of a bridge to another bus; its registers beside those that every function has are
    /// holes so far.
    #[must_use]
    pub fn bridge(identity: &Identity) -> Self {
        let mut config = Self::with_header(identity);
        config.define(HEADER_TYPE, &[BRIDGE]);
        config
    }

    fn with_header(identity: &Identity) -> Self {
        let mut config = Self {
            bytes: [0; LEN],
            initial: [0; LEN],
            writable: [0; LEN],
            clearable: [0; LEN],
            bars: [None; BARS],
            free: HEADER_END,
            link: CAPABILITIES,
        };
        let [interface, subclass, base, _] = identity.class.to_le_bytes();
        config.define(VENDOR, &identity.vendor.to_le_bytes());
        config.define(VENDOR + 2, &identity.device.to_le_bytes());
        config.define(REVISION, &[identity.revision, interface, subclass, base]);
        config.make_writable(COMMAND, &Command::all().bits().to_le_bytes());
        config.make_writable(CACHE_LINE_SIZE, &[0xff]);
        config.make_writable(INTERRUPT_LINE, &[0xff]);
        config
    }

    /// Asks for the addresses of `bar` by register `index`.
    ///
    /// # Panics
    ///
    /// Where the header has no such register, or it is taken.
    pub fn add_bar(&mut self, index: usize, bar: Bar) {
        let registers = index..index + bar.registers();
        assert!(
            !self.is_bridge() && registers.clone().all(|register| self.is_free(register)),
            "BAR {index} is free"
        );
        let mask = !(bar.len - 1);
        let at = bar_register(index);
        for (register, half) in registers.zip([mask, mask >> 32]) {
            let [a, b, c, d, ..] = half.to_le_bytes();
            self.make_writable(bar_register(register), &[a, b, c, d]);
        }
        self.define(at, &[bar.flags()]);
        if let Some(slot) = self.bars.get_mut(index) {
            *slot = Some(bar);
        }
    }

    /// Appends a capability with this id, and says where it is. `body` is what follows the pointer
    /// to the next.
    ///
    /// # Panics
    ///
    /// Where there is no room for it.
    pub fn add_capability(&mut self, id: u8, body: &[u8]) -> u8 {
        let at = self.free;
        let end = (usize::from(at) + 2 + body.len()).next_multiple_of(4);
        self.place_capability(at, id, body);
        // At the very end nothing more fits.
        self.free = u8::try_from(end).unwrap_or(u8::MAX);
        at
    }

    /// Links a capability with this id, which is at `at`, behind the last one; nobody else's is there.
    ///
    /// # Panics
    ///
    /// Where there is no room for it.
    pub(super) fn place_capability(&mut self, at: u8, id: u8, body: &[u8]) {
        let end = (usize::from(at) + 2 + body.len()).next_multiple_of(4);
        assert!(end <= LEN, "the capability at {at:#x} fits");
        self.define(at, &[id, 0]);
        self.define(at + 2, body);
        self.define(self.link, &[at]);
        self.define(STATUS, &Status::CAPABILITIES.bits().to_le_bytes());
        self.link = at + 1;
    }

    /// Says that interrupts come by pin A where they do not come as messages.
    pub fn add_interrupt_pin(&mut self) {
        self.define(INTERRUPT_PIN, &[1]);
    }

    /// Lets a guest write the bits that are set in `mask`, from the register `at`.
    pub fn make_writable(&mut self, at: u8, mask: &[u8]) {
        put(&mut self.writable, at, mask);
    }

    /// Lets a guest clear the bits that are set in `mask`, from the register `at`, by writing ones.
    pub fn make_clearable(&mut self, at: u8, mask: &[u8]) {
        put(&mut self.clearable, at, mask);
    }

    /// Gives the registers from `at` their values after reset.
    pub fn define(&mut self, at: u8, value: &[u8]) {
        put(&mut self.initial, at, value);
        put(&mut self.bytes, at, value);
    }

    /// Changes the registers from `at`, whatever a guest may do with them.
    pub fn update(&mut self, at: u8, value: &[u8]) {
        put(&mut self.bytes, at, value);
    }

    /// Gives every register its value after reset.
    pub const fn reset(&mut self) {
        self.bytes = self.initial;
    }

    /// Fills `data` with what the registers from `register` read as.
    pub fn read(&self, register: u16, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(usize::from(register)..) {
            *byte = match self.bytes.get(at) {
                Some(&byte) => byte,
                None if at < EXTENDED_LEN => 0,
                None => 0xff,
            };
        }
    }

    /// Writes `data` to the registers from `register`, as far as they are writable.
    pub fn write(&mut self, register: u16, data: &[u8]) {
        let masks = self.writable.iter().zip(&self.clearable);
        let bytes = self.bytes.iter_mut().zip(masks).skip(register.into());
        for ((byte, (writable, clearable)), value) in bytes.zip(data) {
            *byte = *byte & !writable & !(value & clearable) | value & writable;
        }
    }

    /// The value of the 16 bits at `at`.
    #[must_use]
    pub fn u16_at(&self, at: u8) -> u16 {
        let mut value = [0; 2];
        self.read(at.into(), &mut value);
        u16::from_le_bytes(value)
    }

    /// The value of the 32 bits at `at`.
    #[must_use]
    pub fn u32_at(&self, at: u8) -> u32 {
        let mut value = [0; 4];
        self.read(at.into(), &mut value);
        u32::from_le_bytes(value)
    }

    /// Where the BAR answers now: nowhere while the function does not decode memory, where the
    /// addresses would wrap, or at address 0, which stands for none.
    #[must_use]
    pub fn bar(&self, index: usize) -> Option<GpaRange> {
        let bar = self.asked_by(index)?;
        if !self.command().contains(Command::MEMORY) {
            return None;
        }
        let low = self.u32_at(bar_register(index));
        let high = match bar.registers() {
            1 => 0,
            _ => self.u32_at(bar_register(index + 1)),
        };
        let start = (u64::from(high) << 32 | u64::from(low)) & !(bar.len - 1);
        GpaRange::new(Gpa::new(start), bar.len).filter(|_| start != 0)
    }

    /// Whether the function may access memory, and with it send interrupts as messages.
    #[must_use]
    pub fn is_bus_master(&self) -> bool {
        self.command().contains(Command::BUS_MASTER)
    }

    /// Whether the function must leave its interrupt pin alone.
    #[must_use]
    pub fn is_intx_disabled(&self) -> bool {
        self.command().contains(Command::INTX_DISABLE)
    }

    /// Shows in the status register whether the function has an interrupt for its pin; whether the
    /// pin is disabled does not matter to that.
    pub fn show_interrupt(&mut self, is_pending: bool) {
        let mut status = Status::from_bits_retain(self.u16_at(STATUS));
        status.set(Status::INTERRUPT, is_pending);
        self.update(STATUS, &status.bits().to_le_bytes());
    }

    fn command(&self) -> Command {
        Command::from_bits_retain(self.u16_at(COMMAND))
    }

    /// What is asked for by this register, and maybe the next.
    fn asked_by(&self, index: usize) -> Option<Bar> {
        *self.bars.get(index)?
    }

    /// Whether there is such a BAR, and it is no part of one that is in use.
    fn is_free(&self, index: usize) -> bool {
        let before = index.checked_sub(1).and_then(|it| self.asked_by(it));
        index < BARS
            && self.asked_by(index).is_none()
            && before.is_none_or(|bar| bar.registers() == 1)
    }

    fn is_bridge(&self) -> bool {
        let [kind, _] = self.u16_at(HEADER_TYPE).to_le_bytes();
        kind == BRIDGE
    }
}

impl Bar {
    /// A BAR of `len` bytes; `None` where it cannot say so: it must be a power of two from 16 on,
    /// and up to 2 GiB where it is in the first 4.
    #[must_use]
    pub const fn new(kind: BarKind, len: u64) -> Option<Self> {
        let fits = match kind {
            BarKind::Memory32 => len <= BAR_MAX_32,
            BarKind::Memory64 | BarKind::Memory64Prefetchable => true,
        };
        if fits && len >= BAR_MIN && len.is_power_of_two() {
            Some(Self { kind, len })
        } else {
            None
        }
    }

    const fn registers(self) -> usize {
        match self.kind {
            BarKind::Memory32 => 1,
            BarKind::Memory64 | BarKind::Memory64Prefetchable => 2,
        }
    }

    const fn flags(self) -> u8 {
        match self.kind {
            BarKind::Memory32 => 0,
            BarKind::Memory64 => BAR_64,
            BarKind::Memory64Prefetchable => BAR_64 | BAR_PREFETCHABLE,
        }
    }
}

/// The register of a BAR; there are [`BARS`].
fn bar_register(index: usize) -> u8 {
    u8::try_from(4 * index).map_or(u8::MAX, |offset| BAR_0.saturating_add(offset))
}

/// Puts `from` at `at`, as far as there is room.
fn put(into: &mut [u8; LEN], at: u8, from: &[u8]) {
    for (byte, &value) in into.iter_mut().skip(at.into()).zip(from) {
        *byte = value;
    }
}

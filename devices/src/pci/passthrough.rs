//! A function of the host as a guest sees it.
//!
//! Its registers in memory are the host's, but for the table of MSI-X. Its configuration space is made anew, from what the
//! host's says: the BARs have the same sizes and other addresses; MSI, MSI-X, power management and PCI Express are there as
//! everybody has them, at the host's offsets; the vendor's own capabilities are the host's registers. All else is hidden: I/O
//! ports, the expansion ROM, the extended configuration space, and what else could change the host's side of the bus.
//!
//! What the host's configuration space says is believed by nobody: a device can say what it likes.

mod capabilities;
#[cfg(test)]
mod tests;

use super::msi::Msi;
use super::{Bar, BarKind, ConfigSpace, Identity, Message, MsiX};
use alloc::vec::Vec;
use capabilities::Capabilities;
use core::ops::Range;
use firstlight_base::GpaRange;

/// What a function of the host says of itself.
#[derive(Clone, Copy, Debug)]
pub struct HostFunction<'a> {
    /// The first 256 bytes of its configuration space.
    pub config: &'a [u8; 256],
    /// How many bytes are behind each BAR; 0 where there is none.
    pub bars: [u64; BARS],
    /// Whether interrupts by its pin can be had.
    pub has_pin: bool,
    /// Whether it can be reset by itself.
    pub can_reset: bool,
}

/// A function of the host as a guest sees it.
#[derive(Clone, Debug)]
pub struct Passthrough {
    config: ConfigSpace,
    /// How long each BAR in memory is.
    bars: [u64; BARS],
    capabilities: Capabilities,
    has_pin: bool,
    /// Whether the guest has asked for a reset.
    is_reset_asked: bool,
}

/// How a function is to interrupt, as the guest has set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interrupts {
    /// Not at all.
    #[default]
    Off,
    /// By its pin.
    Pin,
    /// By one message.
    Msi,
    /// By so many messages.
    MsiX(u16),
}

/// A function that no guest can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassthroughError {
    /// A bridge, or something unknown.
    #[error(
        "its header has type {0:#x}: it is a bridge, and only an endpoint can be given to a guest"
    )]
    Header(u8),
    /// A BAR that cannot be.
    #[error("its BAR {index} says {register:#x} and has {len:#x} bytes, which no BAR can")]
    Bar {
        /// Which.
        index: usize,
        /// What its register reads as.
        register: u32,
        /// How long the host says that it is.
        len: u64,
    },
    /// The table of MSI-X or its pending bits are not in a BAR.
    #[error(
        "its MSI-X table of {vectors} vectors is not all in a BAR: its registers say {table:#x} and {pba:#x}"
    )]
    MsiX {
        /// How many vectors it says that it has.
        vectors: u16,
        /// The register of the table.
        table: u32,
        /// The register of the pending bits.
        pba: u32,
    },
}

const BARS: usize = 6;

// Registers of an endpoint's header (PCI section 6.1).
const REVISION: usize = 0x08;
const HEADER_TYPE: usize = 0x0e;
const BAR_0: usize = 0x10;
const SUBSYSTEM_VENDOR: usize = 0x2c;

/// The header's type, without the bit that says that there are further functions.
const HEADER_TYPE_MASK: u8 = 0x7f;
/// BARs (PCI section 6.2.5.1).
const BAR_IO: u32 = 1 << 0;
const BAR_KIND: u32 = 0b11 << 1;
const BAR_64: u32 = 0b10 << 1;
const BAR_PREFETCHABLE: u32 = 1 << 3;

/// The command register of the host's function: it answers in memory, whether it does to the guest or not, since who
/// has its memory mapped could not go on otherwise.
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;

impl Passthrough {
    /// The function as after reset.
    ///
    /// # Errors
    ///
    /// [`PassthroughError`] where it is nothing that a guest can be given.
    pub fn new(host: &HostFunction<'_>) -> Result<Self, PassthroughError> {
        let header = host.config[HEADER_TYPE] & HEADER_TYPE_MASK;
        if header != 0 {
            return Err(PassthroughError::Header(header));
        }
        let mut config = ConfigSpace::new(&identity(host.config));
        let bars = add_bars(&mut config, host)?;
        if host.has_pin {
            config.add_interrupt_pin();
        }
        let capabilities = Capabilities::add_to(&mut config, host, &bars)?;
        Ok(Self {
            config,
            bars,
            capabilities,
            has_pin: host.has_pin,
            is_reset_asked: false,
        })
    }

    /// Fills `data` with what the registers from `register` read as; `host` reads the host's.
    pub fn config_read(&self, register: u16, data: &mut [u8], host: impl FnOnce(u16, &mut [u8])) {
        if self.capabilities.are_hosts(register, data.len()) {
            host(register, data);
        } else {
            self.config.read(register, data);
        }
    }

    /// Writes `data` to the registers from `register`; `host` writes the host's. All else may have changed, and the host's
    /// function with it: its [command](Self::host_command), [how it interrupts](Self::interrupts), where its [BARs](Self::bar)
    /// are, which [messages](Self::take_message) are to be sent, whether it [is to be reset](Self::take_reset).
    pub fn config_write(&mut self, register: u16, data: &[u8], host: impl FnOnce(u16, &[u8])) {
        if self.capabilities.are_hosts(register, data.len()) {
            host(register, data);
            return;
        }
        self.is_reset_asked |= self.capabilities.asks_for_reset(register, data);
        self.config.write(register, data);
    }

    /// Whether the guest has asked for a reset: once.
    pub const fn take_reset(&mut self) -> bool {
        core::mem::replace(&mut self.is_reset_asked, false)
    }

    /// Gives every register its value after reset.
    pub fn reset(&mut self) {
        self.config.reset();
        if let Some(msix) = &mut self.capabilities.msix {
            msix.chip.reset();
        }
    }

    /// What the command register of the host's function is to be.
    #[must_use]
    pub fn host_command(&self) -> u16 {
        match self.config.is_bus_master() {
            true => COMMAND_MEMORY | COMMAND_BUS_MASTER,
            false => COMMAND_MEMORY,
        }
    }

    /// How the function is to interrupt.
    #[must_use]
    pub fn interrupts(&self) -> Interrupts {
        let config = &self.config;
        let msix = self.capabilities.msix.as_ref().map(|msix| &msix.chip);
        if let Some(msix) = msix.filter(|msix| msix.is_enabled(config)) {
            Interrupts::MsiX(msix.vectors())
        } else if self.msi().is_some_and(|msi| msi.is_enabled(config)) {
            Interrupts::Msi
        } else if self.has_pin && !config.is_intx_disabled() {
            Interrupts::Pin
        } else {
            Interrupts::Off
        }
    }

    /// The message that an interrupt of this number is; `None` where it is pending, or nothing comes of it.
    pub fn raise(&mut self, vector: u16) -> Option<Message> {
        match self.interrupts() {
            Interrupts::MsiX(_) => {
                let msix = self.capabilities.msix.as_mut()?;
                msix.chip.raise(vector, &self.config)
            }
            Interrupts::Msi => self.msi()?.message(&self.config),
            Interrupts::Pin | Interrupts::Off => None,
        }
    }

    /// The next message that was pending, and is to be sent now.
    pub fn take_message(&mut self) -> Option<Message> {
        let msix = self.capabilities.msix.as_mut()?;
        msix.chip.take_message(&self.config)
    }

    /// Where a BAR answers now.
    #[must_use]
    pub fn bar(&self, index: usize) -> Option<GpaRange> {
        self.config.bar(index)
    }

    /// How many bytes each BAR in memory has; 0 for none.
    #[must_use]
    pub const fn bar_lens(&self) -> [u64; BARS] {
        self.bars
    }

    /// Fills `data` with what a BAR reads as from `offset`; `host` reads the host's.
    pub fn bar_read(
        &self,
        (bar, offset): (usize, u64),
        data: &mut [u8],
        host: impl FnOnce(u64, &mut [u8]),
    ) {
        let Some(msix) = &self.capabilities.msix else {
            return host(offset, data);
        };
        match msix.which(bar, offset, data.len()) {
            Some((Part::Table, at)) => msix.chip.read_table(at, data),
            Some((Part::Pending, at)) => msix.chip.read_pba(at, data),
            None => host(offset, data),
        }
    }

    /// Writes `data` to a BAR from `offset`; `host` writes the host's. There may be [messages](Self::take_message) to be
    /// sent.
    pub fn bar_write(
        &mut self,
        (bar, offset): (usize, u64),
        data: &[u8],
        host: impl FnOnce(u64, &[u8]),
    ) {
        let Some(msix) = &mut self.capabilities.msix else {
            return host(offset, data);
        };
        match msix.which(bar, offset, data.len()) {
            Some((Part::Table, at)) => msix.chip.write_table(at, data),
            Some((Part::Pending, _)) => {}
            None => host(offset, data),
        }
    }

    /// The pieces of a BAR that a guest may have mapped: those of `areas`, which are offsets in it, that are whole pages and
    /// hold nothing of MSI-X.
    #[must_use]
    pub fn mappable(&self, bar: usize, areas: &[Range<u64>], page: u64) -> Vec<Range<u64>> {
        let len = self.bars.get(bar).copied().unwrap_or(0);
        let msix = self.capabilities.msix.as_ref();
        let mut trapped: Vec<Range<u64>> = msix.map_or_else(Vec::new, |msix| msix.parts(bar));
        trapped.sort_by_key(|part| part.start);
        let mut pieces = Vec::new();
        for area in areas {
            let end = area.end.min(len) / page * page;
            let Some(mut start) = area.start.checked_next_multiple_of(page) else {
                continue;
            };
            for part in &trapped {
                let before = (part.start / page * page).min(end);
                if start < before {
                    pieces.push(start..before);
                }
                let behind = part.end.checked_next_multiple_of(page);
                start = start.max(behind.unwrap_or(u64::MAX));
            }
            if start < end {
                pieces.push(start..end);
            }
        }
        pieces
    }

    fn msi(&self) -> Option<Msi> {
        self.capabilities.msi
    }
}

/// MSI-X, and where the host has its parts.
#[derive(Clone, Debug)]
struct MsiXParts {
    chip: MsiX,
    /// A BAR, and where in it.
    table: (usize, Range<u64>),
    pending: (usize, Range<u64>),
}

/// A part of MSI-X in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Table,
    Pending,
}

impl MsiXParts {
    /// What of it an access touches, and from where in that on. One that begins before it gets what is from its beginning on:
    /// nobody may have an access across that edge.
    fn which(&self, bar: usize, offset: u64, len: usize) -> Option<(Part, u64)> {
        let end = offset.saturating_add(len as u64);
        let touches = |(of, part): &(usize, Range<u64>)| {
            (*of == bar && offset < part.end && part.start < end)
                .then(|| offset.saturating_sub(part.start))
        };
        let table = touches(&self.table).map(|at| (Part::Table, at));
        table.or_else(|| touches(&self.pending).map(|at| (Part::Pending, at)))
    }

    /// Where in a BAR its parts are.
    fn parts(&self, bar: usize) -> Vec<Range<u64>> {
        let parts = [&self.table, &self.pending].into_iter();
        let here = parts.filter(|(of, _)| *of == bar);
        here.map(|(_, part)| part.clone()).collect()
    }
}

fn identity(config: &[u8; 256]) -> Identity {
    let [revision, interface, subclass, base] = bytes(config, REVISION);
    Identity {
        vendor: u16_at(config, 0),
        device: u16_at(config, 2),
        class: u32::from_le_bytes([interface, subclass, base, 0]),
        revision,
        subsystem_vendor: u16_at(config, SUBSYSTEM_VENDOR),
        subsystem: u16_at(config, SUBSYSTEM_VENDOR + 2),
    }
}

/// Asks for addresses for the BARs in memory, and says how long each is.
fn add_bars(
    config: &mut ConfigSpace,
    host: &HostFunction<'_>,
) -> Result<[u64; BARS], PassthroughError> {
    let mut lens = [0; BARS];
    let mut index = 0;
    while let Some(&len) = host.bars.get(index) {
        let register = u32_at(host.config, BAR_0 + 4 * index);
        let is_64 = register & BAR_KIND == BAR_64;
        let is_there = len != 0 && register & BAR_IO == 0;
        if is_there {
            let kind = match (is_64, register & BAR_PREFETCHABLE != 0) {
                (false, _) => BarKind::Memory32,
                (true, false) => BarKind::Memory64,
                (true, true) => BarKind::Memory64Prefetchable,
            };
            let wrong = PassthroughError::Bar {
                index,
                register,
                len,
            };
            let fits = !is_64 || index + 1 < BARS;
            let bar = Bar::new(kind, len).filter(|_| fits).ok_or(wrong)?;
            config.add_bar(index, bar);
            if let Some(slot) = lens.get_mut(index) {
                *slot = len;
            }
        }
        index += if is_there && is_64 { 2 } else { 1 };
    }
    Ok(lens)
}

fn u16_at(config: &[u8; 256], at: usize) -> u16 {
    u16::from_le_bytes(bytes(config, at))
}

fn u32_at(config: &[u8; 256], at: usize) -> u32 {
    u32::from_le_bytes(bytes(config, at))
}

/// What is there, with zeros behind the end.
fn bytes<const N: usize>(config: &[u8; 256], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, from) in bytes.iter_mut().zip(config.iter().skip(at)) {
        *byte = *from;
    }
    bytes
}

//! All interrupt controllers of a PC as they are wired together: a local APIC for each processor,
//! an I/O APIC and the 8259A pair.
//!
//! Lines are those of a PC: 0 to 15 but the cascade reach an 8259A, and all but that the I/O APIC's
//! pin of the same number; line 0, the timer, reaches pin 2. The 8259A pair interrupts the boot
//! processor by its LINT0, as firmware leaves it, and by the I/O APIC's pin 0 whom that says.
//!
//! Processors are to be kicked out of what they do when something has come for them
//! ([`next_kick`](Apics::next_kick)). All memory is allocated when it is made.

mod processors;
#[cfg(test)]
mod tests;

use super::apic_message::{ApicMessage, DeliveryMode, Destination};
use super::ioapic::{IoApic, IoApicPin};
use super::lapic::{
    ApicClock, ApicEvents, ApicTime, GeneralProtection, Ipi, Lint, LocalApic, Shorthand,
};
use super::pic::{PicWindow, Pics};
use crate::pci::Message;
use crate::{Chip, Effect};
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;
use firstlight_base::{Irq, VcpuId};
use processors::Processors;

/// The interrupt controllers of a PC.
#[derive(Clone, Debug)]
pub struct Apics {
    /// By the processors' numbers, which are their ids.
    locals: Vec<LocalApic>,
    ioapic: IoApic,
    pics: Pics,
    /// The level of the 8259A pair's INT pin, as it was last carried on.
    int: bool,
    kicks: Processors,
    /// Who is first asked to take an interrupt of the lowest priority.
    next: usize,
}

/// Which registers are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicsWindow {
    /// Those of the 8259A pair.
    Pic(PicWindow),
    /// The I/O APIC's, [`IoApic::EXTENT`] bytes.
    IoApic,
    /// A processor's own, [`LocalApic::EXTENT`] bytes.
    Local(VcpuId),
}

/// Some of the registers, as a chip.
#[derive(Debug)]
pub struct ApicsRegisters<'a> {
    apics: &'a mut Apics,
    window: ApicsWindow,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Addressed(Destination),
    Only(usize),
    All,
    AllBut(usize),
}

/// Where the 8259A pair's INT pin goes.
const PIC_PIN: IoApicPin = IoApicPin(0);

/// What devices address everybody with, who have eight bits for it.
const EVERYBODY_8: Destination = Destination::Physical(0xff);
const EVERYBODY: Destination = Destination::Physical(u32::MAX);

impl Apics {
    /// The most processors: as many as KVM takes on x86.
    pub const MAX_PROCESSORS: u32 = 4096;

    /// Those of so many processors after reset, with the boot processor's in virtual wire mode;
    /// nothing for more than there can be.
    #[must_use]
    pub fn new(processors: u32, clock: ApicClock) -> Option<Self> {
        if processors > Self::MAX_PROCESSORS {
            return None;
        }
        let mut locals: Vec<_> = (0..processors)
            .map(|id| LocalApic::new(id, clock))
            .collect();
        if let Some(boot) = locals.first_mut() {
            boot.enter_virtual_wire_mode();
        }
        Some(Self {
            kicks: Processors::up_to(locals.len()),
            locals,
            ioapic: IoApic::new(),
            pics: Pics::new(),
            int: false,
            next: 0,
        })
    }

    /// Raises or lowers a line. One that is not there has none.
    pub fn set(&mut self, line: Irq, high: bool) {
        self.pics.set(line, high);
        if let Some(pin) = IoApicPin::of_line(line) {
            self.ioapic.set(pin, high);
        }
        self.settle();
    }

    /// Raises and lowers a line.
    pub fn pulse(&mut self, line: Irq) {
        self.pics.pulse(line);
        if let Some(pin) = IoApicPin::of_line(line) {
            self.ioapic.pulse(pin);
        }
        self.settle();
    }

    /// Raises or lowers the line for non-maskable interrupts, LINT1 of all processors.
    pub fn set_nmi(&mut self, high: bool) {
        for index in 0..self.locals.len() {
            self.change(index, |local| local.set_lint(Lint::Lint1, high));
        }
    }

    /// Takes a device's message. One that is for no local APIC is dropped.
    pub fn send(&mut self, message: Message) {
        if let Some(message) = ApicMessage::from_msi(message) {
            self.deliver_from_device(message);
        }
    }

    /// What has become of a processor since this was asked.
    #[must_use]
    pub fn take_events(&mut self, processor: VcpuId) -> ApicEvents {
        let local = self.local_mut(processor);
        local.map_or(ApicEvents::default(), LocalApic::take_events)
    }

    /// Whether a processor is to be interrupted once it can take it.
    #[must_use]
    pub fn interrupts(&self, processor: VcpuId) -> bool {
        let local = self.local(processor);
        local.is_some_and(|local| local.wants_ext_int() || local.pending().is_some())
    }

    /// What a processor's interrupt acknowledge cycle is answered with: a vector of the 8259A pair
    /// if it is to ask them, else of its local APIC. Nothing for a processor that is not there.
    pub fn acknowledge(&mut self, processor: VcpuId) -> Option<u8> {
        let local = self.local_mut(processor)?;
        if !local.wants_ext_int() {
            return Some(local.acknowledge());
        }
        local.ext_int_acknowledged();
        let vector = self.pics.acknowledge();
        // The INT pin falls with the acknowledgement: what is left is a new edge.
        self.carry_int(false);
        self.settle();
        Some(vector)
    }

    /// Says what time it is to a processor's timer: before every access to the registers of its
    /// local APIC, and when the time comes that [`deadline`](Self::deadline) tells.
    pub fn set_time(&mut self, processor: VcpuId, time: ApicTime) {
        if let Some(index) = self.index(processor) {
            self.change(index, |local| local.set_time(time));
        }
    }

    /// When a processor's timer will interrupt, if it will: by the clock of [`ApicTime::now`].
    #[must_use]
    pub fn deadline(&self, processor: VcpuId) -> Option<Duration> {
        self.local(processor)?.deadline()
    }

    /// Reads one of a processor's model-specific registers.
    ///
    /// # Errors
    ///
    /// As of [`LocalApic::read_msr`]; also where there is no such processor.
    pub fn read_msr(&self, processor: VcpuId, index: u32) -> Result<u64, GeneralProtection> {
        let local = self.local(processor).ok_or(GeneralProtection)?;
        local.read_msr(index)
    }

    /// Writes one of a processor's model-specific registers.
    ///
    /// # Errors
    ///
    /// As of [`LocalApic::write_msr`]; also where there is no such processor.
    pub fn write_msr(
        &mut self,
        processor: VcpuId,
        index: u32,
        value: u64,
    ) -> Result<(), GeneralProtection> {
        let at = self.index(processor).ok_or(GeneralProtection)?;
        let written = self.change(at, |local| local.write_msr(index, value));
        self.carry_out(at);
        written.unwrap_or(Err(GeneralProtection))
    }

    /// A processor for which something has come since this was asked, each once.
    ///
    /// It may be the one that did what was done.
    pub fn next_kick(&mut self) -> Option<VcpuId> {
        let index = self.kicks.pop()?;
        u32::try_from(index).ok().map(VcpuId)
    }

    /// The registers of a window.
    pub const fn window(&mut self, window: ApicsWindow) -> ApicsRegisters<'_> {
        ApicsRegisters {
            apics: self,
            window,
        }
    }

    fn index(&self, processor: VcpuId) -> Option<usize> {
        let index = usize::try_from(processor.0).ok()?;
        (index < self.locals.len()).then_some(index)
    }

    fn local(&self, processor: VcpuId) -> Option<&LocalApic> {
        self.locals.get(self.index(processor)?)
    }

    fn local_mut(&mut self, processor: VcpuId) -> Option<&mut LocalApic> {
        let index = self.index(processor)?;
        self.locals.get_mut(index)
    }

    /// Changes a local APIC, and kicks its processor where that has something else to do than
    /// before.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut LocalApic) -> T) -> Option<T> {
        let local = self.locals.get_mut(index)?;
        let before = local.work();
        let changed = change(local);
        if local.calls() && local.work() != before {
            self.kicks.insert(index);
        }
        Some(changed)
    }

    /// Carries on what a processor said to its local APIC.
    fn carry_out(&mut self, index: usize) {
        while let Some(ipi) = self.locals.get_mut(index).and_then(LocalApic::next_ipi) {
            self.deliver_ipi(index, ipi);
        }
        while let Some(vector) = self.locals.get_mut(index).and_then(LocalApic::next_end) {
            self.ioapic.end_of_interrupt(vector);
        }
        self.settle();
    }

    /// Carries on what the 8259A pair and the I/O APIC say.
    fn settle(&mut self) {
        self.carry_int(self.pics.notifies());
        while let Some(message) = self.ioapic.next_message() {
            self.deliver_from_device(message);
        }
    }

    fn carry_int(&mut self, high: bool) {
        if self.int != high {
            self.int = high;
            self.ioapic.set(PIC_PIN, high);
            self.change(0, |boot| boot.set_lint(Lint::Lint0, high));
        }
    }

    fn deliver_from_device(&mut self, message: ApicMessage) {
        let destination = match message.destination {
            EVERYBODY_8 => EVERYBODY,
            destination => destination,
        };
        self.deliver(Audience::Addressed(destination), message);
    }

    fn deliver_ipi(&mut self, from: usize, Ipi { message, shorthand }: Ipi) {
        let audience = match shorthand {
            None => Audience::Addressed(message.destination),
            Some(Shorthand::Itself) => Audience::Only(from),
            Some(Shorthand::All) => Audience::All,
            Some(Shorthand::Others) => Audience::AllBut(from),
        };
        self.deliver(audience, message);
    }

    fn deliver(&mut self, audience: Audience, message: ApicMessage) {
        if message.mode == DeliveryMode::LowestPriority {
            if let Some(index) = self.least_busy(audience) {
                self.next = index + 1;
                self.change(index, |local| local.accept(&message));
            }
            return;
        }
        for index in self.range(audience) {
            if self.is_in(audience, index) {
                self.change(index, |local| local.accept(&message));
            }
        }
    }

    /// Who takes an interrupt of the lowest priority: of those whose priority class is lowest, the
    /// first after the one that took the last.
    fn least_busy(&self, audience: Audience) -> Option<usize> {
        let count = self.locals.len();
        let turn = |index: usize| (index + count - self.next.min(count)) % count;
        self.range(audience)
            .filter(|&index| self.is_in(audience, index))
            .filter_map(|index| Some((index, self.locals.get(index)?)))
            .filter(|(_, local)| local.accepts_vectors())
            .min_by_key(|&(index, local)| (local.processor_priority() >> 4, turn(index)))
            .map(|(index, _)| index)
    }

    /// Processors outside of which an audience has none.
    fn range(&self, audience: Audience) -> Range<usize> {
        let all = 0..self.locals.len();
        let one = |index: usize| index..index.saturating_add(1).min(all.end);
        match audience {
            Audience::Only(index) => one(index),
            // Those in xAPIC mode take it for everybody.
            Audience::Addressed(EVERYBODY | EVERYBODY_8) => all,
            Audience::Addressed(Destination::Physical(id)) => usize::try_from(id).map_or(0..0, one),
            Audience::Addressed(Destination::Logical(_)) | Audience::All | Audience::AllBut(_) => {
                all
            }
        }
    }

    fn is_in(&self, audience: Audience, index: usize) -> bool {
        match audience {
            Audience::Addressed(destination) => {
                let local = self.locals.get(index);
                local.is_some_and(|local| local.is_addressed(destination))
            }
            Audience::Only(only) => index == only,
            Audience::All => true,
            Audience::AllBut(one) => index != one,
        }
    }
}

impl Chip for ApicsRegisters<'_> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match self.window {
            ApicsWindow::Pic(window) => {
                self.apics.pics.window(window).read(offset, data);
                self.apics.settle();
            }
            ApicsWindow::IoApic => self.apics.ioapic.read(offset, data),
            ApicsWindow::Local(processor) => match self.apics.index(processor) {
                Some(index) => {
                    let read = |local: &mut LocalApic| local.read(offset, data);
                    self.apics.change(index, read);
                }
                None => data.fill(0xff),
            },
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        match self.window {
            ApicsWindow::Pic(window) => {
                let effect = self.apics.pics.window(window).write(offset, data);
                self.apics.settle();
                effect
            }
            ApicsWindow::IoApic => {
                let effect = self.apics.ioapic.write(offset, data);
                self.apics.settle();
                effect
            }
            ApicsWindow::Local(processor) => {
                let index = self.apics.index(processor)?;
                let effect = self
                    .apics
                    .change(index, |local| local.write(offset, data))?;
                self.apics.carry_out(index);
                effect
            }
        }
    }
}

//! A processor's local APIC (Intel SDM volume 3, chapter "Advanced Programmable Interrupt
//! Controller (APIC)"), with its registers in memory (xAPIC) and as model-specific registers
//! (x2APIC).
//!
//! It has six entries in its local vector table, and can be told not to broadcast ends of
//! interrupts. Its id is read-only in both modes, and its registers stay at the place where their
//! owner attached them, whatever is written to the base.
//!
//! What it has to say is taken from it after everything that was done to it: interrupts that the
//! processor sends ([`next_ipi`](LocalApic::next_ipi)), ends of interrupts for I/O APICs
//! ([`next_end`](LocalApic::next_end)), and what becomes of the processor
//! ([`take_events`](LocalApic::take_events)).
//!
//! Nothing is allocated.

mod command;
mod lvt;
mod register;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

pub use command::{Ipi, Shorthand};
pub use register::GeneralProtection;
pub use timer::{ApicClock, ApicTime};

use super::apic_message::{ApicMessage, DeliveryMode, Destination};
use bitflags::bitflags;
use lvt::{Lvt, Source};
use register::Mode;
use timer::Timer;
use vectors::Vectors;

/// A local APIC.
#[derive(Clone, Debug)]
pub struct LocalApic {
    id: u32,
    base: u64,
    timer: Timer,
    lvt: Lvt,
    /// Levels of the pins LINT0 and LINT1.
    pins: [bool; 2],
    /// IRR, ISR and TMR.
    requested: Vectors,
    in_service: Vectors,
    levels: Vectors,
    task_priority: u8,
    /// As xAPIC has them.
    logical_id: u32,
    destination_format: u32,
    spurious: u32,
    command: u64,
    /// What the error status register shows, and what it will show when it is next written.
    error_status: Errors,
    errors: Errors,
    ipi: Option<Ipi>,
    ended: Vectors,
    events: ApicEvents,
    /// A message said that the 8259A controllers have an interrupt.
    ext_int: bool,
}

/// What is to become of a processor, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApicEvents {
    /// It is reset, and waits to be started. Its local APIC has been reset.
    pub init: bool,
    /// It is started at this page, if it waits for that.
    pub start: Option<u8>,
    /// It has a system management interrupt.
    pub smi: bool,
    /// It has a non-maskable interrupt.
    pub nmi: bool,
}

/// What a processor has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    events: ApicEvents,
    ext_int: bool,
    pending: Option<u8>,
}

/// One of the pins for interrupts from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lint {
    /// Where a PC has the 8259A controllers.
    Lint0,
    /// Where a PC has non-maskable interrupts.
    Lint1,
}

bitflags! {
    /// The error status register (figure "Error Status Register").
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Errors: u32 {
        const SEND_ILLEGAL_VECTOR = 1 << 5;
        const RECEIVE_ILLEGAL_VECTOR = 1 << 6;
        const ILLEGAL_REGISTER = 1 << 7;
    }
}

/// The lowest vector that can be delivered.
const LOWEST_VECTOR: u8 = 16;

/// The spurious-interrupt vector register's bits: the vector, whether the APIC is enabled, whether
/// focus is checked, and whether ends of interrupts stay with the processor.
const SPURIOUS_VECTOR: u32 = 0xff;
const SPURIOUS_ENABLED: u32 = 1 << 8;
const SPURIOUS_FOCUS: u32 = 1 << 9;
const SPURIOUS_NO_BROADCAST: u32 = 1 << 12;

/// All ones, and after reset: the model of the destination format register (figure "Destination
/// Format Register").
const FLAT: u32 = 0xffff_ffff;
const CLUSTER: u32 = 0x0fff_ffff;

/// What virtual wire mode has in its registers (MultiProcessor Specification 1.4, section 3.6.2.2
/// and appendix B).
const VIRTUAL_WIRE_SPURIOUS: u32 = SPURIOUS_ENABLED | 0x0f;
const VIRTUAL_WIRE_LINT0: u32 = 0x700;
const VIRTUAL_WIRE_LINT1: u32 = 0x400;

impl LocalApic {
    /// How many bytes of addresses its registers take.
    pub const EXTENT: u64 = 0x1000;

    /// The local APIC of the processor with this id after reset.
    #[must_use]
    pub const fn new(id: u32, clock: ApicClock) -> Self {
        let base = register::base_after_reset(id == 0);
        let time = ApicTime {
            now: core::time::Duration::ZERO,
            tsc: 0,
        };
        Self::after_reset(id, base, Timer::new(clock, time))
    }

    const fn after_reset(id: u32, base: u64, timer: Timer) -> Self {
        Self {
            id,
            base,
            timer,
            lvt: Lvt::MASKED,
            pins: [false; 2],
            requested: Vectors::NONE,
            in_service: Vectors::NONE,
            levels: Vectors::NONE,
            task_priority: 0,
            logical_id: 0,
            destination_format: FLAT,
            spurious: SPURIOUS_VECTOR,
            command: 0,
            error_status: Errors::empty(),
            errors: Errors::empty(),
            ipi: None,
            ended: Vectors::NONE,
            events: ApicEvents {
                init: false,
                start: None,
                smi: false,
                nmi: false,
            },
            ext_int: false,
        }
    }

    /// Everything but the id, the base and the pins' levels, as after reset.
    fn reset(&mut self) {
        *self = Self {
            pins: self.pins,
            ..Self::after_reset(self.id, self.base, self.timer.reset())
        };
    }

    /// What firmware does where it leaves interrupts to the 8259A controllers: they come in by
    /// LINT0, and non-maskable ones by LINT1.
    pub fn enter_virtual_wire_mode(&mut self) {
        self.spurious = VIRTUAL_WIRE_SPURIOUS;
        self.lvt.write(Source::Lint0, VIRTUAL_WIRE_LINT0);
        self.lvt.write(Source::Lint1, VIRTUAL_WIRE_LINT1);
    }

    /// The processor's id.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Whether a message with this destination is for this processor.
    ///
    /// All ones are everybody: eight of them for a local APIC in xAPIC mode, else 32.
    #[must_use]
    pub fn is_addressed(&self, destination: Destination) -> bool {
        match (self.mode(), destination) {
            (Mode::Disabled, _) => false,
            (_, Destination::Physical(u32::MAX) | Destination::Logical(u32::MAX)) => true,
            (Mode::XApic, Destination::Physical(id)) => id == 0xff || id == self.id,
            (Mode::X2Apic, Destination::Physical(id)) => id == self.id,
            (Mode::XApic, Destination::Logical(id)) => self.matches_logical(id),
            (Mode::X2Apic, Destination::Logical(id)) => {
                let mine = self.x2apic_logical_id();
                id >> 16 == mine >> 16 && id & mine & 0xffff != 0
            }
        }
    }

    /// Sections "Logical Destination Mode", flat and cluster model.
    fn matches_logical(&self, id: u32) -> bool {
        let mine = self.logical_id >> 24;
        match (self.destination_format, id) {
            (_, 0xff) => true,
            (_, 0x100..) => false,
            (FLAT, _) => id & mine != 0,
            (CLUSTER, _) => id >> 4 == mine >> 4 && id & mine & 0xf != 0,
            _ => false,
        }
    }

    /// "Logical x2APIC ID = [(x2APIC ID[19:4] « 16) | (1 « x2APIC ID[3:0])]".
    const fn x2apic_logical_id(&self) -> u32 {
        (self.id >> 4 & 0xffff) << 16 | 1 << (self.id % 16)
    }

    /// Whether vectors are accepted: both by the base register and by software.
    #[must_use]
    pub fn accepts_vectors(&self) -> bool {
        self.mode() != Mode::Disabled && self.is_software_enabled()
    }

    const fn is_software_enabled(&self) -> bool {
        self.spurious & SPURIOUS_ENABLED != 0
    }

    /// Takes a message that is for this processor.
    pub fn accept(&mut self, message: &ApicMessage) {
        if self.mode() == Mode::Disabled {
            return;
        }
        match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                if self.is_software_enabled() {
                    self.request(message.vector, message.level);
                }
            }
            DeliveryMode::Smi => self.events.smi = true,
            DeliveryMode::Nmi => self.events.nmi = true,
            DeliveryMode::Init => self.init(),
            DeliveryMode::StartUp => self.events.start = Some(message.vector),
            DeliveryMode::ExtInt => self.ext_int = true,
        }
    }

    /// Section "Local APIC State After It Receives an INIT Reset".
    fn init(&mut self) {
        self.reset();
        self.events.init = true;
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < LOWEST_VECTOR {
            self.fail(Errors::RECEIVE_ILLEGAL_VECTOR);
            return;
        }
        self.requested.set(vector, true);
        self.levels.set(vector, level);
    }

    /// An error is shown once it is asked for, and is an interrupt. One of that interrupt is shown
    /// only.
    fn fail(&mut self, error: Errors) {
        self.errors |= error;
        let entry = self.lvt.entry(Source::Error);
        if entry.is_masked() {
            return;
        }
        if entry.vector() < LOWEST_VECTOR {
            self.errors |= Errors::RECEIVE_ILLEGAL_VECTOR;
        } else {
            self.request(entry.vector(), false);
        }
    }

    /// Raises or lowers a pin.
    ///
    /// An edge while its entry is masked has no effect.
    pub fn set_lint(&mut self, lint: Lint, high: bool) {
        let [lint0, lint1] = &mut self.pins;
        let (pin, source) = match lint {
            Lint::Lint0 => (lint0, Source::Lint0),
            Lint::Lint1 => (lint1, Source::Lint1),
        };
        let rises = high && !*pin;
        *pin = high;
        if self.mode() == Mode::Disabled {
            // The pins are INTR and NMI, as of a processor without a local APIC.
            self.events.nmi |= rises && source == Source::Lint1;
        } else if rises && !self.takes_level(source) {
            self.interrupt(source);
        }
        self.sample();
    }

    /// Whether a pin's entry is one of a level. "Level-sensitive interrupts are not supported for
    /// LINT1".
    fn takes_level(&self, source: Source) -> bool {
        source == Source::Lint0 && self.lvt.entry(source).is_level()
    }

    /// A level at LINT0 is an interrupt as long as it lasts.
    fn sample(&mut self) {
        let [lint0, _] = self.pins;
        let entry = self.lvt.entry(Source::Lint0);
        let asks = lint0 && self.takes_level(Source::Lint0) && self.mode() != Mode::Disabled;
        if asks && !entry.is_masked() && !entry.remote_irr() {
            self.lvt.set_remote_irr(Source::Lint0, true);
            self.request(entry.vector(), true);
        }
    }

    /// Does what the entry says of an interrupt.
    fn interrupt(&mut self, source: Source) {
        let entry = self.lvt.entry(source);
        if entry.is_masked() {
            return;
        }
        match entry.mode() {
            Some(DeliveryMode::Fixed) => self.request(entry.vector(), false),
            Some(DeliveryMode::Smi) => self.events.smi = true,
            Some(DeliveryMode::Nmi) => self.events.nmi = true,
            Some(DeliveryMode::Init) => self.init(),
            // A level, which is asked for.
            Some(DeliveryMode::ExtInt) => {}
            Some(DeliveryMode::LowestPriority | DeliveryMode::StartUp) | None => {}
        }
    }

    /// Whether the processor is to ask the 8259A controllers for a vector once it can take an
    /// interrupt. This comes before [`pending`](Self::pending), and is at its end without being
    /// told.
    #[must_use]
    pub fn wants_ext_int(&self) -> bool {
        let [lint0, _] = self.pins;
        let entry = self.lvt.entry(Source::Lint0);
        let passes = match self.mode() {
            Mode::Disabled => true,
            Mode::XApic | Mode::X2Apic => {
                !entry.is_masked() && entry.mode() == Some(DeliveryMode::ExtInt)
            }
        };
        self.ext_int || lint0 && passes
    }

    /// The processor asked the 8259A controllers: what a message said of them is done.
    pub const fn ext_int_acknowledged(&mut self) {
        self.ext_int = false;
    }

    /// The processor-priority register (section "Task and Processor Priorities").
    #[must_use]
    pub fn processor_priority(&self) -> u8 {
        let in_service = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority & 0xf0 >= in_service {
            self.task_priority
        } else {
            in_service
        }
    }

    /// The vector to interrupt the processor with once it can take an interrupt: the highest that
    /// was requested, if its class is above the processor's priority.
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        let vector = self.requested.highest()?;
        let is_above = vector >> 4 > self.processor_priority() >> 4;
        (is_above && self.mode() != Mode::Disabled).then_some(vector)
    }

    /// What the processor's interrupt acknowledge cycle is answered with: what is pending, which is
    /// then in service, or the spurious vector, which is not.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(vector) = self.pending() else {
            let [spurious, ..] = self.spurious.to_le_bytes();
            return spurious;
        };
        self.requested.set(vector, false);
        self.in_service.set(vector, true);
        vector
    }

    /// The processor is done with the highest vector in service.
    pub fn end_of_interrupt(&mut self) {
        let Some(vector) = self.in_service.highest() else {
            return;
        };
        self.in_service.set(vector, false);
        if !self.levels.contains(vector) {
            return;
        }
        if self.spurious & SPURIOUS_NO_BROADCAST == 0 {
            self.ended.set(vector, true);
        }
        if self.lvt.entry(Source::Lint0).vector() == vector {
            self.lvt.set_remote_irr(Source::Lint0, false);
            self.sample();
        }
    }

    /// A vector that came of a level, whose end is to be told to the I/O APICs.
    pub fn next_end(&mut self) -> Option<u8> {
        let vector = self.ended.highest()?;
        self.ended.set(vector, false);
        Some(vector)
    }

    /// What the processor sends. To be asked after every write, since another one replaces it.
    pub const fn next_ipi(&mut self) -> Option<Ipi> {
        self.ipi.take()
    }

    /// What has become of the processor since this was asked.
    #[must_use]
    pub fn take_events(&mut self) -> ApicEvents {
        core::mem::take(&mut self.events)
    }

    /// Whether the processor has something to do: an interrupt to take, or to be reset or started.
    #[must_use]
    pub fn calls(&self) -> bool {
        self.work() != Work::default()
    }

    /// What the processor has to do.
    pub(super) fn work(&self) -> Work {
        Work {
            events: self.events,
            ext_int: self.wants_ext_int(),
            pending: self.pending(),
        }
    }

    /// Says what time it is: before every access to the registers, and when the time comes that
    /// [`deadline`](Self::deadline) tells.
    pub fn set_time(&mut self, time: ApicTime) {
        self.timer.set_time(time);
        self.run_timer();
    }

    fn run_timer(&mut self) {
        if self.timer.expires() && self.mode() != Mode::Disabled {
            self.interrupt(Source::Timer);
        }
    }

    /// When the timer will interrupt, if it will: by the clock of [`ApicTime::now`].
    #[must_use]
    pub fn deadline(&self) -> Option<core::time::Duration> {
        let is_masked = self.lvt.entry(Source::Timer).is_masked();
        self.timer.deadline().filter(|_| !is_masked)
    }
}

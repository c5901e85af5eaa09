//! The local APIC's registers (Intel SDM volume 3, tables "Local APIC Register Address Map" and
//! "Local APIC Register Address Map Supported by x2APIC").

use super::command::{Format, Sent};
use super::lvt::Source;
use super::{
    CLUSTER, Errors, LocalApic, SPURIOUS_ENABLED, SPURIOUS_FOCUS, SPURIOUS_NO_BROADCAST,
    SPURIOUS_VECTOR,
};
use crate::words::Words;
use crate::{Chip, Effect};
use thiserror::Error;

/// The processor has a general-protection exception for what it did to a model-specific register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a general-protection exception")]
pub struct GeneralProtection;

/// How the registers are reached, as the base register says (section "Local APIC Status and
/// Location").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Disabled,
    XApic,
    X2Apic,
}

impl Mode {
    const fn of_base(base: u64) -> Self {
        if base & BASE_ENABLED == 0 {
            Self::Disabled
        } else if base & BASE_X2APIC == 0 {
            Self::XApic
        } else {
            Self::X2Apic
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Id,
    Version,
    TaskPriority,
    ArbitrationPriority,
    ProcessorPriority,
    Eoi,
    RemoteRead,
    LogicalId,
    DestinationFormat,
    Spurious,
    InService(u8),
    Level(u8),
    Requested(u8),
    ErrorStatus,
    CommandLow,
    CommandHigh,
    Lvt(Source),
    InitialCount,
    CurrentCount,
    Divide,
    SelfIpi,
}

impl Register {
    /// The register with this number: its offset in memory by 16, or its number among the x2APIC's.
    const fn numbered(number: u8) -> Option<Self> {
        Some(match number {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::TaskPriority,
            0x09 => Self::ArbitrationPriority,
            0x0a => Self::ProcessorPriority,
            0x0b => Self::Eoi,
            0x0c => Self::RemoteRead,
            0x0d => Self::LogicalId,
            0x0e => Self::DestinationFormat,
            0x0f => Self::Spurious,
            0x10..0x18 => Self::InService(number - 0x10),
            0x18..0x20 => Self::Level(number - 0x18),
            0x20..0x28 => Self::Requested(number - 0x20),
            0x28 => Self::ErrorStatus,
            0x30 => Self::CommandLow,
            0x31 => Self::CommandHigh,
            0x32 => Self::Lvt(Source::Timer),
            0x33 => Self::Lvt(Source::Thermal),
            0x34 => Self::Lvt(Source::Performance),
            0x35 => Self::Lvt(Source::Lint0),
            0x36 => Self::Lvt(Source::Lint1),
            0x37 => Self::Lvt(Source::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::Divide,
            0x3f => Self::SelfIpi,
            _ => return None,
        })
    }

    /// The bits that may not be written in x2APIC mode; nothing where the register may not be
    /// written at all.
    const fn reserved(self) -> Option<u32> {
        Some(match self {
            Self::TaskPriority | Self::SelfIpi => !0xff,
            Self::Eoi | Self::ErrorStatus => !0,
            Self::Spurious => !SPURIOUS,
            Self::Lvt(source) => source.reserved(),
            Self::InitialCount => 0,
            Self::Divide => !DIVIDE,
            Self::Id
            | Self::Version
            | Self::ArbitrationPriority
            | Self::ProcessorPriority
            | Self::RemoteRead
            | Self::LogicalId
            | Self::DestinationFormat
            | Self::InService(_)
            | Self::Level(_)
            | Self::Requested(_)
            | Self::CommandLow
            | Self::CommandHigh
            | Self::CurrentCount => return None,
        })
    }

    /// Whether it can be read in x2APIC mode.
    const fn is_readable(self) -> bool {
        !matches!(
            self,
            Self::ArbitrationPriority
                | Self::Eoi
                | Self::RemoteRead
                | Self::DestinationFormat
                | Self::CommandHigh
                | Self::SelfIpi
        )
    }
}

/// The model-specific registers: the base, the deadline of the time stamp counter, and the x2APIC's
/// from their first to their last.
const APIC_BASE: u32 = 0x1b;
const TSC_DEADLINE: u32 = 0x6e0;
const X2APIC: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;

/// The base register's bits. Addresses have at most 52.
const BASE_BOOTS: u64 = 1 << 8;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const BASE: u64 = 0xfee0_0000;

/// An APIC in the processor, whose last entry of the local vector table is number 5, and which can
/// leave ends of interrupts to software.
const VERSION: u32 = 0x14 | 5 << 16 | 1 << 24;
const XAPIC_ID_SHIFT: u32 = 24;
const SPURIOUS: u32 = SPURIOUS_VECTOR | SPURIOUS_ENABLED | SPURIOUS_FOCUS | SPURIOUS_NO_BROADCAST;
const DIVIDE: u32 = 0b1011;

pub(super) const fn base_after_reset(boots: bool) -> u64 {
    BASE | BASE_ENABLED | if boots { BASE_BOOTS } else { 0 }
}

impl LocalApic {
    pub(super) const fn mode(&self) -> Mode {
        Mode::of_base(self.base)
    }

    /// Reads one of the local APIC's model-specific registers.
    ///
    /// # Errors
    ///
    /// [`GeneralProtection`] where it is not there in this mode or is only written.
    pub fn read_msr(&self, index: u32) -> Result<u64, GeneralProtection> {
        match index {
            APIC_BASE => Ok(self.base),
            TSC_DEADLINE => Ok(self.timer.tsc_deadline()),
            _ => match self.x2apic_register(index)? {
                Register::CommandLow => Ok(self.command),
                register if register.is_readable() => Ok(self.read_register(register).into()),
                _ => Err(GeneralProtection),
            },
        }
    }

    /// Writes one of the local APIC's model-specific registers.
    ///
    /// # Errors
    ///
    /// [`GeneralProtection`] where it is not there in this mode, is only read, or may not have this
    /// value.
    pub fn write_msr(&mut self, index: u32, value: u64) -> Result<(), GeneralProtection> {
        match index {
            APIC_BASE => self.write_base(value),
            TSC_DEADLINE => {
                self.timer.set_tsc_deadline(value);
                self.run_timer();
                Ok(())
            }
            _ => {
                let register = self.x2apic_register(index)?;
                self.write_x2apic(register, value)
            }
        }
    }

    /// In another mode any access to these registers is an exception.
    fn x2apic_register(&self, index: u32) -> Result<Register, GeneralProtection> {
        if self.mode() != Mode::X2Apic || !(X2APIC..=X2APIC_LAST).contains(&index) {
            return Err(GeneralProtection);
        }
        let [number, ..] = index.to_le_bytes();
        Register::numbered(number).ok_or(GeneralProtection)
    }

    fn write_x2apic(&mut self, register: Register, value: u64) -> Result<(), GeneralProtection> {
        if register == Register::CommandLow {
            if value & Format::X2Apic.reserved() != 0 {
                return Err(GeneralProtection);
            }
            self.command = value & Format::X2Apic.kept();
            self.send(Format::X2Apic);
            return Ok(());
        }
        let reserved = register.reserved().ok_or(GeneralProtection)?;
        match u32::try_from(value) {
            Ok(value) if value & reserved == 0 => {
                self.write_register(register, value);
                Ok(())
            }
            Ok(_) | Err(_) => Err(GeneralProtection),
        }
    }

    /// Changes of the mode (figure "Local APIC State Transitions with IA32_APIC_BASE").
    fn write_base(&mut self, value: u64) -> Result<(), GeneralProtection> {
        let (was, will_be) = (self.mode(), Mode::of_base(value));
        let is_defined = value & !(BASE_ADDRESS | BASE_BOOTS | BASE_X2APIC | BASE_ENABLED) == 0;
        let is_invalid = value & BASE_X2APIC != 0 && value & BASE_ENABLED == 0;
        let leaps = matches!(
            (was, will_be),
            (Mode::Disabled, Mode::X2Apic) | (Mode::X2Apic, Mode::XApic)
        );
        if !is_defined || is_invalid || leaps {
            return Err(GeneralProtection);
        }
        self.base = value;
        match (was, will_be) {
            (Mode::XApic | Mode::X2Apic, Mode::Disabled) => {
                let events = self.events;
                self.reset();
                self.events = events;
            }
            // The command register's upper half is not preserved.
            (Mode::XApic, Mode::X2Apic) => self.command &= u64::from(u32::MAX),
            _ => {}
        }
        Ok(())
    }

    fn read_register(&self, register: Register) -> u32 {
        let is_x2apic = self.mode() == Mode::X2Apic;
        let [low, high] = halves(self.command);
        match register {
            Register::Id if is_x2apic => self.id,
            Register::Id => self.id << XAPIC_ID_SHIFT,
            Register::Version => VERSION,
            Register::TaskPriority => self.task_priority.into(),
            Register::ProcessorPriority => self.processor_priority().into(),
            Register::LogicalId if is_x2apic => self.x2apic_logical_id(),
            Register::LogicalId => self.logical_id,
            Register::DestinationFormat => self.destination_format,
            Register::Spurious => self.spurious,
            Register::InService(index) => self.in_service.word(index),
            Register::Level(index) => self.levels.word(index),
            Register::Requested(index) => self.requested.word(index),
            Register::ErrorStatus => self.error_status.bits(),
            Register::CommandLow => low,
            Register::CommandHigh => high,
            Register::Lvt(source) => self.lvt.entry(source).bits(),
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => self.timer.current(),
            Register::Divide => self.timer.divide(),
            // Those two are of processors that had the APIC bus.
            Register::ArbitrationPriority | Register::RemoteRead => 0,
            Register::Eoi | Register::SelfIpi => 0,
        }
    }

    fn write_register(&mut self, register: Register, value: u32) {
        let [low, high] = halves(self.command);
        match register {
            Register::TaskPriority => [self.task_priority, ..] = value.to_le_bytes(),
            Register::Eoi => self.end_of_interrupt(),
            Register::LogicalId => self.logical_id = value & 0xff << XAPIC_ID_SHIFT,
            Register::DestinationFormat => self.destination_format = value | CLUSTER,
            Register::Spurious => self.write_spurious(value),
            // "A write (of any value) to the ESR must be done just prior to reading the ESR".
            Register::ErrorStatus => {
                self.error_status = self.errors;
                self.errors = Errors::empty();
            }
            Register::CommandLow => {
                self.command = joined(value, high) & Format::XApic.kept();
                self.send(Format::XApic);
            }
            Register::CommandHigh => self.command = joined(low, value) & Format::XApic.kept(),
            Register::Lvt(source) => self.write_lvt(source, value),
            Register::InitialCount => {
                self.timer.set_initial(value);
                self.run_timer();
            }
            Register::Divide => self.timer.set_divide(value),
            Register::SelfIpi => {
                let [vector, ..] = value.to_le_bytes();
                self.send_to_itself(vector);
            }
            Register::Id
            | Register::Version
            | Register::ArbitrationPriority
            | Register::ProcessorPriority
            | Register::RemoteRead
            | Register::InService(_)
            | Register::Level(_)
            | Register::Requested(_)
            | Register::CurrentCount => {}
        }
    }

    /// Section "Local APIC State After It Has Been Software Disabled": all local interrupts are
    /// masked, and attempts to unmask them are ignored.
    fn write_spurious(&mut self, value: u32) {
        self.spurious = value & SPURIOUS;
        if !self.is_software_enabled() {
            self.lvt.mask();
        }
    }

    fn write_lvt(&mut self, source: Source, value: u32) {
        self.lvt.write(source, value);
        if !self.is_software_enabled() {
            self.lvt.mask();
        }
        match source {
            Source::Timer => self.timer.set_mode(self.lvt.entry(source).timer_mode()),
            Source::Lint0 => self.sample(),
            Source::Thermal | Source::Performance | Source::Lint1 | Source::Error => {}
        }
    }

    fn send(&mut self, format: Format) {
        match format.sent(self.command) {
            Sent::Ipi(ipi) => self.ipi = Some(ipi),
            Sent::IllegalVector => self.fail(Errors::SEND_ILLEGAL_VECTOR),
            Sent::Nothing => {}
        }
    }

    /// Section "SELF IPI Register".
    fn send_to_itself(&mut self, vector: u8) {
        if vector < super::LOWEST_VECTOR {
            self.fail(Errors::SEND_ILLEGAL_VECTOR);
        } else if self.is_software_enabled() {
            self.request(vector, false);
        }
    }

    /// The register at an offset in memory; nothing, and an error, for one that is not there.
    fn xapic_register(&mut self, offset: u64) -> Option<Register> {
        let number = u8::try_from(offset / 16).ok();
        let register = number
            .and_then(Register::numbered)
            .filter(|&register| register != Register::SelfIpi);
        if register.is_none() {
            self.fail(Errors::ILLEGAL_REGISTER);
        }
        register
    }

    fn read_word(&mut self, offset: u64) -> u32 {
        if self.mode() != Mode::XApic {
            return u32::MAX;
        }
        // Three of four words are no part of any register.
        if !offset.is_multiple_of(16) {
            return 0;
        }
        let register = self.xapic_register(offset);
        register.map_or(0, |register| self.read_register(register))
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        if self.mode() != Mode::XApic || !offset.is_multiple_of(16) {
            return;
        }
        if let Some(register) = self.xapic_register(offset) {
            self.write_register(register, value);
        }
    }
}

const WORDS: Words = Words {
    len: LocalApic::EXTENT,
};

impl Chip for LocalApic {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        WORDS.read(offset, data, |at| self.read_word(at));
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        WORDS.write(offset, data, |at, value| {
            self.write_word(at, value);
            None
        })
    }
}

/// The lower and the upper half.
const fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

fn joined(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

//! The MMIO transport, version 2 of its registers (virtio 1.2 section 4.2).

#[cfg(test)]
mod tests;

use super::device::{Cause, Device, Event};
use super::registers::{Half, Part, Registers};
use alloc::boxed::Box;

/// A virtio device behind the registers of the MMIO transport.
#[derive(Debug)]
pub struct Mmio {
    registers: Registers,
    interrupts: Interrupts,
}

/// The registers (table 4.1), as far as a device without shared memory or single resets of queues has
/// them. Those of shared memory read as ones, which says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Magic,
    Version,
    DeviceId,
    VendorId,
    DeviceFeatures,
    DeviceFeaturesSelect,
    DriverFeatures,
    DriverFeaturesSelect,
    QueueSelect,
    QueueSizeMax,
    QueueSize,
    QueueReady,
    QueueNotify,
    InterruptStatus,
    InterruptAcknowledge,
    Status,
    QueueAddress(Part, Half),
    ConfigGeneration,
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x000 => Self::Magic,
            0x004 => Self::Version,
            0x008 => Self::DeviceId,
            0x00c => Self::VendorId,
            0x010 => Self::DeviceFeatures,
            0x014 => Self::DeviceFeaturesSelect,
            0x020 => Self::DriverFeatures,
            0x024 => Self::DriverFeaturesSelect,
            0x030 => Self::QueueSelect,
            0x034 => Self::QueueSizeMax,
            0x038 => Self::QueueSize,
            0x044 => Self::QueueReady,
            0x050 => Self::QueueNotify,
            0x060 => Self::InterruptStatus,
            0x064 => Self::InterruptAcknowledge,
            0x070 => Self::Status,
            0x080 => Self::QueueAddress(Part::Descriptors, Half::Low),
            0x084 => Self::QueueAddress(Part::Descriptors, Half::High),
            0x090 => Self::QueueAddress(Part::Driver, Half::Low),
            0x094 => Self::QueueAddress(Part::Driver, Half::High),
            0x0a0 => Self::QueueAddress(Part::Device, Half::Low),
            0x0a4 => Self::QueueAddress(Part::Device, Half::High),
            0x0fc => Self::ConfigGeneration,
            _ => return None,
        })
    }
}

/// Where the device's configuration begins.
const CONFIG: u64 = 0x100;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
/// Nobody gives these numbers out.
const VENDOR: u32 = u32::from_le_bytes(*b"FLHT");

bitflags::bitflags! {
    /// InterruptStatus and InterruptACK.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Interrupts: u32 {
        const QUEUE = 1 << 0;
        const CONFIGURATION = 1 << 1;
    }
}

impl Mmio {
    /// How many bytes of addresses the registers and the configuration have.
    pub const LEN: u64 = 0x200;

    /// Where the driver writes the number of a queue in which requests wait (QueueNotify).
    pub const QUEUE_NOTIFY: u64 = 0x050;

    /// The registers of a device that no driver has touched.
    #[must_use]
    pub fn new(device: Box<dyn Device>) -> Self {
        Self {
            registers: Registers::new(device),
            interrupts: Interrupts::empty(),
        }
    }

    /// The device behind the registers.
    #[must_use]
    pub fn device(&self) -> &dyn Device {
        self.registers.device()
    }

    /// The same to be changed; the driver learns of a changed configuration by
    /// [`raise`](Self::raise).
    pub fn device_mut(&mut self) -> &mut dyn Device {
        self.registers.device_mut()
    }

    /// Fills `data` with what is at `offset`.
    ///
    /// Registers are read as the 32 bits that they are (section 4.2.2.2), the configuration in any
    /// way. Whatever else is read is all ones.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.registers.read_config(offset, data);
            return;
        }
        data.fill(0xff);
        if data.len() == size_of::<u32>()
            && let Some(value) = Register::at(offset).and_then(|register| self.get(register))
        {
            data.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes `data` to what is at `offset`; what is written in another way than it is to be read is
    /// dropped.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<Event> {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            return self.registers.write_config(offset, data);
        }
        let value = u32::from_le_bytes(data.try_into().ok()?);
        self.set(Register::at(offset)?, value)
    }

    /// The value of a register, unless it is one to be written only.
    fn get(&self, register: Register) -> Option<u32> {
        let registers = &self.registers;
        Some(match register {
            Register::Magic => MAGIC,
            Register::Version => VERSION,
            Register::DeviceId => registers.device().kind().id().into(),
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => registers.device_features(),
            Register::QueueSizeMax => registers.queue().map_or(0, |queue| queue.most.into()),
            Register::QueueReady => registers
                .queue()
                .is_some_and(|queue| queue.is_enabled)
                .into(),
            Register::InterruptStatus => self.interrupts.bits(),
            Register::Status => registers.status().into(),
            Register::ConfigGeneration => registers.generation(),
            Register::DeviceFeaturesSelect
            | Register::DriverFeatures
            | Register::DriverFeaturesSelect
            | Register::QueueSelect
            | Register::QueueSize
            | Register::QueueNotify
            | Register::InterruptAcknowledge
            | Register::QueueAddress(..) => return None,
        })
    }

    fn set(&mut self, register: Register, value: u32) -> Option<Event> {
        let registers = &mut self.registers;
        match register {
            Register::DeviceFeaturesSelect => registers.device_features_select = value,
            Register::DriverFeatures => registers.write_driver_features(value),
            Register::DriverFeaturesSelect => registers.driver_features_select = value,
            Register::QueueSelect => registers.queue_select = value,
            Register::QueueSize => registers.write_queue_size(value),
            Register::QueueReady => match value {
                0 => registers.disable_queue(),
                1 => registers.enable_queue(),
                _ => {}
            },
            Register::QueueNotify => return registers.notify(value),
            Register::InterruptAcknowledge => {
                self.interrupts -= Interrupts::from_bits_truncate(value);
            }
            Register::Status => return self.set_status(value),
            Register::QueueAddress(part, half) => registers.write_queue_address(part, half, value),
            Register::Magic
            | Register::Version
            | Register::DeviceId
            | Register::VendorId
            | Register::DeviceFeatures
            | Register::QueueSizeMax
            | Register::InterruptStatus
            | Register::ConfigGeneration => {}
        }
        None
    }

    /// The status has eight bits; only a zero in all 32 resets.
    fn set_status(&mut self, value: u32) -> Option<Event> {
        let [bits, ..] = value.to_le_bytes();
        if bits == 0 && value != 0 {
            return None;
        }
        let event = self.registers.write_status(bits);
        self.forget_if_reset();
        event
    }

    fn forget_if_reset(&mut self) {
        if self.registers.status() == 0 {
            self.interrupts = Interrupts::empty();
        }
    }

    /// The device has stopped, as the driver's [`Event::Stop`] wanted: the reset is over.
    pub fn stopped(&mut self) {
        self.registers.stopped();
        self.forget_if_reset();
    }

    /// The device cannot go on until the driver resets it, and tells the driver so (section 2.1.2).
    pub fn break_down(&mut self) {
        if self.registers.break_down() {
            self.interrupts |= Interrupts::CONFIGURATION;
        }
    }

    /// Interrupts the driver, if it is ready for that.
    pub fn raise(&mut self, cause: Cause) {
        match cause {
            Cause::Queue(_) if self.registers.is_running() => {
                self.interrupts |= Interrupts::QUEUE;
            }
            Cause::Queue(_) => {}
            Cause::Configuration => self.configuration_changed(),
        }
    }

    /// The configuration has changed: its generation does, and the driver is interrupted.
    pub fn configuration_changed(&mut self) {
        if self.registers.configuration_changed() {
            self.interrupts |= Interrupts::CONFIGURATION;
        }
    }

    /// Whether the device asserts its line: to be asked after everything that was done to it.
    #[must_use]
    pub fn irq(&self) -> bool {
        !self.interrupts.is_empty()
    }
}

//! Virtio over PCI (virtio 1.2 section 4.1): a function whose registers are in one BAR, without
//! those of the drivers from before virtio 1.
//!
//! An access of any width reaches every register that it touches, lowest address first; what it
//! leaves out of one keeps its value.

mod common;
mod place;
#[cfg(test)]
mod tests;

use super::registers::{Half, Part, QueueFields, Registers};
use super::{Cause, Device, DeviceKind, Event};
use crate::pci::{Attachment, ConfigSpace, Identity, Message, MsiX, Raised};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use common::{Field, Register};
use firstlight_base::{Gpa, GpaRange};
use place::{Place, Region};

/// A virtio device as a PCI function.
#[derive(Debug)]
pub struct VirtioPci {
    config: ConfigSpace,
    place: Place,
    /// Where the capability is by which configuration space is a window on the BAR.
    window: u8,
    registers: Registers,
    msix: MsiX,
    /// The vectors of configuration changes and of each queue.
    config_vector: u16,
    queue_vectors: Vec<u16>,
    isr: Isr,
}

bitflags::bitflags! {
    /// ISR status (section 4.1.4.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Isr: u8 {
        const QUEUE = 1;
        const CONFIGURATION = 2;
    }
}

/// No interrupt comes of it (section 4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;

/// The vendor of every virtio device, and the lowest device number (section 4.1.2).
const VENDOR: u16 = 0x1af4;
const DEVICE_BASE: u16 = 0x1040;
/// Of devices that know virtio 1 (section 4.1.2.1).
const REVISION: u8 = 1;
/// The board that QEMU gives its functions (QEMU's documentation, "PCI IDs for QEMU").
const SUBSYSTEM: u16 = 0x1100;

/// The only BAR; it takes registers 0 and 1.
const BAR: u8 = 0;

/// The id of vendor-specific capabilities (PCI appendix H), and what virtio's are for (section
/// 4.1.4).
const VENDOR_SPECIFIC: u8 = 0x09;
const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_DEVICE: u8 = 4;
const CAP_WINDOW: u8 = 5;
/// How long a capability is, without what some have beside that.
const CAP_LEN: u8 = 16;

// What a driver writes to the window (section 4.1.4.9), as offsets from the capability.
const WINDOW_BAR: u8 = 4;
const WINDOW_OFFSET: u8 = 8;
const WINDOW_LENGTH: u8 = 12;
const WINDOW_DATA: u8 = 16;
const WINDOW_DATA_LEN: u8 = 4;

impl VirtioPci {
    /// A function for `device`, after reset.
    #[must_use]
    pub fn new(device: Box<dyn Device>, attachment: Attachment) -> Self {
        let mut config = ConfigSpace::new(&identity(device.kind()));
        let registers = Registers::new(device);
        let queues = registers.queue_count();
        let place = Place::new(queues);
        config.add_bar(BAR.into(), place.bar());
        config.add_interrupt_pin();
        config.add_express(attachment);
        let msix = MsiX::add_to(&mut config, place.vectors(), place.msix());
        add_regions(&mut config, &place);
        let window = add_window(&mut config);
        Self {
            config,
            place,
            window,
            registers,
            msix,
            config_vector: NO_VECTOR,
            queue_vectors: vec![NO_VECTOR; queues],
            isr: Isr::empty(),
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

    /// Where the function's BAR answers now, if it does.
    #[must_use]
    pub fn bar(&self) -> Option<GpaRange> {
        self.config.bar(BAR.into())
    }

    /// How many bytes the BAR has.
    #[must_use]
    pub const fn bar_len(&self) -> u64 {
        self.place.len()
    }

    /// Where the driver rings the doorbell of `queue` now; `None` where there is no such queue or the
    /// BAR does not answer.
    #[must_use]
    pub fn notify_address(&self, queue: u16) -> Option<Gpa> {
        let offset = self.place.doorbell(queue)?;
        self.bar()?.start().checked_add(offset)
    }

    /// Whether the function may access memory.
    #[must_use]
    pub fn is_bus_master(&self) -> bool {
        self.config.is_bus_master()
    }

    /// Fills `data` with what configuration space reads as from `register`. That may be a read of
    /// the BAR, so that the interrupt may have changed.
    pub fn config_read(&mut self, register: u16, data: &mut [u8]) {
        if self.is_window(register, data.len()) {
            self.read_window();
        }
        self.config.read(register, data);
    }

    /// Writes `data` to configuration space from `register`. Interrupts may have changed.
    pub fn config_write(&mut self, register: u16, data: &[u8]) -> Option<Event> {
        self.config.write(register, data);
        let event = if self.is_window(register, data.len()) {
            self.write_window()
        } else {
            None
        };
        self.show_interrupt();
        event
    }

    /// Fills `data` with what the BAR reads as from `offset`. The interrupt may have changed.
    pub fn bar_read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let Some((region, at, len)) = self.place.find(offset, data.len()) else {
            return;
        };
        let Some(data) = data.get_mut(..len) else {
            return;
        };
        match region {
            Region::Common => self.read_common(at, data),
            Region::Isr => self.read_isr(at, data),
            Region::Device => self.registers.read_config(at, data),
            // A doorbell is to be written.
            Region::Notify => {}
            Region::Table => self.msix.read_table(at, data),
            Region::Pending => self.msix.read_pba(at, data),
        }
    }

    /// Writes `data` to the BAR from `offset`. Interrupts may have changed.
    pub fn bar_write(&mut self, offset: u64, data: &[u8]) -> Option<Event> {
        let (region, at, len) = self.place.find(offset, data.len())?;
        let data = data.get(..len)?;
        match region {
            Region::Common => self.write_common(at, data),
            Region::Device => self.registers.write_config(at, data),
            Region::Notify => self.registers.notify(Place::queue_of(at)?),
            Region::Table => {
                self.msix.write_table(at, data);
                None
            }
            Region::Isr | Region::Pending => None,
        }
    }

    /// Interrupts the driver, if it is ready for that.
    pub fn raise(&mut self, cause: Cause) -> Raised {
        match cause {
            Cause::Queue(_) if self.registers.is_running() => self.interrupt(cause),
            Cause::Queue(_) => Raised::Nothing,
            Cause::Configuration => self.configuration_changed(),
        }
    }

    /// The next message that was held back and is to be sent now: to be asked after every write,
    /// until there is none.
    pub fn take_message(&mut self) -> Option<Message> {
        self.msix.take_message(&self.config)
    }

    /// Whether the function asserts pin A: to be asked after every read and write.
    #[must_use]
    pub fn irq(&self) -> bool {
        self.wants_pin() && !self.config.is_intx_disabled()
    }

    /// The device has stopped, as the driver's [`Event::Stop`] wanted: the reset is over.
    pub fn stopped(&mut self) {
        let was_reset = self.registers.status() == 0;
        self.registers.stopped();
        if !was_reset && self.registers.status() == 0 {
            self.reset_transport();
        }
    }

    /// The device cannot go on until the driver resets it, and tells the driver so (section 2.1.2).
    pub fn break_down(&mut self) -> Raised {
        if self.registers.break_down() {
            self.interrupt(Cause::Configuration)
        } else {
            Raised::Nothing
        }
    }

    /// The configuration has changed: its generation does, and the driver is interrupted.
    pub fn configuration_changed(&mut self) -> Raised {
        if self.registers.configuration_changed() {
            self.interrupt(Cause::Configuration)
        } else {
            Raised::Nothing
        }
    }

    /// Gives every register its value after reset, as when the link or the machine is reset. The
    /// device may have to stop first, as for a driver that resets it.
    pub fn reset(&mut self) -> Option<Event> {
        self.config.reset();
        self.msix.reset();
        self.write_status(0)
    }

    fn interrupt(&mut self, cause: Cause) -> Raised {
        let (bit, vector) = match cause {
            Cause::Queue(queue) => (Isr::QUEUE, self.queue_vector(queue.into())),
            Cause::Configuration => (Isr::CONFIGURATION, self.config_vector),
        };
        if self.msix.is_enabled(&self.config) {
            // It tells drivers that share a vector what has changed (section 4.1.4.5.1).
            self.isr |= bit & Isr::CONFIGURATION;
            let message = self.msix.raise(vector, &self.config);
            return message.map_or(Raised::Nothing, Raised::Message);
        }
        let was_high = self.irq();
        self.isr |= bit;
        self.show_interrupt();
        if self.irq() && !was_high {
            Raised::Line(true)
        } else {
            Raised::Nothing
        }
    }

    /// Whether the driver is to be told by the pin, if it is not disabled.
    fn wants_pin(&self) -> bool {
        !self.isr.is_empty() && !self.msix.is_enabled(&self.config)
    }

    fn show_interrupt(&mut self) {
        let is_pending = self.wants_pin();
        self.config.show_interrupt(is_pending);
    }

    /// What of the transport a reset of the device resets.
    fn reset_transport(&mut self) {
        self.config_vector = NO_VECTOR;
        self.queue_vectors.fill(NO_VECTOR);
        self.isr = Isr::empty();
        self.show_interrupt();
    }

    /// Reading it is all that a driver does to be done with an interrupt (section 4.1.4.5).
    fn read_isr(&mut self, at: u64, data: &mut [u8]) {
        if let (0, Some(byte)) = (at, data.first_mut()) {
            *byte = self.isr.bits();
            self.isr = Isr::empty();
            self.show_interrupt();
        }
    }

    fn read_common(&self, at: u64, data: &mut [u8]) {
        for register in Register::touched(at, data.len()) {
            let value = self.field(register.field);
            register.read(value, at, data);
        }
    }

    fn write_common(&mut self, at: u64, data: &[u8]) -> Option<Event> {
        let mut event = None;
        for register in Register::touched(at, data.len()) {
            let value = register.write(self.field(register.field), at, data);
            event = event.or(self.set_field(register.field, value));
        }
        event
    }

    fn field(&self, field: Field) -> u32 {
        let registers = &self.registers;
        let queue = registers.queue();
        match field {
            Field::DeviceFeatureSelect => registers.device_features_select,
            Field::DeviceFeature => registers.device_features(),
            Field::DriverFeatureSelect => registers.driver_features_select,
            Field::DriverFeature => registers.driver_features(),
            Field::ConfigVector => self.config_vector.into(),
            Field::QueueCount => u32::try_from(registers.queue_count()).unwrap_or(0xffff),
            Field::Status => registers.status().into(),
            Field::Generation => registers.generation(),
            Field::QueueSelect => registers.queue_select,
            Field::QueueSize => queue.map_or(0, |queue| queue.size.into()),
            Field::QueueVector => self.queue_vector(registers.queue_select).into(),
            Field::QueueEnable => queue.map_or(0, |queue| queue.is_enabled.into()),
            Field::QueueNotifyOffset => queue.map_or(0, |_| registers.queue_select),
            Field::QueueAddress(part, half) => queue.map_or(0, |it| address(it, part, half)),
            // For features that are not offered.
            Field::QueueNotifyData | Field::QueueReset => 0,
        }
    }

    fn set_field(&mut self, field: Field, value: u32) -> Option<Event> {
        let registers = &mut self.registers;
        match field {
            Field::DeviceFeatureSelect => registers.device_features_select = value,
            Field::DriverFeatureSelect => registers.driver_features_select = value,
            Field::DriverFeature => registers.write_driver_features(value),
            Field::ConfigVector => self.config_vector = self.vector(value),
            Field::Status => return self.write_status(low_byte(value)),
            Field::QueueSelect => registers.queue_select = value,
            Field::QueueSize => registers.write_queue_size(value),
            Field::QueueVector => self.set_queue_vector(value),
            // "The driver MUST NOT write a 0" (section 4.1.4.3.2).
            Field::QueueEnable if value == 1 => registers.enable_queue(),
            Field::QueueAddress(part, half) => registers.write_queue_address(part, half, value),
            Field::DeviceFeature
            | Field::QueueCount
            | Field::Generation
            | Field::QueueEnable
            | Field::QueueNotifyOffset
            | Field::QueueNotifyData
            | Field::QueueReset => {}
        }
        None
    }

    fn write_status(&mut self, value: u8) -> Option<Event> {
        let event = self.registers.write_status(value);
        if value == 0 && self.registers.status() == 0 {
            self.reset_transport();
        }
        event
    }

    /// The vector that the driver wants, or none where there is no such vector.
    fn vector(&self, value: u32) -> u16 {
        let vector = u16::try_from(value).ok();
        let vector = vector.filter(|&vector| vector < self.msix.vectors());
        vector.unwrap_or(NO_VECTOR)
    }

    fn queue_vector(&self, queue: u32) -> u16 {
        let index = usize::try_from(queue).ok();
        let vector = index.and_then(|index| self.queue_vectors.get(index));
        vector.copied().unwrap_or(NO_VECTOR)
    }

    fn set_queue_vector(&mut self, value: u32) {
        let vector = self.vector(value);
        let index = usize::try_from(self.registers.queue_select).ok();
        if let Some(slot) = index.and_then(|index| self.queue_vectors.get_mut(index)) {
            *slot = vector;
        }
    }

    /// Whether an access to configuration space is one to the BAR, too.
    fn is_window(&self, register: u16, len: usize) -> bool {
        let first = usize::from(self.window + WINDOW_DATA);
        let register = usize::from(register);
        register < first + usize::from(WINDOW_DATA_LEN) && first < register + len
    }

    /// Brings what the window shows up to date: ones where it is on nothing.
    fn read_window(&mut self) {
        let mut data = [0xff; WINDOW_DATA_LEN as usize];
        if let Some((offset, len)) = self.window_target()
            && let Some(data) = data.get_mut(..len)
        {
            self.bar_read(offset, data);
        }
        self.config.update(self.window + WINDOW_DATA, &data);
    }

    fn write_window(&mut self) -> Option<Event> {
        let (offset, len) = self.window_target()?;
        let data = self.config.u32_at(self.window + WINDOW_DATA).to_le_bytes();
        self.bar_write(offset, data.get(..len)?)
    }

    /// Which bytes of the BAR the window is on: 1, 2 or 4, aligned (section 4.1.4.9.2).
    fn window_target(&self) -> Option<(u64, usize)> {
        let bar = low_byte(self.config.u32_at(self.window + WINDOW_BAR));
        let offset = self.config.u32_at(self.window + WINDOW_OFFSET);
        let length = self.config.u32_at(self.window + WINDOW_LENGTH);
        if bar != BAR || !matches!(length, 1 | 2 | 4) || !offset.is_multiple_of(length) {
            return None;
        }
        Some((offset.into(), usize::try_from(length).ok()?))
    }
}

/// Half of where a part of a queue is.
const fn address(queue: &QueueFields, part: Part, half: Half) -> u32 {
    let address = match part {
        Part::Descriptors => queue.descriptors,
        Part::Driver => queue.driver,
        Part::Device => queue.device,
    };
    let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
    match half {
        Half::Low => u32::from_le_bytes([a, b, c, d]),
        Half::High => u32::from_le_bytes([e, f, g, h]),
    }
}

const fn low_byte(value: u32) -> u8 {
    let [byte, ..] = value.to_le_bytes();
    byte
}

fn identity(kind: DeviceKind) -> Identity {
    Identity {
        vendor: VENDOR,
        device: DEVICE_BASE + kind.id(),
        class: class(kind),
        revision: REVISION,
        subsystem_vendor: VENDOR,
        subsystem: SUBSYSTEM,
    }
}

/// The class code (PCI Code and ID Assignment Specification, chapter 1): "other" of what the device
/// is for, or of none.
const fn class(kind: DeviceKind) -> u32 {
    match kind {
        DeviceKind::Net => 0x02_0000,
        DeviceKind::Block | DeviceKind::Fs => 0x01_8000,
        DeviceKind::Console | DeviceKind::Vsock => 0x07_8000,
        DeviceKind::Rng | DeviceKind::Balloon | DeviceKind::Pmem => 0x00_ff00,
    }
}

/// Says where the driver finds what (section 4.1.4).
fn add_regions(config: &mut ConfigSpace, place: &Place) {
    for (kind, region) in [
        (CAP_COMMON, Region::Common),
        (CAP_ISR, Region::Isr),
        (CAP_DEVICE, Region::Device),
    ] {
        let body = capability(CAP_LEN, kind, place.region(region));
        config.add_capability(VENDOR_SPECIFIC, &body);
    }
    let at_notify = capability(CAP_LEN + 4, CAP_NOTIFY, place.region(Region::Notify));
    let multiplier = Place::DOORBELL_LEN.to_le_bytes();
    let body = [&at_notify[..], &multiplier[..]].concat();
    config.add_capability(VENDOR_SPECIFIC, &body);
}

/// What follows the pointer to the next capability (section 4.1.4, `struct virtio_pci_cap`).
fn capability(len: u8, kind: u8, (offset, length): (u32, u32)) -> [u8; CAP_LEN as usize - 2] {
    let [a, b, c, d] = offset.to_le_bytes();
    let [e, f, g, h] = length.to_le_bytes();
    [len, kind, BAR, 0, 0, 0, a, b, c, d, e, f, g, h]
}

fn add_window(config: &mut ConfigSpace) -> u8 {
    let body = capability(CAP_LEN + WINDOW_DATA_LEN, CAP_WINDOW, (0, 0));
    let body = [&body[..], &[0; WINDOW_DATA_LEN as usize]].concat();
    let at = config.add_capability(VENDOR_SPECIFIC, &body);
    config.make_writable(at + WINDOW_BAR, &[0xff]);
    config.make_writable(at + WINDOW_OFFSET, &[0xff; 4]);
    config.make_writable(at + WINDOW_LENGTH, &[0xff; 4]);
    config.make_writable(at + WINDOW_DATA, &[0xff; 4]);
    at
}

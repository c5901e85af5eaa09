//! What the registers of every transport do: status, features, queues and the configuration
//! (virtio 1.2 chapters 2 and 3, sections 4.1.4.3 and 4.2.2).
//!
//! The transports have the layouts. Writes that come at the wrong time are dropped: a queue's fields
//! keep still once it is enabled, and everything does once the driver is ready or the device stops.

#[cfg(test)]
mod tests;

use super::device::{Device, Event, Features, Start};
use super::queue::{Layout, QueueSetup};
use alloc::boxed::Box;
use alloc::vec::Vec;
use firstlight_base::Gpa;

bitflags::bitflags! {
    /// The device status (section 2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Status: u8 {
        const ACKNOWLEDGE = 1;
        const DRIVER = 2;
        const DRIVER_OK = 4;
        const FEATURES_OK = 8;
        const NEEDS_RESET = 64;
        const FAILED = 128;
    }
}

/// The most entries that a queue can have (section 2.7).
const MOST_ENTRIES: u16 = 1 << 15;

/// The state that a driver sees of a device.
#[derive(Debug)]
pub(crate) struct Registers {
    device: Box<dyn Device>,
    /// The device's features and the transports'.
    offered: u64,
    status: Status,
    is_stopping: bool,
    chosen: u64,
    /// Which 32 of the device's features are read.
    pub(crate) device_features_select: u32,
    /// Which 32 of the driver's features are written.
    pub(crate) driver_features_select: u32,
    /// Which queue's fields are seen.
    pub(crate) queue_select: u32,
    queues: Vec<QueueFields>,
    generation: u32,
}

/// What a driver tells of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFields {
    /// How many entries it can have.
    pub(crate) most: u16,
    /// How many the driver wants.
    pub(crate) size: u16,
    pub(crate) is_enabled: bool,
    pub(crate) descriptors: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
}

impl QueueFields {
    const fn new(most: u16) -> Self {
        Self {
            most,
            size: most,
            is_enabled: false,
            descriptors: 0,
            driver: 0,
            device: 0,
        }
    }
}

/// The parts of a ring (section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Descriptors,
    Driver,
    Device,
}

/// The halves of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Low,
    High,
}

impl Registers {
    /// The registers of a device that no driver has touched.
    pub(crate) fn new(device: Box<dyn Device>) -> Self {
        let sizes = device.queue_sizes().iter();
        let queues = sizes
            .map(|&most| QueueFields::new(most.min(MOST_ENTRIES)))
            .collect();
        Self {
            offered: device.features() | device.queue_features().bits(),
            device,
            status: Status::empty(),
            is_stopping: false,
            chosen: 0,
            device_features_select: 0,
            driver_features_select: 0,
            queue_select: 0,
            queues,
            generation: 0,
        }
    }

    pub(crate) fn device(&self) -> &dyn Device {
        &*self.device
    }

    pub(crate) fn device_mut(&mut self) -> &mut dyn Device {
        &mut *self.device
    }

    /// How many queues there are.
    pub(crate) fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// What the status reads as.
    pub(crate) fn status(&self) -> u8 {
        self.status.bits()
    }

    /// Whether the driver is ready and the device works.
    pub(crate) fn is_running(&self) -> bool {
        self.status.contains(Status::DRIVER_OK) && !self.is_stopping && !self.is_broken()
    }

    fn is_broken(&self) -> bool {
        self.status.contains(Status::NEEDS_RESET)
    }

    /// Whether the driver may still set the device up.
    fn is_setting_up(&self) -> bool {
        !self.status.contains(Status::DRIVER_OK) && !self.is_stopping
    }

    /// The driver writes the status: 0 resets, and bits are only ever added (section 2.1.1). The
    /// transport's own state is reset too when [`status`](Self::status) reads 0 behind it.
    pub(crate) fn write_status(&mut self, value: u8) -> Option<Event> {
        if self.is_stopping {
            return None;
        }
        if value == 0 {
            return self.begin_reset();
        }
        let mut added = Status::from_bits_truncate(value) - self.status;
        added -= Status::NEEDS_RESET;
        self.status |= added & (Status::ACKNOWLEDGE | Status::DRIVER | Status::FAILED);
        if added.contains(Status::FEATURES_OK) && self.can_work() {
            self.status |= Status::FEATURES_OK;
        }
        if added.contains(Status::DRIVER_OK) && self.status.contains(Status::FEATURES_OK) {
            self.status |= Status::DRIVER_OK;
            return self.is_running().then(|| Event::Start(self.start()));
        }
        None
    }

    /// Whether the driver chose features that the device can work with (section 2.2.2).
    fn can_work(&self) -> bool {
        let is_modern = self.chosen & Features::VERSION_1.bits() != 0;
        is_modern && self.chosen & !self.offered == 0 && self.device.accepts(self.chosen)
    }

    fn begin_reset(&mut self) -> Option<Event> {
        if self.status.contains(Status::DRIVER_OK) {
            self.is_stopping = true;
            return Some(Event::Stop);
        }
        self.reset();
        None
    }

    /// The device has stopped, as the driver wanted.
    pub(crate) fn stopped(&mut self) {
        if self.is_stopping {
            self.reset();
        }
    }

    fn reset(&mut self) {
        self.device.reset();
        self.status = Status::empty();
        self.is_stopping = false;
        self.chosen = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.queue_select = 0;
        for queue in &mut self.queues {
            *queue = QueueFields::new(queue.most);
        }
    }

    /// The device cannot go on until it is reset; true where the driver is to be told by a
    /// configuration interrupt (section 2.1.2).
    pub(crate) fn break_down(&mut self) -> bool {
        let is_told = self.is_running();
        self.status |= Status::NEEDS_RESET;
        is_told
    }

    fn start(&self) -> Start {
        let has = |feature: Features| self.chosen & feature.bits() != 0;
        let layout = if has(Features::RING_PACKED) {
            Layout::Packed
        } else {
            Layout::Split
        };
        let setup = |queue: &QueueFields| {
            queue.is_enabled.then(|| QueueSetup {
                size: queue.size,
                descriptors: Gpa::new(queue.descriptors),
                driver: Gpa::new(queue.driver),
                device: Gpa::new(queue.device),
                layout,
                event_idx: has(Features::EVENT_IDX),
                indirect: has(Features::INDIRECT_DESC),
            })
        };
        Start {
            features: self.chosen,
            queues: self.queues.iter().map(setup).collect(),
        }
    }

    /// The 32 features that are selected; behind the second 32 there are none.
    pub(crate) fn device_features(&self) -> u32 {
        word(self.offered, self.device_features_select)
    }

    /// The driver's features that are selected.
    pub(crate) fn driver_features(&self) -> u32 {
        word(self.chosen, self.driver_features_select)
    }

    /// The driver chooses its features, which it can until they are accepted (section 3.1.1).
    pub(crate) fn write_driver_features(&mut self, value: u32) {
        if self.is_setting_up() && !self.status.contains(Status::FEATURES_OK) {
            match self.driver_features_select {
                0 => set_half(&mut self.chosen, Half::Low, value),
                1 => set_half(&mut self.chosen, Half::High, value),
                _ => {}
            }
        }
    }

    /// The fields of the queue that is selected, if there is one.
    pub(crate) fn queue(&self) -> Option<&QueueFields> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    /// The same while they may change: as long as the queue is not enabled.
    fn queue_mut(&mut self) -> Option<&mut QueueFields> {
        if !self.is_setting_up() {
            return None;
        }
        let index = usize::try_from(self.queue_select).ok()?;
        self.queues.get_mut(index).filter(|queue| !queue.is_enabled)
    }

    /// The driver chooses a queue's size; one that the queue cannot have is dropped.
    pub(crate) fn write_queue_size(&mut self, value: u32) {
        if let (Some(queue), Ok(size)) = (self.queue_mut(), u16::try_from(value))
            && (1..=queue.most).contains(&size)
        {
            queue.size = size;
        }
    }

    /// The driver says where a part of a queue is.
    pub(crate) fn write_queue_address(&mut self, part: Part, half: Half, value: u32) {
        if let Some(queue) = self.queue_mut() {
            let address = match part {
                Part::Descriptors => &mut queue.descriptors,
                Part::Driver => &mut queue.driver,
                Part::Device => &mut queue.device,
            };
            set_half(address, half, value);
        }
    }

    /// The driver enables the queue that is selected, if it is one.
    pub(crate) fn enable_queue(&mut self) {
        if let Some(queue) = self.queue_mut()
            && queue.most > 0
        {
            queue.is_enabled = true;
        }
    }

    /// The driver takes the queue that is selected back, which it can before it is ready.
    pub(crate) fn disable_queue(&mut self) {
        if self.is_setting_up()
            && let Ok(index) = usize::try_from(self.queue_select)
            && let Some(queue) = self.queues.get_mut(index)
        {
            queue.is_enabled = false;
        }
    }

    /// The driver rings the doorbell of a queue. Nobody hears it unless the queue runs.
    pub(crate) fn notify(&self, queue: u32) -> Option<Event> {
        let index = u16::try_from(queue).ok()?;
        let is_enabled = self.queues.get(usize::from(index))?.is_enabled;
        (is_enabled && self.is_running()).then_some(Event::Notify(index))
    }

    /// Fills `data` from the device's configuration; beyond its end there are ones.
    pub(crate) fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        self.device.read_config(offset, data);
    }

    /// The driver writes the device's configuration.
    pub(crate) fn write_config(&mut self, offset: u64, data: &[u8]) -> Option<Event> {
        if self.is_stopping {
            return None;
        }
        let is_told = self.device.write_config(offset, data);
        (is_told && self.is_running()).then_some(Event::Configured)
    }

    /// Changes whenever the configuration does (section 2.5.1).
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// The configuration has changed; true where the driver is to be told by an interrupt.
    pub(crate) fn configuration_changed(&mut self) -> bool {
        self.generation = self.generation.wrapping_add(1);
        self.is_running()
    }
}

/// The `index`th 32 bits of `bits`.
fn word(bits: u64, index: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
    match index {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

fn set_half(number: &mut u64, half: Half, value: u32) {
    let value = u64::from(value);
    *number = match half {
        Half::Low => *number & !0xffff_ffff | value,
        Half::High => *number & 0xffff_ffff | value << 32,
    };
}

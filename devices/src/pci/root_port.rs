//! A PCI Express root port with a slot into which a function can be plugged while the guest runs
//! (PCIe sections 6.7 and 7.5.3).
//!
//! The slot has a button by which somebody asks the guest to let go of what is in it, an indicator
//! of its power, and a controller of that; no latch. Nothing comes or goes while the slot has power:
//! the guest turns that on for what has been plugged in, and off once it has let go of it. Commands
//! take no time. The guest is told of the button, of what is present and of the link: by a message,
//! or by pin A while messages are disabled.
//!
//! The bridge forwards no I/O ports.

#[cfg(test)]
mod tests;

use super::msi::Msi;
use super::{ConfigSpace, Identity, Message, Raised, express};

/// A root port.
#[derive(Clone, Debug)]
pub struct RootPort {
    config: ConfigSpace,
    msi: Msi,
    /// Where the PCI Express capability is.
    express: u8,
    is_occupied: bool,
    /// What the guest has been asked for, and has not done yet.
    asked: Option<Asked>,
    /// Whether the interrupt that is asserted has been sent.
    is_sent: bool,
    /// What a write has released.
    message: Option<Message>,
}

/// What a write has done to what is in a port's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Secondary {
    /// It has lost its link: it is to be reset.
    Reset,
    /// It has lost its power, as the guest was asked to see to: it is to be taken out.
    Released,
}

/// What somebody wants by pressing the button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    TurnOn,
    TurnOff,
}

/// QEMU's generic PCI Express root port (QEMU's documentation, "PCI IDs for QEMU").
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x000c,
    class: 0x06_0400,
    revision: 0,
    subsystem_vendor: 0,
    subsystem: 0,
};

// Registers of a bridge (PCI-to-PCI Bridge Architecture, section 3.2.5).
const PRIMARY: u8 = 0x18;
const SECONDARY: u8 = 0x19;
const SUBORDINATE: u8 = 0x1a;
const MEMORY: u8 = 0x20;
const PREFETCHABLE: u8 = 0x24;
const PREFETCHABLE_UPPER: u8 = 0x28;
const BRIDGE_CONTROL: u8 = 0x3e;

/// Base and limit of a window: 12 bits each, of which the lowest is worth 1 MiB. The other four
/// bits say that the prefetchable window may have addresses of 64 bits.
const WINDOW_WRITABLE: [u8; 4] = [0xf0, 0xff, 0xf0, 0xff];
const WINDOW_64: u8 = 0x01;
/// After reset the windows are closed, as their bases are above their limits: at zero, they would
/// be the first MiB.
const WINDOW_CLOSED: [u8; 4] = [0xf0, 0xff, 0x00, 0x00];
const WINDOW_CLOSED_64: [u8; 4] = [0xf0 | WINDOW_64, 0xff, WINDOW_64, 0x00];

/// Bridge control (PCI-to-PCI Bridge Architecture, section 3.2.5.18): parity error response and
/// SERR# enable mean nothing here.
const BRIDGE_CONTROL_WRITABLE: u16 = 1 << 0 | 1 << 1 | SECONDARY_BUS_RESET;
const SECONDARY_BUS_RESET: u16 = 1 << 6;

bitflags::bitflags! {
    /// Slot capabilities (PCIe section 7.5.3.9).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct SlotCapabilities: u32 {
        const ATTENTION_BUTTON = 1 << 0;
        const POWER_CONTROLLER = 1 << 1;
        const POWER_INDICATOR = 1 << 4;
        const HOT_PLUG = 1 << 6;
        const NO_COMMAND_COMPLETED = 1 << 18;
    }

    /// Slot control (PCIe section 7.5.3.10).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct SlotControl: u16 {
        const ATTENTION_ENABLE = 1 << 0;
        const PRESENCE_ENABLE = 1 << 3;
        const INTERRUPT_ENABLE = 1 << 5;
        const INDICATOR_BLINKING = 0b10 << 8;
        const INDICATOR_OFF = 0b11 << 8;
        const POWER_OFF = 1 << 10;
        const LINK_ENABLE = 1 << 12;
    }

    /// Slot status (PCIe section 7.5.3.11).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct SlotStatus: u16 {
        const ATTENTION_PRESSED = 1 << 0;
        const PRESENCE_CHANGED = 1 << 3;
        const OCCUPIED = 1 << 6;
        const LINK_CHANGED = 1 << 8;
    }
}

/// Where the number of the slot is in its capabilities.
const SLOT_NUMBER_SHIFT: u32 = 19;
/// Link status (PCIe section 7.5.3.8): the data link layer is active.
const LINK_ACTIVE: u16 = 1 << 13;
/// Root control (PCIe section 7.5.3.12): errors and power management events, which do not happen.
const ROOT_CONTROL_WRITABLE: u8 = 0x0f;

impl RootPort {
    /// A port after reset whose empty slot has this number, which no other slot of the machine has.
    #[must_use]
    pub fn new(slot: u8) -> Self {
        let mut config = ConfigSpace::bridge(&IDENTITY);
        add_bridge(&mut config);
        config.add_interrupt_pin();
        let express = express::add_root_port(&mut config);
        add_slot(&mut config, express, slot);
        let msi = Msi::add_to(&mut config);
        Self {
            config,
            msi,
            express,
            is_occupied: false,
            asked: None,
            is_sent: false,
            message: None,
        }
    }

    /// Something is now in the slot, and the guest is asked to turn it on. Nothing happens where
    /// something was.
    pub fn plug(&mut self) -> Raised {
        if self.is_occupied {
            return Raised::Nothing;
        }
        let mut events = SlotStatus::PRESENCE_CHANGED;
        // A guest that has left the power on would take the button for the opposite.
        if !self.is_powered() {
            events |= SlotStatus::ATTENTION_PRESSED;
            // A driver that comes later looks for itself.
            self.asked = self.is_served().then_some(Asked::TurnOn);
        }
        self.occupy(true, events)
    }

    /// Asks the guest to let go of what is in the slot, by the button; [`config_write`] tells when it
    /// has. Nothing happens where that cannot come, as there is nothing or it has no power, or where
    /// the guest [is busy], which would take the button for a change of mind.
    ///
    /// [`config_write`]: Self::config_write
    /// [is busy]: Self::is_busy
    pub fn request_unplug(&mut self) -> Raised {
        if !self.is_occupied || !self.is_powered() || self.is_busy() {
            return Raised::Nothing;
        }
        self.asked = Some(Asked::TurnOff);
        self.happen(SlotStatus::ATTENTION_PRESSED)
    }

    /// The slot is now empty. Nothing happens where it was.
    pub fn unplug(&mut self) -> Raised {
        if !self.is_occupied {
            return Raised::Nothing;
        }
        self.asked = None;
        self.occupy(false, SlotStatus::PRESENCE_CHANGED)
    }

    /// Whether a driver listens to the button.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.slot_control()
            .contains(SlotControl::INTERRUPT_ENABLE | SlotControl::ATTENTION_ENABLE)
    }

    /// Whether the guest is about to turn the slot on or off: it was asked to, or says so by an
    /// indicator that blinks (PCIe section 6.7.1.1.2). To ask it meanwhile would call that off.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.asked.is_some() || self.is_blinking()
    }

    /// Whether the slot has power. What is in one that has none can be taken out.
    #[must_use]
    pub fn is_powered(&self) -> bool {
        !self.slot_control().contains(SlotControl::POWER_OFF)
    }

    /// Whether something is in the slot.
    #[must_use]
    pub const fn is_occupied(&self) -> bool {
        self.is_occupied
    }

    /// Whether what is in the slot can be reached.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        let link = self.config.u16_at(self.express + express::LINK_CONTROL);
        let bridge = self.config.u16_at(BRIDGE_CONTROL);
        self.is_occupied
            && self.is_powered()
            && link & express::LINK_DISABLE == 0
            && bridge & SECONDARY_BUS_RESET == 0
    }

    /// The number of the bus behind the port, of which its slot is device 0; `None` before the
    /// guest has given it one.
    #[must_use]
    pub fn secondary(&self) -> Option<u8> {
        let [number, _] = self.config.u16_at(SECONDARY).to_le_bytes();
        (number != 0).then_some(number)
    }

    /// The highest number of a bus behind the port, as the guest has set it.
    #[must_use]
    pub fn subordinate(&self) -> u8 {
        let [number, _] = self.config.u16_at(SUBORDINATE).to_le_bytes();
        number
    }

    /// Fills `data` with what the registers from `register` read as.
    pub fn config_read(&self, register: u16, data: &mut [u8]) {
        self.config.read(register, data);
    }

    /// Writes `data` to the registers from `register`. The interrupt may have changed.
    pub fn config_write(&mut self, register: u16, data: &[u8]) -> Option<Secondary> {
        let was_up = self.is_link_up();
        let was_blinking = self.is_blinking();
        self.config.write(register, data);
        self.show_link();
        let message = self.settle();
        self.message = self.message.or(message);
        if self.asked == Some(Asked::TurnOff) && !self.is_powered() {
            return Some(Secondary::Released);
        }
        // A driver that has changed its mind, or has gone, will not answer any more.
        let is_settled = was_blinking && !self.is_blinking();
        let is_on = self.asked == Some(Asked::TurnOn) && self.is_powered();
        if is_settled || is_on || !self.is_served() {
            self.asked = None;
        }
        (was_up && !self.is_link_up()).then_some(Secondary::Reset)
    }

    /// The message that a write has released, and that is to be sent.
    pub const fn take_message(&mut self) -> Option<Message> {
        self.message.take()
    }

    /// Whether the port asserts pin A: to be asked after every write.
    #[must_use]
    pub fn irq(&self) -> bool {
        self.wants_interrupt()
            && !self.msi.is_enabled(&self.config)
            && !self.config.is_intx_disabled()
    }

    /// Gives every register its value after reset. What is in the slot stays there, without power.
    pub fn reset(&mut self) {
        self.config.reset();
        self.asked = None;
        self.is_sent = false;
        self.message = None;
        self.show_slot();
    }

    fn occupy(&mut self, is_occupied: bool, events: SlotStatus) -> Raised {
        self.is_occupied = is_occupied;
        self.happen(events)
    }

    /// Tells the guest of `events`, and of what has become of the link.
    fn happen(&mut self, events: SlotStatus) -> Raised {
        let had_line = self.irq();
        self.report(events);
        self.show_link();
        match self.settle() {
            Some(message) => Raised::Message(message),
            None if self.irq() != had_line => Raised::Line(self.irq()),
            None => Raised::Nothing,
        }
    }

    /// Brings what the registers tell of the link up to date; a change of it is an event.
    fn show_link(&mut self) {
        let was_active = self.config.u16_at(self.express + express::LINK_STATUS) & LINK_ACTIVE != 0;
        self.show_slot();
        if self.is_link_up() != was_active {
            self.report(SlotStatus::LINK_CHANGED);
        }
    }

    /// Shows what is in the slot, and the link to it.
    fn show_slot(&mut self) {
        let mut status = self.slot_status();
        status.set(SlotStatus::OCCUPIED, self.is_occupied);
        self.set_slot_status(status);
        let link = if self.is_link_up() {
            LINK_ACTIVE | express::SPEED_AND_WIDTH
        } else {
            0
        };
        let at = self.express + express::LINK_STATUS;
        self.config.update(at, &link.to_le_bytes());
    }

    fn report(&mut self, event: SlotStatus) {
        self.set_slot_status(self.slot_status() | event);
    }

    fn slot_control(&self) -> SlotControl {
        SlotControl::from_bits_retain(self.config.u16_at(self.express + express::SLOT_CONTROL))
    }

    fn is_blinking(&self) -> bool {
        let indicator = self.slot_control() & SlotControl::INDICATOR_OFF;
        indicator == SlotControl::INDICATOR_BLINKING
    }

    fn slot_status(&self) -> SlotStatus {
        SlotStatus::from_bits_retain(self.config.u16_at(self.express + express::SLOT_STATUS))
    }

    fn set_slot_status(&mut self, status: SlotStatus) {
        let at = self.express + express::SLOT_STATUS;
        self.config.update(at, &status.bits().to_le_bytes());
    }

    /// Answers with the message of an interrupt that has just come to be asserted.
    ///
    /// "An MSI is sent every time the logical AND of the following conditions transitions from
    /// FALSE to TRUE" (PCIe section 6.7.3.4): while it is asserted, further events send nothing.
    fn settle(&mut self) -> Option<Message> {
        let is_wanted = self.wants_interrupt();
        let by_pin = is_wanted && !self.msi.is_enabled(&self.config);
        self.config.show_interrupt(by_pin);
        let message = self.msi.message(&self.config).filter(|_| is_wanted);
        let was_sent = core::mem::replace(&mut self.is_sent, message.is_some());
        message.filter(|_| !was_sent)
    }

    /// Whether an event has happened of which the guest wants to hear.
    fn wants_interrupt(&self) -> bool {
        let control = self.slot_control();
        let mut wanted = SlotStatus::empty();
        for (enable, event) in [
            (SlotControl::ATTENTION_ENABLE, SlotStatus::ATTENTION_PRESSED),
            (SlotControl::PRESENCE_ENABLE, SlotStatus::PRESENCE_CHANGED),
            (SlotControl::LINK_ENABLE, SlotStatus::LINK_CHANGED),
        ] {
            wanted.set(event, control.contains(enable));
        }
        control.contains(SlotControl::INTERRUPT_ENABLE) && self.slot_status().intersects(wanted)
    }
}

fn add_bridge(config: &mut ConfigSpace) {
    config.make_writable(PRIMARY, &[0xff; 3]);
    config.define(MEMORY, &WINDOW_CLOSED);
    config.make_writable(MEMORY, &WINDOW_WRITABLE);
    config.define(PREFETCHABLE, &WINDOW_CLOSED_64);
    config.make_writable(PREFETCHABLE, &WINDOW_WRITABLE);
    config.make_writable(PREFETCHABLE_UPPER, &[0xff; 8]);
    config.make_writable(BRIDGE_CONTROL, &BRIDGE_CONTROL_WRITABLE.to_le_bytes());
}

fn add_slot(config: &mut ConfigSpace, express: u8, slot: u8) {
    let capabilities = SlotCapabilities::all().bits() | u32::from(slot) << SLOT_NUMBER_SHIFT;
    let at = express + express::SLOT_CAPABILITIES;
    config.define(at, &capabilities.to_le_bytes());
    let control = SlotControl::all().bits();
    let initial = SlotControl::INDICATOR_OFF | SlotControl::POWER_OFF;
    let at = express + express::SLOT_CONTROL;
    config.define(at, &initial.bits().to_le_bytes());
    config.make_writable(at, &control.to_le_bytes());
    let events = SlotStatus::all() - SlotStatus::OCCUPIED;
    let at = express + express::SLOT_STATUS;
    config.make_clearable(at, &events.bits().to_le_bytes());
    config.make_writable(express + express::ROOT_CONTROL, &[ROOT_CONTROL_WRITABLE]);
}

//! What a driver of a hot-plug slot does by PCIe section 6.7, as Linux's does it: it enables the
//! button and link events, clears what it is told of, waits before it does what the button asks for,
//! and tells what it is doing by the indicator. Beside it stands whoever owns the slot.

use super::*;

/// The driver, and the port that it drives.
pub(super) struct Driver {
    pub(super) port: RootPort,
    pub(super) state: State,
    /// How often something was brought up.
    pub(super) bring_ups: u32,
    by_messages: bool,
    /// Messages that have come, and that the driver has not seen yet.
    messages: u32,
    /// Events that it has been told of, and has not acted upon.
    pending: u16,
}

/// What the driver believes of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Off,
    /// It will be turned on, unless the button is pressed again.
    BlinkingOn,
    On,
    /// It will be turned off, unless the button is pressed again.
    BlinkingOff,
}

/// How a request to let go went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// There is nothing in the slot.
    Empty,
    /// The driver is to finish first what it does.
    Busy,
    /// The slot had no power.
    TakenOut,
    Asked,
}

const BUTTON: u16 = 1 << 0;
const PRESENCE_OR_LINK: u16 = 1 << 3 | 1 << 8;
const EVENTS: u16 = 0x011f;
const OCCUPIED: u16 = 1 << 6;
const LINK_TRAINING: u16 = 1 << 11;
const LINK_WIDTH: u16 = 0x3f << 4;

const INDICATOR: u16 = 0b11 << 8;
const INDICATOR_ON: u16 = 0b01 << 8;
const BLINKING: u16 = 0b10 << 8;
const INDICATOR_OFF: u16 = 0b11 << 8;
const POWER: u16 = 1 << 10;
const POWER_OFF: u16 = 1 << 10;
const POWER_ON: u16 = 0;

impl Driver {
    /// Takes a port into service.
    pub(super) fn probe(mut port: RootPort, by_messages: bool) -> Self {
        if by_messages {
            port.enable_messages();
        }
        // Nothing that happened before counts.
        assert_eq!(port.set(SLOT_STATUS, EVENTS), None);
        let mut driver = Self {
            port,
            state: State::Off,
            bring_ups: 0,
            by_messages,
            messages: 0,
            pending: 0,
        };
        driver.command(0x1021, 0x1039);
        driver.presence_or_link_changed();
        driver
    }

    /// Plugs something in where there is nothing.
    pub(super) fn plug(&mut self) {
        let raised = self.port.plug();
        self.count(raised);
    }

    /// Asks the driver to let go.
    pub(super) fn request_unplug(&mut self) -> Request {
        assert!(self.port.is_served());
        if !self.port.is_occupied() {
            return Request::Empty;
        }
        if self.port.is_busy() {
            return Request::Busy;
        }
        if !self.port.is_powered() {
            self.take_out();
            return Request::TakenOut;
        }
        let raised = self.port.request_unplug();
        self.count(raised);
        assert!(self.port.is_busy());
        Request::Asked
    }

    /// Serves interrupts until there is none.
    pub(super) fn look(&mut self) {
        while self.port.irq() || self.messages > 0 {
            self.hear();
            self.act();
        }
    }

    /// Takes note of events and clears them until there are none: before that, the port sends no
    /// further message.
    pub(super) fn hear(&mut self) {
        if !self.port.irq() && self.messages == 0 {
            return;
        }
        self.messages = 0;
        loop {
            let status = self.port.get(SLOT_STATUS) & EVENTS;
            if status == 0 {
                break;
            }
            self.pending |= status;
            self.set(SLOT_STATUS, status);
        }
    }

    /// Acts upon the events it knows of.
    pub(super) fn act(&mut self) {
        let events = core::mem::take(&mut self.pending);
        if events & BUTTON != 0 {
            self.button_pressed();
        }
        if events & PRESENCE_OR_LINK != 0 {
            if matches!(self.state, State::On | State::BlinkingOff) {
                // Whatever was there is gone, even if something is there again.
                self.turn_off();
            }
            self.presence_or_link_changed();
        }
    }

    /// Lets the time pass in which the button can be pressed again.
    pub(super) fn wait(&mut self) {
        match self.state {
            State::BlinkingOn => self.presence_or_link_changed(),
            State::BlinkingOff => self.turn_off(),
            State::Off | State::On => {}
        }
    }

    /// Turns off what nobody has asked it to.
    pub(super) fn turn_off(&mut self) {
        self.command(POWER_OFF, POWER);
        self.hear();
        self.pending &= !PRESENCE_OR_LINK;
        self.command(INDICATOR_OFF, INDICATOR);
        self.state = State::Off;
    }

    fn button_pressed(&mut self) {
        let (state, indicator) = match self.state {
            State::Off => (State::BlinkingOn, BLINKING),
            State::BlinkingOn => (State::Off, INDICATOR_OFF),
            State::On => (State::BlinkingOff, BLINKING),
            State::BlinkingOff => (State::On, INDICATOR_ON),
        };
        self.state = state;
        self.command(indicator, INDICATOR);
    }

    fn presence_or_link_changed(&mut self) {
        let is_present = self.port.get(SLOT_STATUS) & OCCUPIED != 0;
        let is_active = self.port.get(LINK_STATUS) & LINK_ACTIVE != 0;
        if matches!(self.state, State::On | State::BlinkingOff) {
            return;
        }
        if is_present || is_active {
            self.turn_on();
        } else if self.state == State::BlinkingOn {
            self.command(INDICATOR_OFF, INDICATOR);
            self.state = State::Off;
        }
    }

    fn turn_on(&mut self) {
        self.command(POWER_ON, POWER);
        self.command(BLINKING, INDICATOR);
        let link = self.port.get(LINK_STATUS);
        assert_ne!(link & LINK_ACTIVE, 0, "the link comes up");
        assert_eq!(link & LINK_TRAINING, 0, "training is over");
        assert_ne!(link & LINK_WIDTH, 0, "there is a lane");
        self.hear();
        self.pending &= !PRESENCE_OR_LINK;
        self.command(INDICATOR_ON, INDICATOR);
        self.bring_ups += 1;
        self.state = State::On;
    }

    fn command(&mut self, value: u16, mask: u16) {
        let control = self.port.get(SLOT_CONTROL);
        self.set(SLOT_CONTROL, control & !mask | value);
    }

    /// What has been let go of is taken out.
    fn set(&mut self, at: u8, value: u16) {
        let secondary = self.port.set(at, value);
        let message = self.port.take_message();
        self.messages += u32::from(message.is_some());
        match secondary {
            Some(Secondary::Released) => self.take_out(),
            Some(Secondary::Reset) => assert!(!self.port.is_link_up()),
            None => {}
        }
    }

    fn take_out(&mut self) {
        assert!(!self.port.is_link_up(), "nothing goes by surprise");
        let raised = self.port.unplug();
        self.count(raised);
    }

    fn count(&mut self, raised: Raised) {
        match raised {
            Raised::Message(message) => {
                assert!(self.by_messages);
                assert_eq!(message, MESSAGE);
                self.messages += 1;
            }
            Raised::Line(_) => assert!(!self.by_messages),
            Raised::Nothing => {}
        }
    }
}

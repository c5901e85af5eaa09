//! What a driver of a hot-plug slot does by PCIe section 6.7: it enables presence and link events,
//! clears what it is told of, and looks at the slot only then.

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
}

/// What the driver believes to be in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Off,
    On,
}

const EVENTS: u16 = 0x011f;
const OCCUPIED: u16 = 1 << 6;
const LINK_TRAINING: u16 = 1 << 11;
const LINK_WIDTH: u16 = 0x3f << 4;

impl Driver {
    /// Takes a port into service.
    pub(super) fn probe(mut port: RootPort, by_messages: bool) -> Self {
        if by_messages {
            port.enable_messages();
        }
        // Nothing that happened before counts.
        assert_eq!(port.set(SLOT_STATUS, EVENTS), None);
        assert_eq!(port.set(SLOT_CONTROL, 0x1028), None);
        let mut driver = Self {
            port,
            state: State::Off,
            bring_ups: 0,
            by_messages,
            messages: 0,
        };
        driver.look_at_slot();
        driver
    }

    pub(super) fn plug(&mut self) {
        self.plug_unseen();
        self.look();
    }

    pub(super) fn unplug(&mut self) {
        self.unplug_unseen();
        self.look();
    }

    /// Plugs something in while the driver is busy elsewhere.
    pub(super) fn plug_unseen(&mut self) {
        let raised = self.port.plug();
        self.count(raised);
    }

    pub(super) fn unplug_unseen(&mut self) {
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

    /// Serves interrupts until there is none.
    pub(super) fn look(&mut self) {
        while self.port.irq() || self.messages > 0 {
            self.messages = 0;
            self.interrupted();
        }
    }

    /// Clears events until there are none: before that, the port sends no further message.
    fn interrupted(&mut self) {
        let mut events = 0;
        loop {
            let status = self.port.get(SLOT_STATUS) & EVENTS;
            if status == 0 {
                break;
            }
            events |= status;
            assert_eq!(self.port.set(SLOT_STATUS, status), None);
            let message = self.port.take_message();
            self.messages += u32::from(message.is_some());
        }
        assert_ne!(events, 0, "an interrupt has a cause");
        // Whatever was there is gone, even if something is there again.
        self.state = State::Off;
        self.look_at_slot();
    }

    fn look_at_slot(&mut self) {
        let is_present = self.port.get(SLOT_STATUS) & OCCUPIED != 0;
        let link = self.port.get(LINK_STATUS);
        let is_active = link & LINK_ACTIVE != 0;
        if !is_present && !is_active {
            return;
        }
        assert!(is_active, "the link comes up");
        assert_eq!(link & LINK_TRAINING, 0, "training is over");
        assert_ne!(link & LINK_WIDTH, 0, "there is a lane");
        self.bring_ups += 1;
        self.state = State::On;
    }
}

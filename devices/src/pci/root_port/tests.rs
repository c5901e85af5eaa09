mod driver;

use super::*;
use crate::pci::config::tests::survives_every_access;
use core::cell::RefCell;
use driver::{Driver, State};
use proptest::prelude::*;

/// Where the PCI Express capability and MSI are.
const EXPRESS: u8 = 0x40;
const MSI: u8 = 0x7c;

const LINK_CONTROL: u8 = EXPRESS + 0x10;
const SLOT_CONTROL: u8 = EXPRESS + 0x18;
const SLOT_STATUS: u8 = EXPRESS + 0x1a;
const LINK_STATUS: u8 = EXPRESS + 0x12;

const MESSAGE: Message = Message {
    address: 0x1_fee0_0004,
    data: 0x41,
};

impl RootPort {
    fn get(&self, at: u8) -> u16 {
        let mut data = [0; 2];
        self.config_read(at.into(), &mut data);
        u16::from_le_bytes(data)
    }

    fn get_32(&self, at: u8) -> u32 {
        let mut data = [0; 4];
        self.config_read(at.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, at: u8, value: u16) -> Option<SecondaryReset> {
        self.config_write(at.into(), &value.to_le_bytes())
    }

    fn set_32(&mut self, at: u8, value: u32) {
        assert_eq!(self.config_write(at.into(), &value.to_le_bytes()), None);
    }

    fn enable_messages(&mut self) {
        self.set_32(MSI + 4, 0xfee0_0007);
        self.set_32(MSI + 8, 1);
        self.set_32(MSI + 12, 0x41);
        assert_eq!(self.set(MSI + 2, 0xffff), None);
        assert_eq!(self.set(0x04, 0x0006), None);
    }
}

/// A port by which the driver is told of everything.
fn listening() -> RootPort {
    let mut port = RootPort::new(3);
    assert_eq!(port.set(SLOT_CONTROL, 0xffff), None);
    port
}

#[test]
fn it_is_a_bridge_with_a_slot() {
    let port = RootPort::new(0xff);
    assert_eq!(port.config.walk(), [(0x10, EXPRESS), (0x05, MSI)]);
    assert_eq!(port.get_32(0x00), 0x000c_1b36);
    assert_eq!(port.get_32(0x08), 0x0604_0000);
    assert_eq!(port.get_32(0x0c), 0x0001_0000);
    assert_eq!(port.get_32(0x3c), 0x0000_0100);
    assert_eq!(port.get(EXPRESS + 2), 0x0142);
    assert_eq!(port.get_32(EXPRESS + 0x0c), 0x0010_0011);
    assert_eq!(port.get_32(EXPRESS + 0x14), 0x07fc_0060);
}

#[test]
fn windows_are_closed_until_the_guest_opens_them() {
    let port = RootPort::new(0);
    assert_eq!(port.get_32(0x1c), 0, "there is none for I/O ports");
    assert_eq!((port.get(0x20), port.get(0x22)), (0xfff0, 0x0000));
    assert_eq!((port.get(0x24), port.get(0x26)), (0xfff1, 0x0001));
    assert_eq!((port.get_32(0x28), port.get_32(0x2c)), (0, 0));
}

#[test]
fn windows_and_bus_numbers_take_what_they_can_say() {
    let mut port = RootPort::new(0);
    for at in (0x10..0x34).step_by(4) {
        port.set_32(at, u32::MAX);
    }
    let read = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30].map(|at| port.get_32(at));
    let wanted = [
        0,
        0,
        0x00ff_ffff,
        0,
        0xfff0_fff0,
        0xfff1_fff1,
        u32::MAX,
        u32::MAX,
        0,
    ];
    assert_eq!(read, wanted);
    assert_eq!(port.set(0x3e, 0xffff), None);
    assert_eq!(port.get(0x3e), 0x43);
}

#[test]
fn the_bus_behind_it_has_the_number_that_the_guest_gave() {
    let mut port = RootPort::new(0);
    assert_eq!((port.secondary(), port.subordinate()), (None, 0));
    port.set_32(0x18, 0x0007_0500);
    assert_eq!((port.secondary(), port.subordinate()), (Some(5), 7));
}

#[test]
fn slot_control_has_only_what_the_slot_can_tell_of() {
    assert_eq!(listening().get(SLOT_CONTROL), 0x1028);
}

#[test]
fn what_is_plugged_is_present_and_linked() {
    let mut port = RootPort::new(3);
    assert_eq!((port.get(SLOT_STATUS), port.get(LINK_STATUS)), (0, 0));
    assert_eq!(port.plug(), Raised::Nothing);
    assert_eq!((port.is_occupied(), port.is_link_up()), (true, true));
    assert_eq!(port.get(SLOT_STATUS), 0x0148);
    assert_eq!(port.get(LINK_STATUS), 0x2011);
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.get(SLOT_STATUS), 0x0040);
    assert_eq!(port.unplug(), Raised::Nothing);
    assert_eq!((port.is_occupied(), port.is_link_up()), (false, false));
    assert_eq!(port.get(SLOT_STATUS), 0x0108);
    assert_eq!(port.get(LINK_STATUS), 0);
}

#[test]
fn what_is_there_cannot_come_and_what_is_not_cannot_go() {
    let mut port = listening();
    assert_eq!(port.unplug(), Raised::Nothing);
    assert_eq!(port.get(SLOT_STATUS), 0);
    assert_eq!(port.plug(), Raised::Line(true));
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.plug(), Raised::Nothing);
    assert_eq!(port.get(SLOT_STATUS), 0x40);
}

#[test]
fn without_messages_the_pin_is_asserted_until_the_events_are_cleared() {
    let mut port = listening();
    assert_eq!(port.plug(), Raised::Line(true));
    assert!(port.irq());
    assert_eq!(port.get(0x06), 0x18);
    assert_eq!(port.unplug(), Raised::Nothing);
    assert_eq!(port.set(SLOT_STATUS, 0x008), None);
    assert!(port.irq());
    assert_eq!(port.set(SLOT_STATUS, 0x100), None);
    assert!(!port.irq());
    assert_eq!(port.get(0x06), 0x10);
    assert_eq!(port.take_message(), None);
}

#[test]
fn a_disabled_pin_stays_low_and_the_interrupt_is_still_shown() {
    let mut port = listening();
    assert_eq!(port.set(0x04, 0x0400), None);
    assert_eq!(port.plug(), Raised::Nothing);
    assert!(!port.irq());
    assert_eq!(port.get(0x06), 0x18);
    assert_eq!(port.set(0x04, 0), None);
    assert!(port.irq());
}

#[test]
fn a_message_is_sent_once_until_all_events_are_cleared() {
    let mut port = listening();
    port.enable_messages();
    assert_eq!(port.plug(), Raised::Message(MESSAGE));
    assert!(!port.irq());
    assert_eq!(port.unplug(), Raised::Nothing);
    assert_eq!(port.set(SLOT_STATUS, 0x008), None);
    assert_eq!(port.plug(), Raised::Nothing);
    assert_eq!(port.set(SLOT_STATUS, 0x108), None);
    assert_eq!(port.take_message(), None);
    assert_eq!(port.unplug(), Raised::Message(MESSAGE));
}

#[test]
fn whatever_is_enabled_last_releases_the_message() {
    for last in 0..3 {
        let mut port = RootPort::new(3);
        port.enable_messages();
        let steps = [(0x04, 0x0004), (MSI + 2, 1), (SLOT_CONTROL, 0x1028)];
        for (at, _) in steps {
            assert_eq!(port.set(at, 0), None);
        }
        assert_eq!(port.plug(), Raised::Nothing);
        for index in [1, 2, 0] {
            let (at, value) = steps[(last + index) % 3];
            assert_eq!(port.take_message(), None);
            assert_eq!(port.set(at, value), None);
        }
        assert_eq!(port.take_message(), Some(MESSAGE));
        assert_eq!(port.take_message(), None);
    }
}

#[test]
fn only_events_that_are_enabled_interrupt() {
    for (control, interrupts) in [
        (0x0000, false),
        (0x0020, false),
        (0x1008, false),
        (0x0028, true),
        (0x1020, true),
    ] {
        let mut port = RootPort::new(3);
        assert_eq!(port.set(SLOT_CONTROL, control), None);
        let raised = if interrupts {
            Raised::Line(true)
        } else {
            Raised::Nothing
        };
        assert_eq!(port.plug(), raised, "{control:#x}");
    }
}

#[test]
fn a_disabled_link_is_down_and_resets_what_is_behind_it() {
    let mut port = listening();
    assert_eq!(port.set(LINK_CONTROL, 0x10), None);
    assert_eq!(port.plug(), Raised::Line(true));
    assert_eq!((port.get(SLOT_STATUS), port.is_link_up()), (0x48, false));
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.set(LINK_CONTROL, 0), None);
    assert_eq!((port.get(SLOT_STATUS), port.is_link_up()), (0x140, true));
    assert_eq!(port.set(LINK_CONTROL, 0x10), Some(SecondaryReset));
    assert_eq!(port.set(LINK_CONTROL, 0x10), None);
    assert_eq!(port.get(LINK_STATUS), 0);
}

#[test]
fn a_reset_of_the_secondary_bus_takes_the_link_down_while_it_lasts() {
    let mut port = RootPort::new(3);
    assert_eq!(port.set(0x3e, 0x40), None);
    assert_eq!(port.set(0x3e, 0x00), None);
    assert_eq!(port.plug(), Raised::Nothing);
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.set(0x3e, 0x40), Some(SecondaryReset));
    assert_eq!((port.is_link_up(), port.get(SLOT_STATUS)), (false, 0x140));
    assert_eq!(port.set(0x3e, 0x00), None);
    assert!(port.is_link_up());
}

#[test]
fn a_reset_leaves_in_the_slot_what_is_there_and_forgets_the_events() {
    let mut port = listening();
    port.enable_messages();
    port.set_32(0x18, 0x0001_0100);
    assert_eq!(port.plug(), Raised::Message(MESSAGE));
    port.reset();
    assert_eq!(
        (port.get(SLOT_STATUS), port.get(LINK_STATUS)),
        (0x40, 0x2011)
    );
    assert_eq!((port.get(SLOT_CONTROL), port.secondary()), (0, None));
    assert_eq!((port.irq(), port.take_message()), (false, None));
}

#[test]
fn every_access_is_survived() {
    let port = RefCell::new(listening());
    let _ = port.borrow_mut().plug();
    survives_every_access(
        |at, data| port.borrow().config_read(at, data),
        |at, data| {
            let _ = port.borrow_mut().config_write(at, data);
        },
    );
    assert_eq!(port.borrow().config.walk(), [(0x10, EXPRESS), (0x05, MSI)]);
}

#[test]
fn a_driver_brings_up_what_comes_and_takes_down_what_goes() {
    for by_messages in [false, true] {
        let mut driver = Driver::probe(RootPort::new(1), by_messages);
        assert_eq!(driver.state, State::Off);
        driver.plug();
        assert_eq!(driver.state, State::On);
        driver.unplug();
        assert_eq!(driver.state, State::Off);
        driver.plug();
        assert_eq!(driver.state, State::On);
    }
}

#[test]
fn a_driver_finds_what_was_there_before_it() {
    let mut port = RootPort::new(1);
    assert_eq!(port.plug(), Raised::Nothing);
    let driver = Driver::probe(port, true);
    assert_eq!(driver.state, State::On);
}

proptest! {
    /// However late it gets to look, the driver ends up with what is in the slot, and if that was
    /// exchanged meanwhile, it knows.
    #[test]
    fn a_driver_that_is_late_agrees_with_the_slot_in_the_end(
        steps in prop::collection::vec((any::<bool>(), any::<bool>()), 0..32),
        by_messages: bool,
    ) {
        let mut driver = Driver::probe(RootPort::new(1), by_messages);
        let mut bring_ups = 0;
        for (plugs, looks) in steps {
            let was_on = driver.state == State::On && driver.port.is_occupied();
            if plugs {
                driver.plug_unseen();
            } else {
                driver.unplug_unseen();
            }
            bring_ups += u32::from(plugs && !was_on);
            if looks {
                driver.look();
                prop_assert_eq!(driver.state == State::On, driver.port.is_occupied());
            }
        }
        driver.look();
        prop_assert_eq!(driver.state == State::On, driver.port.is_occupied());
        prop_assert!(driver.bring_ups <= bring_ups);
        prop_assert!(!driver.port.irq());
    }
}

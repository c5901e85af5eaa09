mod driver;

use super::*;
use crate::pci::config::tests::survives_every_access;
use core::cell::RefCell;
use driver::{Driver, Request, State};
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

    fn set(&mut self, at: u8, value: u16) -> Option<Secondary> {
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

/// Every event enabled, power on, the indicator on.
const LISTENING: u16 = 0x1129;
const POWER_OFF: u16 = 0x0400;

/// A port with power by which the driver is told of everything.
fn listening() -> RootPort {
    let mut port = RootPort::new(3);
    assert_eq!(port.set(SLOT_CONTROL, LISTENING), None);
    port
}

/// One with something in the slot, of which the driver knows.
fn in_use() -> RootPort {
    let mut port = listening();
    assert_eq!(port.plug(), Raised::Line(true));
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
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
    assert_eq!(port.get_32(EXPRESS + 0x14), 0x07fc_0053);
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
fn slot_control_has_only_what_the_slot_has() {
    let mut port = RootPort::new(3);
    assert_eq!(port.get(SLOT_CONTROL), 0x0700, "everything is off");
    assert_eq!(port.set(SLOT_CONTROL, 0xffff), None);
    assert_eq!(port.get(SLOT_CONTROL), 0x1729);
    assert_eq!(port.set(SLOT_CONTROL, 0), None);
    assert_eq!(port.get(SLOT_CONTROL), 0);
}

#[test]
fn what_is_plugged_is_present_and_is_linked_once_it_has_power() {
    let mut port = RootPort::new(3);
    assert_eq!((port.get(SLOT_STATUS), port.get(LINK_STATUS)), (0, 0));
    assert_eq!(port.plug(), Raised::Nothing);
    assert_eq!((port.is_occupied(), port.is_link_up()), (true, false));
    assert_eq!((port.get(SLOT_STATUS), port.get(LINK_STATUS)), (0x49, 0));
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.set(SLOT_CONTROL, 0x0200), None);
    assert_eq!((port.is_powered(), port.is_link_up()), (true, true));
    assert_eq!(port.get(SLOT_STATUS), 0x0140);
    assert_eq!(port.get(LINK_STATUS), 0x2011);
}

#[test]
fn what_is_taken_out_is_absent_and_has_no_link() {
    let mut port = in_use();
    assert_eq!(port.unplug(), Raised::Line(true));
    assert_eq!((port.is_occupied(), port.is_link_up()), (false, false));
    assert_eq!(port.get(SLOT_STATUS), 0x0108);
    assert_eq!(port.get(LINK_STATUS), 0);
}

#[test]
fn what_is_there_cannot_come_and_what_is_not_cannot_go() {
    let mut port = listening();
    assert_eq!(port.unplug(), Raised::Nothing);
    assert_eq!(port.request_unplug(), Raised::Nothing);
    assert_eq!(port.get(SLOT_STATUS), 0);
    assert_eq!(port.plug(), Raised::Line(true));
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.plug(), Raised::Nothing);
    assert_eq!(port.get(SLOT_STATUS), 0x40);
}

#[test]
fn what_is_plugged_into_a_slot_with_power_is_linked_and_presses_no_button() {
    let mut port = listening();
    assert_eq!(port.plug(), Raised::Line(true));
    assert_eq!((port.get(SLOT_STATUS), port.is_link_up()), (0x148, true));
}

#[test]
fn the_button_asks_the_guest_and_power_off_lets_go() {
    let mut port = in_use();
    assert_eq!(port.request_unplug(), Raised::Line(true));
    assert_eq!(port.get(SLOT_STATUS), 0x41);
    assert!(port.is_busy() && port.is_link_up());
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.set(SLOT_CONTROL, 0x1229), None);
    assert!(port.is_busy() && port.is_link_up());
    let off = Some(Secondary::Released);
    assert_eq!(port.set(SLOT_CONTROL, 0x1229 | POWER_OFF), off);
    assert_eq!(port.get(SLOT_STATUS), 0x140);
    assert_eq!(port.unplug(), Raised::Nothing);
    assert_eq!(port.get(SLOT_STATUS), 0x108);
    assert_eq!(port.set(SLOT_CONTROL, 0x1329 | POWER_OFF), None);
    assert!(!port.is_busy());
}

#[test]
fn what_has_been_let_go_of_is_let_go_of_though_its_link_was_down() {
    let mut port = in_use();
    assert_eq!(port.request_unplug(), Raised::Line(true));
    assert_eq!(port.set(LINK_CONTROL, 0x10), Some(Secondary::Reset));
    let off = Some(Secondary::Released);
    assert_eq!(port.set(SLOT_CONTROL, LISTENING | POWER_OFF), off);
}

#[test]
fn power_off_without_a_request_resets_what_stays_in_the_slot() {
    let mut port = in_use();
    let off = Some(Secondary::Reset);
    assert_eq!(port.set(SLOT_CONTROL, LISTENING | POWER_OFF), off);
    assert_eq!((port.is_occupied(), port.is_link_up()), (true, false));
    assert_eq!(port.request_unplug(), Raised::Nothing, "nobody has it");
    assert!(!port.is_busy());
    assert_eq!(port.set(SLOT_CONTROL, LISTENING), None);
    assert!(port.is_link_up());
}

#[test]
fn a_guest_that_is_busy_is_not_asked_again() {
    let mut port = in_use();
    assert_eq!(port.request_unplug(), Raised::Line(true));
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.request_unplug(), Raised::Nothing);
    assert_eq!(port.get(SLOT_STATUS), 0x40);

    let mut port = in_use();
    assert_eq!(port.set(SLOT_CONTROL, 0x1229), None);
    assert!(port.is_busy());
    assert_eq!(port.request_unplug(), Raised::Nothing);
    assert_eq!(port.get(SLOT_STATUS), 0x40);
}

#[test]
fn a_guest_that_changes_its_mind_or_has_no_driver_any_more_can_be_asked_again() {
    for last in [LISTENING, 0x1200] {
        let mut port = in_use();
        assert_eq!(port.request_unplug(), Raised::Line(true));
        assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
        for control in [0x1229, last, LISTENING] {
            assert_eq!(port.set(SLOT_CONTROL, control), None);
        }
        assert!(!port.is_busy());
        assert_eq!(port.request_unplug(), Raised::Line(true));
    }
}

#[test]
fn a_slot_is_served_by_who_listens_to_the_button() {
    for (control, is_served) in [
        (0x0000, false),
        (0x0001, false),
        (0x0020, false),
        (0x1028, false),
        (0x0021, true),
        (0x1729, true),
    ] {
        let mut port = RootPort::new(3);
        assert!(!port.is_served());
        assert_eq!(port.set(SLOT_CONTROL, control), None);
        assert_eq!(port.is_served(), is_served, "{control:#x}");
    }
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
        let steps = [(0x04, 0x0004), (MSI + 2, 1), (SLOT_CONTROL, 0x1029)];
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
        (0x0400, false),
        (0x0420, false),
        (0x1409, false),
        (0x1020, true),
        (0x1420, false),
        (0x0428, true),
        (0x0421, true),
        (0x0021, false),
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
    assert_eq!(port.set(LINK_CONTROL, 0x10), Some(Secondary::Reset));
    assert_eq!(port.set(LINK_CONTROL, 0x10), None);
    assert_eq!(port.get(LINK_STATUS), 0);
}

#[test]
fn a_reset_of_the_secondary_bus_takes_the_link_down_while_it_lasts() {
    let mut port = listening();
    assert_eq!(port.set(0x3e, 0x40), None);
    assert_eq!(port.set(0x3e, 0x00), None);
    assert_eq!(port.plug(), Raised::Line(true));
    assert_eq!(port.set(SLOT_STATUS, 0xffff), None);
    assert_eq!(port.set(0x3e, 0x40), Some(Secondary::Reset));
    assert_eq!((port.is_link_up(), port.get(SLOT_STATUS)), (false, 0x140));
    assert_eq!(port.set(0x3e, 0x00), None);
    assert!(port.is_link_up());
}

#[test]
fn a_reset_leaves_in_the_slot_what_is_there_and_forgets_the_events() {
    let mut port = in_use();
    port.enable_messages();
    port.set_32(0x18, 0x0001_0100);
    assert_eq!(port.request_unplug(), Raised::Message(MESSAGE));
    port.reset();
    assert_eq!((port.get(SLOT_STATUS), port.get(LINK_STATUS)), (0x40, 0));
    assert_eq!((port.get(SLOT_CONTROL), port.secondary()), (0x0700, None));
    assert_eq!((port.irq(), port.take_message()), (false, None));
    assert!(!port.is_busy());
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
fn a_driver_brings_up_what_comes_and_lets_go_of_what_it_is_asked_for() {
    for by_messages in [false, true] {
        let mut driver = Driver::probe(RootPort::new(1), by_messages);
        assert_eq!(driver.state, State::Off);
        for times in 1..3 {
            driver.plug();
            driver.look();
            assert_eq!((driver.state, driver.bring_ups), (State::On, times));
            assert_eq!(driver.request_unplug(), Request::Asked);
            driver.look();
            assert_eq!(driver.state, State::BlinkingOff);
            assert_eq!(driver.request_unplug(), Request::Busy);
            assert!(driver.port.is_link_up());
            driver.wait();
            assert_eq!(driver.state, State::Off);
            assert!(!driver.port.is_occupied());
        }
    }
}

#[test]
fn a_driver_finds_what_was_there_before_it() {
    let mut port = RootPort::new(1);
    assert_eq!(port.plug(), Raised::Nothing);
    let driver = Driver::probe(port, true);
    assert_eq!(driver.state, State::On);
}

#[test]
fn what_a_driver_has_turned_off_by_itself_needs_no_asking() {
    let mut driver = Driver::probe(RootPort::new(1), true);
    driver.plug();
    driver.look();
    driver.turn_off();
    driver.look();
    assert!(driver.port.is_occupied());
    assert_eq!(driver.request_unplug(), Request::TakenOut);
    driver.plug();
    driver.look();
    assert_eq!(driver.state, State::On);
}

/// What happens to a slot and its driver.
#[derive(Clone, Copy, Debug)]
enum Step {
    Plug,
    RequestUnplug,
    Hear,
    Act,
    Wait,
}

const STEPS: [Step; 5] = [
    Step::Plug,
    Step::RequestUnplug,
    Step::Hear,
    Step::Act,
    Step::Wait,
];

proptest! {
    /// However late it gets to look, the driver ends up with what is in the slot, and has let go of
    /// what it was asked for.
    #[test]
    fn a_driver_that_is_late_agrees_with_the_slot_in_the_end(
        steps in prop::collection::vec(
            prop::sample::select(&STEPS[..]),
            0..64,
        ),
        by_messages: bool,
    ) {
        let mut driver = Driver::probe(RootPort::new(1), by_messages);
        let mut is_wanted = false;
        for step in steps {
            match step {
                Step::Plug if !driver.port.is_occupied() => {
                    driver.plug();
                    is_wanted = true;
                }
                Step::Plug => {}
                Step::RequestUnplug => match driver.request_unplug() {
                    Request::Asked | Request::TakenOut => is_wanted = false,
                    Request::Empty | Request::Busy => {}
                },
                Step::Hear => driver.hear(),
                Step::Act => driver.act(),
                Step::Wait => driver.wait(),
            }
        }
        for _ in 0..2 {
            driver.act();
            driver.look();
            driver.wait();
        }
        prop_assert_eq!(driver.port.is_occupied(), is_wanted);
        prop_assert_eq!(driver.state == State::On, is_wanted);
        prop_assert_eq!(driver.state == State::Off, !is_wanted);
        prop_assert!(!driver.port.irq());
    }
}

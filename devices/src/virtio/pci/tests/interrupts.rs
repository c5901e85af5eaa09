//! Interrupts by message, and by pin A and the ISR.

use super::*;

/// A running function whose driver gave it messages 0x40, 0x41 and 0x42, the first of which is for
/// changes of the configuration and the second for the first queue.
fn with_messages() -> VirtioPci {
    let mut function = running();
    function.set_config(MSIX_CONTROL - 2, 0x8000_0000);
    for vector in 0..3 {
        let at = TABLE + 16 * vector;
        function.set(at, 0xfee0_0000_u64);
        function.set(at + 8, 0x40 + vector);
    }
    function.set(CONFIG_VECTOR, 0_u16);
    function
}

fn message(data: u32) -> Message {
    Message {
        address: 0xfee0_0000,
        data,
    }
}

#[test]
fn each_cause_has_its_vector() {
    let mut function = with_messages();
    let config = function.raise(Cause::Configuration);
    assert_eq!(config, Raised::Message(message(0x40)));
    let queue = function.raise(Cause::Queue(0));
    assert_eq!(queue, Raised::Message(message(0x41)));
    for queue in 1..=u16::MAX {
        assert_eq!(function.raise(Cause::Queue(queue)), Raised::Nothing);
    }
    assert!(!function.irq());
    assert_eq!(function.take_message(), None);
}

#[test]
fn what_is_masked_comes_when_it_is_unmasked() {
    let mut function = with_messages();
    function.set(TABLE + 16 + 12, 1_u32);
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Nothing);
    assert_eq!((function.get(PBA, 8), function.take_message()), (2, None));
    function.set(PBA, 0_u64);
    assert_eq!(function.get(PBA, 8), 2, "it cannot be written");
    function.set(TABLE + 16 + 12, 0_u32);
    assert_eq!(function.take_message(), Some(message(0x41)));
    assert_eq!((function.get(PBA, 8), function.take_message()), (0, None));
}

#[test]
fn the_mask_of_the_function_is_in_configuration_space() {
    let mut function = with_messages();
    function.set_config(MSIX_CONTROL - 2, 0xc000_0000);
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Nothing);
    assert_eq!(function.raise(Cause::Configuration), Raised::Nothing);
    assert_eq!(function.take_message(), None);
    function.set_config(MSIX_CONTROL - 2, 0x8000_0000);
    assert_eq!(function.take_message(), Some(message(0x40)));
    assert_eq!(function.take_message(), Some(message(0x41)));
}

#[test]
fn without_messages_the_isr_tells_why_the_pin_is_asserted() {
    let mut function = running();
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Line(true));
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Nothing);
    assert_eq!(function.raise(Cause::Configuration), Raised::Nothing);
    assert!(function.irq());
    assert_eq!(function.get_config(0x04) >> 16, 0x18);
    assert_eq!(function.get(ISR, 4), 0xffff_ff03);
    assert!(!function.irq());
    assert_eq!(function.get_config(0x04) >> 16, 0x10);
    assert_eq!(function.get(ISR, 1), 0);
    assert_eq!(function.raise(Cause::Configuration), Raised::Line(true));
    function.set(ISR, 0xff_u8);
    assert_eq!(function.get(ISR, 1), 2);
}

#[test]
fn a_read_beside_the_isr_leaves_it_alone() {
    let mut function = running();
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Line(true));
    assert_eq!(function.get(ISR + 1, 1), 0xff);
    assert_eq!(function.get(ISR - 1, 2), 0xffff);
    assert!(function.irq());
}

#[test]
fn a_disabled_pin_stays_low() {
    let mut function = running();
    function.set_config(0x04, 0x0406);
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Nothing);
    assert!(!function.irq());
    assert_eq!(function.get_config(0x04) >> 16, 0x18);
    function.set_config(0x04, 0x0006);
    assert!(function.irq());
}

#[test]
fn enabling_messages_lets_the_pin_go() {
    let mut function = running();
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Line(true));
    function.set_config(MSIX_CONTROL - 2, 0x8000_0000);
    assert!(!function.irq());
    assert_eq!(function.get_config(0x04) >> 16, 0x10);
}

#[test]
fn with_messages_the_isr_tells_of_the_configuration_only() {
    let mut function = with_messages();
    let _ = function.raise(Cause::Queue(0));
    assert_eq!(function.get(ISR, 1), 0);
    let _ = function.raise(Cause::Configuration);
    assert_eq!(function.get(ISR, 1), 2);
}

#[test]
fn a_device_that_breaks_down_says_so_once_it_runs() {
    let mut function = with_messages();
    assert_eq!(function.break_down(), Raised::Message(message(0x40)));
    assert_eq!(function.status(), 15 | 64);
    assert_eq!(function.break_down(), Raised::Nothing);
    assert_eq!(function.bar_write(NOTIFY, &[0, 0]), None);
    assert_eq!(function.bar_write(STATUS, &[0]), Some(Event::Stop));
    function.stopped();
    assert_eq!(function.status(), 0);
    assert_eq!(super::function().break_down(), Raised::Nothing);
}

#[test]
fn a_reset_lets_the_pin_go() {
    let mut function = running();
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Line(true));
    assert_eq!(function.bar_write(STATUS, &[0]), Some(Event::Stop));
    assert!(function.irq());
    function.stopped();
    assert!(!function.irq());
    assert_eq!(function.get(ISR, 1), 0);
}

#[test]
fn a_driver_that_is_not_ready_is_not_interrupted() {
    for mut function in [function(), stopping(), broken()] {
        assert_eq!(function.raise(Cause::Queue(0)), Raised::Nothing);
        assert_eq!(function.raise(Cause::Configuration), Raised::Nothing);
        assert!(!function.irq());
    }
}

fn stopping() -> VirtioPci {
    let mut function = running();
    assert_eq!(function.bar_write(STATUS, &[0]), Some(Event::Stop));
    function
}

fn broken() -> VirtioPci {
    let mut function = running();
    assert_eq!(function.break_down(), Raised::Line(true));
    assert_eq!(function.get(ISR, 1), 2);
    function
}

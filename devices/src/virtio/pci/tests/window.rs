//! The window on the BAR in configuration space, wherever a driver points it.

use super::*;

/// Where the capability of the window is.
fn window(function: &VirtioPci) -> u16 {
    let (_, at) = *function.config.walk().last().unwrap();
    at.into()
}

impl VirtioPci {
    fn look_at(&mut self, bar: u8, offset: u32, length: u32) -> u16 {
        let at = window(self);
        assert_eq!(self.config_write(at + 4, &[bar]), None);
        self.config_write(at + 8, &offset.to_le_bytes());
        self.config_write(at + 12, &length.to_le_bytes());
        at + 16
    }
}

#[test]
fn the_window_reads_what_the_bar_reads_even_where_that_answers_nowhere() {
    let mut function = running();
    function.set_config(0x04, 0);
    for (offset, length, value) in [
        (0x12, 2, 0xffff_0002),
        (0x14, 1, 0xffff_ff0f),
        (0x20, 4, 0x0000_1000),
        (0x24, 4, 0x0000_0001),
        (0x2004, 4, 0x0807_0605),
    ] {
        let data = function.look_at(0, offset, length);
        assert_eq!(function.get_config(data), value, "{offset:#x}");
    }
}

#[test]
fn the_window_writes_as_many_bytes_as_it_is_long() {
    let mut function = function();
    let data = function.look_at(0, 0x18, 2);
    function.set_config(data, 0x0005_0020);
    assert_eq!(function.get(QUEUE_SIZE, 2), 0x20);
    assert_eq!(function.get(QUEUE_VECTOR, 2), 0xffff);
    let data = function.look_at(0, 0x20, 4);
    function.set_config(data, 0x1234_5000);
    assert_eq!(function.get(QUEUE_DESCRIPTORS, 8), 0x1234_5000);
}

#[test]
fn what_is_asked_by_the_window_comes_out_of_it() {
    let mut function = running();
    let data = function.look_at(0, 0x3000, 2);
    let event = function.config_write(data, &[0, 0]);
    assert_eq!(event, Some(Event::Notify(0)));
    let data = function.look_at(0, 0x14, 1);
    let event = function.config_write(data, &[0, 0, 0, 0]);
    assert_eq!(event, Some(Event::Stop));
}

#[test]
fn reading_the_isr_by_the_window_is_reading_it() {
    let mut function = running();
    let data = function.look_at(0, 0x1000, 1);
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Line(true));
    let mut byte = [0];
    function.config_read(data, &mut byte);
    assert_eq!((byte, function.irq()), ([1], false));
}

#[test]
fn registers_beside_the_window_are_no_access_to_it() {
    let mut function = running();
    let data = function.look_at(0, 0x1000, 1);
    assert_eq!(function.raise(Cause::Queue(0)), Raised::Line(true));
    function.get_config(data - 4);
    function.get_config(data + 4);
    assert!(function.irq());
    function.get_config(data - 2);
    assert!(!function.irq());
}

#[test]
fn a_window_on_nothing_reads_ones_and_writes_nothing() {
    for (bar, offset, length) in [
        (0, 0x14, 0),
        (0, 0x14, 3),
        (0, 0x14, 5),
        (0, 0x14, 8),
        (0, 0x14, u32::MAX),
        (0, 0x13, 2),
        (0, 0x16, 4),
        (1, 0x14, 1),
        (5, 0x14, 1),
        (0xff, 0x14, 1),
        (0, 0x3c, 4),
        (0, 0x7ffc, 4),
        (0, 0x8000, 4),
        (0, u32::MAX, 1),
        (0, u32::MAX - 3, 4),
    ] {
        let mut function = running();
        let before = queues(&mut function);
        let data = function.look_at(bar, offset, length);
        assert_eq!(function.config_write(data, &[0; 4]), None);
        assert_eq!(
            function.get_config(data),
            u32::MAX,
            "{bar} {offset} {length}"
        );
        assert_eq!((function.status(), queues(&mut function)), (15, before));
    }
}

proptest! {
    #[test]
    fn a_window_anywhere_is_survived(
        bar: u8,
        offset in prop_oneof![any::<u32>(), 0..0x8000_u32],
        length in prop_oneof![any::<u32>(), 0..9_u32],
        register in 0xa0..0xe0_u16,
        data in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let mut function = running();
        function.look_at(bar % 2, offset, length);
        let _ = function.config_write(register, &data);
        let mut read = data;
        function.config_read(register, &mut read);
    }
}

mod model;

use super::*;
use crate::Chip;
use crate::chip::tests::survives_every_access;
use alloc::vec::Vec;

const TIMER: Irq = Irq(0);
const KEYBOARD: Irq = Irq(1);
const SERIAL: Irq = Irq(4);
const CLOCK: Irq = Irq(8);
const NETWORK: Irq = Irq(10);
const DISK: Irq = Irq(14);

const END: u8 = 0x20;
const READ_REQUESTS: u8 = 0x0a;
const READ_SERVICE: u8 = 0x0b;
const POLL: u8 = 0x0c;

impl Pics {
    fn get(&mut self, window: PicWindow, offset: u64) -> u8 {
        self.window(window).read_byte(offset)
    }

    fn put(&mut self, window: PicWindow, offset: u64, value: u8) {
        assert_eq!(self.window(window).write_byte(offset, value), None);
    }

    /// As Linux's `init_8259A` does it, with these as ICW4, and with nothing masked.
    fn initialised(first: u8, second: u8) -> Self {
        let mut pics = Self::new();
        pics.initialise(first, second);
        pics
    }

    fn initialise(&mut self, first: u8, second: u8) {
        let windows = [
            (PicWindow::First, 0x30, 4, first),
            (PicWindow::Second, 0x38, 2, second),
        ];
        for (window, base, cascade, icw4) in windows {
            self.put(window, 0, 0x11);
            for word in [base, cascade, icw4] {
                self.put(window, 1, word);
            }
        }
    }

    fn plain() -> Self {
        Self::initialised(1, 1)
    }

    fn requests(&mut self) -> (u8, u8) {
        self.both(READ_REQUESTS)
    }

    fn in_service(&mut self) -> (u8, u8) {
        self.both(READ_SERVICE)
    }

    fn both(&mut self, choice: u8) -> (u8, u8) {
        let [first, second] = [PicWindow::First, PicWindow::Second].map(|window| {
            self.put(window, 0, choice);
            self.get(window, 0)
        });
        (first, second)
    }

    /// All that is there to be acknowledged without an end of interrupt.
    fn acknowledged(&mut self) -> Vec<u8> {
        let mut vectors = Vec::new();
        while self.notifies() {
            vectors.push(self.acknowledge());
            assert!(vectors.len() < 100, "an interrupt storm");
        }
        vectors
    }
}

#[test]
fn nothing_interrupts_before_all_of_the_initialisation() {
    let mut pics = Pics::new();
    pics.put(PicWindow::First, 1, 0xfe);
    assert_eq!(pics.get(PicWindow::First, 1), 0xfe, "a probe of the mask");
    pics.set(TIMER, true);
    assert!(!pics.notifies());
    pics.put(PicWindow::First, 0, 0x11);
    for word in [0x20, 4] {
        pics.put(PicWindow::First, 1, word);
        pics.pulse(KEYBOARD);
        assert!(!pics.notifies());
    }
    pics.put(PicWindow::First, 1, 1);
    assert_eq!(pics.get(PicWindow::First, 1), 0, "ICW1 clears the mask");
    assert_eq!(pics.acknowledged(), [0x21]);
}

#[test]
fn initialisation_asks_only_for_the_words_that_were_announced() {
    for (icw1, words) in [(0x10, 2), (0x11, 3), (0x12, 1), (0x13, 2)] {
        let mut pics = Pics::new();
        pics.put(PicWindow::First, 0, icw1);
        for _ in 0..words {
            pics.put(PicWindow::First, 1, 0x08);
        }
        pics.put(PicWindow::First, 1, 0xfd);
        assert_eq!(pics.get(PicWindow::First, 1), 0xfd, "{icw1:#x}");
        pics.pulse(KEYBOARD);
        assert_eq!(pics.acknowledged(), [0x09], "{icw1:#x}");
    }
}

#[test]
fn initialisation_forgets_edges_and_service_but_not_levels() {
    let mut pics = Pics::plain();
    pics.put(PicWindow::Triggers, 1, 1 << 2);
    pics.pulse(TIMER);
    assert_eq!(pics.acknowledge(), 0x30);
    pics.set(SERIAL, true);
    pics.set(NETWORK, true);
    pics.initialise(1, 1);
    assert_eq!(pics.in_service(), (0, 0));
    assert_eq!(
        pics.acknowledged(),
        [0x3a],
        "the line that was high is no edge"
    );
    pics.set(SERIAL, false);
    pics.set(SERIAL, true);
    assert_eq!(pics.requests(), (1 << 4, 1 << 2));
}

#[test]
fn either_controller_may_be_initialised_first() {
    for order in [
        [PicWindow::First, PicWindow::Second],
        [PicWindow::Second, PicWindow::First],
    ] {
        let mut pics = Pics::plain();
        pics.put(PicWindow::Triggers, 1, 1 << 2);
        pics.set(NETWORK, true);
        for window in order {
            pics.put(window, 0, 0x11);
            for word in [
                if window == PicWindow::First {
                    0x30
                } else {
                    0x38
                },
                0,
                1,
            ] {
                pics.put(window, 1, word);
            }
        }
        assert_eq!(pics.acknowledged(), [0x3a]);
    }
}

#[test]
fn an_edge_is_one_interrupt_and_stays_when_the_line_falls() {
    let mut pics = Pics::plain();
    pics.set(SERIAL, true);
    pics.set(SERIAL, true);
    pics.set(SERIAL, false);
    assert_eq!(pics.acknowledge(), 0x34);
    pics.put(PicWindow::First, 0, END);
    assert!(!pics.notifies());
    pics.set(SERIAL, true);
    assert_eq!(pics.acknowledge(), 0x34);
    pics.put(PicWindow::First, 0, END);
    assert!(!pics.notifies(), "high is no edge");
}

#[test]
fn a_level_is_an_interrupt_as_long_as_it_lasts() {
    let mut pics = Pics::plain();
    pics.put(PicWindow::Triggers, 1, 1 << 2);
    pics.set(NETWORK, true);
    for _ in 0..3 {
        assert_eq!(pics.acknowledge(), 0x3a);
        assert!(!pics.notifies());
        pics.put(PicWindow::Second, 0, END);
        pics.put(PicWindow::First, 0, END);
    }
    pics.set(NETWORK, false);
    assert_eq!(pics.requests().1, 0);
}

#[test]
fn an_edge_while_masked_is_kept_and_a_level_is_not() {
    let mut pics = Pics::plain();
    pics.put(PicWindow::Triggers, 0, 1 << 5);
    pics.put(PicWindow::First, 1, 0xff);
    for line in [SERIAL, Irq(5)] {
        pics.pulse(line);
    }
    assert!(!pics.notifies());
    assert_eq!(pics.requests().0, 1 << 4);
    pics.put(PicWindow::First, 1, 0);
    assert_eq!(pics.acknowledged(), [0x34]);
}

#[test]
fn some_lines_are_edges_whatever_is_written() {
    let mut pics = Pics::plain();
    for offset in 0..2 {
        pics.put(PicWindow::Triggers, offset, 0xff);
    }
    let read = [0, 1].map(|offset| pics.get(PicWindow::Triggers, offset));
    assert_eq!(read, [0xf8, 0xde]);
}

#[test]
fn a_line_that_becomes_a_level_forgets_its_edge() {
    let mut pics = Pics::plain();
    pics.pulse(SERIAL);
    pics.put(PicWindow::Triggers, 0, 1 << 4);
    assert!(!pics.notifies());
    pics.set(SERIAL, true);
    assert!(pics.notifies());
    pics.put(PicWindow::Triggers, 0, 0);
    assert!(!pics.notifies(), "there was no edge");
}

#[test]
fn lower_lines_have_priority_and_the_second_controller_is_at_the_cascade() {
    let mut pics = Pics::plain();
    for line in [DISK, SERIAL, CLOCK, Irq(3), KEYBOARD, Irq(15), Irq(7)] {
        pics.pulse(line);
    }
    let mut order = Vec::new();
    while pics.notifies() {
        let vector = pics.acknowledge();
        if vector >= 0x38 {
            pics.put(PicWindow::Second, 0, END);
        }
        pics.put(PicWindow::First, 0, END);
        order.push(vector);
    }
    assert_eq!(order, [0x31, 0x38, 0x3e, 0x3f, 0x33, 0x34, 0x37]);
}

#[test]
fn what_is_in_service_holds_back_what_is_not_higher() {
    let mut pics = Pics::plain();
    pics.pulse(SERIAL);
    assert_eq!(pics.acknowledge(), 0x34);
    for line in [SERIAL, Irq(6)] {
        pics.pulse(line);
        assert!(!pics.notifies());
    }
    pics.pulse(KEYBOARD);
    assert_eq!(pics.acknowledge(), 0x31);
    assert_eq!(pics.in_service(), (0x12, 0));
    pics.put(PicWindow::First, 0, END);
    assert_eq!(pics.in_service(), (0x10, 0), "the highest is ended");
    pics.put(PicWindow::First, 0, END);
    assert_eq!(pics.acknowledge(), 0x34);
}

#[test]
fn a_specific_end_is_of_the_line_that_it_names() {
    let mut pics = Pics::plain();
    pics.pulse(SERIAL);
    pics.acknowledge();
    pics.pulse(KEYBOARD);
    pics.acknowledge();
    pics.put(PicWindow::First, 0, 0x60 | 4);
    assert_eq!(pics.in_service(), (0x02, 0));
    pics.put(PicWindow::First, 0, 0x60 | 3);
    assert_eq!(pics.in_service(), (0x02, 0), "not in service");
}

#[test]
fn ends_of_what_was_never_raised_change_nothing() {
    let mut pics = Pics::plain();
    for window in [PicWindow::First, PicWindow::Second] {
        for ocw2 in (0x20..0x28).chain(0x60..0x68) {
            pics.put(window, 0, ocw2);
        }
        pics.put(window, 0, 0xa0);
    }
    assert_eq!(pics.in_service(), (0, 0));
    pics.pulse(SERIAL);
    pics.pulse(KEYBOARD);
    assert_eq!(pics.acknowledge(), 0x31, "nor does it rotate");
}

#[test]
fn automatic_end_leaves_nothing_in_service() {
    let mut pics = Pics::initialised(3, 3);
    for line in [CLOCK, DISK, KEYBOARD, Irq(7)] {
        pics.pulse(line);
    }
    assert_eq!(pics.acknowledged(), [0x31, 0x38, 0x3e, 0x37]);
    assert_eq!(pics.in_service(), (0, 0));
}

#[test]
fn rotation_makes_the_line_that_was_served_the_lowest() {
    let mut pics = Pics::plain();
    pics.pulse(Irq(3));
    pics.acknowledge();
    pics.put(PicWindow::First, 0, 0xa0);
    for line in [KEYBOARD, Irq(3), SERIAL] {
        pics.pulse(line);
    }
    let order: Vec<u8> = (0..3)
        .map(|_| {
            let vector = pics.acknowledge();
            pics.put(PicWindow::First, 0, END);
            vector
        })
        .collect();
    assert_eq!(order, [0x34, 0x31, 0x33]);
}

#[test]
fn a_specific_rotation_ends_and_lowers_the_line_that_it_names() {
    let mut pics = Pics::plain();
    pics.pulse(SERIAL);
    pics.acknowledge();
    pics.put(PicWindow::First, 0, 0xe0 | 4);
    assert_eq!(pics.in_service(), (0, 0));
    pics.pulse(SERIAL);
    pics.pulse(Irq(5));
    assert_eq!(pics.acknowledge(), 0x35);
}

#[test]
fn priorities_can_be_set_without_an_end() {
    let mut pics = Pics::plain();
    pics.pulse(Irq(3));
    pics.acknowledge();
    pics.put(PicWindow::First, 0, 0xc0 | 5);
    assert_eq!(pics.in_service(), (1 << 3, 0));
    pics.pulse(Irq(7));
    assert_eq!(pics.acknowledge(), 0x37, "line 6 is now the highest");
}

#[test]
fn rotation_is_automatic_where_it_is_chosen_and_the_end_is() {
    let mut pics = Pics::initialised(3, 1);
    pics.put(PicWindow::First, 0, 0x80);
    for _ in 0..2 {
        pics.pulse(TIMER);
        pics.pulse(KEYBOARD);
        assert_eq!(pics.acknowledged(), [0x30, 0x31]);
    }
    pics.pulse(KEYBOARD);
    assert_eq!(pics.acknowledge(), 0x31);
    pics.pulse(KEYBOARD);
    pics.pulse(Irq(6));
    assert_eq!(pics.acknowledged(), [0x36, 0x31]);
    pics.put(PicWindow::First, 0, 0x00);
    pics.pulse(Irq(6));
    assert_eq!(pics.acknowledge(), 0x36);
    pics.pulse(KEYBOARD);
    pics.pulse(Irq(3));
    assert_eq!(pics.acknowledged(), [0x33, 0x31], "as they were left");
}

#[test]
fn in_special_mask_mode_a_masked_line_in_service_holds_back_no_other() {
    let mut pics = Pics::plain();
    pics.pulse(Irq(3));
    pics.acknowledge();
    pics.pulse(Irq(6));
    pics.put(PicWindow::First, 1, 1 << 3);
    assert!(!pics.notifies());
    pics.put(PicWindow::First, 0, 0x68);
    assert!(pics.notifies());
    pics.put(PicWindow::First, 0, 0x28);
    assert!(pics.notifies(), "ESMM is clear: no choice");
    assert_eq!(pics.acknowledge(), 0x36);
    pics.put(PicWindow::First, 0, END);
    pics.put(PicWindow::First, 0, END);
    assert_eq!(
        pics.in_service(),
        (1 << 3, 0),
        "only a specific end ends it"
    );
    pics.put(PicWindow::First, 0, 0x48);
    pics.put(PicWindow::First, 0, END);
    assert_eq!(pics.in_service(), (0, 0));
}

#[test]
fn in_special_fully_nested_mode_the_second_controller_interrupts_itself() {
    for (icw4, nests) in [(0x01, false), (0x11, true)] {
        let mut pics = Pics::initialised(icw4, 1);
        pics.pulse(DISK);
        assert_eq!(pics.acknowledge(), 0x3e);
        pics.pulse(CLOCK);
        assert_eq!(pics.notifies(), nests);
        pics.pulse(SERIAL);
        assert_eq!(pics.notifies(), nests, "lower ones wait");
        if nests {
            assert_eq!(pics.acknowledge(), 0x38);
            assert_eq!(pics.in_service(), (1 << 2, 0x41));
            assert!(!pics.notifies());
        }
    }
}

#[test]
fn a_level_that_is_gone_is_line_7_and_not_in_service() {
    let mut pics = Pics::plain();
    pics.put(PicWindow::Triggers, 0, 1 << 5);
    pics.set(Irq(5), true);
    assert!(pics.notifies());
    pics.set(Irq(5), false);
    assert_eq!(pics.acknowledge(), 0x37);
    assert_eq!(pics.in_service(), (0, 0));
}

#[test]
fn a_level_of_the_second_that_is_gone_is_line_15_with_the_cascade_in_service() {
    let mut pics = Pics::plain();
    pics.put(PicWindow::Triggers, 1, 1 << 2);
    pics.set(NETWORK, true);
    pics.set(NETWORK, false);
    assert!(pics.notifies());
    assert_eq!(pics.acknowledge(), 0x3f);
    assert_eq!(pics.in_service(), (1 << 2, 0));
    pics.put(PicWindow::First, 0, 0x62);
    assert!(!pics.notifies());
}

#[test]
fn a_poll_is_an_acknowledgement_by_reading_either_register() {
    for offset in 0..2 {
        let mut pics = Pics::plain();
        pics.put(PicWindow::First, 1, 0);
        pics.pulse(SERIAL);
        pics.put(PicWindow::First, 0, POLL);
        assert_eq!(pics.get(PicWindow::First, offset), 0x84);
        assert!(!pics.notifies());
        assert_eq!(pics.get(PicWindow::First, 1), 0, "one read only");
        assert_eq!(pics.in_service(), (0x10, 0));
        pics.put(PicWindow::First, 0, POLL);
        assert_eq!(pics.get(PicWindow::First, offset), 0);
    }
}

#[test]
fn both_controllers_can_be_polled_and_nothing_is_lost() {
    let mut pics = Pics::plain();
    pics.pulse(DISK);
    pics.pulse(CLOCK);
    let mut seen = Vec::new();
    for _ in 0..2 {
        for window in [PicWindow::First, PicWindow::Second] {
            pics.put(window, 0, POLL);
            seen.push(pics.get(window, 0));
        }
        pics.put(PicWindow::Second, 0, END);
        pics.put(PicWindow::First, 0, END);
    }
    assert_eq!(seen, [0x82, 0x80, 0x82, 0x86]);
    assert!(!pics.notifies());
}

#[test]
fn a_poll_comes_before_the_choice_of_a_register_that_is_kept() {
    let mut pics = Pics::plain();
    pics.pulse(SERIAL);
    pics.put(PicWindow::First, 0, 0x0f);
    assert_eq!(pics.get(PicWindow::First, 0), 0x84);
    assert_eq!(pics.get(PicWindow::First, 0), 0x10, "in service");
    pics.put(PicWindow::First, 0, 0x08);
    assert_eq!(
        pics.get(PicWindow::First, 0),
        0x10,
        "RR is clear: no choice"
    );
}

#[test]
fn lines_that_are_not_there_are_cut_and_the_cascade_is_nobodys() {
    let mut pics = Pics::plain();
    for line in [2, 16, 17, 24, u32::MAX] {
        pics.pulse(Irq(line));
        pics.set(Irq(line), true);
    }
    assert!(!pics.notifies());
    assert_eq!(pics.requests(), (0, 0));
}

#[test]
fn a_million_pulses_are_one_interrupt_each_line() {
    let mut pics = Pics::plain();
    for pulse in 0..1_000_000 {
        pics.pulse(Irq(pulse % 16));
    }
    assert_eq!(pics.requests(), (0xff, 0xff));
    let mut seen = Vec::new();
    while pics.notifies() {
        let vector = pics.acknowledge();
        pics.put(PicWindow::Second, 0, END);
        pics.put(PicWindow::First, 0, END);
        seen.push(vector - 0x30);
    }
    assert_eq!(
        seen,
        [0, 1, 8, 9, 10, 11, 12, 13, 14, 15, 3, 4, 5, 6, 7],
        "and the cascade is none of them"
    );
}

#[test]
fn a_wide_access_reaches_both_registers() {
    let mut pics = Pics::plain();
    assert_eq!(pics.window(PicWindow::First).write(0, &[0x0b, 0xaa]), None);
    let mut data = [0; 4];
    pics.window(PicWindow::First).read(0, &mut data);
    assert_eq!(data, [0, 0xaa, 0xff, 0xff]);
}

#[test]
fn every_access_is_survived() {
    let mut pics = Pics::new();
    for window in [PicWindow::First, PicWindow::Second, PicWindow::Triggers] {
        survives_every_access(&mut pics.window(window), 2);
    }
}

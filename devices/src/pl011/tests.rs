mod traffic;

use super::*;
use crate::chip::tests::survives_every_access;
use alloc::vec;
use alloc::vec::Vec;

const DR: u64 = 0x00;
const RSR: u64 = 0x04;
const FR: u64 = 0x18;
const IBRD: u64 = 0x24;
const FBRD: u64 = 0x28;
const LCR_H: u64 = 0x2c;
const CR: u64 = 0x30;
const IFLS: u64 = 0x34;
const IMSC: u64 = 0x38;
const RIS: u64 = 0x3c;
const MIS: u64 = 0x40;
const ICR: u64 = 0x44;

const ALL: u32 = 0x7ff;
const RX: u32 = 1 << 4;
const TX: u32 = 1 << 5;
const RT: u32 = 1 << 6;
const OE: u32 = 1 << 10;
const FEN: u32 = 1 << 4;
const LBE: u32 = 1 << 7;

impl Pl011 {
    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, offset: u64, value: u32) {
        assert_eq!(self.write(offset, &value.to_le_bytes()), None);
    }

    fn with_fifo() -> Self {
        let mut port = Self::new();
        port.set(LCR_H, 0x60 | FEN);
        port
    }

    fn has_received(&mut self) -> bool {
        self.get(FR) & 1 << 4 == 0
    }

    /// Reads until nothing is left.
    fn drain(&mut self) -> Vec<u32> {
        let mut data = vec![];
        while self.has_received() {
            data.push(self.get(DR));
        }
        data
    }
}

#[test]
fn reset_values_are_the_manuals() {
    let mut port = Pl011::new();
    let values = [
        (RSR, 0),
        (FR, 0x97),
        (0x20, 0),
        (IBRD, 0),
        (FBRD, 0),
        (LCR_H, 0),
        (CR, 0x300),
        (IFLS, 0x12),
        (IMSC, 0),
        (RIS, 0),
        (MIS, 0),
        (0x48, 0),
    ];
    for (offset, value) in values {
        assert_eq!(port.get(offset), value, "{offset:#x}");
    }
}

#[test]
fn an_amba_bus_finds_a_pl011_of_arms_with_fifos_of_32_bytes() {
    let mut port = Pl011::new();
    let mut number =
        |at: u64| (0..4).fold(0, |id, byte| id | port.get(at + 4 * byte) << (8 * byte));
    let (peripheral, cell) = (number(0xfe0), number(0xff0));
    assert_eq!(peripheral & 0x000f_ffff, 0x0004_1011);
    assert!(peripheral >> 20 & 0xf >= 3, "{peripheral:#x}");
    assert_eq!(cell, 0xb105_f00d);
}

#[test]
fn registers_keep_the_bits_that_they_have() {
    let mut port = Pl011::new();
    let kept = [
        (0x20, 0xff),
        (IBRD, 0xffff),
        (FBRD, 0x3f),
        (LCR_H, 0xff),
        (CR, 0xff87),
        (IFLS, 0x3f),
        (IMSC, ALL),
        (0x48, 0x7),
    ];
    for (offset, bits) in kept {
        port.set(offset, u32::MAX);
        assert_eq!(port.get(offset), bits, "{offset:#x}");
    }
}

#[test]
fn what_the_guest_writes_has_left_at_once() {
    let mut port = Pl011::new();
    for byte in 0..=u8::MAX {
        port.set(DR, u32::from(byte) | 0xffff_ff00);
        assert_eq!(port.take_transmitted(), Some(byte));
        assert_eq!(port.take_transmitted(), None);
        assert_eq!(port.get(FR) & 0xa8, 0x80, "empty, not full, not busy");
    }
}

#[test]
fn linux_early_console_polls_words_and_writes_bytes() {
    let mut port = Pl011::new();
    let mut seen = vec![];
    for byte in *b"Booting Linux\r\n" {
        assert_eq!(port.get(FR) & 1 << 5, 0, "it would wait for room");
        port.write(DR, &[byte]);
        seen.extend(port.take_transmitted());
        assert_eq!(port.get(FR) & 1 << 3, 0, "it would wait while busy");
    }
    assert_eq!(seen, b"Booting Linux\r\n");
}

#[test]
fn the_transmit_interrupt_comes_after_data_left_and_not_before_any_was_written() {
    let mut port = Pl011::new();
    port.set(IMSC, TX);
    assert!(!port.irq());
    port.set(DR, 0x41);
    assert_eq!((port.get(RIS), port.get(MIS)), (TX, TX));
    assert!(port.irq());
    port.set(ICR, TX);
    assert!(!port.irq());
    port.set(DR, 0x42);
    assert!(port.irq());
}

#[test]
fn without_fifo_one_byte_is_room_enough_and_interrupts() {
    let mut port = Pl011::new();
    port.set(IMSC, RX);
    assert_eq!(port.receive(b"ab"), 1);
    assert!(port.irq());
    assert_eq!(port.get(FR) & 0x50, 0x40, "full");
    assert_eq!(port.receive(b"b"), 0);
    assert_eq!(port.get(DR), 0x61);
    assert!(!port.irq());
    assert_eq!(port.get(FR) & 0x50, 0x10, "empty");
    assert_eq!(port.receive(b"b"), 1);
    assert!(port.irq());
}

#[test]
fn the_receive_fifo_takes_32_bytes_and_no_more() {
    let mut port = Pl011::with_fifo();
    let bytes: Vec<u8> = (0..100).collect();
    assert_eq!(port.receive(&bytes), 32);
    assert_eq!(port.receive(&bytes[32..]), 0);
    assert!(!port.wants_input());
    assert_eq!(port.drain(), (0..32).collect::<Vec<_>>());
    assert!(port.wants_input());
    assert_eq!(port.get(RSR), 0, "nothing was lost");
}

#[test]
fn the_receive_interrupt_is_for_reaching_the_level() {
    for (select, level) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (7, 28)] {
        let mut port = Pl011::with_fifo();
        port.set(IFLS, select << 3);
        port.set(IMSC, RX);
        for count in 1..=32 {
            assert_eq!(port.receive(b"x"), 1);
            assert_eq!(port.irq(), count >= level, "{count} of {level}");
        }
        for left in (0..32).rev() {
            port.get(DR);
            assert_eq!(port.irq(), left >= level, "{left} of {level}");
        }
    }
}

#[test]
fn a_cleared_receive_interrupt_stays_away_until_the_level_is_reached_again() {
    let mut port = Pl011::with_fifo();
    port.set(IFLS, 0);
    port.receive(b"abcd");
    assert_eq!(port.get(RIS), RX | RT);
    port.set(ICR, RX);
    port.receive(b"e");
    assert_eq!(port.get(RIS), RT);
    port.get(DR);
    port.get(DR);
    port.receive(b"f");
    assert_eq!(port.get(RIS), RX | RT);
}

#[test]
fn fewer_bytes_than_the_level_are_told_by_the_timeout() {
    let mut port = Pl011::with_fifo();
    port.set(IMSC, RX | RT);
    port.receive(b"ab");
    assert_eq!(port.get(MIS), RT);
    port.get(DR);
    assert!(port.irq(), "a byte is left");
    port.get(DR);
    assert!(!port.irq());
    port.receive(b"c");
    port.set(ICR, RT);
    assert!(!port.irq(), "cleared, though a byte is left");
    port.receive(b"d");
    assert!(port.irq());
}

#[test]
fn masks_only_hide_interrupts() {
    let mut port = Pl011::with_fifo();
    port.receive(b"a");
    assert!(!port.irq());
    assert_eq!((port.get(RIS), port.get(MIS)), (RT, 0));
    port.set(IMSC, RT);
    assert!(port.irq());
    port.set(IMSC, ALL & !RT);
    assert!(!port.irq());
}

#[test]
fn disabling_the_fifo_empties_it() {
    let mut port = Pl011::with_fifo();
    port.set(IMSC, ALL);
    port.receive(b"abc");
    port.set(LCR_H, 0x60);
    assert!(!port.has_received());
    assert!(!port.irq());
    assert_eq!(port.receive(b"def"), 1);
    port.set(LCR_H, 0x60 | FEN);
    assert_eq!(port.receive(b"ef"), 2, "the FIFO begins with that byte");
    assert_eq!(port.drain(), [0x64, 0x65, 0x66]);
}

#[test]
fn a_disabled_receiver_takes_nothing_and_what_waits_comes_later() {
    let mut port = Pl011::with_fifo();
    port.set(CR, 0x101);
    assert!(!port.wants_input());
    assert_eq!(port.receive(b"a"), 0);
    port.set(CR, 0x301);
    assert!(port.wants_input());
    assert_eq!(port.receive(b"a"), 1);
}

#[test]
fn loopback_gives_the_guest_its_own_bytes_and_nobody_elses() {
    let mut port = Pl011::with_fifo();
    port.set(CR, 0x301 | LBE);
    port.set(DR, 0x41);
    assert_eq!(port.take_transmitted(), None);
    assert_eq!(port.receive(b"x"), 0);
    assert!(!port.wants_input());
    assert_eq!(port.drain(), [0x41]);
    assert!(!port.wants_input());
}

#[test]
fn too_many_bytes_in_loopback_overrun() {
    let mut port = Pl011::with_fifo();
    port.set(CR, 0x301 | LBE);
    for byte in 0..33 {
        port.set(DR, byte);
    }
    assert_eq!(port.get(RIS) & OE, OE);
    assert_eq!(port.get(RSR), 1 << 3);
    assert_eq!(port.get(DR), 1 << 11, "byte 0, and some were lost");
    assert_eq!(port.drain(), (1..32).collect::<Vec<_>>());
    assert_eq!(port.get(RSR), 1 << 3);
    port.set(RSR, 0xff);
    port.set(ICR, OE);
    assert_eq!((port.get(RSR), port.get(RIS) & OE), (0, 0));
}

#[test]
fn loopback_turns_the_modems_outputs_into_its_inputs_and_every_change_interrupts() {
    let mut port = Pl011::new();
    let modem = |port: &mut Pl011| port.get(FR) & 0x107;
    assert_eq!(
        modem(&mut port),
        0x7,
        "clear to send, ready and with carrier"
    );
    port.set(CR, LBE);
    assert_eq!(modem(&mut port), 0);
    assert_eq!(port.get(RIS), 0b1110);
    port.set(ICR, ALL);
    for (output, input, interrupt) in [
        (1 << 11, 1 << 0, 1 << 1),
        (1 << 10, 1 << 1, 1 << 3),
        (1 << 12, 1 << 2, 1 << 2),
        (1 << 13, 1 << 8, 1 << 0),
    ] {
        port.set(CR, LBE | output);
        assert_eq!((modem(&mut port), port.get(RIS)), (input, interrupt));
        port.set(CR, LBE);
        port.set(ICR, ALL);
    }
}

/// `pl011_startup` and `pl011_set_termios` of Linux's `amba-pl011`.
fn start_like_linux(port: &mut Pl011) {
    port.set(ICR, 0x7d0);
    port.set(IMSC, RT | RX);
    port.set(IFLS, 0x12);
    let kept = port.get(CR) & 0xc00;
    port.set(CR, kept | 0x301);
    port.set(ICR, RT | RX);
    for _ in 0..64 {
        if !port.has_received() {
            break;
        }
        port.get(DR);
    }
    port.set(IMSC, RT | RX);
    port.set(FBRD, 0x01);
    port.set(IBRD, 0x0d);
    port.set(LCR_H, 0x60 | FEN);
    let control = port.get(CR) & !0xc000;
    port.set(CR, control | 0xc00);
}

/// `pl011_int`: handles what there is, and says what came and how often it went round.
fn interrupt_like_linux(port: &mut Pl011, to_send: &mut Vec<u8>) -> (Vec<u32>, Vec<u8>, u32) {
    let (mut received, mut sent, mut rounds) = (vec![], vec![], 0);
    loop {
        let status = port.get(RIS) & port.get(IMSC);
        if status == 0 {
            return (received, sent, rounds);
        }
        rounds += 1;
        assert!(rounds < 256, "AMBA_ISR_PASS_LIMIT");
        port.set(ICR, status & !(TX | RT | RX));
        if status & (RT | RX) != 0 {
            received.extend(port.drain());
        }
        if status & TX != 0 {
            for byte in to_send.drain(..to_send.len().min(16)) {
                port.set(DR, byte.into());
                sent.extend(port.take_transmitted());
            }
            if to_send.is_empty() {
                let mask = port.get(IMSC);
                port.set(IMSC, mask & !TX);
            }
        }
    }
}

#[test]
fn linux_receives_lines_of_any_length_without_losing_or_waiting() {
    let mut port = Pl011::new();
    port.receive(b"typed too early");
    start_like_linux(&mut port);
    assert!(!port.irq());
    let typed: Vec<u8> = (0..=u8::MAX).cycle().take(1000).collect();
    for chunk in 1..=40 {
        let mut received = vec![];
        let mut rest = typed.as_slice();
        while !rest.is_empty() {
            let taken = port.receive(&rest[..rest.len().min(chunk)]);
            assert!(taken > 0 && port.irq(), "{chunk}");
            rest = &rest[taken..];
            let (now, _, rounds) = interrupt_like_linux(&mut port, &mut vec![]);
            assert_eq!(rounds, 1);
            received.extend(now.into_iter().map(|data| u8::try_from(data).unwrap()));
            assert!(!port.irq() && port.wants_input());
        }
        assert_eq!(received, typed);
    }
}

#[test]
fn linux_sends_by_interrupts_until_nothing_is_left() {
    let mut port = Pl011::new();
    start_like_linux(&mut port);
    let text: Vec<u8> = (0..100).collect();
    let mut to_send = text[1..].to_vec();
    // `pl011_start_tx` sends a byte and then has the others asked for.
    port.set(DR, text[0].into());
    let mut seen: Vec<u8> = port.take_transmitted().into_iter().collect();
    port.set(IMSC, TX | RT | RX);
    assert!(port.irq());
    let (_, sent, _) = interrupt_like_linux(&mut port, &mut to_send);
    seen.extend(sent);
    assert_eq!(seen, text);
    assert!(!port.irq());
}

#[test]
fn what_only_can_be_read_is_not_written() {
    let mut port = Pl011::with_fifo();
    port.receive(b"a");
    for offset in [FR, RIS, MIS, 0xfe0, 0x08, 0x80] {
        let before = port.get(offset);
        port.set(offset, !before);
        assert_eq!(port.get(offset), before, "{offset:#x}");
    }
    assert_eq!(port.get(ICR), 0);
}

#[test]
fn every_access_is_survived() {
    survives_every_access(&mut Pl011::new(), 0x1000);
    survives_every_access(&mut Pl011::with_fifo(), 0x1000);
}

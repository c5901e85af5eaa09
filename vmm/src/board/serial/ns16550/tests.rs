use super::*;

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;

const RECEIVED: u8 = 0xc4;
const EMPTY: u8 = 0xc2;
const NONE: u8 = 0xc1;

impl Ns16550 {
    fn get(&mut self, register: u64) -> u8 {
        let mut data = [0x55];
        SerialChip::read(self, register, &mut data);
        data[0]
    }

    fn set(&mut self, register: u64, value: u8) -> Option<u8> {
        SerialChip::write(self, register, &[value])
    }

    fn is_high(&mut self) -> bool {
        match self.signal() {
            Signal::Level(high) => high,
            other => panic!("{other:?}"),
        }
    }
}

fn level() -> Ns16550 {
    Ns16550::new(Trigger::Level)
}

#[test]
fn the_level_is_high_until_the_last_byte_is_read() {
    let mut port = level();
    assert_eq!(port.receive(b"abc"), 3);
    assert!(!port.is_high());
    port.set(IER, ENABLE_RECEIVED);
    for byte in *b"abc" {
        assert!(port.is_high());
        assert_eq!(port.get(IIR), RECEIVED);
        assert_eq!(port.get(IIR), RECEIVED, "asking does not answer it");
        assert!(port.is_high());
        assert_eq!(port.get(DATA), byte);
    }
    assert!(!port.is_high());
    assert_eq!(port.get(IIR), NONE);
}

#[test]
fn disabling_an_interrupt_lowers_the_level_and_enabling_raises_it_again() {
    let mut port = level();
    port.set(IER, ENABLE_RECEIVED);
    port.receive(b"a");
    assert!(port.is_high());
    port.set(IER, 0);
    assert!(!port.is_high());
    assert_eq!(port.get(IIR), NONE);
    port.set(IER, ENABLE_RECEIVED);
    assert!(port.is_high());
}

#[test]
fn an_empty_transmitter_is_told_once_for_every_byte() {
    let mut port = level();
    port.set(IER, ENABLE_EMPTY);
    assert!(port.is_high(), "it is empty when that is first of interest");
    assert_eq!(port.get(IIR), EMPTY);
    assert!(!port.is_high());
    assert_eq!(port.get(IIR), NONE);
    assert_eq!(port.set(DATA, b'a'), Some(b'a'));
    assert!(port.is_high());
    port.set(IER, 0);
    assert!(!port.is_high());
}

#[test]
fn received_data_is_told_before_an_empty_transmitter_and_neither_is_lost() {
    let mut port = level();
    port.set(IER, ENABLE_RECEIVED | ENABLE_EMPTY);
    port.receive(b"a");
    assert_eq!(port.get(IIR), RECEIVED);
    assert_eq!(port.get(DATA), b'a');
    assert!(port.is_high());
    assert_eq!(port.get(IIR), EMPTY);
    assert!(!port.is_high());
}

#[test]
fn an_edge_is_told_once() {
    let mut port = Ns16550::new(Trigger::Edge);
    assert_eq!(port.signal(), Signal::None);
    port.set(IER, ENABLE_RECEIVED);
    assert_eq!(port.signal(), Signal::None);
    port.receive(b"a");
    assert_eq!(port.signal(), Signal::Pulse);
    assert_eq!(port.signal(), Signal::None);
}

#[test]
fn input_is_wanted_when_all_was_read_and_never_in_loopback() {
    let mut port = level();
    assert!(port.wants_input());
    port.receive(b"ab");
    assert!(!port.wants_input());
    port.get(DATA);
    port.get(DATA);
    assert!(port.wants_input());
    port.set(MCR, LOOPBACK);
    assert!(!port.wants_input());
    assert_eq!(port.receive(b"x"), 0);
    assert_eq!(port.set(DATA, b'a'), None);
    assert_eq!(port.get(DATA), b'a');
    port.set(MCR, 0);
    assert!(port.wants_input());
}

/// `serial8250_do_startup` and `serial8250_do_set_termios` of Linux.
fn start_like_linux(port: &mut Ns16550) {
    port.set(IIR, 0x07);
    for register in [LSR, DATA, IIR, MSR] {
        port.get(register);
    }
    port.set(LCR, 0x03);
    // The test for a transmitter that does not tell that it is empty.
    port.set(IER, ENABLE_EMPTY);
    assert_eq!(port.get(LSR) & 0x60, 0x60);
    assert_eq!(port.get(IIR), EMPTY, "UART_BUG_TXEN");
    port.set(IER, 0);
    port.set(LCR, 0x83);
    port.set(DATA, 1);
    port.set(IER, 0);
    port.set(LCR, 0x03);
    port.set(MCR, 0x0b);
    port.set(IER, ENABLE_RECEIVED | 1 << 2);
}

/// `serial8250_interrupt`: what came, while at most 16 bytes of `to_send` go out at a time.
fn interrupt_like_linux(port: &mut Ns16550, to_send: &mut Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let (mut received, mut sent) = (vec![], vec![]);
    let mut rounds = 0;
    while port.get(IIR) & ID_NONE == 0 {
        rounds += 1;
        assert!(rounds < 256, "PASS_LIMIT");
        while port.get(LSR) & DATA_READY != 0 {
            received.push(port.get(DATA));
        }
        port.get(MSR);
        if port.get(IER) & ENABLE_EMPTY != 0 {
            for byte in to_send.drain(..to_send.len().min(16)) {
                sent.extend(port.set(DATA, byte));
            }
            if to_send.is_empty() {
                port.set(IER, ENABLE_RECEIVED | 1 << 2);
            }
        }
    }
    (received, sent)
}

#[test]
fn linux_sends_and_receives_by_levels_and_leaves_the_line_low() {
    let mut port = level();
    start_like_linux(&mut port);
    assert!(!port.is_high());
    let text: Vec<u8> = (0..=u8::MAX).collect();
    let mut to_send = text.clone();
    port.set(IER, ENABLE_RECEIVED | 1 << 2 | ENABLE_EMPTY);
    let (mut received, mut sent) = (vec![], vec![]);
    let mut typed = text.as_slice();
    while sent.len() < text.len() || received.len() < text.len() {
        typed = &typed[port.receive(typed)..];
        assert!(port.is_high());
        let (came, went) = interrupt_like_linux(&mut port, &mut to_send);
        received.extend(came);
        sent.extend(went);
    }
    assert_eq!((&received, &sent), (&text, &text));
    assert!(!port.is_high());
}

#[test]
fn every_access_is_survived() {
    for trigger in [Trigger::Edge, Trigger::Level] {
        let mut port = Ns16550::new(trigger);
        for offset in (0..0x100).chain([u64::MAX]) {
            for width in [1, 2, 3, 4, 8, 16] {
                for value in [0, 1, 0x0f, 0x55, 0x80, 0xff] {
                    SerialChip::write(&mut port, offset, &[value; 16][..width]);
                    port.receive(&[value; 7]);
                    let mut data = [0xff; 16];
                    SerialChip::read(&mut port, offset, &mut data[..width]);
                    port.signal();
                    port.wants_input();
                    assert!(offset < 8 || data == [0xff; 16]);
                }
            }
        }
    }
}

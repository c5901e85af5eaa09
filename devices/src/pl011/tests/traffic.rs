//! Whatever a guest does to its port while bytes come: no byte that was taken is lost, doubled or
//! overtaken, and flags and interrupts agree with each other.

use super::*;
use alloc::collections::VecDeque;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Type(Vec<u8>),
    ReadData,
    Read(u64),
    Write(u64, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = |offset, value: core::ops::RangeInclusive<u32>| {
        value.prop_map(move |value| Step::Write(offset, value))
    };
    let step = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Type),
        4 => Just(Step::ReadData),
        1 => (1..0x400u64).prop_map(|word| Step::Read(word * 4)),
        1 => write(DR, 0..=0xff),
        1 => prop_oneof![Just(0), Just(0x70u32)].prop_map(|line| Step::Write(LCR_H, line)),
        1 => prop_oneof![Just(0x101), Just(0x301u32)].prop_map(|cr| Step::Write(CR, cr)),
        1 => write(IFLS, 0..=0x3f),
        1 => write(IMSC, 0..=ALL),
        1 => write(ICR, 0..=ALL),
        1 => (0x48..0x400u64, any::<u32>()).prop_map(|(word, value)| Step::Write(word * 4, value)),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn bytes_come_in_order_and_interrupts_agree_with_them(steps in steps()) {
        let mut port = Pl011::new();
        let mut held = VecDeque::new();
        for step in steps {
            match step {
                Step::Type(bytes) => {
                    let taken = port.receive(&bytes);
                    held.extend(&bytes[..taken]);
                }
                Step::ReadData => {
                    let byte = held.pop_front().unwrap_or(0);
                    prop_assert_eq!(port.get(DR), u32::from(byte));
                }
                Step::Read(offset) => drop(port.get(offset)),
                Step::Write(offset, value) => {
                    if offset == LCR_H && value & FEN == 0 && port.get(LCR_H) & FEN != 0 {
                        held.clear();
                    }
                    port.set(offset, value);
                }
            }
            let (flags, raw) = (port.get(FR), port.get(RIS));
            prop_assert!(held.len() <= 32);
            prop_assert_eq!(flags & 0x10 != 0, held.is_empty());
            prop_assert!(flags & 0x40 == 0 || port.receive(b"x") == 0, "full");
            prop_assert!(raw & RT == 0 || !held.is_empty());
            prop_assert!(raw & RX == 0 || !held.is_empty());
            prop_assert_eq!(port.get(MIS), raw & port.get(IMSC));
            prop_assert_eq!(port.irq(), port.get(MIS) != 0);
        }
    }
}

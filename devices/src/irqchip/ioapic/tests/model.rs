//! Whatever is done to an I/O APIC, it does what a plain telling of its rules does, and loses no
//! interrupt.

use super::*;
use alloc::collections::BTreeSet;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u32, bool),
    Pulse(u32),
    Write(u32, u32),
    End(u8),
    /// Hands everything over that is to be sent.
    Send,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few pins and vectors, so that they meet.
    let pin = || prop_oneof![0..3u32, Just(23), Just(24)];
    let low = (
        0x30..0x33u32,
        prop_oneof![8 => Just(0u32), 1 => 0..8u32],
        any::<(bool, bool)>(),
    )
        .prop_map(|(vector, mode, (masked, level))| {
            vector | mode << 8 | u32::from(masked) << 16 | u32::from(level) << 15
        });
    let step = prop_oneof![
        6 => (pin(), any::<bool>()).prop_map(|(pin, high)| Step::Set(pin, high)),
        2 => pin().prop_map(Step::Pulse),
        4 => (pin(), low).prop_map(|(pin, low)| Step::Write(pin, low)),
        3 => (0x30..0x33u8).prop_map(Step::End),
        4 => Just(Step::Send),
    ];
    prop::collection::vec(step, 0..150)
}

/// A pin, with what it was told so far.
#[derive(Clone, Debug)]
struct Pin {
    high: bool,
    /// An edge or a pulse that nobody was sent.
    owed: bool,
    masked: bool,
    level: bool,
    mode: u32,
    vector: u8,
    /// Sent as a level and not ended.
    in_service: bool,
}

impl Pin {
    fn acts_on_level(&self) -> bool {
        self.level && matches!(self.mode, 0 | 1 | 3 | 6)
    }

    fn wants(&self) -> bool {
        let asks = self.owed || self.high && self.acts_on_level();
        asks && !self.masked && !self.in_service
    }
}

struct Model(Vec<Pin>);

impl Model {
    fn new() -> Self {
        let pin = Pin {
            high: false,
            owed: false,
            masked: true,
            level: false,
            mode: 0,
            vector: 0,
            in_service: false,
        };
        Self((0..24).map(|_| pin.clone()).collect())
    }

    fn pin(&mut self, pin: u32) -> Option<&mut Pin> {
        self.0.get_mut(usize::try_from(pin).unwrap())
    }

    fn step(&mut self, step: Step) -> Vec<u8> {
        match step {
            Step::Set(pin, high) => {
                if let Some(pin) = self.pin(pin) {
                    pin.owed |= high && !pin.high && !pin.acts_on_level();
                    pin.high = high;
                }
            }
            Step::Pulse(pin) => {
                if let Some(pin) = self.pin(pin) {
                    pin.owed = true;
                    pin.high = false;
                }
            }
            Step::Write(pin, low) => {
                if let Some(pin) = self.pin(pin) {
                    let before = pin.acts_on_level();
                    [pin.vector, ..] = low.to_le_bytes();
                    pin.mode = low >> 8 & 7;
                    pin.level = low & LEVEL != 0;
                    pin.masked = low & MASKED != 0;
                    pin.owed &= before || !pin.acts_on_level();
                    pin.in_service &= pin.acts_on_level();
                }
            }
            Step::End(vector) => {
                for pin in self.0.iter_mut().filter(|pin| pin.vector == vector) {
                    pin.in_service = false;
                }
            }
            Step::Send => return self.sent(),
        }
        Vec::new()
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        for pin in self.0.iter_mut().filter(|pin| pin.wants()) {
            pin.owed = false;
            pin.in_service = pin.acts_on_level();
            if !matches!(pin.mode, 3 | 6) {
                sent.push(pin.vector);
            }
        }
        sent
    }
}

impl IoApic {
    fn step(&mut self, step: Step) -> Vec<u8> {
        match step {
            Step::Set(pin, high) => self.set(IoApicPin(pin), high),
            Step::Pulse(pin) => self.pulse(IoApicPin(pin)),
            Step::Write(pin, low) => self.put_low(IoApicPin(pin), low),
            Step::End(vector) => self.end_of_interrupt(vector),
            Step::Send => return self.sent(),
        }
        Vec::new()
    }
}

proptest! {
    #[test]
    fn it_does_what_its_rules_say(steps in steps()) {
        let mut ioapic = IoApic::new();
        let mut model = Model::new();
        for step in steps {
            prop_assert_eq!(ioapic.step(step), model.step(step), "{:?}", step);
            for (number, pin) in (0..).zip(&model.0) {
                let low = ioapic.low(IoApicPin(number));
                prop_assert_eq!(low & REMOTE_IRR != 0, pin.in_service, "{:?}", step);
            }
        }
    }

    #[test]
    fn no_interrupt_is_lost(steps in steps(), number in 0..24u32, level in any::<bool>()) {
        let mut ioapic = IoApic::new();
        for step in steps {
            ioapic.step(step);
        }
        let pin = IoApicPin(number);
        ioapic.put_low(pin, if level { LEVEL } else { 0 } | MASKED | 0x77);
        ioapic.set(pin, false);
        ioapic.set(pin, true);
        // A driver that unmasks it, and ends all that it gets, gets it.
        ioapic.put_low(pin, if level { LEVEL } else { 0 } | 0x77);
        let mut seen: BTreeSet<u8> = ioapic.sent().into_iter().collect();
        for vector in seen.clone().into_iter().chain([0x77]) {
            ioapic.end_of_interrupt(vector);
        }
        seen.extend(ioapic.sent());
        prop_assert!(seen.contains(&0x77));
    }

    #[test]
    fn routes_change_only_when_it_is_told(steps in steps()) {
        let mut ioapic = IoApic::new();
        let routes = |ioapic: &IoApic| -> Vec<_> {
            (0..24).map(|pin| ioapic.route(IoApicPin(pin))).collect()
        };
        for step in steps {
            let before = routes(&ioapic);
            ioapic.step(step);
            let differs = routes(&ioapic) != before;
            prop_assert_eq!(ioapic.take_changed(), differs, "{:?}", step);
        }
    }
}

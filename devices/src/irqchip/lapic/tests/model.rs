//! Whatever is done to a local APIC, vectors come and go as a plain telling of the manual says, and
//! none is lost.

use super::*;
use alloc::collections::BTreeSet;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Accept(u8, bool),
    Acknowledge,
    End,
    Priority(u8),
    Enable(bool, bool),
    Lint0(bool),
    LintEntry(u8, bool, bool),
    Init,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Vectors of few classes, so that they meet.
    let vector = || prop_oneof![8 => 0x2e..0x53u8, 1 => any::<u8>()];
    let step = prop_oneof![
        8 => (vector(), any::<bool>()).prop_map(|(vector, level)| Step::Accept(vector, level)),
        6 => Just(Step::Acknowledge),
        5 => Just(Step::End),
        2 => prop_oneof![3 => 0..0x60u8, 1 => any::<u8>()].prop_map(Step::Priority),
        1 => (prop::bool::weighted(0.9), any::<bool>())
            .prop_map(|(enabled, keeps)| Step::Enable(enabled, keeps)),
        2 => any::<bool>().prop_map(Step::Lint0),
        1 => (vector(), any::<bool>(), any::<bool>())
            .prop_map(|(vector, level, masked)| Step::LintEntry(vector, level, masked)),
    ];
    let rarely = prop_oneof![80 => step, 1 => Just(Step::Init)];
    prop::collection::vec(rarely, 0..200)
}

/// The manual, told with sets. What comes of LINT0 as a level is kept apart.
#[derive(Default)]
struct Model {
    requested: BTreeSet<u8>,
    in_service: BTreeSet<u8>,
    levels: BTreeSet<u8>,
    task: u8,
    enabled: bool,
    keeps_ends: bool,
    pin: bool,
    vector: u8,
    level: bool,
    unmasked: bool,
    waits_for_end: bool,
}

impl Model {
    /// What the step is answered with: a vector acknowledged, or one whose end is told.
    fn step(&mut self, step: Step) -> Option<u8> {
        let mut answer = None;
        match step {
            Step::Accept(vector, level) if self.enabled => self.request(vector, level),
            Step::Accept(..) => {}
            Step::Acknowledge => {
                answer = self.pending();
                if let Some(vector) = answer {
                    self.requested.remove(&vector);
                    self.in_service.insert(vector);
                }
                answer = answer.or(Some(0xff));
            }
            Step::End => answer = self.end(),
            Step::Priority(task) => self.task = task,
            Step::Enable(enabled, keeps) => {
                self.enabled = enabled;
                self.keeps_ends = keeps;
                self.unmasked &= enabled;
            }
            Step::Lint0(high) => {
                let rises = high && !self.pin;
                self.pin = high;
                if rises && !self.level && self.unmasked {
                    self.request(self.vector, false);
                }
            }
            Step::LintEntry(vector, level, masked) => {
                self.vector = vector;
                self.level = level;
                self.unmasked = self.enabled && !masked;
                self.waits_for_end &= level;
            }
            Step::Init => {
                *self = Self {
                    pin: self.pin,
                    ..Self::default()
                };
            }
        }
        if self.pin && self.level && self.unmasked && !self.waits_for_end {
            self.waits_for_end = true;
            self.request(self.vector, true);
        }
        answer
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            return;
        }
        self.requested.insert(vector);
        self.levels.remove(&vector);
        self.levels.extend(level.then_some(vector));
    }

    fn end(&mut self) -> Option<u8> {
        let vector = self.in_service.pop_last()?;
        let is_level = self.levels.contains(&vector);
        if is_level && vector == self.vector {
            self.waits_for_end = false;
        }
        (is_level && !self.keeps_ends).then_some(vector)
    }

    fn priority(&self) -> u8 {
        let service = self.in_service.last().map_or(0, |vector| vector / 16);
        if self.task / 16 >= service {
            self.task
        } else {
            service * 16
        }
    }

    fn pending(&self) -> Option<u8> {
        let mut above = self.requested.iter().rev();
        above
            .find(|&&vector| vector / 16 > self.priority() / 16)
            .copied()
    }
}

impl LocalApic {
    fn step(&mut self, step: Step) -> Option<u8> {
        match step {
            Step::Accept(vector, level) => self.accept(&fixed(vector, level)),
            Step::Acknowledge => return Some(self.acknowledge()),
            Step::End => {
                self.put(EOI, 0);
                let end = self.next_end();
                assert_eq!(self.next_end(), None);
                return end;
            }
            Step::Priority(task) => self.put(TPR, task.into()),
            Step::Enable(enabled, keeps) => {
                self.put(SVR, 0xff | u32::from(enabled) << 8 | u32::from(keeps) << 12);
            }
            Step::Lint0(high) => self.set_lint(Lint::Lint0, high),
            Step::LintEntry(vector, level, masked) => {
                let bits = u32::from(level) << 15 | u32::from(masked) << 16;
                self.put(LVT_LINT0, bits | u32::from(vector));
            }
            Step::Init => self.accept(&message(DeliveryMode::Init, 0, false)),
        }
        None
    }
}

fn numbers(set: &BTreeSet<u8>) -> Vec<u32> {
    set.iter().map(|&vector| vector.into()).collect()
}

proptest! {
    #[test]
    fn it_does_what_the_manual_says(steps in steps()) {
        let mut apic = LocalApic::of(1);
        let mut model = Model::default();
        for step in [Step::Enable(true, false)].into_iter().chain(steps) {
            prop_assert_eq!(apic.step(step), model.step(step), "{:?}", step);
            prop_assert_eq!(apic.pending(), model.pending(), "{:?}", step);
            prop_assert_eq!(apic.processor_priority(), model.priority(), "{:?}", step);
            prop_assert_eq!(apic.vectors(IRR), numbers(&model.requested), "{:?}", step);
            prop_assert_eq!(apic.vectors(ISR), numbers(&model.in_service), "{:?}", step);
            prop_assert_eq!(apic.vectors(TMR), numbers(&model.levels), "{:?}", step);
        }
    }

    #[test]
    fn no_vector_is_lost(steps in steps(), vector in 16..=255u8) {
        let mut apic = LocalApic::of(1);
        for step in steps {
            apic.step(step);
        }
        apic.set_lint(Lint::Lint0, false);
        apic.put(SVR, 0x1ff);
        apic.put(TPR, 0);
        apic.take(vector);
        // A processor that ends all that it has in service gets it.
        let mut seen = BTreeSet::new();
        for _ in 0..512 {
            if apic.pending().is_some() {
                seen.insert(apic.acknowledge());
            }
            apic.put(EOI, 0);
        }
        prop_assert!(seen.contains(&vector));
        prop_assert!(apic.vectors(ISR).is_empty() && apic.vectors(IRR).is_empty());
    }
}

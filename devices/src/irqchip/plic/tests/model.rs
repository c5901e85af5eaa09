//! Whatever is done to a PLIC, it does what a plain telling of the specification does, and loses
//! nothing.

use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use proptest::prelude::*;

const SOURCES: u32 = 40;
const CONTEXTS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u32, bool),
    Pulse(u32),
    Priority(u32, u32),
    Enable(u32, u32, bool),
    Threshold(u32, u32),
    Claim(u32),
    Complete(u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few sources, on both sides of a word's border, so that they meet.
    let source = || {
        prop_oneof![
            1..4u32,
            31..34u32,
            Just(SOURCES),
            Just(0),
            Just(SOURCES + 1)
        ]
    };
    let context = || 0..=CONTEXTS;
    let step = prop_oneof![
        4 => (source(), any::<bool>()).prop_map(|(source, high)| Step::Set(source, high)),
        2 => source().prop_map(Step::Pulse),
        1 => (source(), 0..9u32).prop_map(|(source, level)| Step::Priority(source, level)),
        2 => (context(), source(), any::<bool>())
            .prop_map(|(context, source, on)| Step::Enable(context, source, on)),
        1 => (context(), 0..9u32).prop_map(|(context, level)| Step::Threshold(context, level)),
        4 => context().prop_map(Step::Claim),
        4 => (context(), source()).prop_map(|(context, source)| Step::Complete(context, source)),
    ];
    prop::collection::vec(step, 0..200)
}

/// The specification, told with sets.
#[derive(Default)]
struct Model {
    high: BTreeSet<u32>,
    pulses: BTreeSet<u32>,
    /// Requests that were forwarded and not completed.
    under_way: BTreeSet<u32>,
    pending: BTreeSet<u32>,
    enabled: BTreeSet<(u32, u32)>,
    priority: BTreeMap<u32, u32>,
    threshold: BTreeMap<u32, u32>,
}

impl Model {
    /// What the step reads, 0 where it reads nothing.
    fn step(&mut self, step: Step) -> u32 {
        let is_source = |source: u32| (1..=SOURCES).contains(&source);
        let mut claimed = 0;
        match step {
            Step::Set(source, true) if is_source(source) => drop(self.high.insert(source)),
            Step::Set(source, _) => drop(self.high.remove(&source)),
            Step::Pulse(source) if is_source(source) => drop(self.pulses.insert(source)),
            Step::Priority(source, level) if is_source(source) => {
                self.priority.insert(source, level % 8);
            }
            Step::Enable(context, source, on) if is_source(source) && context < CONTEXTS => {
                self.enabled.remove(&(context, source));
                self.enabled.extend(on.then_some((context, source)));
            }
            Step::Threshold(context, level) if context < CONTEXTS => {
                self.threshold.insert(context, level % 8);
            }
            Step::Claim(context) => {
                claimed = self.best(context).map_or(0, |(_, source)| source);
                self.pending.remove(&claimed);
            }
            Step::Complete(context, source) => {
                if self.enabled.contains(&(context, source)) && !self.pending.contains(&source) {
                    self.under_way.remove(&source);
                }
            }
            Step::Pulse(_) | Step::Priority(..) | Step::Enable(..) | Step::Threshold(..) => {}
        }
        let asking: BTreeSet<u32> = self.high.union(&self.pulses).copied().collect();
        for source in asking {
            if self.under_way.insert(source) {
                self.pulses.remove(&source);
                self.pending.insert(source);
            }
        }
        claimed
    }

    fn best(&self, context: u32) -> Option<(u32, u32)> {
        let mut best = None;
        for &source in self.pending.iter().rev() {
            let level = self.priority.get(&source).copied().unwrap_or(0);
            let enabled = self.enabled.contains(&(context, source));
            if enabled && level > 0 && best.is_none_or(|(highest, _)| level >= highest) {
                best = Some((level, source));
            }
        }
        best
    }

    fn notifies(&self, context: u32) -> bool {
        let threshold = self.threshold.get(&context).copied().unwrap_or(0);
        self.best(context)
            .is_some_and(|(level, _)| level > threshold)
    }
}

impl Plic {
    fn step(&mut self, step: Step) -> u32 {
        match step {
            Step::Set(source, high) => self.set(Irq(source), high),
            Step::Pulse(source) => self.pulse(Irq(source)),
            Step::Priority(source, level) => self.put(priority(Irq(source)), level),
            Step::Enable(context, source, on) => self.enable(PlicContext(context), Irq(source), on),
            Step::Threshold(context, level) => self.put(threshold(PlicContext(context)), level),
            Step::Claim(context) if context < CONTEXTS => {
                return self.claimed(PlicContext(context));
            }
            Step::Claim(_) => {}
            Step::Complete(context, source) => self.completed(PlicContext(context), Irq(source)),
        }
        0
    }

    fn pending_sources(&mut self) -> BTreeSet<u32> {
        (0..1024)
            .filter(|&source| self.is_pending(Irq(source)))
            .collect()
    }
}

proptest! {
    #[test]
    fn it_does_what_the_specification_says(steps in steps()) {
        let mut plic = Plic::new(SOURCES, CONTEXTS).unwrap();
        let mut model = Model::default();
        for step in steps {
            prop_assert_eq!(plic.step(step), model.step(step), "{:?}", step);
            for context in 0..=CONTEXTS {
                let notifies = plic.notifies(PlicContext(context));
                prop_assert_eq!(notifies, model.notifies(context), "{:?}", step);
            }
            prop_assert_eq!(&plic.pending_sources(), &model.pending, "{:?}", step);
        }
    }

    #[test]
    fn no_request_is_lost(steps in steps(), source in 1..=SOURCES, pulse in any::<bool>()) {
        let mut plic = Plic::new(SOURCES, CONTEXTS).unwrap();
        for step in steps {
            plic.step(step);
        }
        let (source, context) = (Irq(source), PlicContext(0));
        if pulse {
            plic.pulse(source);
        } else {
            plic.set(source, false);
            plic.set(source, true);
        }
        // A driver that enables all and services all finds it, whatever was done before.
        for source in (1..=SOURCES).map(Irq) {
            plic.put(priority(source), 1);
            plic.enable(context, source, true);
        }
        let mut seen = BTreeSet::new();
        for id in 1..=SOURCES {
            plic.completed(context, Irq(id));
        }
        for _ in 0..2 * SOURCES {
            let id = plic.claimed(context);
            seen.insert(id);
            plic.set(Irq(id), false);
            plic.completed(context, Irq(id));
        }
        prop_assert!(seen.contains(&source.0));
        prop_assert_eq!(plic.claimed(context), 0);
        prop_assert!(!plic.notifies(context));
    }
}

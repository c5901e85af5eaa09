//! The architecture, told with sets.

use super::super::GicLine;
use super::driven::{Shown, Step};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::iter::repeat_n;
use firstlight_base::{Irq, VcpuId};

pub(super) const CPUS: usize = 3;
pub(super) const SHARED: u32 = 64;

/// Few, at the borders of banks, so that they meet.
pub(super) const IDS: [u32; 11] = [0, 5, 15, 16, 27, 31, 32, 33, 63, 64, 95];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V2,
    V3,
}

/// An interrupt: of a CPU, or of none.
type Key = (Option<usize>, u32);

pub(super) struct Model {
    kind: Kind,
    high: BTreeSet<Key>,
    latched: BTreeSet<Key>,
    /// What CPUs of a GICv2 sent: to whom, which, from whom.
    sent: BTreeSet<(usize, u32, usize)>,
    active: BTreeSet<Key>,
    enabled: BTreeSet<Key>,
    edge: BTreeSet<Key>,
    group_1: BTreeSet<Key>,
    priority: BTreeMap<Key, u32>,
    /// To which CPUs; of a GICv3, `None` is any.
    routes: BTreeMap<u32, Option<BTreeSet<usize>>>,
    forwarded: [bool; 2],
    cpus: Vec<Cpu>,
    ended: BTreeSet<Key>,
}

#[derive(Clone)]
struct Cpu {
    enabled: [bool; 2],
    mask: u32,
    points: [u32; 2],
    shares_point: bool,
    deactivates_apart: bool,
    /// What was acknowledged and has not ended: group and priority.
    running: Vec<(usize, u32)>,
}

fn key(cpu: usize, id: u32) -> Option<Key> {
    match id {
        0..32 => Some((Some(cpu), id)),
        32..96 => Some((None, id)),
        _ => None,
    }
}

impl Model {
    pub(super) fn new(kind: Kind) -> Self {
        let cpu = Cpu {
            enabled: [false; 2],
            mask: 0,
            points: [2, 3],
            shares_point: false,
            deactivates_apart: false,
            running: Vec::new(),
        };
        let sgis: BTreeSet<Key> = (0..CPUS)
            .flat_map(|cpu| (0..16).map(move |id| (Some(cpu), id)))
            .collect();
        let all = (0..CPUS).flat_map(|cpu| (0..96).filter_map(move |id| key(cpu, id)));
        let first = match kind {
            Kind::V2 => BTreeSet::new(),
            Kind::V3 => BTreeSet::from([0]),
        };
        Self {
            kind,
            high: BTreeSet::new(),
            latched: BTreeSet::new(),
            sent: BTreeSet::new(),
            active: BTreeSet::new(),
            enabled: sgis.clone(),
            edge: sgis,
            group_1: all.filter(|_| kind == Kind::V3).collect(),
            priority: BTreeMap::new(),
            routes: (32..96).map(|id| (id, Some(first.clone()))).collect(),
            forwarded: [false; 2],
            cpus: repeat_n(cpu, CPUS).collect(),
            ended: BTreeSet::new(),
        }
    }

    fn line(line: GicLine) -> Option<Key> {
        match line {
            GicLine::Shared(Irq(number)) => key(0, number + 32).filter(|(cpu, _)| cpu.is_none()),
            GicLine::Private(VcpuId(cpu), Irq(number)) => {
                let cpu = usize::try_from(cpu).unwrap();
                (cpu < CPUS).then_some((Some(cpu), number + 16))
            }
        }
    }

    pub(super) fn step(&mut self, step: Step) -> Option<u32> {
        match step {
            Step::Set(line, high) => {
                let key = Self::line(line)?;
                if !high {
                    self.high.remove(&key);
                } else if self.high.insert(key) && self.edge.contains(&key) {
                    self.latched.insert(key);
                }
            }
            Step::Pulse(line) => self.latched.extend(Self::line(line)),
            Step::Enable(cpu, id, on) => put(&mut self.enabled, key(cpu, id)?, on),
            Step::Pend(_, ..16, _) if self.kind == Kind::V2 => {}
            Step::Pend(cpu, id, on) => put(&mut self.latched, key(cpu, id)?, on),
            Step::Activate(cpu, id, true) => put(&mut self.active, key(cpu, id)?, true),
            Step::Activate(cpu, id, false) => self.deactivate(key(cpu, id)?),
            Step::Group(cpu, id, on) => put(&mut self.group_1, key(cpu, id)?, on),
            Step::Edge(_, ..16, _) => {}
            Step::Edge(cpu, id, on) => {
                let key = key(cpu, id)?;
                if on && self.is_pending(key) {
                    self.latched.insert(key);
                }
                put(&mut self.edge, key, on);
            }
            Step::Priority(cpu, id, level) => {
                self.priority
                    .insert(key(cpu, id)?, u32::from(level) / 8 * 8);
            }
            Step::Route(..32, _) => {}
            Step::Route(id, mask) => self.route(id, mask),
            Step::Send(from, mask, id) => {
                for to in (0..CPUS).filter(|to| mask >> to & 1 != 0) {
                    match self.kind {
                        Kind::V2 => drop(self.sent.insert((to, id, from))),
                        Kind::V3 => drop(self.latched.insert((Some(to), id))),
                    }
                }
            }
            Step::Forward(zero, one) => self.forwarded = [zero, one],
            Step::Interface(cpu, zero, one) => self.cpus[cpu].enabled = [zero, one],
            Step::Modes(cpu, shared, apart) => {
                self.cpus[cpu].shares_point = shared;
                self.cpus[cpu].deactivates_apart = apart;
            }
            Step::Mask(cpu, mask) => self.cpus[cpu].mask = u32::from(mask) / 8 * 8,
            Step::BinaryPoint(cpu, group, point) => {
                if group == 0 || !self.cpus[cpu].shares_point {
                    let smallest = [2, 3][group];
                    self.cpus[cpu].points[group] = (u32::from(point) % 8).max(smallest);
                }
            }
            Step::Acknowledge(cpu, group) => return Some(self.acknowledge(cpu, group)),
            Step::End(cpu, group, id) => self.end(cpu, group, id)?,
            Step::Deactivate(cpu, id) => {
                if self.cpus[cpu].deactivates_apart {
                    self.deactivate(key(cpu, id)?);
                }
            }
            Step::EndLast(..) | Step::DeactivateLast(_) => unreachable!("they are replaced"),
        }
        None
    }

    fn route(&mut self, id: u32, mask: u8) {
        let targets = (0..CPUS).filter(|cpu| mask >> cpu & 1 != 0);
        let route = match self.kind {
            Kind::V2 => Some(targets.collect()),
            Kind::V3 if mask == u8::MAX => None,
            Kind::V3 => {
                let cpu = usize::try_from(mask.trailing_zeros()).unwrap();
                Some(BTreeSet::from([cpu]))
            }
        };
        self.routes.insert(id, route);
    }

    fn is_pending(&self, key: Key) -> bool {
        let (cpu, id) = key;
        let sent = cpu.is_some_and(|cpu| self.first_sender(cpu, id).is_some());
        sent || self.latched.contains(&key)
            || (self.high.contains(&key) && !self.edge.contains(&key))
    }

    fn first_sender(&self, cpu: usize, id: u32) -> Option<usize> {
        (0..CPUS).find(|&from| self.sent.contains(&(cpu, id, from)))
    }

    fn group(&self, key: Key) -> usize {
        usize::from(self.group_1.contains(&key))
    }

    fn level(&self, key: Key) -> u32 {
        self.priority.get(&key).copied().unwrap_or(0)
    }

    /// The part of the interrupt's priority that counts for preemption, on a CPU.
    fn preemption_level(&self, cpu: usize, key: Key) -> u32 {
        let it = &self.cpus[cpu];
        let size = match self.group(key) {
            0 => 1 << (it.points[0] + 1),
            _ if it.shares_point => 1 << (it.points[0] + 1),
            _ => 1 << it.points[1],
        };
        self.level(key) / size * size
    }

    fn would_interrupt(&self, cpu: usize, key: Key) -> bool {
        let it = &self.cpus[cpu];
        it.enabled[self.group(key)]
            && self.level(key) < it.mask
            && self.preemption_level(cpu, key) < self.running(cpu)
    }

    fn running(&self, cpu: usize) -> u32 {
        let running = self.cpus[cpu].running.iter().map(|&(_, level)| level);
        running.min().unwrap_or(0xff)
    }

    fn best(&self, cpu: usize) -> Option<Key> {
        let keys = (0..96).filter_map(|id| key(cpu, id));
        let mut best: Option<Key> = None;
        for key in keys {
            let group = self.group(key);
            let routed = match self.routes.get(&key.1) {
                None => true,
                Some(Some(cpus)) => cpus.contains(&cpu),
                Some(None) => (0..CPUS).find(|&it| self.would_interrupt(it, key)) == Some(cpu),
            };
            let given = self.is_pending(key)
                && self.enabled.contains(&key)
                && !self.active.contains(&key)
                && self.forwarded[group]
                && self.cpus[cpu].enabled[group];
            if routed && given && best.is_none_or(|best| self.level(key) < self.level(best)) {
                best = Some(key);
            }
        }
        best
    }

    fn interrupting(&self, cpu: usize) -> Option<Key> {
        self.best(cpu).filter(|&key| self.would_interrupt(cpu, key))
    }

    /// What a register of a group shows of an interrupt: its number, or why it shows none.
    fn shown(&self, cpu: usize, group: usize, key: Option<Key>) -> Result<u32, u32> {
        let key = key.ok_or(1023u32)?;
        match (group, self.group(key)) {
            (0, 1) if self.kind == Kind::V2 => Err(1022),
            (asked, of) if asked != of => Err(1023),
            _ => {
                let sender = self.first_sender(cpu, key.1).unwrap_or(0);
                Ok(key.1 + 1024 * u32::try_from(sender).unwrap())
            }
        }
    }

    fn acknowledge(&mut self, cpu: usize, group: usize) -> u32 {
        let key = self.interrupting(cpu);
        let number = match self.shown(cpu, group, key) {
            Ok(number) => number,
            Err(special) => return special,
        };
        let key = key.unwrap();
        let level = self.preemption_level(cpu, key);
        self.cpus[cpu].running.push((group, level));
        self.active.insert(key);
        self.latched.remove(&key);
        if let Some(from) = self.first_sender(cpu, key.1) {
            self.sent.remove(&(cpu, key.1, from));
        }
        number
    }

    fn end(&mut self, cpu: usize, group: usize, id: u32) -> Option<()> {
        let key = key(cpu, id)?;
        if self.group(key) == group {
            let running = &mut self.cpus[cpu].running;
            let mut of_group = running.iter().enumerate().filter(|(_, it)| it.0 == group);
            if let Some(index) = of_group.next_back().map(|(index, _)| index) {
                running.remove(index);
            }
            if !self.cpus[cpu].deactivates_apart {
                self.deactivate(key);
            }
        }
        Some(())
    }

    fn deactivate(&mut self, key: Key) {
        if self.active.remove(&key) && key.1 >= 16 {
            self.ended.insert(key);
        }
    }

    pub(super) fn take_ended(&mut self) -> Vec<GicLine> {
        let ended = core::mem::take(&mut self.ended).into_iter();
        let line = |(cpu, id)| match cpu {
            Some(cpu) => GicLine::Private(VcpuId(u32::try_from(cpu).unwrap()), Irq(id - 16)),
            None => GicLine::Shared(Irq(id - 32)),
        };
        let (private, shared): (Vec<Key>, Vec<Key>) = ended.partition(|(cpu, _)| cpu.is_some());
        private.into_iter().chain(shared).map(line).collect()
    }

    pub(super) fn shows(&self, cpu: usize) -> Shown {
        let words = |is: &dyn Fn(Key) -> bool| {
            let words = (0..96).step_by(32).map(|first| {
                let set = (0..32).filter(|bit| is(key(cpu, first + bit).unwrap()));
                set.fold(0, |word, bit| word | 1 << bit)
            });
            words.collect()
        };
        let best = self.best(cpu);
        let shown = |group| {
            self.shown(cpu, group, best)
                .unwrap_or_else(|special| special)
        };
        let interrupting = self.interrupting(cpu);
        let fiq = |key: &Key| self.kind == Kind::V3 && self.group(*key) == 0;
        Shown {
            irq: interrupting.filter(|key| !fiq(key)).is_some(),
            fiq: interrupting.filter(fiq).is_some(),
            running: self.running(cpu),
            highest: [shown(0), shown(1)],
            pending: words(&|key| self.is_pending(key)),
            active: words(&|key| self.active.contains(&key)),
            enabled: words(&|key| self.enabled.contains(&key)),
        }
    }
}

fn put(set: &mut BTreeSet<Key>, key: Key, on: bool) {
    if on {
        set.insert(key);
    } else {
        set.remove(&key);
    }
}

//! A guest that has its interrupts by list registers, and the hardware that gives it those: virtual
//! CPU interfaces as IHI 0069H tells them (ICH_*_EL2 and ICV_*_EL1).

use super::super::{AfterRun, Gic, ListRegisters};
use super::driven::{Driven, Shown, Step};
use super::model::{CPUS, Kind};
use alloc::vec::Vec;
use core::iter::repeat_n;
use firstlight_base::VcpuId;

pub(super) struct Listed<D> {
    inner: D,
    /// Guests run on until hardware or [`ListRegisters::is_stale`] says that they must not; if
    /// not, they are taken out after each step.
    runs_on: bool,
    lists: Vec<ListRegisters>,
    hardware: Vec<Hardware>,
}

#[derive(Clone)]
struct Hardware {
    registers: Vec<u64>,
    control: u64,
    enabled: [bool; 2],
    mask: u32,
    points: [u32; 2],
    shares_point: bool,
    deactivates_apart: bool,
    active: [u32; 2],
}

const PENDING: u64 = 1;
const ACTIVE: u64 = 2;

fn state(register: u64) -> u64 {
    register >> 62
}

fn group(register: u64) -> usize {
    usize::from(register >> 60 & 1 != 0)
}

fn priority(register: u64) -> u32 {
    u32::try_from(register >> 48 & 0xff).unwrap()
}

fn virtual_id(register: u64) -> u32 {
    u32::try_from(register & 0xffff_ffff).unwrap()
}

impl Hardware {
    fn preemption_level(&self, register: u64) -> u32 {
        let ignored = match group(register) {
            1 if !self.shares_point => self.points[1],
            _ => self.points[0] + 1,
        };
        priority(register) >> ignored << ignored
    }

    fn running(&self) -> u32 {
        let active = self.active[0] | self.active[1];
        if active == 0 {
            0xff
        } else {
            active.trailing_zeros() * 8
        }
    }

    /// The list register of the most urgent pending interrupt; of several, the lowest identifier's,
    /// as hardware may but need not have it.
    fn best(&self) -> Option<usize> {
        let pending = (0..self.registers.len()).filter(|&at| {
            let register = self.registers[at];
            state(register) == PENDING && self.enabled[group(register)]
        });
        pending.min_by_key(|&at| {
            (
                priority(self.registers[at]),
                virtual_id(self.registers[at]) & 0x3ff,
            )
        })
    }

    fn interrupting(&self) -> Option<usize> {
        self.best().filter(|&at| {
            let register = self.registers[at];
            priority(register) < self.mask && self.preemption_level(register) < self.running()
        })
    }

    fn shown(&self, kind: Kind, asked: usize, at: Option<usize>) -> Result<usize, u32> {
        let at = at.ok_or(1023u32)?;
        match (asked, group(self.registers[at])) {
            (0, 1) if kind == Kind::V2 => Err(1022),
            (asked, of) if asked != of => Err(1023),
            _ => Ok(at),
        }
    }

    fn acknowledge(&mut self, kind: Kind, asked: usize) -> u32 {
        match self.shown(kind, asked, self.interrupting()) {
            Ok(at) => {
                let register = self.registers[at];
                self.active[asked] |= 1 << (self.preemption_level(register) / 8);
                self.registers[at] = register & !(3 << 62) | ACTIVE << 62;
                virtual_id(register)
            }
            Err(special) => special,
        }
    }

    fn end(&mut self, group: usize, id: u32) {
        let active = &mut self.active[group];
        *active &= active.wrapping_sub(1);
        if !self.deactivates_apart {
            self.deactivate(|register| virtual_id(register) == id);
        }
    }

    fn deactivate(&mut self, is: impl Fn(u64) -> bool) {
        let mut active = self
            .registers
            .iter_mut()
            .filter(|it| state(**it) & ACTIVE != 0);
        match active.find(|it| is(**it)) {
            Some(register) => *register &= !(ACTIVE << 62),
            None => self.control += 1 << 27,
        }
    }

    /// ICH_MISR_EL2.
    fn asks_for_maintenance(&self) -> bool {
        let is_set = |bit: u32| self.control >> bit & 1 != 0;
        let mut registers = self.registers.iter();
        let has_ended = |it: &u64| state(*it) == 0 && it >> 61 & 1 == 0 && it >> 41 & 1 != 0;
        registers.clone().any(has_ended)
            || (is_set(2) && self.control >> 27 != 0)
            || (is_set(3) && registers.all(|it| state(*it) != PENDING))
            || (is_set(4) && self.enabled[0])
            || (is_set(5) && !self.enabled[0])
            || (is_set(6) && self.enabled[1])
            || (is_set(7) && !self.enabled[1])
    }

    fn machine_control(&self) -> u64 {
        u64::from(self.enabled[0]) | u64::from(self.enabled[1]) << 1
    }
}

fn vcpu(cpu: usize) -> VcpuId {
    VcpuId(u32::try_from(cpu).unwrap())
}

impl<D: Driven> Listed<D> {
    pub(super) fn new(inner: D, registers: usize) -> Self {
        let hardware = Hardware {
            registers: Vec::new(),
            control: 0,
            enabled: [false; 2],
            mask: 0,
            points: [2, 3],
            shares_point: false,
            deactivates_apart: false,
            active: [0; 2],
        };
        Self {
            inner,
            runs_on: false,
            lists: (0..CPUS)
                .map(|cpu| ListRegisters::new(vcpu(cpu), registers).unwrap())
                .collect(),
            hardware: repeat_n(hardware, CPUS).collect(),
        }
    }

    /// With guests that run on.
    pub(super) fn running_on(inner: D, registers: usize) -> Self {
        let mut listed = Self {
            runs_on: true,
            ..Self::new(inner, registers)
        };
        (0..CPUS).for_each(|cpu| listed.load(cpu));
        listed
    }

    pub(super) fn runs_on(&self) -> bool {
        self.runs_on
    }

    pub(super) fn inner(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Lets the guest do something.
    fn run<T>(&mut self, cpu: usize, guest: impl FnOnce(&mut Hardware) -> T) -> T {
        if !self.runs_on {
            self.load(cpu);
        }
        let result = guest(&mut self.hardware[cpu]);
        if !self.runs_on {
            self.save(cpu);
        }
        self.settle();
        result
    }

    /// Takes guests out that must not run on.
    fn settle(&mut self) {
        for _ in 0..8 * CPUS {
            let stale = (0..CPUS).find(|&cpu| {
                let is_stale = self.lists[cpu].is_stale(self.inner.gic());
                is_stale || self.hardware[cpu].asks_for_maintenance()
            });
            match stale {
                Some(cpu) if self.runs_on => {
                    self.save(cpu);
                    self.load(cpu);
                }
                _ => return,
            }
        }
        panic!("it does not come to rest");
    }

    fn load(&mut self, cpu: usize) {
        let (list, hardware) = (&mut self.lists[cpu], &mut self.hardware[cpu]);
        let gic = self.inner.gic();
        hardware.registers = list.load(gic).to_vec();
        hardware.control = list.control();
        assert_eq!(list.load(gic), hardware.registers);
        assert!(!list.is_stale(gic));
        let listed = hardware.registers.iter().filter(|it| state(**it) != 0);
        let mut ids: Vec<u32> = listed.map(|it| virtual_id(*it) & 0x3ff).collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|two| two[0] < two[1]), "twice: {ids:?}");
    }

    pub(super) fn save(&mut self, cpu: usize) {
        let hardware = &self.hardware[cpu];
        let after = AfterRun {
            registers: &hardware.registers,
            control: hardware.control,
            machine_control: hardware.machine_control(),
        };
        self.lists[cpu].save(self.inner.gic(), after);
    }
}

impl<D: Driven> Driven for Listed<D> {
    const KIND: Kind = D::KIND;
    const GROUP: usize = D::GROUP;

    fn gic(&mut self) -> &mut Gic {
        self.inner.gic()
    }

    fn step(&mut self, step: Step) -> Option<u32> {
        match step {
            Step::Interface(cpu, zero, one) => self.run(cpu, |it| it.enabled = [zero, one]),
            Step::Modes(cpu, shared, apart) => self.run(cpu, |it| {
                it.shares_point = shared;
                it.deactivates_apart = apart;
            }),
            Step::Mask(cpu, mask) => self.run(cpu, |it| it.mask = u32::from(mask) & 0xf8),
            Step::BinaryPoint(cpu, group, point) => self.run(cpu, |it| {
                if group == 0 || !it.shares_point {
                    it.points[group] = u32::from(point & 7).max([2, 3][group]);
                }
            }),
            Step::Acknowledge(cpu, group) => {
                return Some(self.run(cpu, |it| it.acknowledge(D::KIND, group)));
            }
            Step::End(cpu, group, id) => self.run(cpu, |it| it.end(group, id)),
            Step::Deactivate(cpu, id) => {
                let is_trapped = self.run(cpu, |it| {
                    let traps = it.control & 1 << 14 != 0;
                    if it.deactivates_apart && !traps {
                        it.deactivate(|register| virtual_id(register) & 0x3ff == id);
                    }
                    it.deactivates_apart && traps
                });
                if is_trapped && self.runs_on {
                    self.save(cpu);
                    self.gic().deactivate(vcpu(cpu), id);
                    self.load(cpu);
                    self.settle();
                } else if is_trapped {
                    self.gic().deactivate(vcpu(cpu), id);
                }
            }
            other => {
                let seen = self.inner.step(other);
                self.settle();
                return seen;
            }
        }
        None
    }

    fn shows(&mut self, cpu: usize) -> Shown {
        let mut shown = self.inner.shows(cpu);
        self.run(cpu, |it| {
            let best = it.best();
            shown.highest = [0, 1].map(|group| {
                let at = it.shown(D::KIND, group, best);
                at.map_or_else(|special| special, |at| virtual_id(it.registers[at]))
            });
            shown.running = it.running();
            let interrupting = it.interrupting().map(|at| group(it.registers[at]));
            let fiq_group = (D::KIND == Kind::V3).then_some(0);
            shown.fiq = interrupting.is_some() && interrupting == fiq_group;
            shown.irq = interrupting.is_some() && interrupting != fiq_group;
        });
        shown
    }

    fn reset_priorities(&mut self, cpu: usize) {
        self.hardware[cpu].active = [0; 2];
    }
}

//! What can be done to a GIC, and how it is done to each by its registers.

use super::super::{Affinity, Gic, GicLine, GicV2, GicV3, IccRegister};
use super::model::{CPUS, IDS, Kind, SHARED};
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::VcpuId;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Set(GicLine, bool),
    Pulse(GicLine),
    Enable(usize, u32, bool),
    Pend(usize, u32, bool),
    Activate(usize, u32, bool),
    Group(usize, u32, bool),
    Edge(usize, u32, bool),
    Priority(usize, u32, u8),
    /// A mask of CPUs; of a GICv3, the first of it, or any for all.
    Route(u32, u8),
    /// From a CPU, to those of a mask.
    Send(usize, u8, u32),
    Forward(bool, bool),
    Interface(usize, bool, bool),
    Modes(usize, bool, bool),
    Mask(usize, u8),
    /// By group.
    BinaryPoint(usize, usize, u8),
    Acknowledge(usize, usize),
    End(usize, usize, u32),
    /// The end of what was acknowledged last.
    EndLast(usize, usize),
    Deactivate(usize, u32),
    DeactivateLast(usize),
}

impl Step {
    pub(super) fn with_last(self, last: &[u32; CPUS]) -> Self {
        match self {
            Self::EndLast(cpu, group) => Self::End(cpu, group, last[cpu]),
            Self::DeactivateLast(cpu) => Self::Deactivate(cpu, last[cpu]),
            other => other,
        }
    }
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || prop::sample::select(IDS.as_slice());
    let line = || {
        (0..=3u32, id()).prop_filter_map("none leads there", |(cpu, id)| {
            GicLine::of((id < 32).then_some(VcpuId(cpu)), id)
        })
    };
    let (cpu, group, flag) = (|| 0..CPUS, || 0..2usize, any::<bool>);
    let often = || prop::bool::weighted(0.9);
    let step = prop_oneof![
        6 => (line(), flag()).prop_map(|(line, high)| Step::Set(line, high)),
        3 => line().prop_map(Step::Pulse),
        6 => (cpu(), id(), often()).prop_map(|(cpu, id, on)| Step::Enable(cpu, id, on)),
        2 => (cpu(), id(), flag()).prop_map(|(cpu, id, on)| Step::Pend(cpu, id, on)),
        1 => (cpu(), id(), flag()).prop_map(|(cpu, id, on)| Step::Activate(cpu, id, on)),
        1 => (cpu(), id(), flag()).prop_map(|(cpu, id, on)| Step::Group(cpu, id, on)),
        1 => (cpu(), id(), flag()).prop_map(|(cpu, id, on)| Step::Edge(cpu, id, on)),
        3 => (cpu(), id(), any::<u8>())
            .prop_map(|(cpu, id, level)| Step::Priority(cpu, id, level)),
        3 => (id(), any::<u8>()).prop_map(|(id, mask)| Step::Route(id, mask)),
        3 => (cpu(), any::<u8>(), 0..16u32).prop_map(|(cpu, mask, id)| Step::Send(cpu, mask, id)),
        2 => (often(), often()).prop_map(|(zero, one)| Step::Forward(zero, one)),
        4 => (cpu(), often(), often()).prop_map(|(cpu, zero, one)| Step::Interface(cpu, zero, one)),
        1 => (cpu(), flag(), flag()).prop_map(|(cpu, cbpr, mode)| Step::Modes(cpu, cbpr, mode)),
        4 => (cpu(), any::<u8>()).prop_map(|(cpu, mask)| Step::Mask(cpu, mask | 0xc0)),
        1 => (cpu(), group(), any::<u8>())
            .prop_map(|(cpu, group, point)| Step::BinaryPoint(cpu, group, point)),
        10 => (cpu(), group()).prop_map(|(cpu, group)| Step::Acknowledge(cpu, group)),
        1 => (cpu(), group(), id()).prop_map(|(cpu, group, id)| Step::End(cpu, group, id)),
        6 => (cpu(), group()).prop_map(|(cpu, group)| Step::EndLast(cpu, group)),
        1 => (cpu(), id()).prop_map(|(cpu, id)| Step::Deactivate(cpu, id)),
        2 => cpu().prop_map(Step::DeactivateLast),
    ];
    let start = (0..CPUS).flat_map(|cpu| [Step::Interface(cpu, true, true), Step::Mask(cpu, 0xf8)]);
    let start: Vec<Step> = start.chain([Step::Forward(true, true)]).collect();
    (any::<bool>(), prop::collection::vec(step, 0..250)).prop_map(move |(started, steps)| {
        let start = start.iter().copied().filter(|_| started);
        start.chain(steps).collect()
    })
}

/// What a CPU can see, and how it is notified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) irq: bool,
    pub(super) fiq: bool,
    pub(super) running: u32,
    /// By group.
    pub(super) highest: [u32; 2],
    /// Words of 32 interrupts.
    pub(super) pending: Vec<u32>,
    pub(super) active: Vec<u32>,
    pub(super) enabled: Vec<u32>,
}

impl Shown {
    pub(super) fn is_pending(&self, id: u32) -> bool {
        self.pending[usize::try_from(id / 32).unwrap()] >> (id % 32) & 1 != 0
    }
}

/// A GIC with its registers.
pub(super) trait Driven {
    const KIND: Kind;
    /// In which interrupts are after reset.
    const GROUP: usize;

    fn gic(&mut self) -> &mut Gic;

    /// What the step reads.
    fn step(&mut self, step: Step) -> Option<u32>;

    fn shows(&mut self, cpu: usize) -> Shown;

    /// Everything enabled, for the first CPU, and of one group; nothing active.
    fn start_anew(&mut self) {
        for cpu in 0..CPUS {
            for id in IDS {
                self.step(Step::Activate(cpu, id, false));
                self.step(Step::Enable(cpu, id, true));
                self.step(Step::Group(cpu, id, Self::GROUP == 1));
                self.step(Step::Priority(cpu, id, 0x80));
                self.step(Step::Route(id, 1));
            }
            self.step(Step::Modes(cpu, false, false));
            self.step(Step::Interface(cpu, true, true));
            self.step(Step::Mask(cpu, 0xf8));
            self.reset_priorities(cpu);
        }
        self.step(Step::Forward(true, true));
    }

    fn reset_priorities(&mut self, cpu: usize);
}

pub(super) struct V2(pub(super) GicV2);

pub(super) struct V3(pub(super) GicV3);

const SET_ENABLED: u64 = 0x100;
const CLEAR_ENABLED: u64 = 0x180;
const SET_PENDING: u64 = 0x200;
const CLEAR_PENDING: u64 = 0x280;
const SET_ACTIVE: u64 = 0x300;
const CLEAR_ACTIVE: u64 = 0x380;

/// An access to the registers of banks.
enum Bits {
    /// Writes one bit of a register that sets or clears.
    Strobe(u64),
    /// Changes one bit.
    Change(u64, bool),
    Byte(u64, u8),
    Edge(bool),
}

impl Bits {
    fn of(step: Step) -> Option<(usize, u32, Self)> {
        let choose = |on, set, clear| Self::Strobe(if on { set } else { clear });
        Some(match step {
            Step::Enable(cpu, id, on) => (cpu, id, choose(on, SET_ENABLED, CLEAR_ENABLED)),
            Step::Pend(cpu, id, on) => (cpu, id, choose(on, SET_PENDING, CLEAR_PENDING)),
            Step::Activate(cpu, id, on) => (cpu, id, choose(on, SET_ACTIVE, CLEAR_ACTIVE)),
            Step::Group(cpu, id, on) => (cpu, id, Self::Change(0x80, on)),
            Step::Priority(cpu, id, level) => (cpu, id, Self::Byte(0x400, level)),
            Step::Edge(cpu, id, on) => (cpu, id, Self::Edge(on)),
            _ => return None,
        })
    }

    /// Where the bits are, and which bytes, if the word there is `old`.
    fn write(&self, id: u32, old: impl Fn(u64) -> u32) -> (u64, Vec<u8>) {
        let word = |first: u64| first + u64::from(id / 32) * 4;
        let mask = 1u32 << (id % 32);
        match *self {
            Self::Strobe(first) => (word(first), mask.to_le_bytes().into()),
            Self::Change(first, on) => {
                let at = word(first);
                let value = if on { old(at) | mask } else { old(at) & !mask };
                (at, value.to_le_bytes().into())
            }
            Self::Byte(first, value) => (first + u64::from(id), [value].into()),
            Self::Edge(on) => {
                let at = 0xc00 + u64::from(id / 16) * 4;
                let mask = 2u32 << (2 * (id % 16));
                let value = if on { old(at) | mask } else { old(at) & !mask };
                (at, value.to_le_bytes().into())
            }
        }
    }
}

fn vcpu(cpu: usize) -> VcpuId {
    VcpuId(u32::try_from(cpu).unwrap())
}

fn word(data: [u8; 4]) -> u32 {
    u32::from_le_bytes(data)
}

impl V2 {
    pub(super) fn new() -> Self {
        Self(GicV2::new(u32::try_from(CPUS).unwrap(), SHARED).unwrap())
    }

    fn read(&self, cpu: usize, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.0.read_distributor(vcpu(cpu), offset, &mut data);
        word(data)
    }

    fn interface(&mut self, cpu: usize, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.0.read_cpu_interface(vcpu(cpu), offset, &mut data);
        word(data)
    }

    fn put_interface(&mut self, cpu: usize, offset: u64, value: u32) {
        let data = value.to_le_bytes();
        self.0.write_cpu_interface(vcpu(cpu), offset, &data);
    }

    fn control(&mut self, cpu: usize, mask: u32, value: u32) {
        let old = self.interface(cpu, 0);
        self.put_interface(cpu, 0, (old & !mask) | value);
    }
}

impl Driven for V2 {
    const KIND: Kind = Kind::V2;
    const GROUP: usize = 0;

    fn gic(&mut self) -> &mut Gic {
        &mut self.0
    }

    fn step(&mut self, step: Step) -> Option<u32> {
        if let Some((cpu, id, bits)) = Bits::of(step) {
            let (at, data) = bits.write(id, |at| self.read(cpu, at));
            self.0.write_distributor(vcpu(cpu), at, &data);
            return None;
        }
        match step {
            Step::Set(line, high) => self.0.set(line, high),
            Step::Pulse(line) => self.0.pulse(line),
            Step::Route(id, mask) => {
                self.0
                    .write_distributor(VcpuId(0), 0x800 + u64::from(id), &[mask]);
            }
            Step::Send(cpu, mask, id) => {
                let value = u32::from(mask) << 16 | id;
                self.0
                    .write_distributor(vcpu(cpu), 0xf00, &value.to_le_bytes());
            }
            Step::Forward(zero, one) => {
                let value = u8::from(zero) | u8::from(one) << 1;
                self.0.write_distributor(VcpuId(0), 0, &[value]);
            }
            Step::Interface(cpu, zero, one) => {
                self.control(cpu, 3, u32::from(zero) | u32::from(one) << 1);
            }
            Step::Modes(cpu, shared, apart) => {
                self.control(cpu, 0x210, u32::from(shared) << 4 | u32::from(apart) << 9);
            }
            Step::Mask(cpu, mask) => self.put_interface(cpu, 0x4, mask.into()),
            Step::BinaryPoint(cpu, group, point) => {
                self.put_interface(cpu, [0x8, 0x1c][group], point.into());
            }
            Step::Acknowledge(cpu, group) => return Some(self.interface(cpu, [0xc, 0x20][group])),
            Step::End(cpu, group, id) => self.put_interface(cpu, [0x10, 0x24][group], id),
            Step::Deactivate(cpu, id) => self.put_interface(cpu, 0x1000, id),
            _ => {}
        }
        None
    }

    fn shows(&mut self, cpu: usize) -> Shown {
        let words = |first: u64| {
            let words = 0..=u64::from(SHARED / 32);
            words
                .map(|index| self.read(cpu, first + 4 * index))
                .collect()
        };
        Shown {
            irq: self.0.notifies(vcpu(cpu)),
            fiq: self.0.notifies_fiq(vcpu(cpu)),
            pending: words(CLEAR_PENDING),
            active: words(CLEAR_ACTIVE),
            enabled: words(CLEAR_ENABLED),
            running: self.interface(cpu, 0x14),
            highest: [self.interface(cpu, 0x18), self.interface(cpu, 0x28)],
        }
    }

    fn reset_priorities(&mut self, cpu: usize) {
        self.put_interface(cpu, 0xd0, 0);
        self.put_interface(cpu, 0xe0, 0);
    }
}

impl V3 {
    pub(super) fn new() -> Self {
        let affinities: Vec<Affinity> = (0..CPUS).map(|cpu| Affinity::of(vcpu(cpu))).collect();
        let mut gic = GicV3::new(&affinities, SHARED).unwrap();
        for cpu in 0..3 {
            gic.write_redistributor(cpu * 0x2_0000 + 0x14, &[0; 4]);
        }
        Self(gic)
    }

    fn read(&self, cpu: usize, offset: u64) -> u32 {
        let mut data = [0; 4];
        match Self::in_redistributor(cpu, offset) {
            Some(at) => self.0.read_redistributor(at, &mut data),
            None => self.0.read_distributor(offset, &mut data),
        }
        word(data)
    }

    /// Where a register of the CPU's own bank is.
    fn in_redistributor(cpu: usize, offset: u64) -> Option<u64> {
        let is_own =
            matches!(offset, 0x400..0x420 | 0xc00..0xc08) || (offset < 0x400 && offset % 0x80 < 4);
        is_own.then(|| u64::from(vcpu(cpu).0) * 0x2_0000 + 0x1_0000 + offset)
    }

    fn register(&mut self, cpu: usize, register: IccRegister) -> u32 {
        let value = self.0.read_system_register(vcpu(cpu), register);
        u32::try_from(value.unwrap()).unwrap()
    }

    fn put_register(&mut self, cpu: usize, register: IccRegister, value: u64) {
        assert!(self.0.write_system_register(vcpu(cpu), register, value));
    }
}

impl Driven for V3 {
    const KIND: Kind = Kind::V3;
    const GROUP: usize = 1;

    fn gic(&mut self) -> &mut Gic {
        &mut self.0
    }

    fn step(&mut self, step: Step) -> Option<u32> {
        if let Some((cpu, id, bits)) = Bits::of(step) {
            let (at, data) = bits.write(id, |at| self.read(cpu, at));
            match Self::in_redistributor(cpu, at) {
                Some(at) => self.0.write_redistributor(at, &data),
                None => self.0.write_distributor(at, &data),
            }
            return None;
        }
        match step {
            Step::Set(line, high) => self.0.set(line, high),
            Step::Pulse(line) => self.0.pulse(line),
            Step::Route(id, mask) => {
                let router = if mask == u8::MAX {
                    1 << 31
                } else {
                    u64::from(mask.trailing_zeros())
                };
                let at = 0x6000 + u64::from(id) * 8;
                self.0.write_distributor(at, &router.to_le_bytes());
            }
            Step::Send(cpu, mask, id) => {
                let value = u64::from(id) << 24 | u64::from(mask);
                self.put_register(cpu, IccRegister::Sgi1r, value);
            }
            Step::Forward(zero, one) => {
                let value = u8::from(zero) | u8::from(one) << 1;
                self.0.write_distributor(0, &[value]);
            }
            Step::Interface(cpu, zero, one) => {
                self.put_register(cpu, IccRegister::Igrpen0, zero.into());
                self.put_register(cpu, IccRegister::Igrpen1, one.into());
            }
            Step::Modes(cpu, shared, apart) => {
                let value = u64::from(shared) | u64::from(apart) << 1;
                self.put_register(cpu, IccRegister::Ctlr, value);
            }
            Step::Mask(cpu, mask) => self.put_register(cpu, IccRegister::Pmr, mask.into()),
            Step::BinaryPoint(cpu, group, point) => {
                let register = [IccRegister::Bpr0, IccRegister::Bpr1][group];
                self.put_register(cpu, register, point.into());
            }
            Step::Acknowledge(cpu, group) => {
                return Some(self.register(cpu, [IccRegister::Iar0, IccRegister::Iar1][group]));
            }
            Step::End(cpu, group, id) => {
                let register = [IccRegister::Eoir0, IccRegister::Eoir1][group];
                self.put_register(cpu, register, id.into());
            }
            Step::Deactivate(cpu, id) => self.put_register(cpu, IccRegister::Dir, id.into()),
            _ => {}
        }
        None
    }

    fn shows(&mut self, cpu: usize) -> Shown {
        let words = |first: u64| {
            let words = 0..=u64::from(SHARED / 32);
            words
                .map(|index| self.read(cpu, first + 4 * index))
                .collect()
        };
        Shown {
            irq: self.0.notifies(vcpu(cpu)),
            fiq: self.0.notifies_fiq(vcpu(cpu)),
            pending: words(CLEAR_PENDING),
            active: words(CLEAR_ACTIVE),
            enabled: words(CLEAR_ENABLED),
            running: self.register(cpu, IccRegister::Rpr),
            highest: [
                self.register(cpu, IccRegister::Hppir0),
                self.register(cpu, IccRegister::Hppir1),
            ],
        }
    }

    fn reset_priorities(&mut self, cpu: usize) {
        self.put_register(cpu, IccRegister::Ap0r0, 0);
        self.put_register(cpu, IccRegister::Ap1r0, 0);
    }
}

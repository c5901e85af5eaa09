//! Arm's generic interrupt controllers: GICv2 (IHI 0048B.b) and GICv3 (IHI 0069H), with one
//! security state and with both interrupt groups, as a guest of a hypervisor sees them.
//!
//! [`Gic`] is what both have in common: the interrupts and how they are given to CPUs.
//! [`GicV2`] and [`GicV3`] are its registers, and [`ListRegisters`] is the way past the registers
//! of its CPU interfaces where the host's hardware has virtual ones.
//!
//! An interrupt is pending while its line is high if it is level-sensitive, and while it is
//! latched: by an edge, or by software (IHI 0048B.b, sections 4.3.7 and 4.3.8). Whether it is
//! enabled has no part in that, so what comes while it is not is there when it is. An active
//! interrupt is not given to anyone until it has been deactivated; what came meanwhile is given
//! then.
//!
//! Nothing is allocated after it was made.

mod bank;
mod interface;
mod line;
mod list_registers;
mod registers;
mod route;
mod sgi;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

pub use line::GicLine;
pub use list_registers::{AfterRun, ListRegisters};
pub use route::Affinity;
pub use v2::GicV2;
pub use v3::{GicV3, IccRegister};

use alloc::vec::Vec;
use bank::Bank;
use core::iter;
use firstlight_base::{Irq, VcpuId};
use interface::{Candidate, Group, Interface, PerGroup};
use registers::{BankRegister, Written};
use route::Route;
use sgi::Sgis;

/// The interrupts of a GIC, and to whom they are given.
#[derive(Debug)]
pub struct Gic {
    /// Which groups the distributor forwards.
    forwarded: PerGroup<bool>,
    cpus: Vec<Cpu>,
    shared: Vec<Bank>,
    /// Of each shared interrupt.
    routes: Vec<Route>,
}

#[derive(Clone, Debug)]
struct Cpu {
    affinity: Affinity,
    /// It is not given interrupts that any CPU can take (GICR_WAKER).
    asleep: bool,
    private: Bank,
    sgis: Sgis,
    interface: Interface,
}

/// How many interrupts each CPU has of its own: 16 that CPUs send each other (SGIs), and 16 of
/// lines (PPIs).
const PRIVATE: u32 = 32;

/// What is acknowledged where nothing is pending (IHI 0048B.b, section 3.2.5).
const SPURIOUS: u32 = 1023;

impl Gic {
    /// The most shared interrupts (SPIs): identifiers from 1020 mean something else.
    pub const MAX_SHARED: u32 = 988;

    fn new(cpus: Vec<Cpu>, shared: u32, route: Route) -> Option<Self> {
        let in_whole_banks = shared.is_multiple_of(PRIVATE) || shared == Self::MAX_SHARED;
        if cpus.is_empty() || shared > Self::MAX_SHARED || !in_whole_banks {
            return None;
        }
        Some(Self {
            forwarded: PerGroup::default(),
            cpus,
            shared: (0..shared)
                .step_by(32)
                .map(|first| Bank::shared(shared - first))
                .collect(),
            routes: (0..shared).map(|_| route).collect(),
        })
    }

    /// Whether there is such a line.
    #[must_use]
    pub fn has(&self, line: GicLine) -> bool {
        match line {
            GicLine::Shared(irq) => usize::try_from(irq.0).is_ok_and(|at| at < self.routes.len()),
            GicLine::Private(cpu, _) => cpu.0 < self.cpus() && line.interrupt().is_some(),
        }
    }

    /// Raises or lowers a line. One that is not there is none.
    pub fn set(&mut self, line: GicLine, high: bool) {
        if let Some((bank, bit)) = self.line(line) {
            bank.set_line(bit, high);
        }
    }

    /// Raises and lowers a line: one interrupt, also where an earlier one is being serviced, and
    /// also where the guest calls the line level-sensitive.
    pub fn pulse(&mut self, line: GicLine) {
        if let Some((bank, bit)) = self.line(line) {
            bank.latch(bit);
        }
    }

    /// Whether `cpu` is interrupted: the level of its IRQ line. To be asked for every CPU after
    /// everything that was done to the GIC.
    #[must_use]
    pub fn notifies(&self, cpu: VcpuId) -> bool {
        self.asserts(cpu) == Some(Line::Irq)
    }

    /// The level of the CPU's FIQ line, which group 0 may be given to.
    #[must_use]
    pub fn notifies_fiq(&self, cpu: VcpuId) -> bool {
        self.asserts(cpu) == Some(Line::Fiq)
    }

    /// A line whose interrupt was deactivated since this was last asked for it, once for each,
    /// however often it was: what to do where the device's own interrupt waits for that.
    pub fn take_ended(&mut self) -> Option<GicLine> {
        let private = (0..)
            .map(VcpuId)
            .zip(&mut self.cpus)
            .find_map(|(cpu, it)| Some((Some(cpu), it.private.take_ended()?)));
        let (cpu, id) = private.or_else(|| {
            let mut banks = (32..).step_by(32).zip(&mut self.shared);
            banks.find_map(|(first, bank): (u32, _)| Some((None, first + bank.take_ended()?)))
        })?;
        GicLine::of(cpu, id)
    }

    /// Says which interrupt of the host is behind a line, so that the guest's hardware deactivates
    /// it with the guest's ([`ListRegisters`]): none that it cannot be has any effect. The owner
    /// pulses the line when the host's interrupt comes.
    pub fn pass_through(&mut self, line: GicLine, physical: Option<Irq>) {
        let physical = physical.and_then(|Irq(id)| u16::try_from(id).ok());
        let is_one = |id: &u16| (16..1020).contains(id);
        if let Some((_, id)) = line.interrupt()
            && let Some((bank, _)) = self.line(line)
        {
            bank.set_physical(id % 32, physical.filter(is_one));
        }
    }

    /// How many CPUs there are.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.cpus.iter().fold(0, |count, _| count + 1)
    }

    /// GICD_TYPER.ITLinesNumber: how many banks of 32 there are, those of CPUs counted once.
    fn lines(&self) -> u32 {
        self.shared.iter().fold(0, |count, _| count + 1)
    }

    fn asserts(&self, cpu: VcpuId) -> Option<Line> {
        let candidate = self.signalled(cpu)?;
        Some(self.cpu(cpu)?.interface.line_of(candidate.group))
    }

    /// The interrupt that `cpu` is interrupted for.
    fn signalled(&self, cpu: VcpuId) -> Option<Candidate> {
        let interface = &self.cpu(cpu)?.interface;
        self.highest(cpu)
            .filter(|&candidate| interface.preempted_by(candidate))
    }

    /// The pending interrupt that `cpu` would be given: of the highest priority, and of those the
    /// lowest. Interrupts of a group that is disabled do not hide those of the other.
    fn highest(&self, cpu: VcpuId) -> Option<Candidate> {
        let groups = self.groups(cpu);
        let banks = self.banks(cpu)?;
        banks
            .flat_map(|(first, bank)| bank.candidates(bank.waiting(groups), first))
            .filter(|&candidate| self.is_for(cpu, candidate))
            .min_by_key(|candidate| (candidate.priority, candidate.id))
    }

    /// The groups that the distributor forwards and that `cpu` has enabled.
    fn groups(&self, cpu: VcpuId) -> PerGroup<bool> {
        let enabled = self.cpu(cpu).map(|it| it.interface.enabled);
        let enabled = enabled.unwrap_or_default();
        PerGroup {
            zero: enabled.zero && self.forwarded.zero,
            one: enabled.one && self.forwarded.one,
        }
    }

    /// The banks that `cpu` sees, each with its first identifier.
    fn banks(&self, cpu: VcpuId) -> Option<impl Iterator<Item = (u32, &Bank)>> {
        let private = &self.cpu(cpu)?.private;
        Some(
            (0..)
                .step_by(32)
                .zip(iter::once(private).chain(&self.shared)),
        )
    }

    fn is_for(&self, cpu: VcpuId, candidate: Candidate) -> bool {
        match self.route(candidate.id) {
            None => true,
            Some(Route::Targets(mask)) => u32::from(mask) & bit(cpu.0) != 0,
            Some(Route::Affinity(affinity)) => {
                self.cpu(cpu).is_some_and(|it| it.affinity == affinity)
            }
            Some(Route::Any(_)) => self.first_to_take(candidate) == Some(cpu),
        }
    }

    /// The CPU that is given an interrupt that any can take (IHI 0069H, "Participating nodes"): the first
    /// that would be interrupted for it now.
    fn first_to_take(&self, candidate: Candidate) -> Option<VcpuId> {
        let takes = |cpu: &Cpu| !cpu.asleep && cpu.interface.takes(candidate);
        let cpus = (0..).zip(&self.cpus);
        cpus.filter(|(_, cpu)| takes(cpu))
            .map(|(number, _)| VcpuId(number))
            .next()
    }

    /// Makes the interrupt that `cpu` is interrupted for active. Answers with its identifier and,
    /// of one that a CPU of a GICv2 sent, with the sender.
    fn acknowledge(&mut self, cpu: VcpuId, candidate: Candidate) -> (u32, u32) {
        let Some(it) = self.cpu_mut(cpu) else {
            return (SPURIOUS, 0);
        };
        it.interface.activate(candidate);
        let source = it.sgis.take(candidate.id);
        let stays = it.sgis.are_pending(candidate.id);
        if let Some((bank, bit)) = self.place(cpu, candidate.id) {
            bank.hold(bit, cpu);
            bank.latched = if stays {
                bank.latched | bit
            } else {
                bank.latched & !bit
            };
        }
        (candidate.id, source)
    }

    /// The end of an interrupt of `group` (IHI 0048B.b, section 3.2.1): the running priority drops
    /// and, unless the CPU does that apart, the interrupt is deactivated.
    fn end(&mut self, cpu: VcpuId, group: Group, id: u32) {
        if self.group(cpu, id) != Some(group) {
            return;
        }
        let Some(it) = self.cpu_mut(cpu) else {
            return;
        };
        it.interface.drop_priority(group);
        if !it.interface.deactivates_apart {
            self.deactivate(cpu, id);
        }
    }

    /// Deactivates the interrupt with the identifier `id` as `cpu` numbers them: what a write to
    /// `ICC_DIR_EL1` asks for that a hypervisor trapped.
    pub fn deactivate(&mut self, cpu: VcpuId, id: u32) {
        if let Some((bank, bit)) = self.place(cpu, id) {
            bank.deactivate(bit);
        }
    }

    fn group(&self, cpu: VcpuId, id: u32) -> Option<Group> {
        let bank = self.bank(cpu, id / 32)?;
        (bank.present & bit(id) != 0).then(|| bank.group(bit(id)))
    }

    fn read_bank(&self, cpu: VcpuId, register: BankRegister) -> u32 {
        self.bank(cpu, register.bank())
            .map_or(0, |bank| register.read(bank))
    }

    fn write_bank(&mut self, cpu: VcpuId, register: BankRegister, written: Written) {
        if let Some(bank) = self.bank_mut(cpu, register.bank()) {
            register.write(bank, written);
        }
    }

    fn bank(&self, cpu: VcpuId, index: u32) -> Option<&Bank> {
        match index.checked_sub(1) {
            None => self.cpu(cpu).map(|it| &it.private),
            Some(index) => self.shared.get(slot(index)?),
        }
    }

    fn bank_mut(&mut self, cpu: VcpuId, index: u32) -> Option<&mut Bank> {
        match index.checked_sub(1) {
            None => self.cpu_mut(cpu).map(|it| &mut it.private),
            Some(index) => self.shared.get_mut(slot(index)?),
        }
    }

    /// Where the interrupt is that `cpu` calls `id`, if there is one.
    fn place(&mut self, cpu: VcpuId, id: u32) -> Option<(&mut Bank, u32)> {
        let bank = self.bank_mut(cpu, id / 32)?;
        let bit = bit(id);
        (bank.present & bit != 0).then_some((bank, bit))
    }

    fn line(&mut self, line: GicLine) -> Option<(&mut Bank, u32)> {
        let (cpu, id) = line.interrupt()?;
        self.place(cpu, id)
    }

    /// Where the shared interrupt `id` goes; nothing for private ones.
    fn route(&self, id: u32) -> Option<Route> {
        self.routes.get(slot(id.checked_sub(PRIVATE)?)?).copied()
    }

    fn route_mut(&mut self, id: u32) -> Option<&mut Route> {
        self.routes.get_mut(slot(id.checked_sub(PRIVATE)?)?)
    }

    fn cpu(&self, VcpuId(number): VcpuId) -> Option<&Cpu> {
        self.cpus.get(slot(number)?)
    }

    fn cpu_mut(&mut self, VcpuId(number): VcpuId) -> Option<&mut Cpu> {
        self.cpus.get_mut(slot(number)?)
    }
}

impl Cpu {
    fn new(affinity: Affinity) -> Self {
        Self {
            affinity,
            asleep: false,
            private: Bank::private(),
            sgis: Sgis::default(),
            interface: Interface::default(),
        }
    }
}

/// The two interrupt lines of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Irq,
    Fiq,
}

fn slot(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}

/// The bit of an interrupt in its bank, or of a CPU among 32.
fn bit(number: u32) -> u32 {
    1 << (number % 32)
}

/// Which bits of the word are set, ascending.
fn members(mut word: u32) -> impl Iterator<Item = u32> {
    iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(lowest)
    })
}

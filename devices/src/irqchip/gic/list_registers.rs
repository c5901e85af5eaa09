//! List registers: by them a hypervisor at EL2 gives a guest interrupts that the guest then
//! acknowledges and ends without it (IHI 0069H, "Virtual Interrupt Handling and
//! Prioritization"). Of the CPU interfaces of a [`Gic`], only the groups that are enabled count
//! then, as the guest's own registers say.
//!
//! Before a vCPU runs, [`ListRegisters::load`] puts the interrupts in them that are its, and after
//! it [`ListRegisters::save`] takes back what the guest left. Meanwhile they are given to nobody
//! else. A vCPU is to be taken out of its guest, saved and loaded again at a maintenance interrupt,
//! and when [`ListRegisters::is_stale`]: to be asked of every vCPU after everything that was done
//! to the GIC. What others do meanwhile to an interrupt that is listed is not undone by what its
//! register comes back with.
//!
//! An interrupt that any CPU can take is given to the first that does not sleep: which of them
//! would take it now, only their hardware knows. One of a GICv2 with several targets is given to
//! that of them which is loaded first.

mod choice;
#[cfg(test)]
mod tests;
mod value;

use super::bank::State;
use super::interface::{Candidate, Group, PerGroup};
use super::route::Route;
use super::{Gic, bit, slot};
use choice::{Choice, Entry};
use firstlight_base::VcpuId;
use value::{ListRegister, Source};

/// The list registers of a vCPU.
#[derive(Debug)]
pub struct ListRegisters {
    cpu: VcpuId,
    count: usize,
    registers: [u64; MOST],
    listed: [Option<Listed>; MOST],
    control: Control,
}

/// The most list registers that there are.
const MOST: usize = 16;

/// What the virtual CPU interface holds after the guest ran.
#[derive(Clone, Copy, Debug)]
pub struct AfterRun<'a> {
    /// `ICH_LR<n>_EL2`. Of registers that are missing it is taken that the guest did nothing.
    pub registers: &'a [u64],
    /// ICH_HCR_EL2.
    pub control: u64,
    /// ICH_VMCR_EL2.
    pub machine_control: u64,
}

/// What went into a list register.
#[derive(Clone, Copy, Debug)]
struct Listed {
    candidate: Candidate,
    state: State,
    /// The sender, of what a CPU of a GICv2 sent.
    sender: u32,
    /// If another comes meanwhile, it is found without being looked for. While one is pending,
    /// another is the same; only the guest knows whether it still is.
    finds_more: bool,
}

bitflags::bitflags! {
    /// ICH_HCR_EL2 (IHI 0069H).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Control: u64 {
        const ENABLE = 1 << 0;
        /// A maintenance interrupt when an interrupt was deactivated that is not listed.
        const NOT_LISTED = 1 << 2;
        /// One when no listed interrupt is pending.
        const NONE_PENDING = 1 << 3;
        /// One while the group is enabled, or disabled.
        const GROUP_0_ENABLED = 1 << 4;
        const GROUP_0_DISABLED = 1 << 5;
        const GROUP_1_ENABLED = 1 << 6;
        const GROUP_1_DISABLED = 1 << 7;
        /// The guest's ICC_DIR_EL1 is trapped.
        const TRAP_DEACTIVATION = 1 << 14;
    }
}

/// ICH_HCR_EL2.EOIcount: how many interrupts that are not listed the guest deactivated.
const NOT_LISTED_SHIFT: u32 = 27;

/// ICH_VMCR_EL2.VENG0 and VENG1.
const GROUP_0_ENABLED: u64 = 1 << 0;
const GROUP_1_ENABLED: u64 = 1 << 1;

impl ListRegisters {
    /// The list registers of `cpu`, 1 to 16, all empty; nothing for more or fewer.
    #[must_use]
    pub fn new(cpu: VcpuId, count: usize) -> Option<Self> {
        (1..=MOST).contains(&count).then_some(Self {
            cpu,
            count,
            registers: [0; MOST],
            listed: [None; MOST],
            control: Control::ENABLE,
        })
    }

    /// Lists the interrupts that the vCPU has to be given and those that it has not ended, the most
    /// urgent of them if there are too many. Answers with `ICH_LR<n>_EL2`. What was loaded and not
    /// saved stays as it is.
    pub fn load(&mut self, gic: &mut Gic) -> &[u64] {
        let cpu = self.cpu;
        if self.listed.iter().all(Option::is_none) {
            let mut choice = Choice::new(self.count);
            gic.listable(cpu).for_each(|entry| choice.consider(entry));
            let mut slots = self.registers.iter_mut().zip(&mut self.listed);
            for (entry, (register, listed)) in choice.entries().zip(&mut slots) {
                (*register, *listed) = gic.list(cpu, entry);
            }
            for (register, _) in slots {
                *register = 0;
            }
            self.control = gic.list_control(cpu, &choice);
        }
        self.registers.get(..self.count).unwrap_or_default()
    }

    /// ICH_HCR_EL2 as the guest has to run with it: which maintenance interrupts are needed so
    /// that what did not fit is listed in time. With bit 14, the guest's writes to ICC_DIR_EL1
    /// come to the owner: [`Gic::deactivate`], after a save.
    ///
    /// That few list registers are in use is no reason to fill them up: what waits is less urgent
    /// than any of those that are pending in them.
    #[must_use]
    pub fn control(&self) -> u64 {
        self.control.bits()
    }

    /// Takes back what the guest left in the registers that were loaded.
    pub fn save(&mut self, gic: &mut Gic, after: AfterRun<'_>) {
        let cpu = self.cpu;
        if let Some(it) = gic.cpu_mut(cpu) {
            it.interface.enabled = PerGroup {
                zero: after.machine_control & GROUP_0_ENABLED != 0,
                one: after.machine_control & GROUP_1_ENABLED != 0,
            };
        }
        for _ in 0..(after.control >> NOT_LISTED_SHIFT) % 32 {
            gic.deactivate_most_urgent(cpu);
        }
        let registers = self.registers.iter().zip(&mut self.listed);
        for (index, (loaded, listed)) in registers.enumerate() {
            if let Some(listed) = listed.take() {
                let register = after.registers.get(index).unwrap_or(loaded);
                gic.unlist(cpu, listed, value::state(*register));
            }
        }
    }

    /// Whether the vCPU has to be saved and loaded again: an interrupt that is listed was disabled,
    /// moved or changed since, or another has come that belongs there, or that nothing would tell
    /// of when its turn comes.
    #[must_use]
    pub fn is_stale(&self, gic: &Gic) -> bool {
        let cpu = self.cpu;
        let changed = |listed: &Listed| !gic.is_as_listed(cpu, *listed);
        let is_full = self.control.contains(Control::NONE_PENDING);
        let arrived = |entry: Entry| !entry.is_active && (!is_full || self.has_room_for(entry));
        self.listed.iter().flatten().any(changed)
            || gic.listable(cpu).any(arrived)
            || !self.control.contains(gic.enabling(cpu))
    }

    fn has_room_for(&self, entry: Entry) -> bool {
        let mut listed = self.listed.iter().take(self.count);
        listed.any(|it| it.is_none_or(|it| entry.order() < it.entry().order()))
    }
}

impl Listed {
    fn entry(self) -> Entry {
        Entry {
            candidate: self.candidate,
            is_active: self.state.active,
        }
    }
}

impl Gic {
    /// What `cpu` would have in its list registers if there were room for all.
    fn listable(&self, cpu: VcpuId) -> impl Iterator<Item = Entry> {
        let groups = self.groups(cpu);
        let banks = self.banks(cpu).into_iter().flatten();
        banks.flat_map(move |(first, bank)| {
            let waiting = bank.candidates(bank.waiting(groups), first);
            let waiting = waiting.filter(move |it| self.is_listed_for(cpu, it.id));
            let held = bank.candidates(bank.held(), first);
            let held = held.filter(move |it| self.is_held_by(cpu, it.id));
            let entry = |is_active| {
                move |candidate| Entry {
                    candidate,
                    is_active,
                }
            };
            waiting.map(entry(false)).chain(held.map(entry(true)))
        })
    }

    fn is_listed_for(&self, cpu: VcpuId, id: u32) -> bool {
        match self.route(id) {
            None => true,
            Some(Route::Targets(mask)) => u32::from(mask) & bit(cpu.0) != 0,
            Some(Route::Affinity(affinity)) => {
                self.cpu(cpu).is_some_and(|it| it.affinity == affinity)
            }
            Some(Route::Any(_)) => {
                let first = self.cpus.iter().position(|it| !it.asleep);
                first.is_some() && first == slot(cpu.0)
            }
        }
    }

    fn is_held_by(&self, cpu: VcpuId, id: u32) -> bool {
        let bank = self.bank(cpu, id / 32);
        match bank.and_then(|bank| bank.holder(id % 32)) {
            _ if id < 32 => true,
            Some(holder) => holder == cpu,
            None => self.is_listed_for(cpu, id),
        }
    }

    /// The value of a list register for the entry, and what is to be known when it comes back.
    fn list(&mut self, cpu: VcpuId, entry: Entry) -> (u64, Option<Listed>) {
        let Candidate {
            id,
            priority,
            group,
        } = entry.candidate;
        let state = self.state_to_list(cpu, entry);
        let Some(sender) = self.move_latch(cpu, id, state) else {
            return (0, None);
        };
        let Some((bank, bit)) = self.place(cpu, id) else {
            return (0, None);
        };
        bank.take(bit);
        // What stays behind is given when this one has ended: the end has to be seen.
        let stays = (bank.latched | !bank.edge()) & bit != 0;
        let source = match bank.physical(id % 32) {
            Some(physical) => Source::Hardware(physical),
            None if stays => Source::SoftwareThatSeesTheEnd,
            None => Source::Software,
        };
        let listed = Listed {
            candidate: entry.candidate,
            state,
            sender,
            finds_more: bank.latched & bit != 0
                || (source == Source::SoftwareThatSeesTheEnd && !state.pending),
        };
        let register = ListRegister {
            virtual_id: id | sender << 10,
            priority,
            group,
            source,
            state,
        };
        (register.encode(), Some(listed))
    }

    /// Pending and active at once is only what has neither a level nor a sender nor hardware
    /// behind it: of those, what comes next is a new interrupt.
    fn state_to_list(&self, cpu: VcpuId, entry: Entry) -> State {
        let id = entry.candidate.id;
        let bit = bit(id);
        let again = self.bank(cpu, id / 32).is_some_and(|bank| {
            let sgis = self.cpu(cpu).map(|it| &it.sgis);
            let is_sent = id < 16 && sgis.is_some_and(|sgis| sgis.are_pending(id));
            bank.latched & bank.edge() & bank.enabled & bank.of(self.groups(cpu)) & bit != 0
                && bank.physical(id % 32).is_none()
                && !is_sent
                && self.is_listed_for(cpu, id)
        });
        State {
            pending: !entry.is_active || again,
            active: entry.is_active,
        }
    }

    /// What is listed as pending is latched there and no longer here: from here on another edge is
    /// another interrupt. Answers with the sender of the one that is listed.
    fn move_latch(&mut self, cpu: VcpuId, id: u32, state: State) -> Option<u32> {
        let it = self.cpu_mut(cpu)?;
        if !state.pending {
            return Some(it.sgis.active_sender(id));
        }
        let sender = it.sgis.list(id);
        let stays = it.sgis.are_pending(id);
        let (bank, bit) = self.place(cpu, id)?;
        bank.latched_there |= bank.latched & bit;
        if !stays {
            bank.latched &= !bit;
        }
        Some(sender)
    }

    fn unlist(&mut self, cpu: VcpuId, listed: Listed, now: State) {
        let id = listed.candidate.id;
        if let Some(it) = self.cpu_mut(cpu) {
            it.sgis.unlist(id, now.pending);
            if now.active {
                it.sgis.set_active_sender(id, listed.sender);
            }
        }
        if let Some((bank, bit)) = self.place(cpu, id) {
            bank.give_back(bit, cpu, (listed.state, now));
        }
    }

    /// Whether what was listed would be listed the same way now.
    fn is_as_listed(&self, cpu: VcpuId, listed: Listed) -> bool {
        let Candidate {
            id,
            priority,
            group,
        } = listed.candidate;
        let Some(bank) = self.bank(cpu, id / 32) else {
            return true;
        };
        let bit = bit(id);
        let waits = bank.pending() & bank.enabled & bank.of(self.groups(cpu)) & bit != 0
            && self.is_listed_for(cpu, id);
        (waits || !listed.state.pending)
            && (bank.latched & bit == 0 || listed.finds_more)
            && !(id < 16 && self.cpu(cpu).is_some_and(|it| it.sgis.is_sent_again(id)))
            && !bank.is_overruled(bit)
            && bank.priority(id % 32) == priority
            && bank.group(bit) == group
    }

    /// The guest deactivated an interrupt that is not listed: the most urgent, since it ends them
    /// in the order of their priorities.
    fn deactivate_most_urgent(&mut self, cpu: VcpuId) {
        let active = self.listable(cpu).filter(|entry| entry.is_active);
        let first = active.min_by_key(|entry| (entry.candidate.priority, entry.candidate.id));
        if let Some(first) = first {
            self.deactivate(cpu, first.candidate.id);
        }
    }

    fn list_control(&self, cpu: VcpuId, choice: &Choice) -> Control {
        let mut control = Control::ENABLE;
        let enabled = self
            .cpu(cpu)
            .map_or_else(PerGroup::default, |it| it.interface.enabled);
        control.set(
            Control::NOT_LISTED | Control::TRAP_DEACTIVATION,
            choice.leaves_active(),
        );
        if choice.leaves_waiting() {
            control |= Control::NONE_PENDING;
            control.set(Control::GROUP_0_DISABLED, enabled.zero);
            control.set(Control::GROUP_1_DISABLED, enabled.one);
        }
        control | self.enabling(cpu)
    }

    /// What is of a group that the guest has disabled is not listed until it enables that.
    fn enabling(&self, cpu: VcpuId) -> Control {
        let enabled = self
            .cpu(cpu)
            .map_or_else(PerGroup::default, |it| it.interface.enabled);
        let mut control = Control::empty();
        control.set(
            Control::GROUP_0_ENABLED,
            !enabled.zero && self.waits_in(cpu, Group::Zero),
        );
        control.set(
            Control::GROUP_1_ENABLED,
            !enabled.one && self.waits_in(cpu, Group::One),
        );
        control
    }

    fn waits_in(&self, cpu: VcpuId, group: Group) -> bool {
        let mut groups = PerGroup::default();
        *groups.of_mut(group) = self.forwarded.of(group);
        let banks = self.banks(cpu).into_iter().flatten();
        let mut waiting =
            banks.flat_map(|(first, bank)| bank.candidates(bank.waiting(groups), first));
        waiting.any(|candidate| self.is_listed_for(cpu, candidate.id))
    }
}

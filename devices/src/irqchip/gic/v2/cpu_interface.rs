//! A GICv2's CPU interfaces (IHI 0048B.b, section 4.4).

use super::super::interface::{Candidate, Group, Interface};
use super::super::registers::Written;
use super::super::{SPURIOUS, members, slot};
use super::GicV2;
use firstlight_base::VcpuId;

/// The registers that are there for each group: those of group 1 are the aliased ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Control,
    PriorityMask,
    BinaryPoint(Group),
    Acknowledge(Group),
    End(Group),
    RunningPriority,
    HighestPending(Group),
    ActivePriorities(Group),
    Implementer,
    Deactivate,
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x0000 => Self::Control,
            0x0004 => Self::PriorityMask,
            0x0008 => Self::BinaryPoint(Group::Zero),
            0x000c => Self::Acknowledge(Group::Zero),
            0x0010 => Self::End(Group::Zero),
            0x0014 => Self::RunningPriority,
            0x0018 => Self::HighestPending(Group::Zero),
            0x001c => Self::BinaryPoint(Group::One),
            0x0020 => Self::Acknowledge(Group::One),
            0x0024 => Self::End(Group::One),
            0x0028 => Self::HighestPending(Group::One),
            // With 32 priorities, only the first of each has bits.
            0x00d0 => Self::ActivePriorities(Group::Zero),
            0x00e0 => Self::ActivePriorities(Group::One),
            0x00fc => Self::Implementer,
            0x1000 => Self::Deactivate,
            _ => return None,
        })
    }
}

bitflags::bitflags! {
    /// GICC_CTLR. The bits about signals that pass by the GIC are not there: no such signals are.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Control: u32 {
        const ENABLE_GROUP_0 = 1 << 0;
        const ENABLE_GROUP_1 = 1 << 1;
        const ACK_CTL = 1 << 2;
        const FIQ_EN = 1 << 3;
        const CBPR = 1 << 4;
        /// EOImodeNS, too, as a non-secure guest knows it.
        const EOI_MODE = 1 << 9;
    }
}

/// What a register of group 0's reads where the highest pending interrupt is of group 1 (section
/// 3.2.5).
const OF_GROUP_1: u32 = 1022;

/// GICC_IIDR: GICv2, by Arm.
const IMPLEMENTER: u32 = 0x0002_043b;

impl GicV2 {
    pub(super) fn cpu_interface_word(&mut self, cpu: VcpuId, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::Control) => self.control(cpu).bits(),
            Some(Register::Acknowledge(group)) => {
                match self.visible(cpu, group, self.gic.signalled(cpu)) {
                    Ok(candidate) => {
                        let (id, sender) = self.gic.acknowledge(cpu, candidate);
                        id | (sender << 10)
                    }
                    Err(special) => special,
                }
            }
            Some(Register::HighestPending(group)) => {
                match self.visible(cpu, group, self.gic.highest(cpu)) {
                    Ok(candidate) => candidate.id | (self.first_sender(cpu, candidate.id) << 10),
                    Err(special) => special,
                }
            }
            Some(Register::Implementer) => IMPLEMENTER,
            Some(register) => self
                .gic
                .cpu(cpu)
                .map_or(0, |it| register.read(&it.interface)),
            None => 0,
        }
    }

    pub(super) fn set_cpu_interface_word(&mut self, cpu: VcpuId, offset: u64, written: Written) {
        match Register::at(offset) {
            Some(Register::Control) => {
                let value = written.over(self.control(cpu).bits());
                self.set_control(cpu, Control::from_bits_truncate(value));
            }
            Some(Register::End(group)) => self.end_of(cpu, group, id(written.value)),
            Some(Register::Deactivate) => {
                let apart = |interface: &Interface| interface.deactivates_apart;
                if self.gic.cpu(cpu).is_some_and(|it| apart(&it.interface)) {
                    self.gic.deactivate(cpu, id(written.value));
                }
            }
            Some(register) => {
                if let Some(it) = self.gic.cpu_mut(cpu) {
                    register.write(&mut it.interface, written);
                }
            }
            None => {}
        }
    }

    /// What the registers of `group` show of the pending interrupt (section 3.2.5): those of
    /// group 1 nothing of group 0; those of group 0 something of group 1 only if AckCtl is set.
    fn visible(
        &self,
        cpu: VcpuId,
        group: Group,
        candidate: Option<Candidate>,
    ) -> Result<Candidate, u32> {
        let candidate = candidate.ok_or(SPURIOUS)?;
        match (group, candidate.group) {
            (Group::Zero, Group::Zero) | (Group::One, Group::One) => Ok(candidate),
            (Group::Zero, Group::One) if self.ack_ctl(cpu) => Ok(candidate),
            (Group::Zero, Group::One) => Err(OF_GROUP_1),
            (Group::One, Group::Zero) => Err(SPURIOUS),
        }
    }

    /// With AckCtl set, group 0's register ends those of both groups.
    fn end_of(&mut self, cpu: VcpuId, group: Group, id: u32) {
        let group = if group == Group::Zero && self.ack_ctl(cpu) {
            self.gic.group(cpu, id).unwrap_or(group)
        } else {
            group
        };
        self.gic.end(cpu, group, id);
    }

    fn first_sender(&self, cpu: VcpuId, id: u32) -> u32 {
        let senders = self.gic.cpu(cpu).map_or(0, |it| it.sgis.senders(id));
        members(senders.into()).next().unwrap_or(0)
    }

    fn ack_ctl(&self, VcpuId(cpu): VcpuId) -> bool {
        let flags = &self.acknowledges_group_1;
        slot(cpu)
            .and_then(|cpu| flags.get(cpu))
            .is_some_and(|it| *it)
    }

    fn control(&self, cpu: VcpuId) -> Control {
        let mut control = Control::empty();
        if let Some(it) = self.gic.cpu(cpu) {
            let interface = &it.interface;
            control.set(Control::ENABLE_GROUP_0, interface.enabled.zero);
            control.set(Control::ENABLE_GROUP_1, interface.enabled.one);
            control.set(Control::FIQ_EN, interface.group_0_is_fiq);
            control.set(Control::CBPR, interface.shares_binary_point);
            control.set(Control::EOI_MODE, interface.deactivates_apart);
        }
        control.set(Control::ACK_CTL, self.ack_ctl(cpu));
        control
    }

    fn set_control(&mut self, cpu: VcpuId, control: Control) {
        if let Some(it) = self.gic.cpu_mut(cpu) {
            let interface = &mut it.interface;
            interface.enabled.zero = control.contains(Control::ENABLE_GROUP_0);
            interface.enabled.one = control.contains(Control::ENABLE_GROUP_1);
            interface.group_0_is_fiq = control.contains(Control::FIQ_EN);
            interface.shares_binary_point = control.contains(Control::CBPR);
            interface.deactivates_apart = control.contains(Control::EOI_MODE);
        }
        if let Some(flag) = slot(cpu.0).and_then(|cpu| self.acknowledges_group_1.get_mut(cpu)) {
            *flag = control.contains(Control::ACK_CTL);
        }
    }
}

/// The identifier in what is written to GICC_EOIR and GICC_DIR. The sender's number beside it does
/// not matter: one interrupt of an identifier is active at a time.
fn id(value: u32) -> u32 {
    value & 0x3ff
}

impl Register {
    fn read(self, interface: &Interface) -> u32 {
        match self {
            Self::PriorityMask => interface.priority_mask().into(),
            Self::BinaryPoint(group) => interface.binary_point(group).into(),
            Self::RunningPriority => interface.running_priority().into(),
            Self::ActivePriorities(group) => interface.active.of(group),
            Self::Control
            | Self::Acknowledge(_)
            | Self::HighestPending(_)
            | Self::End(_)
            | Self::Implementer
            | Self::Deactivate => 0,
        }
    }

    fn write(self, interface: &mut Interface, written: Written) {
        let [byte, ..] = written.value.to_le_bytes();
        match self {
            Self::PriorityMask => interface.set_priority_mask(byte),
            Self::BinaryPoint(group) => interface.set_binary_point(group, byte),
            Self::ActivePriorities(group) => {
                let active = interface.active.of_mut(group);
                *active = written.over(*active);
            }
            Self::Control
            | Self::Acknowledge(_)
            | Self::HighestPending(_)
            | Self::End(_)
            | Self::RunningPriority
            | Self::Implementer
            | Self::Deactivate => {}
        }
    }
}

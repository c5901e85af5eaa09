//! A GICv3's CPU interfaces: system registers (IHI 0069H, ICC_*_EL1).

use super::super::interface::{Candidate, Group, Interface};
use super::super::route::Affinity;
use super::super::sgi::SGIS;
use super::super::{SPURIOUS, bit, members};
use super::GicV3;
use firstlight_base::VcpuId;

/// A system register of a CPU interface, by its architectural name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub enum IccRegister {
    Pmr,
    Iar0,
    Eoir0,
    Hppir0,
    Bpr0,
    /// The only one of group 0's active priorities: 32 priorities are 32 bits.
    Ap0r0,
    /// The only one of group 1's.
    Ap1r0,
    Dir,
    Rpr,
    Sgi1r,
    Asgi1r,
    Sgi0r,
    Iar1,
    Eoir1,
    Hppir1,
    Bpr1,
    Ctlr,
    Sre,
    Igrpen0,
    Igrpen1,
}

impl IccRegister {
    /// The register that an instruction names: Op0, Op1, CRn, CRm and Op2 from the highest bit to
    /// the lowest, of two, three, four, four and three bits, as MRS and MSR have them. Nothing for
    /// what is none of a CPU interface's: the instruction is undefined.
    #[must_use]
    pub fn from_encoding(encoding: u16) -> Option<Self> {
        Some(match encoding {
            0xc230 => Self::Pmr,
            0xc640 => Self::Iar0,
            0xc641 => Self::Eoir0,
            0xc642 => Self::Hppir0,
            0xc643 => Self::Bpr0,
            0xc644 => Self::Ap0r0,
            0xc648 => Self::Ap1r0,
            0xc659 => Self::Dir,
            0xc65b => Self::Rpr,
            0xc65d => Self::Sgi1r,
            0xc65e => Self::Asgi1r,
            0xc65f => Self::Sgi0r,
            0xc660 => Self::Iar1,
            0xc661 => Self::Eoir1,
            0xc662 => Self::Hppir1,
            0xc663 => Self::Bpr1,
            0xc664 => Self::Ctlr,
            0xc665 => Self::Sre,
            0xc666 => Self::Igrpen0,
            0xc667 => Self::Igrpen1,
            _ => return None,
        })
    }
}

/// ICC_CTLR_EL1: group 1 uses group 0's binary point; the end of an interrupt does not deactivate
/// it.
const CBPR: u64 = 1 << 0;
const EOI_MODE: u64 = 1 << 1;
/// ICC_CTLR_EL1: 5 bits of priority; affinity level 3 may be other than 0; affinity level 0 may be
/// above 15 in what CPUs send each other.
const CONTROL: u64 = 4 << 8 | 1 << 15 | 1 << 18;

/// ICC_SRE_EL1.SRE, DFB and DIB: there are no CPU interfaces in memory.
const SYSTEM_REGISTERS_ONLY: u64 = 0b111;

impl GicV3 {
    pub(super) fn system_register(&mut self, cpu: VcpuId, register: IccRegister) -> Option<u64> {
        let value = match register {
            IccRegister::Iar0 => self.acknowledge(cpu, Group::Zero).into(),
            IccRegister::Iar1 => self.acknowledge(cpu, Group::One).into(),
            IccRegister::Hppir0 => self.highest_pending(cpu, Group::Zero).into(),
            IccRegister::Hppir1 => self.highest_pending(cpu, Group::One).into(),
            IccRegister::Dir
            | IccRegister::Eoir0
            | IccRegister::Eoir1
            | IccRegister::Sgi1r
            | IccRegister::Asgi1r
            | IccRegister::Sgi0r => return None,
            register => {
                let interface = self.gic.cpu(cpu).map(|it| &it.interface);
                interface.map_or(0, |interface| register.read(interface))
            }
        };
        Some(value)
    }

    pub(super) fn set_system_register(
        &mut self,
        cpu: VcpuId,
        register: IccRegister,
        value: u64,
    ) -> bool {
        match register {
            IccRegister::Eoir0 => self.gic.end(cpu, Group::Zero, id(value)),
            IccRegister::Eoir1 => self.gic.end(cpu, Group::One, id(value)),
            IccRegister::Dir => {
                let it = self.gic.cpu(cpu);
                if it.is_some_and(|it| it.interface.deactivates_apart) {
                    self.gic.deactivate(cpu, id(value));
                }
            }
            IccRegister::Sgi1r => self.send(cpu, value, Reach::BothGroups),
            IccRegister::Asgi1r | IccRegister::Sgi0r => self.send(cpu, value, Reach::Group0),
            IccRegister::Iar0
            | IccRegister::Iar1
            | IccRegister::Hppir0
            | IccRegister::Hppir1
            | IccRegister::Rpr => return false,
            register => {
                if let Some(it) = self.gic.cpu_mut(cpu) {
                    register.write(&mut it.interface, value);
                }
            }
        }
        true
    }

    /// What is of the other group is not shown ("Special INTIDs").
    fn acknowledge(&mut self, cpu: VcpuId, group: Group) -> u32 {
        match self.gic.signalled(cpu) {
            Some(candidate) if candidate.group == group => self.gic.acknowledge(cpu, candidate).0,
            Some(_) | None => SPURIOUS,
        }
    }

    fn highest_pending(&self, cpu: VcpuId, group: Group) -> u32 {
        let shown = |candidate: &Candidate| candidate.group == group;
        let highest = self.gic.highest(cpu).filter(shown);
        highest.map_or(SPURIOUS, |candidate| candidate.id)
    }

    /// Makes an interrupt pending on the CPUs that `request` names.
    fn send(&mut self, sender: VcpuId, request: u64, reach: Reach) {
        let request = Request::from_register(request);
        for (cpu, it) in (0..).map(VcpuId).zip(&mut self.gic.cpus) {
            let is_named = match request.to {
                To::Others => cpu != sender,
                To::Listed(targets) => targets.contain(it.affinity),
            };
            let bit = bit(request.id);
            let is_reached = match it.private.group(bit) {
                Group::Zero => true,
                Group::One => reach == Reach::BothGroups,
            };
            if is_named && is_reached {
                it.private.latch(bit);
            }
        }
    }
}

/// Of which groups the interrupts are that a register can send, with one security
/// state as KVM has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Group0,
    BothGroups,
}

/// What is written to ICC_SGI1R_EL1 and its like.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: u32,
    to: To,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Others,
    Listed(Targets),
}

/// CPUs that have all but the lowest four bits of their affinity in common.
#[derive(Clone, Copy, Debug)]
struct Targets {
    cluster: u32,
    /// A bit for each value of the lowest four bits.
    list: u32,
}

/// ICC_SGI1R_EL1.IRM.
const OTHERS: u64 = 1 << 40;

impl Request {
    fn from_register(value: u64) -> Self {
        let [list_low, list_high, level_1, id, level_2, range, level_3, _] = value.to_le_bytes();
        let Affinity(cluster) = Affinity(u32::from_le_bytes([
            range & 0xf0,
            level_1,
            level_2,
            level_3,
        ]));
        let targets = Targets {
            cluster,
            list: u32::from_le_bytes([list_low, list_high, 0, 0]),
        };
        Self {
            id: u32::from(id) % SGIS,
            to: if value & OTHERS == 0 {
                To::Listed(targets)
            } else {
                To::Others
            },
        }
    }
}

impl Targets {
    fn contain(self, Affinity(affinity): Affinity) -> bool {
        affinity & !0xf == self.cluster && members(self.list).any(|it| it == affinity & 0xf)
    }
}

/// The identifier in what is written to end or deactivate an interrupt. What is too large is none.
fn id(value: u64) -> u32 {
    let [a, b, c, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, 0])
}

impl IccRegister {
    fn read(self, interface: &Interface) -> u64 {
        match self {
            Self::Pmr => interface.priority_mask().into(),
            Self::Bpr0 => interface.binary_point(Group::Zero).into(),
            Self::Bpr1 => interface.binary_point(Group::One).into(),
            Self::Ap0r0 => interface.active.zero.into(),
            Self::Ap1r0 => interface.active.one.into(),
            Self::Rpr => interface.running_priority().into(),
            Self::Ctlr => {
                CONTROL
                    | (u64::from(interface.shares_binary_point) * CBPR)
                    | (u64::from(interface.deactivates_apart) * EOI_MODE)
            }
            Self::Sre => SYSTEM_REGISTERS_ONLY,
            Self::Igrpen0 => interface.enabled.zero.into(),
            Self::Igrpen1 => interface.enabled.one.into(),
            Self::Iar0
            | Self::Eoir0
            | Self::Hppir0
            | Self::Dir
            | Self::Sgi1r
            | Self::Asgi1r
            | Self::Sgi0r
            | Self::Iar1
            | Self::Eoir1
            | Self::Hppir1 => 0,
        }
    }

    fn write(self, interface: &mut Interface, value: u64) {
        let [low, second, third, fourth, ..] = value.to_le_bytes();
        let word = u32::from_le_bytes([low, second, third, fourth]);
        match self {
            Self::Pmr => interface.set_priority_mask(low),
            Self::Bpr0 => interface.set_binary_point(Group::Zero, low),
            Self::Bpr1 => interface.set_binary_point(Group::One, low),
            Self::Ap0r0 => interface.active.zero = word,
            Self::Ap1r0 => interface.active.one = word,
            Self::Ctlr => {
                interface.shares_binary_point = value & CBPR != 0;
                interface.deactivates_apart = value & EOI_MODE != 0;
            }
            Self::Igrpen0 => interface.enabled.zero = value & 1 != 0,
            Self::Igrpen1 => interface.enabled.one = value & 1 != 0,
            Self::Iar0
            | Self::Eoir0
            | Self::Hppir0
            | Self::Dir
            | Self::Rpr
            | Self::Sgi1r
            | Self::Asgi1r
            | Self::Sgi0r
            | Self::Iar1
            | Self::Eoir1
            | Self::Hppir1
            | Self::Sre => {}
        }
    }
}

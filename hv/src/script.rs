//! A hypervisor that plays back exits and records what was done to it.
//!
//! A test writes down what each vCPU's runs come back with, lets the code under test do its work,
//! and looks at the [`Record`] afterwards.

use crate::{
    Doorbell, Exit, Features, Hung, HvError, Hypervisor, Interconnect, InternalError, IrqLine,
    Irqchip, Kicker, Message, Rom, SbiCall, SystemEvent, Vcpu, Vm,
};
use firstlight_base::x86::Registers;
use firstlight_base::{Gpa, GpaRange, Irq, Port, VcpuId, VcpuState};
use firstlight_load::GuestMemory;
use rustix::fd::BorrowedFd;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a run comes back with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The guest reads `width` bytes from a port.
    PortRead {
        /// The port.
        port: Port,
        /// How many bytes.
        width: usize,
    },
    /// The guest writes these bytes to a port.
    PortWrite {
        /// The port.
        port: Port,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The guest reads `width` bytes from an address that is not memory.
    MmioRead {
        /// The address.
        at: Gpa,
        /// How many bytes.
        width: usize,
    },
    /// The guest writes these bytes to an address that is not memory.
    MmioWrite {
        /// The address.
        at: Gpa,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The guest halts.
    Halt,
    /// The guest faults three times.
    Shutdown,
    /// The hypervisor gives up.
    InternalError(InternalError),
    /// The processor refuses the guest's state.
    FailEntry {
        /// The reason.
        reason: u64,
    },
    /// The guest asks the hypervisor for something that concerns its whole machine.
    SystemEvent(SystemEvent),
    /// The guest calls its supervisor execution environment.
    SbiCall(SbiCall),
    /// The guest accesses an address that is not memory, by an instruction that nobody describes.
    Undescribed {
        /// The address.
        at: Gpa,
    },
    /// The guest makes the host do what it cannot.
    GuestFault(i32),
    /// A signal comes that is nobody's kick.
    Interrupted,
    /// An exit that nobody knows.
    Unknown(u32),
    /// The host fails.
    HostFails,
    /// The guest computes until it is kicked: so it does at the end of every script, too.
    Compute,
}

/// What was done to a scripted machine, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Memory was mapped.
    Map(Vec<GpaRange>),
    /// Memory was mapped to be read only.
    MapRom(Vec<GpaRange>),
    /// Such memory was shown to the guest, or hidden from it.
    ShowRom(GpaRange, bool),
    /// Interrupt controllers were created.
    CreateIrqchip(Irqchip),
    /// That many vCPUs were created.
    CreateVcpus(u32, Features),
    /// A vCPU was given registers.
    SetState(VcpuId, Box<VcpuState>),
    /// The guest was given these bytes for what it read.
    Answered(VcpuId, Vec<u8>),
    /// The guest was given an error and a value for its call.
    SbiAnswered(VcpuId, [u64; 2]),
    /// An interrupt line was driven.
    Irq(Irq, bool),
    /// A device sent a message.
    Message(Message),
    /// A vCPU's own interrupt pin was driven.
    Pin(VcpuId, bool),
    /// A vCPU was kicked.
    Kicked(VcpuId),
}

/// A hypervisor whose one machine follows a script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    story: Mutex<Story>,
    kicked: Condvar,
}

#[derive(Debug, Default)]
struct Story {
    steps: BTreeMap<VcpuId, VecDeque<Step>>,
    states: BTreeMap<VcpuId, VcpuState>,
    kicked: BTreeSet<VcpuId>,
    record: Vec<Record>,
}

impl Script {
    /// A hypervisor whose guests only compute.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the runs of vCPU `id` come back with `steps`, one after the other.
    #[must_use]
    pub fn vcpu(self, id: VcpuId, steps: impl IntoIterator<Item = Step>) -> Self {
        self.shared
            .story()
            .steps
            .entry(id)
            .or_default()
            .extend(steps);
        self
    }

    /// What has been done so far.
    #[must_use]
    pub fn record(&self) -> Vec<Record> {
        self.shared.story().record.clone()
    }
}

impl Shared {
    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, record: Record) {
        self.story().record.push(record);
    }

    fn kick(&self, id: VcpuId) {
        let mut story = self.story();
        story.kicked.insert(id);
        story.record.push(Record::Kicked(id));
        self.kicked.notify_all();
    }

    /// The next step of `id`, which is an interruption where it was kicked before.
    fn next(&self, id: VcpuId) -> Step {
        let mut story = self.story();
        loop {
            let kicked = story.kicked.remove(&id);
            let steps = story.steps.entry(id).or_default();
            let computes = matches!(steps.front(), None | Some(Step::Compute));
            if kicked {
                if computes {
                    steps.pop_front();
                }
                return Step::Interrupted;
            }
            if !computes {
                return steps.pop_front().unwrap_or(Step::Compute);
            }
            story = self
                .kicked
                .wait(story)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Hypervisor for Script {
    type Vm = ScriptVm;

    fn create_vm(&self) -> Result<ScriptVm, HvError> {
        Ok(ScriptVm {
            shared: Arc::clone(&self.shared),
        })
    }
}

/// The machine of a [`Script`].
#[derive(Debug)]
pub struct ScriptVm {
    shared: Arc<Shared>,
}

impl Vm for ScriptVm {
    type Vcpu = ScriptVcpu;
    type IrqLine = ScriptIrqLine;

    fn map(&mut self, memory: Arc<GuestMemory>) -> Result<(), HvError> {
        let ranges = memory.regions().iter().map(|region| region.range());
        self.shared.note(Record::Map(ranges.collect()));
        Ok(())
    }

    fn map_rom(&mut self, memory: Arc<GuestMemory>) -> Result<Vec<Arc<dyn Rom>>, HvError> {
        let ranges: Vec<GpaRange> = memory
            .regions()
            .iter()
            .map(|region| region.range())
            .collect();
        self.shared.note(Record::MapRom(ranges.clone()));
        let rom = |range| -> Arc<dyn Rom> {
            let shared = Arc::clone(&self.shared);
            Arc::new(ScriptRom { shared, range })
        };
        Ok(ranges.into_iter().map(rom).collect())
    }

    fn create_irqchip(&mut self, irqchip: &Irqchip) -> Result<(), HvError> {
        self.shared.note(Record::CreateIrqchip(irqchip.clone()));
        Ok(())
    }

    fn create_vcpus(&self, count: u32, features: Features) -> Result<Vec<ScriptVcpu>, HvError> {
        self.shared.note(Record::CreateVcpus(count, features));
        let vcpu = |id| ScriptVcpu {
            shared: Arc::clone(&self.shared),
            id: VcpuId(id),
            data: Vec::new(),
            answer: [0; 2],
            asked: Asked::Nothing,
        };
        Ok((0..count).map(vcpu).collect())
    }

    fn irq_line(&self, irq: Irq) -> Result<ScriptIrqLine, HvError> {
        Ok(ScriptIrqLine {
            shared: Arc::clone(&self.shared),
            irq,
        })
    }

    fn interconnect(&self) -> Arc<dyn Interconnect> {
        Arc::new(ScriptInterconnect {
            shared: Arc::clone(&self.shared),
        })
    }
}

/// The interconnect of a [`ScriptVm`]. Its doorbells are exits.
#[derive(Debug)]
struct ScriptInterconnect {
    shared: Arc<Shared>,
}

impl Interconnect for ScriptInterconnect {
    fn send(&self, message: &Message) -> Result<(), HvError> {
        self.shared.note(Record::Message(*message));
        Ok(())
    }

    fn hang(&self, _doorbell: Doorbell, _event: BorrowedFd<'_>) -> Result<Hung, HvError> {
        Ok(Hung::until(()))
    }
}

/// An interrupt line of a [`ScriptVm`].
#[derive(Clone, Debug)]
pub struct ScriptIrqLine {
    shared: Arc<Shared>,
    irq: Irq,
}

impl IrqLine for ScriptIrqLine {
    fn pulse(&self) -> Result<(), HvError> {
        self.set(true)?;
        self.set(false)
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        self.shared.note(Record::Irq(self.irq, high));
        Ok(())
    }
}

/// Memory of a [`ScriptVm`] that the guest can only read.
#[derive(Debug)]
struct ScriptRom {
    shared: Arc<Shared>,
    range: GpaRange,
}

impl Rom for ScriptRom {
    fn show(&self, is_shown: bool) -> Result<(), HvError> {
        self.shared.note(Record::ShowRom(self.range, is_shown));
        Ok(())
    }
}

/// The interrupt pin of a [`ScriptVcpu`].
#[derive(Debug)]
struct ScriptPin {
    shared: Arc<Shared>,
    id: VcpuId,
}

impl IrqLine for ScriptPin {
    fn pulse(&self) -> Result<(), HvError> {
        self.set(true)?;
        self.set(false)
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        self.shared.note(Record::Pin(self.id, high));
        Ok(())
    }
}

/// A vCPU of a [`ScriptVm`].
#[derive(Debug)]
pub struct ScriptVcpu {
    shared: Arc<Shared>,
    id: VcpuId,
    data: Vec<u8>,
    answer: [u64; 2],
    asked: Asked,
}

/// What the next run will have the answer to.
#[derive(Debug, Default)]
enum Asked {
    #[default]
    Nothing,
    /// A read: `data`.
    Read,
    /// A call: `answer`.
    Call,
}

/// `SBI_ERR_NOT_SUPPORTED` (RISC-V Supervisor Binary Interface Specification 2.0, chapter 3).
const NOT_SUPPORTED: u64 = (-2_i64).cast_unsigned();

impl Vcpu for ScriptVcpu {
    fn set_state(&mut self, state: &VcpuState) -> Result<(), HvError> {
        let mut story = self.shared.story();
        story.states.insert(self.id, state.clone());
        let state = Box::new(state.clone());
        story.record.push(Record::SetState(self.id, state));
        Ok(())
    }

    fn state(&self) -> Result<VcpuState, HvError> {
        let story = self.shared.story();
        Ok(story
            .states
            .get(&self.id)
            .cloned()
            .unwrap_or_else(|| VcpuState::X86(Registers::default())))
    }

    fn run(&mut self) -> Result<Exit<'_>, HvError> {
        match std::mem::take(&mut self.asked) {
            Asked::Nothing => {}
            Asked::Read => {
                let answer = std::mem::take(&mut self.data);
                self.shared.note(Record::Answered(self.id, answer));
            }
            Asked::Call => {
                let record = Record::SbiAnswered(self.id, self.answer);
                self.shared.note(record);
            }
        }
        Ok(match self.shared.next(self.id) {
            Step::PortRead { port, width } => Exit::PortRead {
                port,
                data: self.unanswered(width),
            },
            Step::PortWrite { port, data } => {
                self.data = data;
                Exit::PortWrite {
                    port,
                    data: &self.data,
                }
            }
            Step::MmioRead { at, width } => Exit::MmioRead {
                at,
                data: self.unanswered(width),
            },
            Step::MmioWrite { at, data } => {
                self.data = data;
                Exit::MmioWrite {
                    at,
                    data: &self.data,
                }
            }
            Step::Halt => Exit::Halt,
            Step::Shutdown => Exit::Shutdown,
            Step::InternalError(error) => Exit::InternalError(error),
            Step::FailEntry { reason } => Exit::FailEntry { reason },
            Step::SystemEvent(event) => Exit::SystemEvent(event),
            Step::SbiCall(call) => {
                self.asked = Asked::Call;
                self.answer = [NOT_SUPPORTED, 0];
                let answer = &mut self.answer;
                Exit::SbiCall { call, answer }
            }
            Step::Undescribed { at } => Exit::Undescribed { at },
            Step::GuestFault(errno) => Exit::GuestFault(errno),
            Step::Interrupted | Step::Compute => Exit::Interrupted,
            Step::Unknown(reason) => Exit::Unknown(reason),
            Step::HostFails => {
                return Err(HvError::Refused {
                    what: "run a vCPU",
                    source: std::io::Error::other("so the script says"),
                });
            }
        })
    }

    fn kicker(&self) -> Kicker {
        let shared = Arc::clone(&self.shared);
        let id = self.id;
        Kicker::new(move || shared.kick(id))
    }

    fn interrupt_pin(&self) -> Result<Box<dyn IrqLine>, HvError> {
        Ok(Box::new(ScriptPin {
            shared: Arc::clone(&self.shared),
            id: self.id,
        }))
    }
}

impl ScriptVcpu {
    fn unanswered(&mut self, width: usize) -> &mut [u8] {
        self.data = vec![0; width];
        self.asked = Asked::Read;
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn vcpu(script: &Script) -> ScriptVcpu {
        let vm = script.create_vm().unwrap();
        vm.create_vcpus(1, Features::default()).unwrap().remove(0)
    }

    #[test]
    fn runs_come_back_with_the_script_and_answers_are_recorded() {
        let port = Port(0x70);
        let steps = [Step::PortRead { port, width: 2 }, Step::Shutdown];
        let script = Script::new().vcpu(VcpuId::BOOT, steps);
        let mut vcpu = vcpu(&script);
        let Exit::PortRead { data, .. } = vcpu.run().unwrap() else {
            panic!("the script begins with a read");
        };
        data.copy_from_slice(&[3, 4]);
        assert_eq!(vcpu.run().unwrap(), Exit::Shutdown);
        let answered = Record::Answered(VcpuId::BOOT, vec![3, 4]);
        assert_eq!(script.record().last(), Some(&answered));
    }

    #[test]
    fn a_guest_that_computes_ends_its_run_with_a_kick() {
        let script = Script::new().vcpu(VcpuId::BOOT, [Step::Compute, Step::Halt]);
        let mut vcpu = vcpu(&script);
        let kicker = vcpu.kicker();
        let runner = thread::spawn(move || {
            let interrupted = vcpu.run().unwrap() == Exit::Interrupted;
            let halted = vcpu.run().unwrap() == Exit::Halt;
            (interrupted, halted)
        });
        kicker.kick();
        assert_eq!(runner.join().unwrap(), (true, true));
    }
}

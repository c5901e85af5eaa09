//! KVM as the engine: the machine's devices are in this process, every vCPU has a thread.

mod board;
mod crew;
mod serial;

use crate::{ConsoleOutput, RunError, Running, Stop};
use board::Board;
use crew::Crew;
use firstlight_base::{VcpuId, x86};
use firstlight_boot::BootPlan;
use firstlight_hv::kvm::Kvm;
use firstlight_hv::{Hypervisor, Vcpu, Vm};
use firstlight_load::{Backing, GuestMemory, Sources, place};
use rustix::event::{PollFd, PollFlags};
use std::sync::Arc;

/// Asks KVM whether it runs what kernels need, and says so in one line.
///
/// # Errors
///
/// Why it does not, and what to change.
pub(crate) fn probe() -> Result<String, String> {
    match Kvm::open() {
        Ok(_) => Ok("/dev/kvm is there".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts the plan into private memory and makes a machine in KVM round it.
pub(crate) fn prepare(
    plan: &BootPlan,
    sources: &Sources<'_>,
) -> Result<Box<dyn Running>, RunError> {
    let memory = GuestMemory::allocate(&plan.platform().ram, Backing::Private)?;
    place(plan, sources, &memory)?;
    let machine = KvmMachine::new(&Kvm::open()?, Arc::new(memory), plan)?;
    Ok(Box::new(machine))
}

/// A machine whose devices are here and whose vCPUs are a hypervisor's.
struct KvmMachine<V: Vm> {
    memory: Arc<GuestMemory>,
    board: Arc<Board<V::IrqLine>>,
    state: State<V::Vcpu>,
    /// What the vCPUs belong to; dropped last.
    _vm: V,
}

enum State<V> {
    Ready(Vec<V>),
    Running(Crew),
}

impl<V: Vm> KvmMachine<V> {
    /// Memory first, then interrupt controllers, then vCPUs: KVM takes longer for another order.
    fn new<H: Hypervisor<Vm = V>>(
        hypervisor: &H,
        memory: Arc<GuestMemory>,
        plan: &BootPlan,
    ) -> Result<Self, RunError> {
        let cpus = plan.platform().cpus;
        let mut vm = hypervisor.create_vm()?;
        vm.map(Arc::clone(&memory))?;
        vm.create_irqchip()?;
        let mut vcpus = (0..cpus)
            .map(|id| vm.create_vcpu(VcpuId(id), cpus))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(boot) = vcpus.first_mut() {
            boot.set_state(plan.boot_vcpu())?;
        }
        let board = Board::wire(plan.platform(), |irq| vm.irq_line(irq))?;
        Ok(Self {
            memory,
            board: Arc::new(board),
            state: State::Ready(vcpus),
            _vm: vm,
        })
    }
}

impl<V: Vm> Running for KvmMachine<V>
where
    V::Vcpu: 'static,
    V::IrqLine: 'static,
{
    fn start(&mut self, output: &ConsoleOutput) -> Result<(), RunError> {
        self.board.connect(output);
        let state = std::mem::replace(&mut self.state, State::Ready(Vec::new()));
        let State::Ready(vcpus) = state else {
            unreachable!("the session starts a machine once");
        };
        self.state = State::Running(Crew::muster(vcpus, &self.board)?);
        Ok(())
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        vec![PollFd::from_borrowed_fd(
            self.board.bell().fd(),
            PollFlags::IN,
        )]
    }

    fn ready(&mut self, _ready: &[PollFlags]) -> Result<Option<Stop>, RunError> {
        self.board.bell().answer();
        self.board.take_report().transpose()
    }

    fn send_input(&mut self, bytes: &[u8]) -> Result<usize, RunError> {
        Ok(self
            .board
            .console()
            .map_or(bytes.len(), |uart| uart.send(bytes)))
    }

    fn examine(&mut self) -> Option<x86::Registers> {
        match &self.state {
            State::Running(crew) => crew.examine_boot_vcpu(&*self.board),
            State::Ready(_) => None,
        }
    }

    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn end(self: Box<Self>) {
        if let State::Running(crew) = self.state {
            crew.dismiss(&*self.board);
        }
    }
}

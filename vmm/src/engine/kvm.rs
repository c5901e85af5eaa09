//! KVM as the engine: the machine's devices are in this process, every vCPU has a thread.

mod board;
mod clock;
mod crew;
mod hardware;
mod irqchip;
mod level_line;
mod plic;
mod sbi;
mod serial;

use super::Unfit;
use crate::{ConsoleOutput, RunError, Running, Stop, VcpuPolicy};
use board::Board;
use crew::Crew;
use firstlight_base::VcpuState;
use firstlight_boot::{BootPlan, Hardware};
use firstlight_hv::kvm::Kvm;
use firstlight_hv::probe::{self, Verdict};
use firstlight_hv::{HvError, Hypervisor, Vcpu, Vm};
use firstlight_load::{Backing, GuestMemory, Sources, place};
use irqchip::Line;
use plic::{Plic, PlicLine};
use rustix::event::{PollFd, PollFlags};
use std::error::Error;
use std::sync::{Arc, OnceLock};

/// Lets KVM run a probe guest, and says in one line that it runs what kernels need.
///
/// # Errors
///
/// Why it does not, and what to do.
pub(crate) fn probe() -> Result<String, Unfit> {
    match kvm().and_then(|kvm| probe::probe(kvm, Kvm::ARCHITECTURE)) {
        Ok(Verdict::Passed) => Ok("/dev/kvm runs what stock kernels need".to_owned()),
        Ok(ref failed @ Verdict::Failed { step, .. }) => Err(Unfit {
            brief: match step {
                Some(step) => format!("/dev/kvm cannot run stock kernels, it fails at `{step}`"),
                None => "/dev/kvm cannot run 64-bit kernels".to_owned(),
            },
            full: format!(
                "/dev/kvm is there, but cannot run a stock kernel: {failed}{}",
                without_hardware()
            ),
        }),
        Err(error) => Err(Unfit::from(chain(&error))),
    }
}

/// What the host's KVM makes a machine of. Where it cannot be asked, it cannot be used either, and
/// whoever uses it is told why.
pub(crate) fn hardware() -> Hardware {
    let offer = kvm().and_then(Kvm::offer);
    offer.map_or_else(|_| Hardware::default(), |offer| hardware::of(&offer))
}

fn without_hardware() -> &'static str {
    if Kvm::without_hardware() {
        "; this host's KVM does without hardware virtualisation (kvm_pvm), which no setting here \
         changes"
    } else {
        ""
    }
}

/// The host's KVM, opened and asked what it can do once: its answer takes it as long as a machine.
fn kvm() -> Result<&'static Kvm, HvError> {
    static KVM: OnceLock<Kvm> = OnceLock::new();
    match KVM.get() {
        Some(kvm) => Ok(kvm),
        None => {
            let opened = Kvm::open()?;
            Ok(KVM.get_or_init(|| opened))
        }
    }
}

/// The error and what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Puts the plan into private memory and makes a machine in KVM round it.
pub(crate) fn prepare(
    plan: &BootPlan,
    sources: &Sources<'_>,
    policy: &VcpuPolicy,
) -> Result<Box<dyn Running>, RunError> {
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private)?;
    place(plan, sources, &memory)?;
    let mut machine = KvmMachine::new(kvm()?, Arc::new(memory), plan)?;
    machine.policy = policy.clone();
    Ok(Box::new(machine))
}

/// A machine whose devices are here and whose vCPUs are a hypervisor's.
struct KvmMachine<V: Vm> {
    memory: Arc<GuestMemory>,
    board: Arc<Board<Line<V::IrqLine>>>,
    state: State<V::Vcpu>,
    policy: VcpuPolicy,
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
        let platform = plan.platform();
        let mut vm = hypervisor.create_vm()?;
        vm.map(Arc::clone(&memory))?;
        let supplied = irqchip::supplied(platform);
        if let Some(irqchip) = &supplied {
            vm.create_irqchip(irqchip)?;
        }
        let mut vcpus = vm.create_vcpus(platform.cpus(), irqchip::features(platform))?;
        if let Some(boot) = vcpus.first_mut() {
            boot.set_state(plan.boot_vcpu())?;
        }
        let board = match supplied {
            Some(_) => Board::wire(platform, |irq| vm.irq_line(irq).map(Line::Supplied))?,
            None => {
                let pins = vcpus.iter().map(Vcpu::interrupt_pin);
                let plic = Arc::new(Plic::new(pins.collect::<Result<_, _>>()?));
                let line = |irq| Ok(Line::Plic(PlicLine::new(&plic, irq)));
                let mut board = Board::wire(platform, line)?;
                board.attach_plic(plic);
                board
            }
        };
        Ok(Self {
            memory,
            board: Arc::new(board),
            state: State::Ready(vcpus),
            policy: VcpuPolicy::default(),
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
        let crew = Crew::muster(vcpus, &self.board, &self.memory, &self.policy)?;
        self.state = State::Running(crew);
        Ok(())
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        let clocks = self.board.clocks().iter().map(|clock| clock.fd());
        [self.board.bell().fd()]
            .into_iter()
            .chain(clocks)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect()
    }

    fn ready(&mut self, _ready: &[PollFlags]) -> Result<Option<Stop>, RunError> {
        self.board.bell().answer();
        for clock in self.board.clocks() {
            clock.ring();
        }
        self.board.take_report().transpose()
    }

    fn send_input(&mut self, bytes: &[u8]) -> Result<usize, RunError> {
        Ok(self
            .board
            .console()
            .map_or(bytes.len(), |uart| uart.send(bytes)))
    }

    fn examine(&mut self) -> Option<VcpuState> {
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

#[cfg(test)]
mod tests;

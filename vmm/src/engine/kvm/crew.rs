//! The threads of the vCPUs.

use super::sbi;
use crate::arch::VcpuConfiguration;
use crate::board::{Access, Board};
use crate::ending::CrashKind;
use crate::{Crash, LinuxArch, RunError, Stop, VcpuPolicy};
use firstlight_base::{VcpuId, VcpuState};
use firstlight_hv::{Exit, HvError, Kicker, SystemEvent, Vcpu};
use firstlight_load::GuestMemory;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A vCPU's thread does little: exits are answered with a few calls.
const STACK: usize = 128 << 10;

/// How long to wait for the boot vCPU's registers. Its thread may be waiting for the console's
/// reader.
const EXAMINE_WITHIN: Duration = Duration::from_millis(500);

/// The running vCPUs.
pub(super) struct Crew {
    members: Vec<(Kicker, JoinHandle<()>)>,
    desk: Arc<Desk>,
}

impl Crew {
    /// Gives every vCPU its thread and lets it go.
    pub(super) fn muster<A: LinuxArch, V: Vcpu + 'static>(
        vcpus: Vec<V>,
        (boot_state, policy): (&VcpuState, &VcpuPolicy),
        board: &Arc<Board>,
        memory: &Arc<GuestMemory>,
    ) -> Result<Self, RunError> {
        let boot_state = Arc::new(boot_state.clone());
        let enforcement = Arc::new(policy.enforcement());
        let mut crew = Self {
            members: Vec::with_capacity(vcpus.len()),
            desk: Arc::default(),
        };
        for (id, vcpu) in (0..).map(VcpuId).zip(vcpus) {
            let kicker = match board.controllers() {
                Some(controllers) => Arc::clone(controllers).kicker(id, vcpu.kicker()),
                None => vcpu.kicker(),
            };
            let their_board = Arc::clone(board);
            let member = Member {
                id,
                vcpu,
                desk: Arc::clone(&crew.desk),
                memory: Arc::clone(memory),
            };
            let configuration = VcpuConfiguration {
                id,
                boot_state: Arc::clone(&boot_state),
                enforcement: Arc::clone(&enforcement),
            };
            let spawned = thread::Builder::new()
                .name(format!("vcpu {id}"))
                .stack_size(STACK)
                .spawn(move || member.work::<A>(&configuration, &their_board));
            match spawned {
                Ok(thread) => crew.members.push((kicker, thread)),
                Err(error) => {
                    crew.dismiss(board);
                    return Err(RunError::host("start a vCPU's thread")(error));
                }
            }
        }
        Ok(crew)
    }

    /// Stops every vCPU and waits for its thread.
    pub(super) fn dismiss(self, board: &Board) {
        board.reports().stop();
        for (kicker, _) in &self.members {
            kicker.kick();
        }
        for (_, thread) in self.members {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// The boot vCPU's registers while it runs.
    pub(super) fn examine_boot_vcpu(&self, board: &Board) -> Option<VcpuState> {
        let (kicker, _) = self.members.first()?;
        if board.reports().is_stopping() {
            return None;
        }
        let mut request = self.desk.lock();
        *request = Request::Wanted;
        kicker.kick();
        let (mut request, _) = self
            .desk
            .answered
            .wait_timeout_while(request, EXAMINE_WITHIN, |request| {
                matches!(request, Request::Wanted)
            })
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *request) {
            Request::Answered(registers) => Some(*registers),
            Request::None | Request::Wanted => None,
        }
    }
}

/// Where the boot vCPU leaves its registers when it is asked for them.
#[derive(Default)]
struct Desk {
    request: Mutex<Request>,
    answered: Condvar,
}

#[derive(Default)]
enum Request {
    #[default]
    None,
    Wanted,
    Answered(Box<VcpuState>),
}

impl Desk {
    fn lock(&self) -> std::sync::MutexGuard<'_, Request> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A vCPU in its thread.
struct Member<V> {
    id: VcpuId,
    vcpu: V,
    desk: Arc<Desk>,
    memory: Arc<GuestMemory>,
}

impl<V: Vcpu> Member<V> {
    fn work<A: LinuxArch>(mut self, configuration: &VcpuConfiguration, board: &Board) {
        let _alarm = Alarm(board);
        if let Err(error) = A::configure_vcpu(&mut self.vcpu, configuration) {
            board.reports().report(Err(error));
            return;
        }
        while !board.reports().is_stopping() {
            match self.step(board) {
                Ok(None) => {}
                Ok(Some(stop)) => {
                    board.reports().report(Ok(stop));
                    return;
                }
                Err(error) => {
                    board.reports().report(Err(error.into()));
                    return;
                }
            }
        }
    }

    /// Runs the vCPU until it wants something, and does it.
    fn step(&mut self, board: &Board) -> Result<Option<Stop>, HvError> {
        let controllers = board.controllers();
        if let Some(controllers) = controllers
            && !controllers.deliver(self.id, &mut self.vcpu)?
        {
            return self.interrupted();
        }
        let kind = match self.vcpu.run()? {
            Exit::PortRead { port, data } => {
                board.read(Access::Port(port), data);
                return Ok(None);
            }
            Exit::PortWrite { port, data } => return Ok(board.write(Access::Port(port), data)),
            Exit::MmioRead { at, data } => {
                board.read_for(self.id, at, data);
                return Ok(None);
            }
            Exit::MmioWrite { at, data } => return Ok(board.write_for(self.id, at, data)),
            Exit::Interrupted => return self.interrupted(),
            Exit::InterruptWindow => return Ok(None),
            Exit::EndOfInterrupt { vector } => {
                if let Some(controllers) = controllers {
                    controllers.end_of_interrupt(vector);
                }
                return Ok(None);
            }
            Exit::SbiCall { call, answer } => {
                *answer = sbi::answer(&call, board, &*self.memory);
                return Ok(None);
            }
            Exit::SystemEvent(SystemEvent::Shutdown) => return Ok(Some(Stop::PowerOff)),
            Exit::SystemEvent(SystemEvent::Reset) => return Ok(Some(Stop::Reset)),
            Exit::SystemEvent(SystemEvent::Crash) => return Ok(Some(Stop::Panicked)),
            Exit::Shutdown => Died::of(CrashKind::TripleFault),
            Exit::InternalError(error) => Died {
                kind: CrashKind::Other(error.to_string()),
                instruction: error.instruction,
            },
            Exit::FailEntry { reason } => Died::of(CrashKind::Other(format!(
                "the processor refuses the guest's state (hardware reason {reason:#x})"
            ))),
            Exit::SystemEvent(SystemEvent::Other(kind)) => Died::of(CrashKind::Other(format!(
                "the guest raised system event {kind}"
            ))),
            Exit::Undescribed { at } => Died::of(CrashKind::Other(format!(
                "the guest accesses {at}, which is not memory, by an instruction that the \
                 processor does not describe to KVM"
            ))),
            Exit::GuestFault(errno) => Died::of(CrashKind::Other(format!(
                "KVM cannot do what the guest made it do: {}",
                io::Error::from_raw_os_error(errno)
            ))),
            Exit::Halt if controllers.is_some_and(|own| own.halt(self.id)) => return Ok(None),
            Exit::Halt => Died::of(CrashKind::Other(
                "the processor halted with nothing that could wake it".to_owned(),
            )),
            Exit::Unknown(reason) => Died::of(CrashKind::Other(format!(
                "KVM stopped for a reason unknown here ({reason})"
            ))),
        };
        let Died { kind, instruction } = kind;
        Ok(Some(Stop::Crashed(Box::new(Crash {
            vcpu: self.id,
            kind,
            registers: self.registers().ok().filter(|now| !is_reset(now)),
            instruction,
        }))))
    }

    /// Somebody kicked: to stop, which the caller sees, or for the registers.
    fn interrupted(&self) -> Result<Option<Stop>, HvError> {
        if self.id == VcpuId::BOOT {
            let mut request = self.desk.lock();
            if matches!(*request, Request::Wanted) {
                *request = Request::Answered(Box::new(self.registers()?));
                self.desk.answered.notify_one();
            }
        }
        Ok(None)
    }

    fn registers(&self) -> Result<VcpuState, HvError> {
        self.vcpu.state()
    }
}

/// Whether these are the registers of a processor that has just been reset (SDM volume 3A, table
/// 10-1). On AMD processors KVM can only reset one that shut itself down, which loses what it was
/// doing.
fn is_reset(state: &VcpuState) -> bool {
    state.x86().is_some() && state.pc() == 0xffff_fff0
}

struct Died {
    kind: CrashKind,
    instruction: Vec<u8>,
}

impl Died {
    fn of(kind: CrashKind) -> Self {
        Self {
            kind,
            instruction: Vec::new(),
        }
    }
}

/// Stops the others when a vCPU's thread panics, so that nobody waits for it.
struct Alarm<'a>(&'a Board);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.reports().report(Err(RunError::Host {
                doing: "go on: a vCPU's thread panicked",
                source: io::Error::other("panic"),
            }));
        }
    }
}

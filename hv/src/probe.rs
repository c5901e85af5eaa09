//! A guest of a few instructions that tells whether a hypervisor can run stock kernels.
//!
//! Some hosts offer a KVM without hardware virtualisation: it opens, makes machines, runs small
//! guests, and gives up in the middle of a kernel's start at an instruction that it cannot
//! emulate. The probe runs such instructions before a kernel has to.

mod arm64;
mod riscv64;
mod x86_64;

use crate::{Exit, Features, HvError, Hypervisor, InternalError, Kicker, Vcpu, Vm};
use firstlight_base::{Gpa, GpaRange, GuestMem, KIB, Port, VcpuState};
use firstlight_load::{Backing, GuestMemory};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What became of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step worked: a stock kernel will run.
    Passed,
    /// A step did not.
    Failed {
        /// The step; `None` where the guest did not even get to the first.
        step: Option<Step>,
        /// What happened instead.
        instead: Instead,
    },
}

/// What the probe tries: the name of an instruction or of a part of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step(&'static str);

/// Whose probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Arm64,
    /// 64-bit RISC-V.
    Riscv64,
}

/// What happened instead of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// The hypervisor gave up.
    GaveUp(InternalError),
    /// The instruction ran, and did something else.
    WrongResult,
    /// The guest's processor shut itself down.
    Shutdown,
    /// The guest was still at it when its time was over.
    Hung,
    /// An exit that the probe does not cause.
    Other(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("it can run stock kernels"),
            Self::Failed { step: None, .. } => f.write_str("it cannot run 64-bit code at all"),
            Self::Failed {
                step: Some(step),
                instead,
            } => write!(f, "at `{step}`, {instead}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp(error) => fmt::Display::fmt(error, f),
            Self::WrongResult => f.write_str("the processor did something else"),
            Self::Shutdown => f.write_str("the processor shut itself down"),
            Self::Hung => f.write_str("the guest hung"),
            Self::Other(exit) => write!(f, "the guest stopped with {exit}"),
        }
    }
}

/// More than a thousand times what the probe takes.
const TIME: Duration = Duration::from_secs(1);

/// Runs the probe of `architecture` on `hypervisor`, whose own it is. It never takes much longer
/// than a second.
///
/// # Errors
///
/// [`HvError`] where the host does not even let the probe be set up.
pub fn probe<V: Vm<Vcpu: 'static> + 'static>(
    hypervisor: &impl Hypervisor<Vm = V>,
    architecture: Architecture,
) -> Result<Verdict, HvError> {
    let guest = match architecture {
        Architecture::X86_64 => x86_64::guest(),
        Architecture::Arm64 => arm64::guest(),
        Architecture::Riscv64 => riscv64::guest(),
    };
    let mut vm = hypervisor.create_vm()?;
    vm.map(memory(&guest)?)?;
    let mut vcpu = vm.create_vcpus(1, Features::default())?.remove(0);
    vcpu.set_state(&guest.entry)?;
    let (done, when_done) = mpsc::channel();
    let kicker = vcpu.kicker();
    thread::spawn(move || watch(&kicker, &when_done));
    let verdict = follow(&mut vcpu, &guest, Instant::now() + TIME);
    // Nobody to take it: then it is taken apart here.
    let _ = done.send((vcpu, vm));
    verdict
}

/// Kicks the vCPU whenever its time is over, until the machine is handed over to be taken apart:
/// the kernel takes some milliseconds for that, which nobody else has to wait for.
fn watch<M>(kicker: &Kicker, when_done: &Receiver<M>) {
    loop {
        match when_done.recv_timeout(TIME) {
            Err(RecvTimeoutError::Timeout) => kicker.kick(),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A probe's guest.
///
/// It announces its steps by writing their numbers, counted from 1, to one place; then that it is
/// done, by the number that follows, or that something went wrong, by the one after that.
struct Guest {
    steps: &'static [Step],
    progress: Progress,
    entry: VcpuState,
    /// What its memory holds.
    pieces: Vec<Piece>,
}

/// Where a guest announces its steps.
#[derive(PartialEq, Eq)]
enum Progress {
    Port(Port),
    Mmio(Gpa),
}

/// What a guest announces.
enum Announced {
    Step(Step),
    Done,
    Wrong,
}

impl Guest {
    fn announced(&self, at: &Progress, data: &[u8]) -> Option<Announced> {
        let &[number] = data else { return None };
        let index = usize::from(number).checked_sub(1)?;
        if *at != self.progress {
            return None;
        }
        match self.steps.get(index) {
            Some(step) => Some(Announced::Step(*step)),
            None if index == self.steps.len() => Some(Announced::Done),
            None if index == self.steps.len() + 1 => Some(Announced::Wrong),
            None => None,
        }
    }
}

/// Bytes at an address.
struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn new(at: u64, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { at, bytes }
    }

    fn words(at: u64, words: &[u64]) -> Self {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Self { at, bytes }
    }

    /// Of processors whose instructions have 32 bits.
    fn instructions(at: u64, instructions: &[u32]) -> Self {
        let bytes = instructions.iter().flat_map(|one| one.to_le_bytes());
        let bytes = bytes.collect();
        Self { at, bytes }
    }
}

/// Runs the guest to its end.
fn follow(vcpu: &mut impl Vcpu, guest: &Guest, deadline: Instant) -> Result<Verdict, HvError> {
    let mut step = None;
    let instead = loop {
        let exit = vcpu.run()?;
        let announced = match &exit {
            Exit::PortWrite { port, data } => guest.announced(&Progress::Port(*port), data),
            Exit::MmioWrite { at, data } => guest.announced(&Progress::Mmio(*at), data),
            _ => None,
        };
        match announced {
            Some(Announced::Step(next)) => {
                step = Some(next);
                continue;
            }
            Some(Announced::Done) => return Ok(Verdict::Passed),
            Some(Announced::Wrong) => break Instead::WrongResult,
            None => {}
        }
        match exit {
            Exit::Interrupted => {
                if Instant::now() >= deadline {
                    break Instead::Hung;
                }
            }
            Exit::InternalError(error) => break Instead::GaveUp(error),
            Exit::Shutdown => break Instead::Shutdown,
            exit => break Instead::Other(format!("{exit:?}")),
        }
    };
    Ok(Verdict::Failed { step, instead })
}

fn memory(guest: &Guest) -> Result<Arc<GuestMemory>, HvError> {
    let ram = GpaRange::new(Gpa::new(0), 64 * KIB).expect("64 KiB from 0");
    let memory =
        GuestMemory::allocate(&[ram], Backing::Private).map_err(|error| HvError::Refused {
            what: "have memory for the probe",
            source: error.source.into(),
        })?;
    for Piece { at, bytes } in &guest.pieces {
        let written = memory.write(Gpa::new(*at), bytes);
        written.expect("everything is inside the 64 KiB");
    }
    Ok(Arc::new(memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{self, Script};
    use firstlight_base::VcpuId;

    const WRONG: u8 = 6;

    fn announces(number: u8) -> script::Step {
        script::Step::PortWrite {
            port: Port(0x10),
            data: vec![number],
        }
    }

    fn verdict(steps: Vec<script::Step>) -> Verdict {
        let script = Script::new().vcpu(VcpuId::BOOT, steps);
        probe(&script, Architecture::X86_64).unwrap()
    }

    #[test]
    fn a_guest_that_gets_to_its_end_has_passed() {
        assert_eq!(verdict((1..=5).map(announces).collect()), Verdict::Passed);
        for architecture in [Architecture::Arm64, Architecture::Riscv64] {
            let steps = (1..=6).map(|number| script::Step::MmioWrite {
                at: Gpa::new(0x4000_0000),
                data: vec![number],
            });
            let script = Script::new().vcpu(VcpuId::BOOT, steps);
            assert_eq!(probe(&script, architecture).unwrap(), Verdict::Passed);
        }
    }

    #[test]
    fn a_failure_names_the_step_and_the_instruction() {
        let error = InternalError {
            suberror: InternalError::EMULATION,
            data: vec![],
            instruction: vec![0xf0, 0x48],
        };
        let failed = verdict(vec![announces(1), script::Step::InternalError(error)]);
        assert_eq!(
            failed.to_string(),
            "at `lock cmpxchg16b`, the hypervisor gave up: it cannot emulate an instruction of \
             the guest (suberror 1), at the bytes f0 48"
        );
        assert_eq!(
            verdict(vec![announces(4), announces(WRONG)]).to_string(),
            "at `int3`, the processor did something else"
        );
        assert_eq!(
            verdict(vec![script::Step::Shutdown]).to_string(),
            "it cannot run 64-bit code at all"
        );
    }

    #[test]
    fn a_guest_that_hangs_ends_all_the_same() {
        let hung = verdict(vec![announces(3), script::Step::Compute]);
        let step = Some(Step("xrstor64"));
        let instead = Instead::Hung;
        assert_eq!(hung, Verdict::Failed { step, instead });
    }

    #[test]
    fn a_host_that_fails_is_no_verdict() {
        let script = Script::new().vcpu(VcpuId::BOOT, [script::Step::HostFails]);
        assert!(probe(&script, Architecture::X86_64).is_err());
    }
}

//! What runs guests, and which of them can here.

pub(crate) mod kvm;
pub(crate) mod qemu;

use crate::{Machine, RunError};
use firstlight_boot::BootPlan;
use firstlight_load::Sources;
use std::borrow::Cow;
use std::fmt;

/// What runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// KVM, with the machine's devices in this process.
    Kvm,
    /// A QEMU process that supplies processor and devices.
    Qemu,
}

impl Engine {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }

    /// Asks the host whether the engine can run guests here; says in one line why it can.
    fn probe(self) -> Result<String, Unfit> {
        match self {
            Self::Kvm => kvm::probe(),
            Self::Qemu => qemu::probe(),
        }
    }

    /// The command line to plan with, for a Linux guest that is wanted to boot with `wanted`.
    ///
    /// KVM tells a guest how fast its time stamp counter runs. QEMU does not, and its machine has
    /// nothing dependable to measure it with, so that the kernel is told here.
    #[must_use]
    pub fn cmdline(self, wanted: &str) -> Cow<'_, str> {
        match self {
            Self::Kvm => Cow::Borrowed(wanted),
            Self::Qemu => qemu::cmdline(wanted),
        }
    }

    /// Puts the plan into fresh guest memory and makes the machine around it. Neither `sources`
    /// nor the image they come from are needed afterwards.
    ///
    /// A QEMU is killed by the host when the thread that calls this ends, so that none is left
    /// behind however that comes (`PR_SET_PDEATHSIG`): call it from a thread that outlives the
    /// machine.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host fails.
    pub fn prepare(self, plan: &BootPlan, sources: &Sources<'_>) -> Result<Machine, RunError> {
        let running = match self {
            Self::Kvm => kvm::prepare(plan, sources)?,
            Self::Qemu => qemu::prepare(plan, sources)?,
        };
        Ok(Machine::new(running))
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which engine is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// KVM where it passes the probe, else QEMU.
    Auto,
    /// This one or none.
    Only(Engine),
}

/// The engine that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which it is.
    pub engine: Engine,
    /// Why, in one line.
    pub why: String,
}

/// Probes the host for an engine.
///
/// # Errors
///
/// [`NoEngine`] where no wanted engine can run guests here.
pub fn choose(choice: EngineChoice) -> Result<Chosen, NoEngine> {
    let chosen = |engine, why| Chosen { engine, why };
    match choice {
        EngineChoice::Only(engine) => {
            engine
                .probe()
                .map(|why| chosen(engine, why))
                .map_err(|unfit| NoEngine {
                    tried: vec![(engine, unfit.full)],
                })
        }
        EngineChoice::Auto => match Engine::Kvm.probe() {
            Ok(why) => Ok(chosen(Engine::Kvm, why)),
            Err(no_kvm) => match Engine::Qemu.probe() {
                Ok(why) => Ok(chosen(Engine::Qemu, format!("{}; {why}", no_kvm.brief))),
                Err(no_qemu) => Err(NoEngine {
                    tried: vec![(Engine::Kvm, no_kvm.full), (Engine::Qemu, no_qemu.full)],
                }),
            },
        },
    }
}

/// Why an engine cannot run guests here.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// In a few words, for somebody who gets another engine instead.
    brief: String,
    /// All there is to say, and what to install or change.
    full: String,
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self {
            brief: why.clone(),
            full: why,
        }
    }
}

/// No engine can run guests here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoEngine {
    /// What was probed, and why it cannot: a sentence without its full stop that says what to
    /// install or change.
    pub tried: Vec<(Engine, String)>,
}

impl fmt::Display for NoEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no engine can run the guest here")?;
        for (engine, why) in &self.tried {
            write!(f, "\n  {engine}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoEngine {}

//! What runs guests, and which of them can here.

pub(crate) mod kvm;
pub(crate) mod qemu;

use crate::{
    Devices, IrqchipError, IrqchipMode, Machine, MemoryFile, PolicyError, RunError, SwapError,
    VcpuPolicy,
};
use firstlight_boot::{BootPlan, Hardware, Protocol};
use firstlight_image::Architecture;
use firstlight_load::Sources;
use std::borrow::Cow;
use std::env::consts;
use std::fmt;
use std::path::PathBuf;

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

    /// Asks the host whether the engine can run guests of `architecture` here; says in one line why
    /// it can.
    fn probe(self, architecture: Architecture) -> Result<String, Unfit> {
        match self {
            Self::Kvm if is_host(architecture) => kvm::probe(),
            Self::Kvm => Err(Unfit::from(format!(
                "KVM on this host runs {} guests, not {architecture} ones",
                consts::ARCH
            ))),
            Self::Qemu => qemu::probe(architecture),
        }
    }

    /// What the engine makes an arm64 or riscv64 machine of, for the plan to describe, where its interrupt controllers are
    /// to be there.
    #[must_use]
    pub fn hardware(self, architecture: Architecture, irqchip: IrqchipMode) -> Hardware {
        match self {
            Self::Kvm if is_host(architecture) => kvm::hardware(irqchip),
            Self::Kvm => Hardware::default(),
            Self::Qemu => qemu::hardware(),
        }
    }

    /// The command line to plan with again where `plan` is what was wanted.
    ///
    /// KVM tells an x86 guest how fast its time stamp counter runs. QEMU does not, and its machine
    /// has nothing dependable to measure it with, so that a kernel that may be Linux is told here.
    #[must_use]
    pub fn cmdline(self, plan: &BootPlan) -> Cow<'_, str> {
        let wanted = plan.cmdline();
        match (self, plan.protocol()) {
            (
                Self::Qemu,
                Protocol::Linux64 | Protocol::Linux32 | Protocol::Linux16 | Protocol::Pvh,
            ) => qemu::cmdline(wanted),
            (
                Self::Qemu,
                Protocol::Multiboot
                | Protocol::Multiboot2
                | Protocol::Arm64
                | Protocol::Riscv64
                | Protocol::Firmware,
            )
            | (Self::Kvm, _) => Cow::Borrowed(wanted),
        }
    }

    /// Puts the plan into fresh guest memory and makes the machine around it. Neither `sources`
    /// nor the image they come from are needed afterwards. What else the machine is given
    /// is its `equipment`, for which the plan has room where it was
    /// [asked for](crate::Devices::equip).
    ///
    /// A QEMU is killed by the host when the thread that calls this ends, so that none is left
    /// behind however that comes (`PR_SET_PDEATHSIG`): call it from a thread that outlives the
    /// machine.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host fails.
    pub fn prepare(
        self,
        plan: &BootPlan,
        sources: &Sources<'_>,
        equipment: &Equipment,
    ) -> Result<Machine, RunError> {
        let running = match self {
            Self::Kvm => kvm::prepare(plan, sources, equipment)?,
            Self::Qemu => {
                if !equipment.policy.is_default() {
                    let engine = self.name();
                    return Err(PolicyError::Engine { engine }.into());
                }
                if equipment.swap.is_some() {
                    let engine = self.name();
                    return Err(SwapError::Engine { engine }.into());
                }
                if equipment.irqchip != IrqchipMode::Kernel {
                    let engine = self.name();
                    return Err(IrqchipError::Engine { engine }.into());
                }
                qemu::prepare(plan, sources, equipment)?
            }
        };
        Ok(Machine::new(running))
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a machine is given beside its plan. The [default](Self::default) is nothing.
#[derive(Clone, Debug, Default)]
pub struct Equipment {
    /// Its virtio devices.
    pub devices: Devices,
    /// How its vCPUs are scheduled, which only [`Engine::Kvm`] can do.
    pub policy: VcpuPolicy,
    /// What keeps its kernel's last words.
    pub crash_log: Option<MemoryFile>,
    /// What firmware remembers, if the machine has flash; without a file, it is forgotten.
    pub flash_variables: Option<MemoryFile>,
    /// The folder that [`Machine::swap`] swaps to, which only [`Engine::Kvm`] can do.
    pub swap: Option<PathBuf>,
    /// Who is its interrupt controllers, for which there is a choice with [`Engine::Kvm`] only.
    pub irqchip: IrqchipMode,
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

/// Whether KVM's guests here are of that architecture, as the host is.
fn is_host(architecture: Architecture) -> bool {
    match architecture {
        Architecture::I386 | Architecture::X86_64 => consts::ARCH == "x86_64",
        Architecture::Arm64 => consts::ARCH == "aarch64",
        Architecture::Riscv64 => consts::ARCH == "riscv64",
        Architecture::Arm
        | Architecture::Riscv32
        | Architecture::Loongarch64
        | Architecture::Unknown => false,
    }
}

/// Probes the host for an engine that runs guests of `architecture`.
///
/// # Errors
///
/// [`NoEngine`] where no wanted engine can run guests here.
pub fn choose(choice: EngineChoice, architecture: Architecture) -> Result<Chosen, NoEngine> {
    let chosen = |engine, why| Chosen { engine, why };
    match choice {
        EngineChoice::Only(engine) => engine
            .probe(architecture)
            .map(|why| chosen(engine, why))
            .map_err(|unfit| NoEngine {
                tried: vec![(engine, unfit.full)],
            }),
        EngineChoice::Auto => match Engine::Kvm.probe(architecture) {
            Ok(why) => Ok(chosen(Engine::Kvm, why)),
            Err(no_kvm) => match Engine::Qemu.probe(architecture) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use firstlight_boot::Request;
    use firstlight_image::testing::multiboot1;
    use firstlight_image::{Image, Limits};

    #[test]
    fn qemu_is_not_asked_to_swap() {
        let (plan, _) = testing::plan(1);
        let equipment = Equipment {
            swap: Some(PathBuf::from("/tmp")),
            ..Equipment::default()
        };
        let sources = Sources::default();
        let refusal = Engine::Qemu.prepare(&plan, &sources, &equipment);
        let refused = RunError::from(SwapError::Engine { engine: "qemu" }).to_string();
        assert_eq!(refusal.unwrap_err().to_string(), refused);
    }

    /// One that this host is not.
    fn another() -> Architecture {
        if is_host(Architecture::Arm64) {
            Architecture::Riscv64
        } else {
            Architecture::Arm64
        }
    }

    #[test]
    fn kvm_is_not_asked_to_run_other_architectures() {
        let refusal = choose(EngineChoice::Only(Engine::Kvm), another()).unwrap_err();
        let text = refusal.to_string();
        assert!(
            text.contains(&format!("guests, not {} ones", another())),
            "{text}"
        );
    }

    #[test]
    fn who_gets_qemu_for_another_architecture_is_told_why() {
        match choose(EngineChoice::Auto, another()) {
            Ok(chosen) => {
                assert_eq!(chosen.engine, Engine::Qemu);
                assert!(
                    chosen.why.starts_with("KVM on this host runs"),
                    "{chosen:?}"
                );
            }
            Err(refusal) => assert!(refusal.to_string().contains("install the package")),
        }
    }

    #[test]
    fn a_guest_that_may_be_linux_is_told_its_frequency_by_qemu_alone() {
        let (plan, _) = testing::plan(1);
        assert_eq!(Engine::Kvm.cmdline(&plan), plan.cmdline());
        let told = Engine::Qemu.cmdline(&plan);
        assert!(told.ends_with(plan.cmdline()), "{told}");
    }

    #[test]
    fn who_is_not_linux_is_told_nothing() {
        /// The header says where the kernel is loaded.
        const ADDRESSES: u32 = 1 << 16;
        let header = multiboot1(ADDRESSES).addresses(0x10_0000, 0x10_0000, 0, 0);
        let file = header.entry(0x10_0000).build();
        let image = Image::open(&file, &Limits::default()).unwrap();
        let request = Request {
            cmdline: "quiet".to_owned(),
            ..Request::default()
        };
        let plan = firstlight_boot::plan(&image, &request).unwrap();
        assert_eq!(plan.protocol(), Protocol::Multiboot);
        assert_eq!(Engine::Qemu.cmdline(&plan), "quiet");
    }
}

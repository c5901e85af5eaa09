//! What a 64-bit Arm guest's processors are asked beyond what the monitor shows.

use super::debugger::{Debugger, Description};
use super::monitor::Monitor;
use crate::{Crash, CrashKind};
use firstlight_base::arm64::{Pstate, Registers, System};
use firstlight_base::{VcpuId, VcpuState};
use firstlight_boot::platform::VirtArm64;
use firstlight_image::Architecture;

/// What QEMU calls the description of the system registers.
const SYSTEM_REGISTERS: &str = "system-registers.xml";

/// The boot vCPU's registers, of a guest that stands still; system registers as far as they can be
/// had.
pub(super) fn registers(monitor: &mut Monitor, debugger: &mut Debugger) -> Option<Registers> {
    let mut registers = all(monitor)?.into_iter().next()?;
    let system = SystemRegisters::of(VcpuId::BOOT, registers.pstate, monitor, debugger);
    registers.system = system
        .and_then(|mut registers| registers.system())
        .unwrap_or_default();
    Some(registers)
}

/// What has happened where a vCPU has asked for a reset from the reset ROM: see there
/// (`boot/src/firmware/reset_rom/arm64.rs`).
pub(super) fn crash(monitor: &mut Monitor, debugger: &mut Debugger) -> Option<Crash> {
    let vcpus = all(monitor)?.into_iter().zip(0..);
    let (mut registers, number) = vcpus.clone().find(|(vcpu, _)| is_in_rom(vcpu))?;
    let vcpu = VcpuId(number);
    let kind = SystemRegisters::of(vcpu, registers.pstate, monitor, debugger)
        .and_then(|mut system| system.before_rom(&mut registers))
        .unwrap_or("jump to the reset ROM");
    Some(Crash {
        vcpu,
        kind: CrashKind::Other(kind.to_owned()),
        registers: Some(VcpuState::Arm64(registers)),
        instruction: Vec::new(),
    })
}

fn all(monitor: &mut Monitor) -> Option<Vec<Registers>> {
    let vcpus = monitor.registers(Architecture::Arm64)?.into_iter();
    let registers = vcpus.map(|vcpu| match vcpu {
        VcpuState::Arm64(registers) => Some(registers),
        VcpuState::X86(_) | VcpuState::Riscv64(_) => None,
    });
    registers.collect()
}

/// The system registers of a vCPU, by name.
struct SystemRegisters<'a> {
    debugger: &'a mut Debugger,
    description: Description,
    level: &'static str,
}

impl<'a> SystemRegisters<'a> {
    /// Those of the level that the vCPU is at, which `pstate` tells.
    fn of(
        vcpu: VcpuId,
        pstate: Pstate,
        monitor: &mut Monitor,
        debugger: &'a mut Debugger,
    ) -> Option<Self> {
        debugger.attach(monitor, vcpu)?;
        Some(Self {
            description: debugger.description(SYSTEM_REGISTERS)?,
            debugger,
            level: if pstate.contains(Pstate::EL2) {
                "EL2"
            } else {
                "EL1"
            },
        })
    }

    /// The register of that name at the level. Where an older Arm processor has it too, QEMU may
    /// name it as that did, without the level.
    fn read(&mut self, name: &str) -> Option<u64> {
        let full = format!("{name}_{}", self.level);
        let number = self.description.number(&full);
        let number = number.or_else(|| self.description.number(name))?;
        self.debugger.register(number)
    }

    /// What tells where the guest is.
    fn system(&mut self) -> Option<System> {
        Some(System {
            sctlr: self.read("SCTLR")?,
            tcr: self.read("TCR")?,
            ttbr0: self.read("TTBR0")?,
            // EL2 has only one, unless it is a host's.
            ttbr1: self.read("TTBR1").unwrap_or(0),
            vbar: self.read("VBAR")?,
            esr: self.read("ESR")?,
            far: self.read("FAR")?,
            elr: self.read("ELR")?,
        })
    }

    /// Makes of the registers in the ROM those from before, and says in words why it came there.
    fn before_rom(&mut self, registers: &mut Registers) -> Option<&'static str> {
        registers.system = self.system()?;
        registers.x[0] = self.read("TPIDR")?;
        if registers.system.esr == 0 {
            registers.pc = 0;
            return Some("jump to address 0");
        }
        registers.pc = registers.system.elr;
        registers.pstate = Pstate::from_bits_retain(self.read("SPSR")?);
        Some("exception that the kernel has no vectors for yet")
    }
}

/// Whether a vCPU has asked for a reset in the reset ROM. Programs may have code at the same virtual
/// addresses, but no kernel has; a vCPU that is off is at address 0.
fn is_in_rom(registers: &Registers) -> bool {
    let is_kernel = registers.pstate.intersects(Pstate::EL1 | Pstate::EL2);
    is_kernel && (1..VirtArm64::FLASH.code.end().get()).contains(&registers.pc)
}

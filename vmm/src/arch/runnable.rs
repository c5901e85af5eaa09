//! A machine that has been put together.

use super::expansion::{Backplane, Expansion, Rows};
use super::{Irqchips, LinuxArch, VmComponents, Wiring};
use crate::board::gic::Gic;
use crate::board::interval_timer::IntervalTimer;
use crate::board::pc_apics::PcApics;
use crate::board::pc_irqchip::PcIrqchip;
use crate::board::plic::{Plic, PlicLine};
use crate::board::{Board, Place};
use crate::pci::Watchdog;
use crate::suspension::OwnSuspension;
use crate::virtio::ConsoleLine;
use crate::{IrqchipError, OpenDevices, RunError, VcpuPolicy};
use firstlight_base::{Irq, VcpuState};
use firstlight_boot::Pc;
use firstlight_boot::platform::VirtRiscv64;
use firstlight_devices::GicV2;
use firstlight_hv::{HvError, Hypervisor, Interconnect, IrqLine, Irqchip, Vcpu, Vm};
use firstlight_load::GuestMemory;
use std::sync::Arc;

/// A machine that has been put together and is ready to run.
pub struct RunnableLinuxVm<V: Vm> {
    pub(crate) memory: Arc<GuestMemory>,
    pub(crate) board: Arc<Board>,
    pub(crate) expansion: Arc<Expansion>,
    /// The terminal's end of the virtio console, where the terminal is joined to it.
    pub(crate) console: Option<Arc<ConsoleLine>>,
    /// What its system says of its sleep.
    pub(crate) suspension: Option<OwnSuspension>,
    /// In order.
    pub(crate) vcpus: Vec<V::Vcpu>,
    pub(crate) boot_vcpu: VcpuState,
    pub(crate) policy: VcpuPolicy,
    /// What the vCPUs belong to; dropped last.
    pub(crate) vm: V,
}

impl<V: Vm> RunnableLinuxVm<V> {
    /// Its slots, to plug devices in while it runs.
    #[must_use]
    pub fn expansion(&self) -> &Arc<Expansion> {
        &self.expansion
    }
}

impl<V: Vm> std::fmt::Debug for RunnableLinuxVm<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnableLinuxVm").finish_non_exhaustive()
    }
}

/// Memory first, then interrupt controllers, then vCPUs: KVM takes longer for another order.
pub(super) fn build<A: LinuxArch, H: Hypervisor>(
    hypervisor: &H,
    memory: Arc<GuestMemory>,
    components: VmComponents<A::Platform>,
) -> Result<RunnableLinuxVm<H::Vm>, RunError> {
    let VmComponents {
        platform,
        boot_vcpu,
        cpus,
        mut allocation,
        devices,
        irqchip,
        flash,
        policy,
    } = components;
    let irqchips = A::irqchip(&platform, irqchip)?;
    let mut vm = hypervisor.create_vm()?;
    vm.map(Arc::clone(&memory))?;
    let flash = flash.map(|flash| flash.map(&mut vm)).transpose()?;
    if let Some(irqchip) = irqchips.supplied() {
        vm.create_irqchip(irqchip)?;
    }
    let vcpus = vm.create_vcpus(cpus, A::vcpu_features(&platform))?;
    let mut board = Board::new(&devices.reports);
    let own = OwnIrqchip::attach(&irqchips, (&vm, &vcpus), &mut board)?;
    let lines = |irq: Irq| own.line(irq, &vm);
    A::wire(
        &platform,
        &mut Wiring {
            board: &mut board,
            lines: &lines,
            fw_cfg: Some(devices.fw_cfg),
            flash,
            reports: &devices.reports,
            debugcon: devices.debugcon,
            battery: devices.battery,
            suspension: devices.suspension.as_ref().map(OwnSuspension::share),
            memory: &memory,
        },
    )?;
    let layout = A::arch_memory_layout(&platform);
    let rows = Rows {
        virtio: layout.virtio,
        pci: layout.pci,
        legacy: A::PCI_CONFIG,
    };
    let backplane = Backplane {
        board: &mut board,
        lines: &lines,
        memory: &memory,
        interconnect: own.interconnect(&vm),
        chipset: A::chipset(&platform),
    };
    let OpenDevices {
        list,
        console,
        balloon,
        vfio,
        not_for_vfio,
        watchdog,
        reports,
        suspension,
        ..
    } = devices;
    let watchdog = watchdog.and_then(|watchdog| Some((watchdog, allocation.last_function()?)));
    let vfio = allocation.last_functions(vfio);
    let mut expansion = Expansion::build(&rows, (list, allocation), backplane)?;
    expansion.balloon = balloon;
    if let Some((watchdog, at)) = watchdog {
        board.add_timed(Arc::<Watchdog>::clone(&watchdog));
        expansion.put(at, watchdog);
    }
    if !vfio.is_empty() {
        expansion.take_from_host(&vfio, (vm.vfio()?, not_for_vfio), &reports)?;
    }
    Ok(RunnableLinuxVm {
        memory,
        board: Arc::new(board),
        expansion: Arc::new(expansion),
        console,
        suspension,
        vcpus,
        boot_vcpu,
        policy,
        vm,
    })
}

/// What of a machine's interrupt controllers is on its board.
enum OwnIrqchip {
    /// Nothing.
    None,
    /// All of a PC's but the local APICs.
    Pc(Arc<PcIrqchip>),
    /// All of a PC's.
    Apics(Arc<PcApics>),
    /// All of an Arm machine's.
    Gic(Arc<Gic>),
    /// All, of harts that have none inside the hypervisor.
    Plic(Arc<Plic>),
}

impl OwnIrqchip {
    /// Attaches what the hypervisor does not supply.
    fn attach<V: Vm>(
        irqchips: &Irqchips,
        (vm, vcpus): (&V, &[V::Vcpu]),
        board: &mut Board,
    ) -> Result<Self, RunError> {
        Ok(match irqchips {
            Irqchips::Supplied(Irqchip::LocalApics) => {
                let irqchip = Arc::new(PcIrqchip::new(vm.interconnect()));
                irqchip.attach(board);
                IntervalTimer::attach(board, irqchip.line(Pc::PIT_IRQ)?)?;
                Self::Pc(irqchip)
            }
            Irqchips::Supplied(_) => Self::None,
            Irqchips::Apics => {
                let count = u32::try_from(vcpus.len()).expect("a hypervisor takes fewer");
                let apics = Arc::new(PcApics::new(count)?);
                apics.attach(board);
                IntervalTimer::attach(board, apics.line(Pc::PIT_IRQ)?)?;
                Self::Apics(apics)
            }
            Irqchips::Gic => {
                let gic = Gic::new(pins(vcpus)?).ok_or(IrqchipError::Vcpus {
                    most: GicV2::MAX_CPUS,
                })?;
                let gic = Arc::new(gic);
                gic.attach(board);
                Self::Gic(gic)
            }
            Irqchips::Plic => {
                let plic = Arc::new(Plic::new(pins(vcpus)?));
                let attached = Arc::<Plic>::clone(&plic);
                board.attach(Place::of(VirtRiscv64::PLIC), attached);
                Self::Plic(plic)
            }
        })
    }

    fn line(&self, irq: Irq, vm: &impl Vm) -> Result<Box<dyn IrqLine>, HvError> {
        match self {
            Self::None => Ok(Box::new(vm.irq_line(irq)?)),
            Self::Pc(irqchip) => irqchip.line(irq),
            Self::Apics(apics) => apics.line(irq),
            Self::Gic(gic) => gic.line(irq),
            Self::Plic(plic) => Ok(Box::new(PlicLine::new(plic, irq))),
        }
    }

    /// What takes the messages of the machine's devices.
    fn interconnect(&self, vm: &impl Vm) -> Arc<dyn Interconnect> {
        match self {
            Self::Apics(apics) => apics.interconnect(vm.interconnect()),
            Self::None | Self::Pc(_) | Self::Gic(_) | Self::Plic(_) => vm.interconnect(),
        }
    }
}

/// The pins of vCPUs whose controller is on the board.
fn pins(vcpus: &[impl Vcpu]) -> Result<Vec<Box<dyn IrqLine>>, HvError> {
    vcpus.iter().map(Vcpu::interrupt_pin).collect()
}

//! What a machine of each architecture is made of, and how it is put together.
//!
//! [`LinuxArch`] is to this house what crosvm's trait of that name is to crosvm, with the same names
//! for the same things; what are twenty parameters there is [`VmComponents`] here. It has three
//! implementations, [`X8664`], [`Aarch64`] and [`Riscv64`], and all of them are there on every host: a
//! machine is put together from its platform, which says where everything is, and from a hypervisor,
//! which decides whether it can run.

mod aarch64;
mod allocation;
mod components;
mod expansion;
mod host_cpu;
mod memory;
mod riscv64;
mod runnable;
mod x86_64;

pub use crate::flash::FlashMemory;
pub use crate::pci::Chipset;
pub use aarch64::Aarch64;
pub use allocation::{Allocation, allocate};
pub use components::VmComponents;
pub use expansion::{Expansion, HotplugError};
pub use host_cpu::{HostCpuError, HostCpus};
pub(crate) use memory::mapped;
pub use memory::{ArchMemoryLayout, GuestMemoryRegion, MemoryPurpose};
pub use riscv64::Riscv64;
pub use runnable::RunnableLinuxVm;
pub use x86_64::X8664;

use crate::board::{Board, Lines, Place};
use crate::debug_console::DebugOutput;
use crate::flash::MappedFlash;
use crate::reports::Reports;
use crate::virtio::VirtioDevice;
use crate::{
    Battery, CpuSet, Enforcement, IrqchipError, IrqchipMode, RunError, Suspension,
    SystemAllocatorConfig,
};
use firstlight_base::{Irq, Port, VcpuId, VcpuState};
use firstlight_devices::pci::Address;
use firstlight_devices::{BatteryState, FlashBus, FwCfg};
use firstlight_hv::{Features, Hypervisor, Irqchip, Vcpu};
use firstlight_load::GuestMemory;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An architecture that Linux runs on, as a machine is made for it.
///
/// The order is that of the methods: layouts first, which decide and do nothing; then the machine; then
/// each vCPU in its own thread; and devices that are plugged in while all runs.
pub trait LinuxArch {
    /// The machines of this architecture: where their memory and devices are.
    type Platform: Clone + Send + Sync;

    /// The first of the eight ports that reach PCI configuration space, on machines with ports.
    const PCI_CONFIG: Option<Port> = None;

    /// Where the machine has memory, and where room for devices.
    fn arch_memory_layout(platform: &Self::Platform) -> ArchMemoryLayout;

    /// The guest's memory in pieces that are for different things: ascending, and no two meet.
    fn guest_memory_layout(layout: &ArchMemoryLayout) -> Vec<GuestMemoryRegion>;

    /// What there is to be given to devices.
    fn get_system_allocator_config(platform: &Self::Platform) -> SystemAllocatorConfig;

    /// The machine's interrupt controllers, and whose they are.
    ///
    /// # Errors
    ///
    /// [`IrqchipError`] where machines of this architecture cannot have them so.
    fn irqchip(platform: &Self::Platform, mode: IrqchipMode) -> Result<Irqchips, IrqchipError>;

    /// What its chipset has on its PCI bus, where there is one.
    fn chipset(_platform: &Self::Platform) -> Chipset {
        Chipset::default()
    }

    /// What the machine's vCPUs are to have.
    fn vcpu_features(platform: &Self::Platform) -> Features;

    /// Attaches what every such machine has where the platform has it.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host fails, or has no such interrupt line.
    fn wire(platform: &Self::Platform, wiring: &mut Wiring<'_>) -> Result<(), RunError>;

    /// Puts the machine together round `memory`, in which everything lies that the guest needs.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host fails.
    fn build_vm<H: Hypervisor>(
        hypervisor: &H,
        memory: Arc<GuestMemory>,
        components: VmComponents<Self::Platform>,
    ) -> Result<RunnableLinuxVm<H::Vm>, RunError>
    where
        Self: Sized,
    {
        runnable::build::<Self, H>(hypervisor, memory, components)
    }

    /// Makes a vCPU ready to run; called from the thread that will run it.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host refuses.
    fn configure_vcpu(
        vcpu: &mut impl Vcpu,
        configuration: &VcpuConfiguration,
    ) -> Result<(), RunError>
    where
        Self: Sized,
    {
        if configuration.id == VcpuId::BOOT {
            vcpu.set_state(&configuration.boot_state)?;
        }
        configuration.enforcement.apply(configuration.id)?;
        Ok(())
    }

    /// The frequencies that each of the host's processors can run at, in kHz, by its number; those of
    /// which nothing is known are left out.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where the host says something that cannot be understood.
    fn get_host_cpu_frequencies_khz(
        host: &HostCpus,
    ) -> Result<BTreeMap<u32, Vec<u32>>, HostCpuError> {
        host.get_host_cpu_frequencies_khz()
    }

    /// The highest of these, in kHz.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where the host says something that cannot be understood.
    fn get_host_cpu_max_freq_khz(host: &HostCpus) -> Result<BTreeMap<u32, u32>, HostCpuError> {
        host.get_host_cpu_max_freq_khz()
    }

    /// How fast each of the host's processors is, the fastest having 1024.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where the host says something that cannot be understood.
    fn get_host_cpu_capacity(host: &HostCpus) -> Result<BTreeMap<u32, u32>, HostCpuError> {
        host.get_host_cpu_capacity()
    }

    /// Which of the host's processors belong together.
    ///
    /// # Errors
    ///
    /// [`HostCpuError`] where the host says something that cannot be understood.
    fn get_host_cpu_clusters(host: &HostCpus) -> Result<Vec<CpuSet>, HostCpuError> {
        host.get_host_cpu_clusters()
    }

    /// Plugs a device into a machine that may be running, and says where it is.
    ///
    /// # Errors
    ///
    /// [`HotplugError`] where there is no free slot for it.
    fn register_pci_device(
        machine: &Expansion,
        device: VirtioDevice,
    ) -> Result<Address, HotplugError>
    where
        Self: Sized,
    {
        machine.plug(device)
    }
}

/// A machine's interrupt controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Irqchips {
    /// The hypervisor supplies these; of [`Irqchip::LocalApics`], the rest is on the board.
    Supplied(Irqchip),
    /// All of a PC's are on the board.
    Apics,
    /// A GICv2 on the board drives the pins of the vCPUs.
    Gic,
    /// A PLIC on the board drives the pins of the harts.
    Plic,
}

impl Irqchips {
    /// What the hypervisor is to supply.
    #[must_use]
    pub fn supplied(&self) -> Option<&Irqchip> {
        match self {
            Self::Supplied(irqchip) => Some(irqchip),
            Self::Apics | Self::Gic | Self::Plic => None,
        }
    }
}

/// What a vCPU is told before it runs.
#[derive(Clone, Debug)]
pub struct VcpuConfiguration {
    /// Which one it is.
    pub id: VcpuId,
    /// The registers of the one that boots; the others wait until the guest starts them.
    pub boot_state: Arc<VcpuState>,
    /// How its thread is to be scheduled.
    pub enforcement: Arc<Enforcement>,
}

/// What an architecture attaches its devices by.
pub struct Wiring<'a> {
    pub(crate) board: &'a mut Board,
    pub(crate) lines: Lines<'a>,
    /// Where a debug console's bytes go, on platforms with one.
    pub(crate) debugcon: Option<DebugOutput>,
    /// How the battery stands at first, on platforms with one.
    pub(crate) battery: Option<BatteryState>,
    /// Where it is said that the guest's system sleeps, on platforms that can say so.
    pub(crate) suspension: Option<Arc<Suspension>>,
    /// What firmware and kernel are offered, on platforms with a device for it.
    pub(crate) fw_cfg: Option<FwCfg>,
    /// What flash there is.
    pub(crate) flash: Option<MappedFlash>,
    pub(crate) reports: &'a Arc<Reports>,
    pub(crate) memory: &'a Arc<GuestMemory>,
}

impl Wiring<'_> {
    /// Attaches the firmware configuration device.
    fn attach_fw_cfg(&mut self, place: Place) {
        if let Some(chip) = self.fw_cfg.take() {
            self.board.attach_fw_cfg(place, chip, self.memory);
        }
    }

    /// Attaches the battery.
    fn attach_battery(&mut self, place: Place, irq: Irq) -> Result<(), RunError> {
        if let Some(state) = self.battery.take() {
            let battery = Battery::new(state, (self.lines)(irq)?);
            self.board.attach_battery(place, battery);
        }
        Ok(())
    }

    /// Attaches the flash, where there is any.
    fn attach_flash(&mut self, bus: FlashBus) {
        if let Some(flash) = self.flash.take() {
            flash.attach(self.board, bus, self.reports);
        }
    }
}

impl std::fmt::Debug for Wiring<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

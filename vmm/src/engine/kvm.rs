//! KVM as the engine: the machine's devices are in this process, every vCPU has a thread.

mod crew;
mod hardware;
mod sbi;

use super::{Equipment, Unfit};
use crate::arch::{
    Aarch64, Allocation, Expansion, Riscv64, RunnableLinuxVm, VmComponents, X8664, allocate, mapped,
};
use crate::board::Board;
use crate::flash::FlashMemory;
use crate::memory_file::OpenMemoryFile;
use crate::suspension::OwnSuspension;
use crate::virtio::ConsoleLine;
use crate::{
    Battery, ConsoleOutput, DeviceError, IrqchipMode, LinuxArch, MemoryFile, OpenDevices, RunError,
    Running, Stop, Suspension, Swap, SwapError, VcpuPolicy, VfioError,
};
use crew::Crew;
use firstlight_base::VcpuState;
use firstlight_boot::{BootPlan, Hardware, Platform};
use firstlight_devices::virtio::console::ScreenSize;
use firstlight_hv::kvm::Kvm;
use firstlight_hv::probe::{self, Verdict};
use firstlight_hv::{HvError, Hypervisor, Offer, Vm};
use firstlight_load::{Backing, GuestMemory, PlaceError, Sources, place};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use std::error::Error;
use std::marker::PhantomData;
use std::path::PathBuf;
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
pub(crate) fn hardware(irqchip: IrqchipMode) -> Hardware {
    offer().map_or_else(
        |_| Hardware::default(),
        |offer| hardware::of(offer, irqchip),
    )
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

/// What the host's KVM offers, asked once: on some architectures it takes a machine to find out.
fn offer() -> Result<&'static Offer, HvError> {
    static OFFER: OnceLock<Offer> = OnceLock::new();
    match OFFER.get() {
        Some(offer) => Ok(offer),
        None => {
            let offered = kvm()?.offer()?;
            Ok(OFFER.get_or_init(|| offered))
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
    equipment: &Equipment,
) -> Result<Box<dyn Running>, RunError> {
    let firmware = sources.innermost();
    let kvm = kvm()?;
    let equipment = &Equipment {
        irqchip: hardware::irqchip(offer()?, equipment.irqchip),
        ..equipment.clone()
    };
    prepare_on(kvm, (plan, equipment, firmware), |memory| {
        place(plan, sources, memory)
    })
}

/// Lets `fill` put the plan into memory and makes the machine round it; `firmware` is for its flash.
fn prepare_on<H: Hypervisor>(
    hypervisor: &H,
    (plan, equipment, firmware): (&BootPlan, &Equipment, &[u8]),
    fill: impl FnOnce(&GuestMemory) -> Result<(), PlaceError>,
) -> Result<Box<dyn Running>, RunError>
where
    H::Vm: 'static,
{
    // What can be refused is refused before memory is filled.
    let wanted = &equipment.devices;
    if equipment.swap.is_some() && !wanted.vfio.is_empty() {
        return Err(DeviceError::from(VfioError::Pinned("a swap file")).into());
    }
    let platform = plan.platform();
    let allocation = allocate(platform, &wanted.names(), wanted.hotplug_slots)?;
    let crash_log = MemoryFile::open_if(equipment.crash_log.as_ref())?;
    let variables = MemoryFile::open_if(equipment.flash_variables.as_ref())?;
    let flash = FlashMemory::of(platform, firmware, variables.as_ref())?;
    // Who serves a device from another process has to have the guest's memory.
    let backing = match wanted.need_one_file() {
        true if equipment.swap.is_some() => return Err(SwapError::Shared.into()),
        true => Backing::Shared,
        false => Backing::Private,
    };
    let mut devices = wanted.open(platform)?;
    devices.not_for_vfio = equipment.crash_log.as_ref().map(|log| log.range);
    let build = Build {
        backing,
        hypervisor,
        plan,
        allocation,
        devices,
        policy: equipment.policy.clone(),
        crash_log,
        flash,
        swap: equipment.swap.clone(),
        irqchip: equipment.irqchip,
    };
    match plan.platform() {
        Platform::Pc(pc) => build.machine::<X8664>(pc, fill),
        Platform::VirtArm64(virt) => build.machine::<Aarch64>(virt, fill),
        Platform::VirtRiscv64(virt) => build.machine::<Riscv64>(virt, fill),
    }
}

/// A machine about to be made.
struct Build<'a, H> {
    hypervisor: &'a H,
    plan: &'a BootPlan,
    backing: Backing,
    allocation: Allocation,
    devices: OpenDevices,
    policy: VcpuPolicy,
    crash_log: Option<OpenMemoryFile>,
    flash: Option<FlashMemory>,
    swap: Option<PathBuf>,
    irqchip: IrqchipMode,
}

impl<H: Hypervisor> Build<'_, H>
where
    H::Vm: 'static,
{
    fn machine<A: LinuxArch + 'static>(
        mut self,
        platform: &A::Platform,
        fill: impl FnOnce(&GuestMemory) -> Result<(), PlaceError>,
    ) -> Result<Box<dyn Running>, RunError> {
        let layout = A::arch_memory_layout(platform);
        let ram = mapped(&A::guest_memory_layout(&layout));
        let mut memory = GuestMemory::allocate(&ram, self.backing)?;
        fill(&memory)?;
        if let Some(log) = &self.crash_log {
            log.share(&memory)?;
        }
        for file in self.devices.pmem.drain(..) {
            file.add_to(&mut memory)?;
        }
        let components = VmComponents {
            platform: platform.clone(),
            cpus: self.plan.platform().cpus(),
            boot_vcpu: self.plan.boot_vcpu().clone(),
            allocation: self.allocation,
            devices: self.devices,
            irqchip: self.irqchip,
            flash: self.flash,
            policy: self.policy,
        };
        let vm = A::build_vm(self.hypervisor, Arc::new(memory), components)?;
        let swap = self.swap.as_ref();
        let swap = swap.map(|folder| Swap::new(Arc::clone(&vm.memory), folder));
        let swap = swap.transpose()?.map(Arc::new);
        Ok(Box::new(KvmMachine::<A, _>::new(vm, swap)))
    }
}

/// A machine whose devices are here and whose vCPUs are a hypervisor's.
struct KvmMachine<A, V: Vm> {
    memory: Arc<GuestMemory>,
    board: Arc<Board>,
    expansion: Arc<Expansion>,
    /// The terminal's end of the virtio console, where the terminal is joined to it.
    console: Option<Arc<ConsoleLine>>,
    suspension: Option<OwnSuspension>,
    state: State<V::Vcpu>,
    /// What the vCPUs belong to; dropped after them.
    _vm: V,
    /// Dropped when nobody has the memory any more.
    swap: Option<Arc<Swap>>,
    _arch: PhantomData<A>,
}

enum State<V> {
    Ready(Vec<V>, Box<(VcpuState, VcpuPolicy)>),
    Running(Crew),
    Over,
}

impl<A: LinuxArch, V: Vm> KvmMachine<A, V> {
    fn new(machine: RunnableLinuxVm<V>, swap: Option<Arc<Swap>>) -> Self {
        let RunnableLinuxVm {
            memory,
            board,
            expansion,
            console,
            suspension,
            vcpus,
            boot_vcpu,
            policy,
            vm,
        } = machine;
        Self {
            memory,
            board,
            expansion,
            console,
            suspension,
            state: State::Ready(vcpus, Box::new((boot_vcpu, policy))),
            _vm: vm,
            swap,
            _arch: PhantomData,
        }
    }
}

impl<A: LinuxArch, V: Vm> Running for KvmMachine<A, V> {
    fn start(&mut self, output: &ConsoleOutput) -> Result<(), RunError> {
        self.board.connect(output);
        if let Some(console) = &self.console {
            console.connect(output);
        }
        let state = std::mem::replace(&mut self.state, State::Over);
        let State::Ready(vcpus, how) = state else {
            unreachable!("the session starts a machine once");
        };
        let (boot_vcpu, policy) = &*how;
        let how = (boot_vcpu, policy);
        let crew = Crew::muster::<A, _>(vcpus, how, &self.board, &self.memory)?;
        self.state = State::Running(crew);
        Ok(())
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        let timers = self.board.timed().iter().map(|device| device.fd());
        [self.board.reports().bell().as_fd()]
            .into_iter()
            .chain(timers)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect()
    }

    fn ready(&mut self, _ready: &[PollFlags]) -> Result<Option<Stop>, RunError> {
        self.board.reports().bell().answer();
        for device in self.board.timed() {
            device.ring();
        }
        self.board.reports().take().transpose()
    }

    fn send_input(&mut self, bytes: &[u8]) -> Result<usize, RunError> {
        if let Some(console) = &self.console {
            return Ok(console.send(bytes));
        }
        let uart = self.board.console();
        Ok(uart.map_or(bytes.len(), |uart| uart.send(bytes)))
    }

    fn resize(&mut self, size: ScreenSize) {
        if let Some(console) = &self.console {
            console.resize(size);
        }
    }

    fn examine(&mut self) -> Option<VcpuState> {
        match &self.state {
            State::Running(crew) => crew.examine_boot_vcpu(&self.board),
            State::Ready(..) | State::Over => None,
        }
    }

    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn expansion(&self) -> Option<Arc<Expansion>> {
        Some(Arc::clone(&self.expansion))
    }

    fn swap(&self) -> Option<Arc<Swap>> {
        self.swap.clone()
    }

    fn battery(&self) -> Option<Arc<Battery>> {
        self.board.battery().cloned()
    }

    fn suspension(&self) -> Option<Arc<Suspension>> {
        self.suspension.as_ref().map(OwnSuspension::share)
    }

    fn end(self: Box<Self>) -> Result<(), RunError> {
        if let State::Running(crew) = self.state {
            crew.dismiss(&self.board);
        }
        self.expansion.retire();
        Ok(())
    }
}

#[cfg(test)]
mod tests;

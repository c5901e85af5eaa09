//! KVM, the hypervisor of the Linux kernel (its `Documentation/virt/kvm/api.rst`).
//!
//! What depends on the guest's architecture is in a module named for it; every such module offers
//! the same names.

#[cfg(target_arch = "aarch64")]
mod arm64;
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
mod device;
mod interconnect;
mod ioctl;
mod mapping;
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
mod one_reg;
#[cfg(target_arch = "riscv64")]
mod riscv64;
mod signal;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use arm64 as arch;
#[cfg(target_arch = "riscv64")]
use riscv64 as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

use crate::probe::Architecture;
use crate::{
    Exit, Features, HvError, Hypervisor, Interconnect, IrqLine, Irqchip, Kicker, NoKvm, Offer, Rom,
    SystemEvent, Vcpu, VfioDeviceFd, Vm,
};
use firstlight_base::{Gpa, Irq, Port, VcpuId, VcpuState};
use firstlight_load::GuestMemory;
use interconnect::KvmInterconnect;
use kvm_bindings::{
    KVM_API_VERSION, KVM_EXIT_ARM_NISV, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IOAPIC_EOI, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MMIO,
    KVM_EXIT_RISCV_SBI, KVM_EXIT_SET_TPR, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_create_device,
    kvm_device_type_KVM_DEV_TYPE_VFIO,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use mapping::{PortAccess, RunFd, Running};
use signal::KickTarget;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The host's KVM.
#[derive(Debug)]
pub struct Kvm {
    fd: kvm_ioctls::Kvm,
    host: Arc<arch::Host>,
}

impl Kvm {
    /// Opens `/dev/kvm` and asks what it can do.
    ///
    /// # Errors
    ///
    /// [`HvError`] where there is no KVM for this user, or it lacks what every guest needs.
    pub fn open() -> Result<Self, HvError> {
        Self::open_at(c"/dev/kvm")
    }

    fn open_at(path: &CStr) -> Result<Self, HvError> {
        let fd = kvm_ioctls::Kvm::new_with_path(path).map_err(|errno| no_kvm(host_error(errno)))?;
        match u32::try_from(fd.get_api_version()) {
            Ok(KVM_API_VERSION) => {}
            Ok(version) => return Err(NoKvm::Version(version).into()),
            Err(_) => return Err(NoKvm::SomethingElse.into()),
        }
        let needed = [
            (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
            (Cap::MpState, "KVM_CAP_MP_STATE"),
        ];
        require(&fd, &needed)?;
        require(&fd, arch::NEEDED)?;
        let host = Self::host(&fd)?;
        Ok(Self { fd, host })
    }

    /// What the host can do for its guests. It is asked once in the life of this process, because
    /// KVM takes its time to answer.
    fn host(fd: &kvm_ioctls::Kvm) -> Result<Arc<arch::Host>, HvError> {
        static HOST: OnceLock<Arc<arch::Host>> = OnceLock::new();
        if let Some(host) = HOST.get() {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(arch::Host::ask(fd)?);
        Ok(Arc::clone(HOST.get_or_init(|| host)))
    }

    /// The host's architecture, and so its guests'.
    pub const ARCHITECTURE: Architecture = arch::ARCHITECTURE;

    /// What the host can give its guests.
    ///
    /// # Errors
    ///
    /// [`HvError`] where the host refuses to say.
    pub fn offer(&self) -> Result<Offer, HvError> {
        arch::offer(&self.fd, &self.host)
    }

    /// Whether the host says that its KVM does without hardware virtualisation. It is a hint for
    /// a message; what such a KVM can do, [`probe`](crate::probe) finds out.
    #[must_use]
    pub fn without_hardware() -> bool {
        Path::new("/sys/module/kvm_pvm").exists()
    }
}

fn require(fd: &kvm_ioctls::Kvm, needed: &[(Cap, &'static str)]) -> Result<(), HvError> {
    needed
        .iter()
        .find(|(cap, _)| !fd.check_extension(*cap))
        .map_or(Ok(()), |(_, name)| Err(HvError::MissingCapability(name)))
}

fn no_kvm(error: io::Error) -> NoKvm {
    match error.raw_os_error() {
        Some(libc::ENOENT) => NoKvm::Missing,
        Some(libc::EACCES | libc::EPERM) => NoKvm::Denied,
        Some(libc::EBUSY) => NoKvm::Busy,
        Some(libc::ENXIO | libc::ENODEV) => NoKvm::NoDriver,
        _ => NoKvm::Other(error),
    }
}

fn host_error(errno: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(errno.errno())
}

/// The error of a step that the host refused: `what` as a verb and its object.
fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> HvError {
    move |errno| HvError::Refused {
        what,
        source: host_error(errno),
    }
}

impl Hypervisor for Kvm {
    type Vm = KvmVm;

    fn create_vm(&self) -> Result<KvmVm, HvError> {
        let fd = self.fd.create_vm().map_err(|errno| {
            let error = host_error(errno);
            // Another hypervisor that holds the processor is found out only here.
            if error.raw_os_error() == Some(libc::EBUSY) {
                return NoKvm::Busy.into();
            }
            HvError::Refused {
                what: "create a machine",
                source: error,
            }
        })?;
        arch::prepare_vm(&fd)?;
        Ok(KvmVm {
            machine: Arc::new(Machine {
                fd,
                memory: Mutex::default(),
                passing: Mutex::default(),
            }),
            host: Arc::clone(&self.host),
            most_vcpus: u32::try_from(self.fd.get_max_vcpus()).unwrap_or(u32::MAX),
            irqchip: None,
        })
    }
}

/// The kernel's side of a machine, and the memory that it may reach as long as anything of the
/// machine exists.
#[derive(Debug)]
struct Machine {
    fd: VmFd,
    memory: Mutex<Vec<Arc<GuestMemory>>>,
    /// The slots of memory that comes and goes.
    passing: Mutex<BTreeSet<u32>>,
}

/// The first slot of memory that comes and goes: behind all that stays, of which there is a handful.
const PASSING: u32 = 256;

impl Machine {
    /// A slot that nobody has, for memory that comes and goes.
    fn take_slot(&self) -> u32 {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (PASSING..).find(|slot| !passing.contains(slot));
        let slot = free.expect("more slots than anybody can have taken");
        passing.insert(slot);
        slot
    }

    /// Keeps `memory` for as long as anything of the machine exists.
    fn never_unmap(&self, memory: &Arc<GuestMemory>) {
        let mut kept = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Arc::clone(memory));
    }

    fn give_back(&self, slot: u32) {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        passing.remove(&slot);
    }
}

/// A machine in KVM.
#[derive(Debug)]
pub struct KvmVm {
    machine: Arc<Machine>,
    host: Arc<arch::Host>,
    most_vcpus: u32,
    irqchip: Option<arch::Controllers>,
}

impl KvmVm {
    /// Keeps `memory` for as long as anything of the machine exists, and numbers the slots of its regions:
    /// the first.
    fn keep(&self, memory: &Arc<GuestMemory>) -> Result<u32, HvError> {
        for region in memory.regions() {
            arch::check_memory(&self.host, region.range())?;
        }
        let mut mapped = self
            .machine
            .memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let slots: usize = mapped.iter().map(|memory| memory.regions().len()).sum();
        // Before it is mapped: what KVM knows of must stay, even if a later region fails.
        mapped.push(Arc::clone(memory));
        Ok(u32::try_from(slots).expect("a machine has a handful of memory regions"))
    }
}

/// A region of memory that the guest can only read.
#[derive(Debug)]
struct KvmRom {
    machine: Arc<Machine>,
    memory: Arc<GuestMemory>,
    /// Which region.
    number: usize,
    slot: u32,
}

impl Rom for KvmRom {
    fn show(&self, is_shown: bool) -> Result<(), HvError> {
        let vm = &self.machine.fd;
        let region = self.memory.regions().get(self.number);
        match region.filter(|_| is_shown) {
            Some(region) => ioctl::set_rom_slot(vm, self.slot, region),
            None => ioctl::clear_slot(vm, self.slot),
        }
        .map_err(refused("map the guest's flash"))
    }
}

impl Vm for KvmVm {
    type Vcpu = KvmVcpu;
    type IrqLine = KvmIrqLine;

    fn map(&mut self, memory: Arc<GuestMemory>) -> Result<(), HvError> {
        let first = self.keep(&memory)?;
        for (slot, region) in (first..).zip(memory.regions()) {
            ioctl::set_memory_slot(&self.machine.fd, slot, region)
                .map_err(refused("map the guest's memory"))?;
        }
        Ok(())
    }

    fn map_rom(&mut self, memory: Arc<GuestMemory>) -> Result<Vec<Arc<dyn Rom>>, HvError> {
        if !self.machine.fd.check_extension(Cap::ReadonlyMem) {
            return Err(HvError::MissingCapability("KVM_CAP_READONLY_MEM"));
        }
        let first = self.keep(&memory)?;
        let mut roms: Vec<Arc<dyn Rom>> = Vec::new();
        for (number, slot) in (0..memory.regions().len()).zip(first..) {
            let rom = KvmRom {
                machine: Arc::clone(&self.machine),
                memory: Arc::clone(&memory),
                number,
                slot,
            };
            rom.show(true)?;
            roms.push(Arc::new(rom));
        }
        Ok(roms)
    }

    fn create_irqchip(&mut self, irqchip: &Irqchip) -> Result<(), HvError> {
        self.irqchip = Some(arch::create_irqchip(&self.machine.fd, irqchip)?);
        Ok(())
    }

    fn create_vcpus(&self, count: u32, features: Features) -> Result<Vec<KvmVcpu>, HvError> {
        if count > self.most_vcpus {
            return Err(HvError::TooManyVcpus {
                wanted: count,
                most: self.most_vcpus,
            });
        }
        let vcpus: Vec<VcpuFd> = (0..count)
            .map(|id| self.machine.fd.create_vcpu(u64::from(id)))
            .collect::<Result<_, _>>()
            .map_err(refused("create a vCPU"))?;
        let making = arch::Making {
            host: &self.host,
            irqchip: self.irqchip.as_ref(),
            features,
        };
        making.prepare(&self.machine.fd, &vcpus)?;
        let vcpus = (0..).map(VcpuId).zip(vcpus);
        vcpus.map(|(id, fd)| self.vcpu(id, fd)).collect()
    }

    fn irq_line(&self, irq: Irq) -> Result<KvmIrqLine, HvError> {
        let controllers = self.irqchip.as_ref();
        if !controllers.is_some_and(|controllers| controllers.lines().contains(&irq.0)) {
            return Err(HvError::NoSuchLine(irq));
        }
        Ok(KvmIrqLine {
            machine: Arc::clone(&self.machine),
            irq,
        })
    }

    fn interconnect(&self) -> Arc<dyn Interconnect> {
        Arc::new(KvmInterconnect::new(&self.machine))
    }

    fn vfio(&self) -> Result<Option<VfioDeviceFd>, HvError> {
        let mut device = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_VFIO,
            ..kvm_create_device::default()
        };
        let created = self.machine.fd.create_device(&mut device);
        let fd = created.map_err(refused("be told of devices that the guest has"))?;
        Ok(Some(VfioDeviceFd::new_from_kvm(fd)))
    }
}

impl KvmVm {
    fn vcpu(&self, id: VcpuId, fd: VcpuFd) -> Result<KvmVcpu, HvError> {
        let (run, immediate_exit) = RunFd::new(fd, self.machine.fd.run_size())
            .map_err(refused("map a vCPU's run structure"))?;
        Ok(KvmVcpu {
            id,
            run,
            target: Arc::new(KickTarget::new(immediate_exit)?),
            unanswered: None,
            machine: Arc::clone(&self.machine),
        })
    }
}

/// An interrupt line of a machine in KVM.
///
/// It is driven by an ioctl and not by an irqfd: KVM injects a line of the I/O APIC that an irqfd
/// signals from a kernel worker thread, so the ioctl is sooner at the guest and wakes nobody else.
#[derive(Clone, Debug)]
pub struct KvmIrqLine {
    machine: Arc<Machine>,
    irq: Irq,
}

impl IrqLine for KvmIrqLine {
    fn pulse(&self) -> Result<(), HvError> {
        self.set(true)?;
        self.set(false)
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        self.machine
            .fd
            .set_irq_line(arch::line_number(self.irq), high)
            .map_err(refused("drive an interrupt line"))
    }
}

/// A vCPU in KVM.
#[derive(Debug)]
pub struct KvmVcpu {
    id: VcpuId,
    run: RunFd,
    target: Arc<KickTarget>,
    /// What is left of a string instruction on a port, which KVM reports as a whole.
    unanswered: Option<PortAccess>,
    /// Keeps the guest's memory alive.
    machine: Arc<Machine>,
}

impl Vcpu for KvmVcpu {
    fn set_state(&mut self, state: &VcpuState) -> Result<(), HvError> {
        arch::set_state(self.run.fd(), state)
    }

    fn state(&self) -> Result<VcpuState, HvError> {
        arch::state(self.run.fd())
    }

    fn run(&mut self) -> Result<Exit<'_>, HvError> {
        if self.unanswered.is_none() {
            self.target.entered_by_this_thread();
            let reason = match self.enter()? {
                Entered::Stopped(reason) => reason,
                Entered::Interrupted => {
                    self.target.answered();
                    return Ok(Exit::Interrupted);
                }
                Entered::GuestFault(errno) => return Ok(Exit::GuestFault(errno)),
            };
            if reason != KVM_EXIT_IO {
                return self.exit(reason);
            }
            self.unanswered = Some(self.run.port_access());
        }
        self.port_exit()
    }

    fn kicker(&self) -> Kicker {
        let target = Arc::clone(&self.target);
        Kicker::new(move || target.kick())
    }

    #[cfg(target_arch = "x86_64")]
    fn takes_interrupt(&self) -> bool {
        self.run.takes_interrupt()
    }

    #[cfg(target_arch = "x86_64")]
    fn interrupt(&mut self, vector: u8) -> Result<(), HvError> {
        ioctl::interrupt(self.run.fd(), vector.into()).map_err(|source| HvError::Refused {
            what: "interrupt a vCPU",
            source,
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn interrupt_unmaskably(&mut self) -> Result<(), HvError> {
        let fd = self.run.fd();
        fd.nmi().map_err(refused("interrupt a vCPU"))
    }

    #[cfg(target_arch = "x86_64")]
    fn task_priority(&self) -> u8 {
        self.run.task_priority()
    }

    #[cfg(target_arch = "x86_64")]
    fn set_task_priority(&mut self, class: u8) {
        self.run.set_task_priority(class);
    }

    #[cfg(target_arch = "aarch64")]
    fn own_interrupts(&self) -> crate::OwnInterrupts {
        arch::own_interrupts(self.run.device_levels())
    }

    #[cfg(target_arch = "x86_64")]
    fn stop_to_interrupt(&mut self, wanted: bool) {
        self.run.stop_to_interrupt(wanted);
    }

    fn interrupt_pin(&self) -> Result<Box<dyn IrqLine>, HvError> {
        arch::interrupt_pin((self.run.fd(), self.id), &self.machine)
    }
}

/// How a run ended.
enum Entered {
    /// KVM had this reason to stop.
    Stopped(u32),
    /// A signal or a kick was it.
    Interrupted,
    /// KVM could not go on for what the guest did.
    GuestFault(i32),
}

impl KvmVcpu {
    /// Runs until KVM stops.
    fn enter(&mut self) -> Result<Entered, HvError> {
        loop {
            return match self.run.run() {
                Ok(Running::Stopped(KVM_EXIT_INTR) | Running::Interrupted) => {
                    Ok(Entered::Interrupted)
                }
                Ok(Running::Stopped(reason)) => Ok(Entered::Stopped(reason)),
                // A vCPU that waited to be started has been.
                Ok(Running::Again) => continue,
                Err(errno) if arch::GUEST_FAULTS.contains(&errno.errno()) => {
                    Ok(Entered::GuestFault(errno.errno()))
                }
                Err(errno) => Err(refused("run a vCPU")(errno)),
            };
        }
    }

    fn exit(&mut self, reason: u32) -> Result<Exit<'_>, HvError> {
        Ok(match reason {
            KVM_EXIT_MMIO => {
                let access = self.run.mmio_access();
                let at = Gpa::new(access.at);
                let data = self.run.mmio_data(&access);
                if access.write {
                    Exit::MmioWrite { at, data }
                } else {
                    Exit::MmioRead { at, data }
                }
            }
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_IOAPIC_EOI => Exit::EndOfInterrupt {
                vector: self.run.ended_vector(),
            },
            KVM_EXIT_IRQ_WINDOW_OPEN | KVM_EXIT_SET_TPR => Exit::InterruptWindow,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_INTERNAL_ERROR => Exit::InternalError(self.run.internal_error()),
            KVM_EXIT_FAIL_ENTRY => Exit::FailEntry {
                reason: self.run.fail_entry_reason(),
            },
            KVM_EXIT_SYSTEM_EVENT => Exit::SystemEvent(match self.run.system_event() {
                KVM_SYSTEM_EVENT_SHUTDOWN => SystemEvent::Shutdown,
                KVM_SYSTEM_EVENT_RESET => SystemEvent::Reset,
                KVM_SYSTEM_EVENT_CRASH => SystemEvent::Crash,
                other => SystemEvent::Other(other),
            }),
            KVM_EXIT_RISCV_SBI => Exit::SbiCall {
                call: self.run.sbi_call(),
                answer: self.run.sbi_answer(),
            },
            KVM_EXIT_ARM_NISV => Exit::Undescribed {
                at: Gpa::new(self.run.undescribed_address()),
            },
            other => Exit::Unknown(other),
        })
    }

    /// The next access of the string instruction under way.
    fn port_exit(&mut self) -> Result<Exit<'_>, HvError> {
        let access = self.unanswered.take().expect("run() has just looked");
        self.unanswered = access.rest();
        let port = Port(access.port);
        let data = self.run.port_data(&access);
        Ok(if access.write {
            Exit::PortWrite { port, data }
        } else {
            Exit::PortRead { port, data }
        })
    }
}

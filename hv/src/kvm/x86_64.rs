//! What KVM needs to be told of an x86 guest.

mod cpuid;
mod registers;

use super::{Machine, refused};
use crate::probe::Architecture;
use crate::{Features, HvError, IrqLine, Irqchip, Message, Offer};
use cpuid::{Timer, VcpuPlace};
use firstlight_base::{Gpa, GpaRange, Irq, VcpuId, VcpuState};
use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC,
    KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY,
    KvmIrqRouting, Msrs, kvm_cpuid_entry2, kvm_enable_cap, kvm_fpu, kvm_irq_routing_entry,
    kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_msr_entry, kvm_pit_config,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use std::ops::Range;
use std::sync::Arc;

/// The architecture of all this.
pub(super) const ARCHITECTURE: Architecture = Architecture::X86_64;

pub(super) const NEEDED: &[(Cap, &str)] = &[
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
];

/// The pins of the I/O APIC.
const IRQ_LINES: u32 = 24;

/// What KVM calls a line: the number of its global system interrupt.
pub(super) fn line_number(irq: Irq) -> u32 {
    irq.0
}

/// What a message says of its sender: nothing, any may write to any local APIC.
pub(super) const MESSAGE_FLAGS: u32 = 0;

/// The errors of a run that are the guest's own doing: none, KVM has exits for them.
pub(super) const GUEST_FAULTS: &[i32] = &[];

/// One page for an identity-mapped page table and three for a task state segment: what Intel
/// processors without "unrestricted guest" need to run real mode (KVM API, `KVM_SET_TSS_ADDR`,
/// `KVM_SET_IDENTITY_MAP_ADDR`). Just below 0xff000000, which firmware traditionally begins at.
const IDENTITY_MAP: u64 = 0xfeff_c000;
const TASK_STATE: usize = 0xfeff_d000;
const RESERVED_LEN: u64 = 0x4000;

/// Whether the guest can have memory there: not where KVM keeps its own.
pub(super) fn check_memory(_host: &Host, memory: GpaRange) -> Result<(), HvError> {
    let reserved = Gpa::new(IDENTITY_MAP);
    let reserved = GpaRange::new(reserved, RESERVED_LEN).expect("four pages below 4 GiB");
    if memory.overlaps(reserved) {
        return Err(HvError::Reserved { memory, reserved });
    }
    Ok(())
}

/// What the host can do for its guests.
#[derive(Debug)]
pub(super) struct Host {
    cpuid: Vec<kvm_cpuid_entry2>,
    tsc_deadline: bool,
}

impl Host {
    pub(super) fn ask(kvm: &kvm_ioctls::Kvm) -> Result<Self, HvError> {
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(refused("say which processor features it supports"))?;
        Ok(Self {
            cpuid: cpuid.as_slice().to_vec(),
            tsc_deadline: kvm.check_extension(Cap::TscDeadlineTimer),
        })
    }
}

/// What the host offers: nothing that an x86 guest's machine depends on.
pub(super) fn offer(_kvm: &kvm_ioctls::Kvm, _host: &Host) -> Result<Offer, HvError> {
    Ok(Offer::X86)
}

pub(super) fn prepare_vm(vm: &VmFd) -> Result<(), HvError> {
    vm.set_identity_map_address(IDENTITY_MAP)
        .map_err(refused("place its identity map"))?;
    vm.set_tss_address(TASK_STATE)
        .map_err(refused("place its task state segment"))
}

/// The machine has interrupt controllers.
#[derive(Debug)]
pub(super) struct Controllers {
    lines: Range<u32>,
}

impl Controllers {
    /// The lines that can be driven.
    pub(super) fn lines(&self) -> Range<u32> {
        self.lines.clone()
    }
}

pub(super) fn create_irqchip(vm: &VmFd, irqchip: &Irqchip) -> Result<Controllers, HvError> {
    match irqchip {
        Irqchip::Pc => create_all(vm)?,
        Irqchip::LocalApics => {
            create_local_apics(vm)?;
            return Ok(Controllers { lines: 0..0 });
        }
        Irqchip::GicV2 { .. } | Irqchip::GicV3 { .. } | Irqchip::Aia(_) => {
            return Err(HvError::OtherArchitecture);
        }
    }
    Ok(Controllers {
        lines: 0..IRQ_LINES,
    })
}

/// A local APIC in every vCPU to come (KVM API, section 7.5).
fn create_local_apics(vm: &VmFd) -> Result<(), HvError> {
    let cap = kvm_enable_cap {
        cap: KVM_CAP_SPLIT_IRQCHIP,
        // The pins of I/O APICs elsewhere whose interrupts it is to tell the end of.
        args: [IRQ_LINES.into(), 0, 0, 0],
        ..kvm_enable_cap::default()
    };
    vm.enable_cap(&cap)
        .map_err(refused("create local APICs only"))
}

/// Two 8259s, an I/O APIC, a local APIC in every vCPU to come, and an 8254.
fn create_all(vm: &VmFd) -> Result<(), HvError> {
    vm.create_irq_chip()
        .map_err(refused("create interrupt controllers"))?;
    vm.set_gsi_routing(&routing())
        .map_err(refused("route interrupt lines"))?;
    // With the speaker's port comes bit 5 of port 0x61, which kernels calibrate clocks with.
    let pit = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    vm.create_pit2(pit).map_err(refused("create a timer"))
}

/// Tells what the pins of an I/O APIC elsewhere send.
pub(super) fn announce(vm: &VmFd, pins: &[Option<Message>]) -> Result<(), HvError> {
    let announced = (0..).zip(pins);
    let routes: Vec<_> = announced
        .filter_map(|(gsi, message)| Some(message_route(gsi, message.as_ref()?)))
        .collect();
    let routes = KvmIrqRouting::from_entries(&routes).expect("a few dozen entries fit");
    vm.set_gsi_routing(&routes)
        .map_err(refused("route interrupt messages"))
}

fn message_route(gsi: u32, message: &Message) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        ..kvm_irq_routing_entry::default()
    };
    let [low, high] = message.halves();
    entry.u.msi = kvm_irq_routing_msi {
        address_lo: low,
        address_hi: high,
        data: message.data,
        ..kvm_irq_routing_msi::default()
    };
    entry
}

/// The wiring of a PC: lines 0 to 15 but the cascade reach an 8259, and all but that an I/O APIC
/// pin of the same number; line 0, the timer, reaches pin 2, as the ACPI tables of PCs say.
fn routing() -> KvmIrqRouting {
    const CASCADE: u32 = 2;
    let lines = (0..IRQ_LINES).filter(|&line| line != CASCADE);
    let routes: Vec<_> = lines
        .flat_map(|line| {
            let pic = match line {
                0..8 => Some(route(line, KVM_IRQCHIP_PIC_MASTER, line)),
                8..16 => Some(route(line, KVM_IRQCHIP_PIC_SLAVE, line - 8)),
                _ => None,
            };
            let pin = if line == 0 { CASCADE } else { line };
            pic.into_iter()
                .chain([route(line, KVM_IRQCHIP_IOAPIC, pin)])
        })
        .collect();
    KvmIrqRouting::from_entries(&routes).expect("a few dozen entries fit")
}

fn route(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        ..kvm_irq_routing_entry::default()
    };
    entry.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
    entry
}

/// A machine whose vCPUs are being made.
pub(super) struct Making<'a> {
    pub(super) host: &'a Host,
    pub(super) irqchip: Option<&'a Controllers>,
    pub(super) features: Features,
}

impl Making<'_> {
    /// Gives the vCPUs, which are in order, all but their registers.
    pub(super) fn prepare(&self, _vm: &VmFd, vcpus: &[VcpuFd]) -> Result<(), HvError> {
        let Features { pmu, el2 } = self.features;
        if pmu || el2 {
            return Err(HvError::OtherArchitecture);
        }
        let of = u32::try_from(vcpus.len()).expect("KVM takes fewer");
        for (id, vcpu) in (0..).zip(vcpus) {
            let place = VcpuPlace {
                id,
                of,
                local_apic: self.irqchip.is_some(),
            };
            self.prepare_vcpu(vcpu, place)?;
        }
        Ok(())
    }

    fn prepare_vcpu(&self, vcpu: &VcpuFd, place: VcpuPlace) -> Result<(), HvError> {
        let timer = Timer {
            // The host does not know where its own counter is unstable.
            tsc_khz: vcpu.get_tsc_khz().ok(),
            deadline: place.local_apic && self.host.tsc_deadline,
        };
        let leaves = cpuid::for_guest(&self.host.cpuid, place, timer);
        let leaves = CpuId::from_entries(&leaves).expect("a few leaves more than KVM itself gave");
        vcpu.set_cpuid2(&leaves)
            .map_err(refused("give a vCPU its features"))?;
        set_msrs(vcpu)?;
        match place.local_apic {
            true if place.id == VcpuId::BOOT.0 => set_local_interrupts(vcpu)?,
            true => {}
            false => place_local_apic(vcpu, VcpuId(place.id))?,
        }
        Ok(())
    }
}

/// The model-specific registers that firmware leaves set (Intel SDM volume 4, table 2-2).
fn set_msrs(vcpu: &VcpuFd) -> Result<(), HvError> {
    const MISC_ENABLE: u32 = 0x1a0;
    const FAST_STRINGS: u64 = 1 << 0;
    const MTRR_DEF_TYPE: u32 = 0x2ff;
    const MTRR_ENABLE: u64 = 1 << 11;
    const WRITE_BACK: u64 = 6;
    let mut misc = msrs([(MISC_ENABLE, 0)]);
    let read = vcpu
        .get_msrs(&mut misc)
        .map_err(refused("read a vCPU's model-specific registers"))?;
    // What KVM says of the performance counters there stays.
    let misc = misc.as_slice().first().filter(|_| read == 1);
    let misc = misc.map_or(0, |register| register.data);
    let wanted = msrs([
        (MISC_ENABLE, misc | FAST_STRINGS),
        // Without it a kernel takes all of its memory for uncacheable.
        (MTRR_DEF_TYPE, MTRR_ENABLE | WRITE_BACK),
    ]);
    let refused = refused("set a vCPU's model-specific registers");
    let set = vcpu.set_msrs(&wanted).map_err(&refused)?;
    if set != wanted.as_slice().len() {
        return Err(refused(kvm_ioctls::Error::new(libc::EINVAL)));
    }
    Ok(())
}

fn msrs<const N: usize>(registers: [(u32, u64); N]) -> Msrs {
    let entries = registers.map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    });
    Msrs::from_entries(&entries).expect("a few entries fit")
}

/// The local interrupt pins as a PC's firmware leaves them on the processor that boots: the 8259s
/// on pin 0, NMI on pin 1 (Intel SDM volume 3A, section 11.5.1). The guest's own start of the
/// other processors resets theirs.
fn set_local_interrupts(vcpu: &VcpuFd) -> Result<(), HvError> {
    const LVT_LINT0: usize = 0x350;
    const LVT_LINT1: usize = 0x360;
    const EXT_INT: u8 = 7;
    const NMI: u8 = 4;
    let mut lapic = vcpu
        .get_lapic()
        .map_err(refused("read a vCPU's local APIC"))?;
    for (register, mode) in [(LVT_LINT0, EXT_INT), (LVT_LINT1, NMI)] {
        // Vector 0, the delivery mode in bits 8 to 10, everything above clear: not masked.
        let entry = [0, mode, 0, 0];
        for (to, byte) in lapic.regs[register..].iter_mut().zip(entry) {
            *to = byte.cast_signed();
        }
    }
    vcpu.set_lapic(&lapic)
        .map_err(refused("set a vCPU's local APIC"))
}

/// Tells where the local APIC is, of a vCPU whose own is elsewhere (Intel SDM volume 3A, section 11.4.4): where there is
/// none, a processor says that it has none.
fn place_local_apic(vcpu: &VcpuFd, id: VcpuId) -> Result<(), HvError> {
    const AT_RESET: u64 = 0xfee0_0000;
    const ENABLED: u64 = 1 << 11;
    const BOOT_PROCESSOR: u64 = 1 << 8;
    let boot = if id == VcpuId::BOOT {
        BOOT_PROCESSOR
    } else {
        0
    };
    let mut special = vcpu
        .get_sregs()
        .map_err(refused("read a vCPU's registers"))?;
    special.apic_base = AT_RESET | ENABLED | boot;
    vcpu.set_sregs(&special)
        .map_err(refused("place a vCPU's local APIC"))
}

pub(super) fn set_state(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), HvError> {
    let wanted = state.x86().ok_or(HvError::OtherArchitecture)?;
    let mut special = vcpu
        .get_sregs()
        .map_err(refused("read a vCPU's registers"))?;
    registers::put_special(wanted, &mut special);
    let refused = refused("set a vCPU's registers");
    vcpu.set_sregs(&special).map_err(&refused)?;
    vcpu.set_regs(&registers::general(&wanted.gprs))
        .map_err(&refused)?;
    vcpu.set_fpu(&power_up_fpu()).map_err(&refused)
}

/// What FNINIT and a reset leave (Intel SDM volume 3A, table 10-1).
fn power_up_fpu() -> kvm_fpu {
    kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..kvm_fpu::default()
    }
}

/// A PC's 8259s reach a processor by another way.
pub(super) fn interrupt_pin(
    _: (&VcpuFd, VcpuId),
    _: &Arc<Machine>,
) -> Result<Box<dyn IrqLine>, HvError> {
    Err(HvError::NoPin)
}

pub(super) fn state(vcpu: &VcpuFd) -> Result<VcpuState, HvError> {
    let refused = refused("read a vCPU's registers");
    let general = vcpu.get_regs().map_err(&refused)?;
    let special = vcpu.get_sregs().map_err(&refused)?;
    Ok(VcpuState::X86(registers::read(&general, &special)))
}

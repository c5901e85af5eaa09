//! Guests at EL1 with their MMU off.

use super::*;
use crate::Arm64Offer;
use firstlight_base::arm64::{Pstate, Registers, System};

pub(super) type Code = u32;

/// Where no memory is; guests have it in x20.
const DEVICE: u64 = 0x4000_0000;
const DISTRIBUTOR: u64 = 0x0800_0000;

/// Announces itself again and again.
pub(super) const BUSY: &[Code] = &[
    0x3900_0280, // again: strb w0, [x20]
    0x17ff_ffff, // b again
];
/// Announces itself, and then never stops.
pub(super) const SPIN: &[Code] = &[
    0x3900_0280, // strb w0, [x20]
    0x1400_0000, // b .
];

pub(super) fn announces(exit: &Exit<'_>) -> bool {
    matches!(exit, Exit::MmioWrite { at, .. } if at.get() == DEVICE)
}

pub(super) fn entry() -> VcpuState {
    VcpuState::Arm64(registers([0; 4]))
}

/// About to run the code, with these in x0 to x3.
fn registers(arguments: [u64; 4]) -> Registers {
    let mut x = [0; 31];
    x[..4].copy_from_slice(&arguments);
    x[20] = DEVICE;
    Registers {
        x,
        sp: 0x8000,
        pc: CODE.into(),
        pstate: Pstate::ENTRY_EL1,
        system: System::default(),
    }
}

/// What of a state can be set; the rest is unknown after a reset.
pub(super) fn settable(state: VcpuState) -> VcpuState {
    let VcpuState::Arm64(registers) = state else {
        panic!("an Arm vCPU has an Arm's registers");
    };
    VcpuState::Arm64(Registers {
        system: System::default(),
        ..registers
    })
}

fn offer(kvm: &Kvm) -> Arm64Offer {
    match kvm.offer().unwrap() {
        Offer::Arm64(offer) => offer,
        other => panic!("{other:?}"),
    }
}

fn gic_v2() -> Irqchip {
    Irqchip::GicV2 {
        distributor: Gpa::new(DISTRIBUTOR),
        cpu_interface: Gpa::new(0x0801_0000),
    }
}

fn gic_v3() -> Irqchip {
    Irqchip::GicV3 {
        distributor: Gpa::new(DISTRIBUTOR),
        redistributors: Gpa::new(0x080a_0000),
        its: Some(Gpa::new(0x0808_0000)),
    }
}

pub(super) fn irqchip(kvm: &Kvm) -> Irqchip {
    if offer(kvm).gic_v3 {
        gic_v3()
    } else {
        gic_v2()
    }
}

/// Controllers and registers of another processor.
pub(super) fn foreign() -> (Irqchip, VcpuState) {
    (Irqchip::Pc, VcpuState::Riscv64(Default::default()))
}

/// A machine with these controllers and vCPUs, the first in `state`.
fn machine(
    irqchip: &Irqchip,
    code: &[Code],
    count: u32,
    features: Features,
) -> Option<(KvmVm, Vec<KvmVcpu>)> {
    let mut vm = kvm()?.create_vm().unwrap();
    vm.map(ram(code)).unwrap();
    vm.create_irqchip(irqchip).unwrap();
    let vcpus = vm.create_vcpus(count, features).unwrap();
    Some((vm, vcpus))
}

#[test]
fn memory_mapped_registers_come_out_one_by_one_at_every_width() {
    let code = [
        0x5280_0820, // mov w0, #65
        0x3900_0280, // strb w0, [x20]
        0x7940_2281, // ldrh w1, [x20, #16]
        0xb900_0a81, // str w1, [x20, #8]
        0xf940_0e82, // ldr x2, [x20, #24]
        0xf900_1282, // str x2, [x20, #32]
        0x1400_0000, // b .
    ];
    let Some(mut vcpu) = vcpu(&code) else { return };
    let at = |offset| Gpa::new(DEVICE + offset);
    fn write(at: Gpa, data: &[u8]) -> Exit<'_> {
        Exit::MmioWrite { at, data }
    }
    assert_eq!(vcpu.run().unwrap(), write(at(0), &[0x41]));
    for (offset, answer) in [(16, &[1, 2][..]), (24, &[1, 2, 3, 4, 5, 6, 7, 8])] {
        let Exit::MmioRead { at: from, data } = vcpu.run().unwrap() else {
            panic!("the guest reads what is not memory");
        };
        assert_eq!((from, data.len()), (at(offset), answer.len()));
        data.copy_from_slice(answer);
        let mut wide = answer.to_vec();
        wide.resize(answer.len().max(4), 0);
        let to = at(if offset == 16 { 8 } else { 32 });
        assert_eq!(vcpu.run().unwrap(), write(to, &wide));
    }
}

#[test]
fn an_access_that_the_processor_does_not_describe_says_where() {
    let code = [
        0xa940_0680, // ldp x0, x1, [x20]
        0x1400_0000, // b .
    ];
    let Some(mut vcpu) = vcpu(&code) else { return };
    let at = Gpa::new(DEVICE);
    assert_eq!(vcpu.run().unwrap(), Exit::Undescribed { at });
}

#[test]
fn psci_turns_machines_off_and_resets_them() {
    let code = [
        0xd400_0002, // hvc #0
        0x1400_0000, // b .
    ];
    for (function, event) in [
        (0x8400_0008, SystemEvent::Shutdown),
        (0x8400_0009, SystemEvent::Reset),
    ] {
        let state = VcpuState::Arm64(registers([function, 0, 0, 0]));
        let Some(mut vcpu) = vcpu_in(&code, &state) else {
            return;
        };
        assert_eq!(vcpu.run().unwrap(), Exit::SystemEvent(event));
    }
}

#[test]
fn psci_starts_another_vcpu_where_it_is_told_to() {
    let code = [
        0xd400_0002, // hvc #0
        0xf900_0280, // str x0, [x20]
        0x1400_0000, // b .
        0xd2a8_0014, // mov x20, #0x40000000
        0xf900_0680, // str x0, [x20, #8]
        0x1400_0000, // b .
    ];
    const CPU_ON: u64 = 0xc400_0003;
    let Some(kvm) = kvm() else { return };
    let made = machine(&irqchip(&kvm), &code, 2, Features::default());
    let (_vm, mut vcpus) = made.unwrap();
    let second_entry = u64::from(CODE) + 12;
    let state = VcpuState::Arm64(registers([CPU_ON, 1, second_entry, 0x1234]));
    vcpus[0].set_state(&state).unwrap();
    let mut second = vcpus.remove(1);
    let second = thread::spawn(move || match second.run().unwrap() {
        Exit::MmioWrite { at, data } => (at, data.to_vec()),
        other => panic!("{other:?}"),
    });
    let data = &[0; 8][..];
    let at = Gpa::new(DEVICE);
    assert_eq!(vcpus[0].run().unwrap(), Exit::MmioWrite { at, data });
    let context = 0x1234_u64.to_le_bytes().to_vec();
    assert_eq!(second.join().unwrap(), (Gpa::new(DEVICE + 8), context));
}

/// Drives a line up and down before a guest that looks at the distributor.
fn a_line_is_pending_while_it_is_high(irqchip: &Irqchip) {
    let code = [
        0xd2a1_0001, // mov x1, #0x08000000
        0xb90c_083f, // str wzr, [x1, #0xc08] (GICD_ICFGR2: level-sensitive)
        0xb942_0420, // again: ldr w0, [x1, #0x204] (GICD_ISPENDR1)
        0xb900_0280, // str w0, [x20]
        0x17ff_fffe, // b again
    ];
    let Some((vm, mut vcpus)) = machine(irqchip, &code, 1, Features::default()) else {
        return;
    };
    vcpus[0].set_state(&entry()).unwrap();
    let mut pending = || match vcpus[0].run().unwrap() {
        Exit::MmioWrite { data, .. } => u32::from_le_bytes(data.try_into().unwrap()),
        other => panic!("{other:?}"),
    };
    let line = vm.irq_line(Irq(5)).unwrap();
    assert_eq!(pending(), 0);
    line.set(true).unwrap();
    assert_eq!(pending(), 1 << 5);
    assert_eq!(pending(), 1 << 5);
    line.set(false).unwrap();
    assert_eq!(pending(), 0);
    assert!(matches!(
        vm.irq_line(Irq(256)),
        Err(HvError::NoSuchLine(Irq(256)))
    ));
}

#[test]
fn an_interrupt_line_reaches_a_controller_of_version_3() {
    let Some(kvm) = kvm() else { return };
    if !offer(&kvm).gic_v3 {
        return skip("this host offers no GICv3");
    }
    a_line_is_pending_while_it_is_high(&gic_v3());
}

#[test]
fn an_interrupt_line_reaches_a_controller_of_version_2() {
    let Some(kvm) = kvm() else { return };
    if !offer(&kvm).gic_v2 {
        return skip("this host offers no GICv2");
    }
    a_line_is_pending_while_it_is_high(&gic_v2());
}

#[test]
fn a_performance_monitoring_unit_is_there_where_it_is_wanted() {
    let code = [
        0xd538_0500, // mrs x0, id_aa64dfr0_el1
        0xf900_0280, // str x0, [x20]
        0x1400_0000, // b .
    ];
    let Some(kvm) = kvm() else { return };
    if !offer(&kvm).pmu {
        return skip("this host offers no PMU");
    }
    for pmu in [false, true] {
        let features = Features { pmu, el2: false };
        let made = machine(&irqchip(&kvm), &code, 2, features);
        let (_vm, mut vcpus) = made.unwrap();
        vcpus[0].set_state(&entry()).unwrap();
        let Exit::MmioWrite { data, .. } = vcpus[0].run().unwrap() else {
            panic!("the guest tells");
        };
        let version = data[1] & 0xf;
        assert_eq!(version != 0 && version != 0xf, pmu, "{version}");
    }
}

#[test]
fn what_the_guest_has_set_up_can_be_seen() {
    let code = [
        0xd282_0000, // mov x0, #0x1000
        0xd518_c000, // msr vbar_el1, x0
        0xd284_0000, // mov x0, #0x2000
        0xd518_2000, // msr ttbr0_el1, x0
        0xd286_0000, // mov x0, #0x3000
        0xd518_2020, // msr ttbr1_el1, x0
        0xd280_0320, // mov x0, #25
        0xd518_2040, // msr tcr_el1, x0
        0xd518_6014, // msr far_el1, x20
        0xd280_0880, // mov x0, #0x44
        0xd518_4020, // msr elr_el1, x0
        0xf900_0280, // str x0, [x20]
        0x1400_0000, // b .
    ];
    let Some(mut vcpu) = vcpu(&code) else { return };
    assert!(announces(&vcpu.run().unwrap()));
    let VcpuState::Arm64(now) = vcpu.state().unwrap() else {
        panic!("an Arm vCPU has an Arm's registers");
    };
    let wanted = System {
        vbar: 0x1000,
        ttbr0: 0x2000,
        ttbr1: 0x3000,
        tcr: 25,
        far: DEVICE,
        elr: 0x44,
        ..now.system
    };
    assert_eq!(now.system, wanted);
    assert_eq!(now.x[0], 0x44);
}

#[test]
fn memory_that_no_address_reaches_is_refused() {
    let Some(kvm) = kvm() else { return };
    let range = GpaRange::new(Gpa::new(1 << 52), RAM).unwrap();
    let memory = GuestMemory::allocate(&[range], Backing::Private).unwrap();
    let refused = kvm.create_vm().unwrap().map(Arc::new(memory));
    let error = refused.unwrap_err();
    assert!(
        matches!(error, HvError::BeyondAddresses { bits: 32..=52, .. }),
        "{error}"
    );
}

#[test]
fn level_2_is_refused_by_hosts_that_lack_it() {
    let Some(kvm) = kvm() else { return };
    if offer(&kvm).el2 {
        return skip("this host has it");
    }
    let features = Features {
        el2: true,
        ..Features::default()
    };
    let made = kvm.create_vm().unwrap().create_vcpus(1, features);
    let lacks = HvError::MissingCapability("KVM_CAP_ARM_EL2").to_string();
    assert_eq!(made.unwrap_err().to_string(), lacks);
}

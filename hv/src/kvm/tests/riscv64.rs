//! Guests in supervisor mode without address translation.

use super::*;
use crate::{Aia, Riscv64Offer, SbiCall};
use firstlight_base::riscv64::{A0, Registers};

pub(super) type Code = u32;

/// Where no memory is; guests have it in s0.
const DEVICE: u64 = 0x4000_0000;
const S0: usize = 8;
const A6: usize = 16;
const A7: usize = 17;

/// Announces itself again and again.
pub(super) const BUSY: &[Code] = &[
    0x00a4_0023, // again: sb a0, 0(s0)
    0xffdf_f06f, // j again
];
/// Announces itself, and then never stops.
pub(super) const SPIN: &[Code] = &[
    0x00a4_0023, // sb a0, 0(s0)
    0x0000_006f, // j .
];

pub(super) fn announces(exit: &Exit<'_>) -> bool {
    matches!(exit, Exit::MmioWrite { at, .. } if at.get() == DEVICE)
}

pub(super) fn entry() -> VcpuState {
    calling(0, 0, [0; 3])
}

/// About to run the code, with this extension, function and arguments for a call.
fn calling(extension: u64, function: u64, arguments: [u64; 3]) -> VcpuState {
    let mut x = [0; 32];
    x[S0] = DEVICE;
    x[A0..A0 + 3].copy_from_slice(&arguments);
    x[A6] = function;
    x[A7] = extension;
    VcpuState::Riscv64(Registers {
        x,
        pc: CODE.into(),
        ..Registers::default()
    })
}

fn offer(kvm: &Kvm) -> Riscv64Offer {
    match kvm.offer().unwrap() {
        Offer::Riscv64(offer) => offer,
        other => panic!("{other:?}"),
    }
}

/// What of a state can be set: all.
pub(super) fn settable(state: VcpuState) -> VcpuState {
    state
}

pub(super) fn irqchip(_kvm: &Kvm) -> Irqchip {
    let aplic = Gpa::new(0x0d00_0000);
    Irqchip::Aia(Aia {
        aplic: GpaRange::new(aplic, 0x8000).unwrap(),
        imsics: Gpa::new(0x2800_0000),
        sources: 96,
        identities: 255,
    })
}

/// Controllers and registers of another processor.
pub(super) fn foreign() -> (Irqchip, VcpuState) {
    (Irqchip::Pc, VcpuState::Arm64(Default::default()))
}

/// The 64 bits that the guest has written, and where.
fn written(vcpu: &mut KvmVcpu) -> (u64, u64) {
    match vcpu.run().unwrap() {
        Exit::MmioWrite { at, data } => (at.get(), u64::from_le_bytes(data.try_into().unwrap())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_mapped_registers_come_out_one_by_one_at_every_width() {
    let code = [
        0x0410_0513, // li a0, 65
        0x00a4_0023, // sb a0, 0(s0)
        0x0104_5583, // lhu a1, 16(s0)
        0x00b4_2423, // sw a1, 8(s0)
        0x0184_3603, // ld a2, 24(s0)
        0x02c4_3023, // sd a2, 32(s0)
        0x0000_006f, // j .
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

/// Calls, and tells the answer.
const CALL: &[Code] = &[
    0x0000_0073, // ecall
    0x00a4_3023, // sd a0, 0(s0)
    0x00b4_3423, // sd a1, 8(s0)
    0x0000_006f, // j .
];

#[test]
fn sbi_turns_machines_off_and_resets_them() {
    const SYSTEM_RESET: u64 = 0x5352_5354;
    for (kind, event) in [(0, SystemEvent::Shutdown), (1, SystemEvent::Reset)] {
        let state = calling(SYSTEM_RESET, 0, [kind, 0, 0]);
        let Some(mut vcpu) = vcpu_in(CALL, &state) else {
            return;
        };
        assert_eq!(vcpu.run().unwrap(), Exit::SystemEvent(event));
    }
}

#[test]
fn calls_that_kvm_leaves_to_us_come_out_and_their_answers_go_in() {
    const DEBUG_CONSOLE: u64 = 0x4442_434e;
    let state = calling(DEBUG_CONSOLE, 2, [0x41, 0, 0]);
    let Some(mut vcpu) = vcpu_in(CALL, &state) else {
        return;
    };
    let Exit::SbiCall { call, answer } = vcpu.run().unwrap() else {
        panic!("KVM does not write to consoles");
    };
    let expected = SbiCall {
        extension: DEBUG_CONSOLE,
        function: 2,
        arguments: [0x41, 0, 0, 0, 0, 0],
    };
    assert_eq!(call, expected);
    assert_eq!(*answer, [(-2_i64).cast_unsigned(), 0]);
    *answer = [7, 9];
    assert_eq!(written(&mut vcpu), (DEVICE, 7));
    assert_eq!(written(&mut vcpu), (DEVICE + 8, 9));
}

#[test]
fn sbi_starts_another_hart_where_it_is_told_to() {
    let code = [
        0x0000_0073, // ecall
        0x00a4_3023, // sd a0, 0(s0)
        0x0000_006f, // j .
        0x4000_0437, // lui s0, 0x40000
        0x00a4_3423, // sd a0, 8(s0)
        0x00b4_3823, // sd a1, 16(s0)
        0x0000_006f, // j .
    ];
    const HART_STATE: u64 = 0x48_534d;
    let Some(kvm) = kvm() else { return };
    let mut vm = kvm.create_vm().unwrap();
    vm.map(ram(&code)).unwrap();
    let mut vcpus = vm.create_vcpus(2, Features::default()).unwrap();
    let second_entry = u64::from(CODE) + 12;
    vcpus[0]
        .set_state(&calling(HART_STATE, 0, [1, second_entry, 0x1234]))
        .unwrap();
    let mut second = vcpus.remove(1);
    let second = thread::spawn(move || [written(&mut second), written(&mut second)]);
    assert_eq!(written(&mut vcpus[0]), (DEVICE, 0));
    let told = [(DEVICE + 8, 1), (DEVICE + 16, 0x1234)];
    assert_eq!(second.join().unwrap(), told);
}

#[test]
fn the_interrupt_pin_is_the_external_interrupt_of_its_hart() {
    const SEIP: u64 = 1 << 9;
    let code = [
        0x1440_2573, // again: csrr a0, sip
        0x00a4_3023, // sd a0, 0(s0)
        0xff9f_f06f, // j again
    ];
    let Some(mut vcpu) = vcpu(&code) else { return };
    let pin = vcpu.interrupt_pin().unwrap();
    for high in [false, true, true, false, true] {
        pin.set(high).unwrap();
        let (_, pending) = written(&mut vcpu);
        assert_eq!(pending & SEIP != 0, high);
    }
    // It may outlive everything else.
    drop(vcpu);
    pin.set(false).unwrap();
}

#[test]
fn an_interrupt_line_reaches_the_aplic() {
    let code = [
        0x0d00_05b7, // lui a1, 0xd000
        0x0d00_2637, // lui a2, 0xd002
        0x0060_0513, // li a0, 6 (level-sensitive, high)
        0x02a5_a423, // sw a0, 40(a1) (sourcecfg[10])
        0xd006_6503, // again: lwu a0, -768(a2) (in_clrip[0])
        0x00a4_3023, // sd a0, 0(s0)
        0xff9f_f06f, // j again
    ];
    let Some(kvm) = kvm() else { return };
    if !offer(&kvm).aia {
        return skip("this host offers no AIA");
    }
    let mut vm = kvm.create_vm().unwrap();
    vm.map(ram(&code)).unwrap();
    vm.create_irqchip(&irqchip(&kvm)).unwrap();
    let mut vcpus = vm.create_vcpus(3, Features::default()).unwrap();
    vcpus[0].set_state(&entry()).unwrap();
    let line = vm.irq_line(Irq(10)).unwrap();
    for high in [false, true, true, false] {
        line.set(high).unwrap();
        let (_, input) = written(&mut vcpus[0]);
        assert_eq!(input, u64::from(high) << 10);
    }
    for irq in [Irq(0), Irq(97)] {
        assert!(matches!(vm.irq_line(irq), Err(HvError::NoSuchLine(_))));
    }
}

#[test]
fn a_jump_to_where_nothing_is_is_the_guests_own_fault() {
    // jr s0
    let Some(mut vcpu) = vcpu(&[0x0004_0067]) else {
        return;
    };
    let fault = Exit::GuestFault(libc::EOPNOTSUPP);
    assert_eq!(vcpu.run().unwrap(), fault);
}

#[test]
fn the_offer_says_what_a_hart_is() {
    let Some(kvm) = kvm() else { return };
    let offer = offer(&kvm);
    for extension in ["i", "m", "a", "f", "d", "c"] {
        assert!(offer.extensions.contains(&extension), "{extension}");
    }
    for absent in ["h", "zkr"] {
        assert!(!offer.extensions.contains(&absent), "{absent}");
    }
    assert!((8..=10).contains(&offer.satp_mode), "{offer:?}");
    assert!(offer.timebase > 0);
    let zicboz = offer.extensions.contains(&"zicboz");
    assert_eq!(offer.cboz_block.is_power_of_two(), zicboz);
}

#[test]
fn memory_that_no_address_reaches_is_refused() {
    let Some(kvm) = kvm() else { return };
    let range = GpaRange::new(Gpa::new(1 << 59), RAM).unwrap();
    let memory = GuestMemory::allocate(&[range], Backing::Private).unwrap();
    let refused = kvm.create_vm().unwrap().map(Arc::new(memory));
    let error = refused.unwrap_err();
    let beyond = matches!(error, HvError::BeyondAddresses { bits: 41..=59, .. });
    assert!(beyond, "{error}");
}

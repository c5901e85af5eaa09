//! Guests in real mode.

use super::*;
use firstlight_base::x86::{
    Cr0, Cr4, DescriptorTable, Efer, Gprs, RFLAGS_RESERVED, Registers, Segment,
};
use rustix::fd::AsFd;

pub(super) type Code = u8;

/// Announces itself again and again: out 0x10, al; jmp -4
pub(super) const BUSY: &[Code] = &[0xe6, 0x10, 0xeb, 0xfc];
/// Announces itself, and then never stops: out 0x10, al; jmp -2
pub(super) const SPIN: &[Code] = &[0xe6, 0x10, 0xeb, 0xfe];

pub(super) fn announces(exit: &Exit<'_>) -> bool {
    matches!(
        exit,
        Exit::PortWrite {
            port: Port(0x10),
            ..
        }
    )
}

pub(super) fn entry() -> VcpuState {
    VcpuState::X86(real_mode())
}

/// What of a state can be set: all.
pub(super) fn settable(state: VcpuState) -> VcpuState {
    state
}

pub(super) fn irqchip(_kvm: &Kvm) -> Irqchip {
    Irqchip::Pc
}

/// Controllers and registers of another processor.
pub(super) fn foreign() -> (Irqchip, VcpuState) {
    let at = Gpa::new(0x0800_0000);
    let irqchip = Irqchip::GicV2 {
        distributor: at,
        cpu_interface: at,
    };
    (irqchip, VcpuState::Riscv64(Default::default()))
}

fn real_mode_segment() -> Segment {
    Segment {
        selector: 0,
        base: 0,
        limit: 0xffff,
        access: 0x0093,
    }
}

/// Real mode, all segments at 0, about to run [`CODE`].
fn real_mode() -> Registers {
    let data = real_mode_segment();
    Registers {
        gprs: Gprs {
            rip: CODE.into(),
            rsp: 0x8000,
            rflags: RFLAGS_RESERVED,
            ..Gprs::default()
        },
        cs: Segment {
            access: 0x009b,
            ..data
        },
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: Segment {
            limit: 0xffff,
            ..Segment::task(0)
        },
        ldt: Segment {
            limit: 0xffff,
            access: 0x0082,
            ..Segment::UNUSABLE
        },
        gdt: DescriptorTable {
            base: 0,
            limit: 0xffff,
        },
        idt: DescriptorTable {
            base: 0,
            limit: 0x3ff,
        },
        cr0: Cr0::ET,
        cr2: 0,
        cr3: 0,
        cr4: Cr4::empty(),
        efer: Efer::empty(),
    }
}

#[test]
fn ports_memory_mapped_registers_and_halt_come_out_one_by_one() {
    let code = [
        0xb0, 0x41, // mov al, 0x41
        0xe6, 0x10, // out 0x10, al
        0xba, 0x34, 0x12, // mov dx, 0x1234
        0xed, // in ax, dx
        0xbb, 0x00, 0x00, // mov bx, 0
        0x8e, 0xdb, // mov ds, bx
        0xb9, 0x00, 0xf0, // mov cx, 0xf000
        0x8e, 0xd9, // mov ds, cx
        0xa3, 0x08, 0x00, // mov [8], ax
        0xa0, 0x0c, 0x00, // mov al, [0xc]
        0xe6, 0x11, // out 0x11, al
        0xf4, // hlt
    ];
    let Some(mut vcpu) = vcpu(&code) else {
        return;
    };
    let port = Port(0x10);
    let data = &[0x41][..];
    assert_eq!(vcpu.run().unwrap(), Exit::PortWrite { port, data });
    let Exit::PortRead { port, data } = vcpu.run().unwrap() else {
        panic!("in ax, dx reads a port");
    };
    assert_eq!((port, data.len()), (Port(0x1234), 2));
    data.copy_from_slice(&[0xcd, 0xab]);
    let at = Gpa::new(0xf_0008);
    let data = &[0xcd, 0xab][..];
    assert_eq!(vcpu.run().unwrap(), Exit::MmioWrite { at, data });
    let Exit::MmioRead { at, data } = vcpu.run().unwrap() else {
        panic!("mov al, [0xc] reads what is not memory");
    };
    assert_eq!((at, data.len()), (Gpa::new(0xf_000c), 1));
    data[0] = 0x77;
    let port = Port(0x11);
    let data = &[0x77][..];
    assert_eq!(vcpu.run().unwrap(), Exit::PortWrite { port, data });
    assert_eq!(vcpu.run().unwrap(), Exit::Halt);
}

#[test]
fn string_instructions_come_out_as_single_accesses() {
    let code = [
        0xfc, // cld
        0xbe, 0x00, 0x20, // mov si, 0x2000
        0xb9, 0x03, 0x00, // mov cx, 3
        0xba, 0x21, 0x00, // mov dx, 0x21
        0xf3, 0x6f, // rep outsw
        0xbf, 0x00, 0x30, // mov di, 0x3000
        0xb9, 0x03, 0x00, // mov cx, 3
        0xf3, 0x6c, // rep insb
        0xa0, 0x02, 0x30, // mov al, [0x3002]
        0xe6, 0x22, // out 0x22, al
        0xf4, // hlt
    ];
    let memory = ram(&code);
    memory.write(Gpa::new(0x2000), &[1, 2, 3, 4, 5, 6]).unwrap();
    let Some(kvm) = kvm() else { return };
    let mut vm = kvm.create_vm().unwrap();
    vm.map(Arc::clone(&memory)).unwrap();
    let mut vcpu = vm.create_vcpus(1, Features::default()).unwrap().remove(0);
    vcpu.set_state(&entry()).unwrap();
    let port = Port(0x21);
    for data in [[1, 2], [3, 4], [5, 6]] {
        let data = &data[..];
        assert_eq!(vcpu.run().unwrap(), Exit::PortWrite { port, data });
    }
    for answer in [7, 8, 9] {
        let Exit::PortRead { port, data } = vcpu.run().unwrap() else {
            panic!("insb reads a port");
        };
        assert_eq!((port, data.len()), (Port(0x21), 1));
        data[0] = answer;
    }
    let port = Port(0x22);
    let data = &[9][..];
    assert_eq!(vcpu.run().unwrap(), Exit::PortWrite { port, data });
    assert_eq!(vcpu.run().unwrap(), Exit::Halt);
    let mut got = [0; 3];
    memory.read(Gpa::new(0x3000), &mut got).unwrap();
    assert_eq!(got, [7, 8, 9]);
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    let data = Segment::data32(0x18);
    let no_handlers = Registers {
        cs: Segment::code32(0x10),
        ds: data,
        es: data,
        ss: data,
        cr0: Cr0::PE | Cr0::ET,
        idt: DescriptorTable::default(),
        ..real_mode()
    };
    // ud2
    let Some(mut vcpu) = vcpu_in(&[0x0f, 0x0b], &VcpuState::X86(no_handlers)) else {
        return;
    };
    assert_eq!(vcpu.run().unwrap(), Exit::Shutdown);
}

#[test]
fn an_interrupt_line_reaches_the_guest_through_the_8259() {
    let code = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xc7, 0x06, 0x90, 0x00, 0x00, 0x11, // mov word [4 * 0x24], 0x1100
        0xc7, 0x06, 0x92, 0x00, 0x00, 0x00, // mov word [4 * 0x24 + 2], 0
        0xb0, 0x11, 0xe6, 0x20, // ICW1: edge, cascade, ICW4 follows
        0xb0, 0x20, 0xe6, 0x21, // ICW2: vectors from 0x20
        0xb0, 0x04, 0xe6, 0x21, // ICW3: a slave on line 2
        0xb0, 0x01, 0xe6, 0x21, // ICW4: 8086 mode
        0xb0, 0xef, 0xe6, 0x21, // mask: all but line 4
        0xe6, 0x10, // out 0x10, al
        0xfb, // sti
        0xf4, // hlt
        0xeb, 0xfd, // jmp -1
    ];
    let handler = [0xe6, 0x12]; // out 0x12, al
    let memory = ram(&code);
    memory.write(Gpa::new(0x1100), &handler).unwrap();
    let Some(kvm) = kvm() else { return };
    let mut vm = kvm.create_vm().unwrap();
    vm.map(memory).unwrap();
    vm.create_irqchip(&Irqchip::Pc).unwrap();
    let mut vcpu = vm.create_vcpus(1, Features::default()).unwrap().remove(0);
    vcpu.set_state(&entry()).unwrap();
    let line = vm.irq_line(Irq(4)).unwrap();
    let ready = vcpu.run().unwrap();
    assert!(matches!(ready, Exit::PortWrite { port, .. } if port == Port(0x10)));
    line.pulse().unwrap();
    let handled = vcpu.run().unwrap();
    assert!(matches!(handled, Exit::PortWrite { port, .. } if port == Port(0x12)));
    assert!(matches!(
        vm.irq_line(Irq(24)),
        Err(HvError::NoSuchLine(Irq(24)))
    ));
}

#[test]
fn memory_where_kvm_keeps_its_own_is_refused_with_both_ranges() {
    let Some(kvm) = kvm() else { return };
    let range = GpaRange::new(Gpa::new(0xfeff_f000), 0x2000).unwrap();
    let memory = GuestMemory::allocate(&[range], Backing::Private).unwrap();
    let error = kvm
        .create_vm()
        .unwrap()
        .map(Arc::new(memory))
        .unwrap_err()
        .to_string();
    assert!(error.contains("0x0fefff000..0x0ff001000"), "{error}");
    assert!(error.contains("0x0feffc000..0x0ff000000"), "{error}");
}

#[test]
fn a_doorbell_counts_its_own_value_and_lets_others_through() {
    let code = [
        0xbb, 0x00, 0xf0, // mov bx, 0xf000
        0x8e, 0xdb, // mov ds, bx
        0x66, 0xc7, 0x06, 0x08, 0x00, 3, 0, 0, 0, // mov dword [8], 3
        0x66, 0xc7, 0x06, 0x08, 0x00, 4, 0, 0, 0, // mov dword [8], 4
        0x66, 0xc7, 0x06, 0x08, 0x00, 3, 0, 0, 0,    // mov dword [8], 3
        0xf4, // hlt
    ];
    let Some(kvm) = kvm() else { return };
    let mut vm = kvm.create_vm().unwrap();
    vm.map(ram(&code)).unwrap();
    let mut vcpu = vm.create_vcpus(1, Features::default()).unwrap().remove(0);
    vcpu.set_state(&entry()).unwrap();
    let flags = rustix::event::EventfdFlags::NONBLOCK;
    let event = rustix::event::eventfd(0, flags).unwrap();
    let at = Gpa::new(0xf_0008);
    let doorbell = crate::Doorbell {
        at,
        width: 4,
        value: Some(3),
    };
    let interconnect = vm.interconnect();
    let hung = interconnect.hang(doorbell, event.as_fd()).unwrap();
    let data = &[4, 0, 0, 0][..];
    assert_eq!(vcpu.run().unwrap(), Exit::MmioWrite { at, data });
    let mut count = [0; 8];
    rustix::io::read(&event, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
    // Taken down, it is an address like any other; and can be hung again.
    drop(hung);
    let data = &[3, 0, 0, 0][..];
    assert_eq!(vcpu.run().unwrap(), Exit::MmioWrite { at, data });
    drop(interconnect.hang(doorbell, event.as_fd()).unwrap());
    assert_eq!(vcpu.run().unwrap(), Exit::Halt);
}

#[test]
fn a_message_is_an_interrupt_of_the_local_apic_that_it_names() {
    let code = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xc7, 0x06, 0x90, 0x00, 0x00, 0x11, // mov word [4 * 0x24], 0x1100
        0xc7, 0x06, 0x92, 0x00, 0x00, 0x00, // mov word [4 * 0x24 + 2], 0
        0x66, 0xb9, 0x1b, 0, 0, 0, // mov ecx, 0x1b: IA32_APIC_BASE
        0x0f, 0x32, // rdmsr
        0x80, 0xcc, 0x0c, // or ah, 0xc: as an x2APIC
        0x0f, 0x30, // wrmsr
        0x66, 0xb9, 0x0f, 0x08, 0, 0, // mov ecx, 0x80f: spurious interrupts
        0x66, 0x31, 0xd2, // xor edx, edx
        0x66, 0xb8, 0xff, 0x01, 0, 0, // mov eax, 0x1ff: switched on
        0x0f, 0x30, // wrmsr
        0xe6, 0x10, // out 0x10, al
        0xfb, // sti
        0xf4, // hlt
        0xeb, 0xfd, // jmp -1
    ];
    let memory = ram(&code);
    memory.write(Gpa::new(0x1100), &[0xe6, 0x12]).unwrap(); // out 0x12, al
    let Some(kvm) = kvm() else { return };
    let mut vm = kvm.create_vm().unwrap();
    vm.map(memory).unwrap();
    vm.create_irqchip(&Irqchip::Pc).unwrap();
    let mut vcpu = vm.create_vcpus(1, Features::default()).unwrap().remove(0);
    vcpu.set_state(&entry()).unwrap();
    let ready = vcpu.run().unwrap();
    assert!(
        matches!(ready, Exit::PortWrite { port, .. } if port == Port(0x10)),
        "{ready:?}"
    );
    let message = crate::Message {
        address: Gpa::new(0xfee0_0000),
        data: 0x24,
        requester: 0,
    };
    vm.interconnect().send(&message).unwrap();
    let handled = vcpu.run().unwrap();
    assert!(
        matches!(handled, Exit::PortWrite { port, .. } if port == Port(0x12)),
        "{handled:?}"
    );
}

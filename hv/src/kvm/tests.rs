//! Guests of a few instructions on the host's KVM. Hosts without one skip them, out loud.

use super::*;
use crate::probe;
use firstlight_base::GuestMem;
use firstlight_base::x86::{
    Cr0, Cr4, DescriptorTable, Efer, Gprs, RFLAGS_RESERVED, Registers, Segment,
};
use firstlight_load::Backing;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const CODE: u16 = 0x1000;
const RAM: u64 = 0x1_0000;

fn kvm() -> Option<Kvm> {
    match Kvm::open() {
        Ok(kvm) => Some(kvm),
        Err(error) => {
            let name = thread::current().name().unwrap_or("a test").to_owned();
            // Written past the test harness, which would keep it to itself.
            writeln!(io::stderr(), "SKIPPED {name}: {error}").unwrap();
            None
        }
    }
}

fn ram(code: &[u8]) -> Arc<GuestMemory> {
    let range = GpaRange::new(Gpa::new(0), RAM).unwrap();
    let memory = GuestMemory::allocate(&[range], Backing::Private).unwrap();
    memory.write(Gpa::new(CODE.into()), code).unwrap();
    Arc::new(memory)
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

fn vcpu_without_irqchip(code: &[u8], registers: &Registers) -> Option<KvmVcpu> {
    let mut vm = kvm()?.create_vm().unwrap();
    vm.map(ram(code)).unwrap();
    let mut vcpu = vm.create_vcpu(VcpuId::BOOT, 1).unwrap();
    vcpu.set_state(&VcpuState::X86(*registers)).unwrap();
    Some(vcpu)
}

#[test]
fn registers_come_back_as_they_were_set() {
    let wanted = real_mode();
    let Some(vcpu) = vcpu_without_irqchip(&[], &wanted) else {
        return;
    };
    assert_eq!(vcpu.state().unwrap(), VcpuState::X86(wanted));
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
    let Some(mut vcpu) = vcpu_without_irqchip(&code, &real_mode()) else {
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
    let mut vcpu = vm.create_vcpu(VcpuId::BOOT, 1).unwrap();
    vcpu.set_state(&VcpuState::X86(real_mode())).unwrap();
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
    let Some(mut vcpu) = vcpu_without_irqchip(&[0x0f, 0x0b], &no_handlers) else {
        return;
    };
    assert_eq!(vcpu.run().unwrap(), Exit::Shutdown);
}

#[test]
fn a_kick_before_the_run_interrupts_it_once() {
    // hlt
    let Some(mut vcpu) = vcpu_without_irqchip(&[0xf4], &real_mode()) else {
        return;
    };
    vcpu.kicker().kick();
    vcpu.kicker().kick();
    assert_eq!(vcpu.run().unwrap(), Exit::Interrupted);
    assert_eq!(vcpu.run().unwrap(), Exit::Halt);
}

#[test]
fn a_kick_takes_a_spinning_guest_out() {
    // out 0x10, al; jmp -2
    let Some(mut vcpu) = vcpu_without_irqchip(&[0xe6, 0x10, 0xeb, 0xfe], &real_mode()) else {
        return;
    };
    let kicker = vcpu.kicker();
    let (started, when_started) = mpsc::channel();
    let runner = thread::spawn(move || {
        assert!(matches!(vcpu.run().unwrap(), Exit::PortWrite { .. }));
        started.send(()).unwrap();
        // From here on the guest never stops by itself.
        vcpu.run().map(|exit| exit == Exit::Interrupted).unwrap()
    });
    when_started.recv().unwrap();
    kicker.kick();
    assert!(runner.join().unwrap());
}

#[test]
fn of_a_thousand_kicks_none_is_lost() {
    // out 0x10, al; jmp -4: some kicks find the guest running, some the vCPU between two runs.
    let Some(mut vcpu) = vcpu_without_irqchip(&[0xe6, 0x10, 0xeb, 0xfc], &real_mode()) else {
        return;
    };
    const KICKS: u32 = 1000;
    let kicker = vcpu.kicker();
    let kicks = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&kicks);
    let (sender, answers) = mpsc::channel();
    let runner = thread::spawn(move || {
        loop {
            match vcpu.run().unwrap() {
                Exit::Interrupted => {
                    // What was done before the kick can be seen after it.
                    let kicks = seen.load(Ordering::Relaxed);
                    sender.send(kicks).unwrap();
                    if kicks == KICKS {
                        return;
                    }
                }
                exit => assert!(matches!(exit, Exit::PortWrite { .. })),
            }
        }
    });
    for kick in 1..=KICKS {
        kicks.store(kick, Ordering::Relaxed);
        kicker.kick();
        while answers.recv_timeout(Duration::from_secs(10)).unwrap() < kick {}
    }
    runner.join().unwrap();
}

#[test]
fn a_vcpu_that_waits_to_be_started_can_be_kicked_and_its_kicker_outlives_it() {
    let Some(kvm) = kvm() else { return };
    let mut vm = kvm.create_vm().unwrap();
    vm.map(ram(&[])).unwrap();
    vm.create_irqchip().unwrap();
    let _boot = vm.create_vcpu(VcpuId::BOOT, 2).unwrap();
    let mut second = vm.create_vcpu(VcpuId(1), 2).unwrap();
    let kicker = second.kicker();
    let (sender, receiver) = mpsc::channel();
    let runner = thread::spawn(move || {
        let interrupted = second.run().map(|exit| exit == Exit::Interrupted).unwrap();
        sender.send(interrupted).unwrap();
    });
    // Nothing else can end its run: if it has ended, then by the kick.
    kicker.kick();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(true));
    runner.join().unwrap();
    kicker.kick();
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
    vm.create_irqchip().unwrap();
    let mut vcpu = vm.create_vcpu(VcpuId::BOOT, 1).unwrap();
    vcpu.set_state(&VcpuState::X86(real_mode())).unwrap();
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
fn the_probe_comes_to_a_verdict() {
    let Some(kvm) = kvm() else { return };
    let verdict = probe::probe(&kvm).unwrap();
    if Kvm::without_hardware() {
        let step = Some(probe::Step::CompareExchange);
        assert!(
            matches!(&verdict, probe::Verdict::Failed { step: at, .. } if *at == step),
            "{verdict}"
        );
    } else {
        assert_eq!(verdict, probe::Verdict::Passed, "{verdict}");
    }
}

#[test]
fn a_vcpu_that_the_host_cannot_have_is_refused_with_the_limit() {
    let Some(kvm) = kvm() else { return };
    let vm = kvm.create_vm().unwrap();
    assert!(matches!(
        vm.create_vcpu(VcpuId(1 << 20), 1),
        Err(HvError::NoSuchVcpu { .. })
    ));
}

#[test]
fn a_file_that_is_not_kvm_is_called_so() {
    let error = Kvm::open_at(c"/dev/null").unwrap_err();
    assert!(matches!(error, HvError::NoKvm(NoKvm::SomethingElse)));
    let error = Kvm::open_at(c"/dev/null/kvm").unwrap_err();
    assert!(matches!(error, HvError::NoKvm(NoKvm::Other(_))));
    let error = Kvm::open_at(c"/nowhere/kvm").unwrap_err();
    assert!(matches!(error, HvError::NoKvm(NoKvm::Missing)));
}

#[test]
fn what_keeps_dev_kvm_shut_is_told_apart() {
    let of = |errno| no_kvm(io::Error::from_raw_os_error(errno)).to_string();
    assert!(of(libc::ENOENT).contains("there is no /dev/kvm"));
    assert!(of(libc::EACCES).contains("group"));
    assert!(of(libc::EBUSY).contains("another hypervisor"));
    assert!(of(libc::ENXIO).contains("module"));
    assert!(of(libc::EMFILE).contains("cannot be opened"));
}

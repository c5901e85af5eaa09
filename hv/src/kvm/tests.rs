//! Guests of a few instructions on the host's KVM. Hosts without one skip them, out loud.
//!
//! What all architectures have in common is here, with guests from the module of the host's own.

#[cfg(target_arch = "aarch64")]
mod arm64;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use arm64 as guest;
#[cfg(target_arch = "riscv64")]
use riscv64 as guest;
#[cfg(target_arch = "x86_64")]
use x86_64 as guest;

use super::*;
use crate::probe;
use firstlight_base::{GpaRange, GuestMem};
use firstlight_load::Backing;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Where a guest's code is, in its memory from 0 on.
const CODE: u16 = 0x1000;
const RAM: u64 = 0x1_0000;

fn skip(why: impl std::fmt::Display) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    // Written past the test harness, which would keep it to itself.
    writeln!(io::stderr(), "SKIPPED {name}: {why}").unwrap();
}

fn kvm() -> Option<Kvm> {
    Kvm::open().map_err(skip).ok()
}

fn ram(code: &[guest::Code]) -> Arc<GuestMemory> {
    let range = GpaRange::new(Gpa::new(0), RAM).unwrap();
    let memory = GuestMemory::allocate(&[range], Backing::Private).unwrap();
    let bytes: Vec<u8> = code.iter().flat_map(|code| code.to_le_bytes()).collect();
    memory.write(Gpa::new(CODE.into()), &bytes).unwrap();
    Arc::new(memory)
}

/// A machine without interrupt controllers, with one vCPU in `state`.
fn vcpu_in(code: &[guest::Code], state: &VcpuState) -> Option<KvmVcpu> {
    let mut vm = kvm()?.create_vm().unwrap();
    vm.map(ram(code)).unwrap();
    let mut vcpu = vm.create_vcpus(1, Features::default()).unwrap().remove(0);
    vcpu.set_state(state).unwrap();
    Some(vcpu)
}

/// The same, about to run `code`.
fn vcpu(code: &[guest::Code]) -> Option<KvmVcpu> {
    vcpu_in(code, &guest::entry())
}

#[test]
fn registers_come_back_as_they_were_set() {
    let Some(vcpu) = vcpu(guest::BUSY) else {
        return;
    };
    assert_eq!(guest::settable(vcpu.state().unwrap()), guest::entry());
}

#[test]
fn a_kick_before_the_run_interrupts_it_once() {
    let Some(mut vcpu) = vcpu(guest::BUSY) else {
        return;
    };
    vcpu.kicker().kick();
    vcpu.kicker().kick();
    assert_eq!(vcpu.run().unwrap(), Exit::Interrupted);
    assert!(guest::announces(&vcpu.run().unwrap()));
}

#[test]
fn a_kick_takes_a_spinning_guest_out() {
    let Some(mut vcpu) = vcpu(guest::SPIN) else {
        return;
    };
    let kicker = vcpu.kicker();
    let (started, when_started) = mpsc::channel();
    let runner = thread::spawn(move || {
        assert!(guest::announces(&vcpu.run().unwrap()));
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
    // Some kicks find the guest running, some the vCPU between two runs.
    let Some(mut vcpu) = vcpu(guest::BUSY) else {
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
                exit => assert!(guest::announces(&exit)),
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
    vm.map(ram(guest::BUSY)).unwrap();
    vm.create_irqchip(&guest::irqchip(&kvm)).unwrap();
    let mut vcpus = vm.create_vcpus(2, Features::default()).unwrap();
    let mut second = vcpus.remove(1);
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
fn the_probe_comes_to_a_verdict() {
    let Some(kvm) = kvm() else { return };
    let verdict = probe::probe(&kvm, Kvm::ARCHITECTURE).unwrap();
    if Kvm::without_hardware() {
        let verdict = verdict.to_string();
        assert!(verdict.contains("at `lock cmpxchg16b`"), "{verdict}");
    } else {
        assert_eq!(verdict, probe::Verdict::Passed, "{verdict}");
    }
}

#[test]
fn more_vcpus_than_the_host_can_have_are_refused_with_the_limit() {
    let Some(kvm) = kvm() else { return };
    let vm = kvm.create_vm().unwrap();
    assert!(matches!(
        vm.create_vcpus(1 << 20, Features::default()),
        Err(HvError::TooManyVcpus { .. })
    ));
}

#[test]
fn machines_of_other_processors_are_refused() {
    let Some(mut vcpu) = vcpu(guest::BUSY) else {
        return;
    };
    let (irqchip, state) = guest::foreign();
    let refused = |result| matches!(result, Err(HvError::OtherArchitecture));
    assert!(refused(vcpu.set_state(&state)));
    let mut vm = Kvm::open().unwrap().create_vm().unwrap();
    assert!(refused(vm.create_irqchip(&irqchip)));
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

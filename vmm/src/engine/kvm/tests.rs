//! The run loop and all endings, with exits that are played back.

mod devices;
mod virt;

use super::*;
use crate::board::Access;
use crate::ending::CrashKind;
use crate::testing::{self, Person, plan};
use crate::{Console, CpuSet, Ending, Limits, Machine, PolicyError, Reason, VcpuAffinity};
use firstlight_base::{Gpa, Port, VcpuId};
use firstlight_boot::Pc;
use firstlight_hv::script::{Record, Script, Step};
use firstlight_hv::{Features, InternalError, Irqchip, SystemEvent};
use rustix::event::{Timespec, poll};
use std::time::{Duration, Instant};

const COM1: u16 = Pc::COM1.base.0;

/// A machine whose vCPUs follow `script`.
fn machine(
    script: &Script,
    plan: &BootPlan,
    equipment: &Equipment,
) -> Result<Box<dyn Running>, RunError> {
    prepare_on(script, (plan, equipment, b"firmware"), |_memory| Ok(()))
}

/// Runs `script` on a machine with `cpus` vCPUs to its end.
fn run_on(
    script: &Script,
    cpus: u32,
    limits: &Limits,
    console: &mut Console,
) -> Result<Ending, RunError> {
    let (plan, _) = plan(cpus);
    let machine = machine(script, &plan, &Equipment::default())?;
    Machine::new(machine).run(&plan, limits, console)
}

/// Runs a boot vCPU through `steps`; with what the console showed.
fn run(steps: impl IntoIterator<Item = Step>) -> (Ending, String) {
    let script = Script::new().vcpu(VcpuId::BOOT, steps);
    let (mut console, person) = Person::at_a_console();
    let ending = run_on(&script, 1, &Limits::default(), &mut console).unwrap();
    drop(console);
    (ending, person.saw())
}

fn port_write(port: Port, value: u8) -> Step {
    Step::PortWrite {
        port,
        data: vec![value],
    }
}

fn acpi_write(register: u64, value: u8) -> Step {
    Step::MmioWrite {
        at: Gpa::new(Pc::ACPI_REGS.get() + register),
        data: vec![value],
    }
}

fn print(text: &str) -> impl Iterator<Item = Step> {
    text.bytes().map(|byte| port_write(Port(COM1), byte))
}

const POWER_OFF: u8 = 0x20 | Pc::ACPI_S5 << 2;

#[test]
fn a_vcpu_that_cannot_be_run_as_wanted_does_not_run_at_all() {
    let script = Script::new().vcpu(VcpuId::BOOT, print("hello"));
    let (mut console, person) = Person::at_a_console();
    let (plan, _) = plan(1);
    let mut equipment = Equipment::default();
    equipment.policy.affinity = VcpuAffinity::Global(CpuSet::from_iter([1023]));
    let machine = Machine::new(machine(&script, &plan, &equipment).unwrap());
    let ended = machine.run(&plan, &Limits::default(), &mut console);
    let wanted = matches!(ended, Err(RunError::Policy(PolicyError::Pin { .. })));
    assert!(wanted, "{ended:?}");
    drop(console);
    assert_eq!(person.saw(), "");
}

#[test]
fn what_the_guest_prints_comes_out_and_power_off_ends_it() {
    let (ending, seen) = run(print("hello\nworld").chain([acpi_write(0, POWER_OFF)]));
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    assert_eq!(seen, "hello\nworld");
}

#[test]
fn both_ways_to_reset_are_resets() {
    for step in [
        acpi_write(2, Pc::ACPI_RESET_VALUE),
        port_write(Pc::I8042_COMMAND, 0xfe),
        Step::SystemEvent(SystemEvent::Reset),
    ] {
        let (ending, _) = run([step]);
        assert!(matches!(ending, Ending::Reset), "{ending:?}");
    }
}

#[test]
fn the_guests_own_status_is_handed_on() {
    let (ending, _) = run([port_write(Pc::DEBUG_EXIT, 42)]);
    assert!(matches!(ending, Ending::ExitCode(42)), "{ending:?}");
}

#[test]
fn a_panic_told_through_its_port_is_a_panic() {
    let crash = Step::SystemEvent(SystemEvent::Crash);
    for step in [port_write(Pc::PVPANIC, 1), crash] {
        let (ending, _) = run([step]);
        assert!(matches!(ending, Ending::Panicked), "{ending:?}");
    }
}

#[test]
fn a_reset_after_a_panics_text_is_a_panic_and_after_a_restarts_is_none() {
    let reset = || acpi_write(2, Pc::ACPI_RESET_VALUE);
    let (ending, _) = run(print("[ 1.0] Kernel panic - not syncing: x\n").chain([reset()]));
    assert!(matches!(ending, Ending::Panicked), "{ending:?}");
    let text = "Kernel panic - not syncing: x\nreboot: Restarting system\n";
    let (ending, _) = run(print(text).chain([reset()]));
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
}

#[test]
fn a_triple_fault_is_a_crash_unless_the_guest_said_that_it_restarts() {
    let (ending, _) = run([Step::Shutdown]);
    let Ending::Crashed(post_mortem) = ending else {
        panic!("{ending:?}");
    };
    let reason = Reason::Crashed(VcpuId::BOOT, CrashKind::TripleFault);
    assert_eq!(post_mortem.reason, reason);
    assert!(post_mortem.registers.is_some());
    let (ending, _) = run(print("reboot: machine restart\n").chain([Step::Shutdown]));
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
    let (ending, _) = run(print("Kernel panic - not syncing\n").chain([Step::Shutdown]));
    assert!(matches!(ending, Ending::Panicked), "{ending:?}");
}

#[test]
fn an_internal_error_is_a_crash_that_names_error_and_instruction() {
    let error = InternalError {
        suberror: InternalError::EMULATION,
        data: vec![],
        instruction: vec![0xf0, 0x48, 0x0f, 0xc7, 0x0f],
    };
    let (ending, _) = run([Step::InternalError(error)]);
    let Ending::Crashed(post_mortem) = ending else {
        panic!("{ending:?}");
    };
    let text = post_mortem.to_string();
    assert!(text.contains("suberror 1"), "{text}");
    assert!(text.contains("f0 48 0f c7 0f"), "{text}");
}

#[test]
fn exits_that_nobody_can_answer_are_crashes() {
    for step in [
        Step::Halt,
        Step::FailEntry { reason: 7 },
        Step::Unknown(99),
        Step::SystemEvent(SystemEvent::Other(9)),
        Step::Undescribed {
            at: Gpa::new(0x900_0000),
        },
        Step::GuestFault(libc::EOPNOTSUPP),
    ] {
        let (ending, _) = run([step.clone()]);
        assert!(matches!(ending, Ending::Crashed(_)), "{step:?}: {ending:?}");
    }
}

#[test]
fn a_host_that_fails_is_an_error_and_no_ending() {
    let script = Script::new().vcpu(VcpuId::BOOT, [Step::HostFails]);
    let (mut console, _person) = Person::at_a_console();
    let result = run_on(&script, 2, &Limits::default(), &mut console);
    assert!(matches!(result, Err(RunError::Hypervisor(_))), "{result:?}");
}

#[test]
fn every_vcpu_is_stopped_when_one_of_them_ends_the_machine() {
    let script = Script::new().vcpu(VcpuId(2), [acpi_write(0, POWER_OFF)]);
    let (mut console, _person) = Person::at_a_console();
    let ending = run_on(&script, 4, &Limits::default(), &mut console).unwrap();
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    for id in [0, 1, 3] {
        assert!(script.record().contains(&Record::Kicked(VcpuId(id))));
    }
}

#[test]
fn memory_comes_before_interrupt_controllers_and_those_before_vcpus() {
    let script = Script::new().vcpu(VcpuId::BOOT, [acpi_write(0, POWER_OFF)]);
    let (mut console, _person) = Person::at_a_console();
    run_on(&script, 2, &Limits::default(), &mut console).unwrap();
    let record = script.record();
    assert!(matches!(record[0], Record::Map(_)));
    assert_eq!(record[1], Record::CreateIrqchip(Irqchip::Pc));
    assert_eq!(record[2], Record::CreateVcpus(2, Features::default()));
    assert!(matches!(record[3], Record::SetState(VcpuId(0), _)));
}

#[test]
fn what_nobody_claims_reads_all_ones() {
    let script = Script::new().vcpu(
        VcpuId::BOOT,
        [
            Step::PortRead {
                port: Port(0xcf8),
                width: 4,
            },
            Step::MmioRead {
                at: Gpa::new(0xfed0_0000),
                width: 8,
            },
            port_write(Port(0x80), 1),
            acpi_write(0, POWER_OFF),
        ],
    );
    let (mut console, _person) = Person::at_a_console();
    run_on(&script, 1, &Limits::default(), &mut console).unwrap();
    let answers: Vec<_> = script
        .record()
        .into_iter()
        .filter_map(|record| match record {
            Record::Answered(_, answer) => Some(answer),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [vec![0xff; 4], vec![0xff; 8]]);
}

#[test]
fn a_guest_without_end_is_ended_by_its_time_limit_and_examined_if_it_was_silent() {
    let limits = Limits {
        timeout: Some(Duration::from_millis(20)),
        boot_watchdog: None,
    };
    let (mut console, _person) = Person::at_a_console();
    let ending = run_on(&Script::new(), 2, &limits, &mut console).unwrap();
    let Ending::TimedOut(Some(post_mortem)) = ending else {
        panic!("{ending:?}");
    };
    assert_eq!(post_mortem.reason, Reason::TimedOut);
    assert!(post_mortem.registers.is_some());
    // A busy host must not end it before its first word.
    let limits = Limits {
        timeout: Some(Duration::from_secs(1)),
        ..limits
    };
    let script = Script::new().vcpu(VcpuId::BOOT, print("x"));
    let ending = run_on(&script, 1, &limits, &mut console).unwrap();
    assert!(matches!(ending, Ending::TimedOut(None)), "{ending:?}");
}

#[test]
fn the_boot_watchdog_ends_nothing() {
    let limits = Limits {
        timeout: Some(Duration::from_millis(60)),
        boot_watchdog: Some(Duration::from_millis(10)),
    };
    let (mut console, _person) = Person::at_a_console();
    let ending = run_on(&Script::new(), 1, &limits, &mut console).unwrap();
    assert!(matches!(ending, Ending::TimedOut(Some(_))), "{ending:?}");
}

#[test]
fn a_panic_that_ends_in_silence_ends_the_guest() {
    let begun = Instant::now();
    let text = "Kernel panic - not syncing: x\n---[ end Kernel panic - not syncing: x ]---\r\n";
    let (ending, seen) = run(print(text));
    assert!(matches!(ending, Ending::Panicked), "{ending:?}");
    assert_eq!(seen, text);
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[test]
fn input_larger_than_the_fifo_waits_for_the_guest_and_arrives_whole() {
    let script = Script::new();
    let board = testing::board::<X8664>(&script, &Pc::new(0, 1));
    let port = |register: u16| Access::Port(Port(COM1 + register));
    let read = |register| {
        let mut data = [0];
        board.read(port(register), &mut data);
        data[0]
    };
    let rings = || {
        let mut fds = [PollFd::from_borrowed_fd(
            board.reports().bell().as_fd(),
            PollFlags::IN,
        )];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    };
    let enable_receive_interrupt = [1];
    board.write(port(1), &enable_receive_interrupt);

    let typed: Vec<u8> = (0..200).collect();
    let mut rest = typed.as_slice();
    let mut received = vec![];
    while received.len() < typed.len() {
        let taken = board.console().unwrap().send(rest);
        rest = &rest[taken..];
        assert!(taken > 0 && !rings());
        while read(5) & 1 != 0 {
            received.push(read(0));
        }
        assert_eq!(rings(), !rest.is_empty());
        board.reports().bell().answer();
    }
    assert_eq!(received, typed);
    assert!(script.record().contains(&Record::Irq(Pc::COM1.irq, true)));
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_the_guest_from_ending() {
    let more_than_a_pipe_holds = "x\n".repeat(200_000);
    let script = Script::new().vcpu(VcpuId::BOOT, print(&more_than_a_pipe_holds));
    let limits = Limits {
        timeout: Some(Duration::from_millis(300)),
        boot_watchdog: None,
    };
    let (mut console, person) = Person::at_a_console();
    let ending = run_on(&script, 2, &limits, &mut console).unwrap();
    assert!(matches!(ending, Ending::TimedOut(None)), "{ending:?}");
    drop(console);
    assert!(person.saw().starts_with("x\nx\n"));
}

#[test]
fn a_reader_that_has_gone_ends_the_guest_as_a_failure_of_the_host() {
    let script = Script::new().vcpu(VcpuId::BOOT, print("hello\n"));
    let (mut console, person) = Person::at_a_console();
    person.leaves();
    let result = run_on(&script, 1, &Limits::default(), &mut console);
    assert!(matches!(result, Err(RunError::Output(_))), "{result:?}");
}

#[test]
fn one_console_serves_a_guest_that_is_run_again() {
    let (mut console, person) = Person::at_a_console();
    for text in ["Kernel panic - not syncing\n", "second\n"] {
        let reset = acpi_write(2, Pc::ACPI_RESET_VALUE);
        let script = Script::new().vcpu(VcpuId::BOOT, print(text).chain([reset]));
        let ending = run_on(&script, 1, &Limits::default(), &mut console).unwrap();
        assert_eq!(
            matches!(ending, Ending::Panicked),
            text.starts_with("Kernel"),
            "{ending:?}"
        );
    }
    drop(console);
    assert_eq!(person.saw(), "Kernel panic - not syncing\nsecond\n");
}

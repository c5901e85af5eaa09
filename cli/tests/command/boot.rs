//! Guests of a few instructions, booted on every engine that this host has: how they end is how
//! the command ends.

use crate::run::{Run, file, firstlight, program};
use firstlight_image::testing::elf64;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

/// Longer than any of these guests runs; here only so that none runs for ever.
const GUARD: [&str; 2] = ["--timeout", "50"];

/// 32-bit code that writes `Hi` and a newline to the serial port at 0x3f8.
const HI: [u8; 13] = [
    0x66, 0xba, 0xf8, 0x03, 0xb0, b'H', 0xee, 0xb0, b'i', 0xee, 0xb0, b'\n', 0xee,
];
/// Writes 0x34 (go to S5) to the ACPI sleep control register.
const POWER_OFF: [u8; 7] = [0xc6, 0x05, 0x00, 0x02, 0xa0, 0xfe, 0x34];
/// Writes 0x42 to the ACPI reset register.
const RESET: [u8; 7] = [0xc6, 0x05, 0x02, 0x02, 0xa0, 0xfe, 0x42];
/// Writes 42 to the debug exit port.
const EXIT_42: [u8; 4] = [0xb0, 42, 0xe6, 0xf4];
/// Writes 1 (panicked) to the pvpanic port at 0x505.
const PANIC: [u8; 7] = [0x66, 0xba, 0x05, 0x05, 0xb0, 0x01, 0xee];
/// An invalid opcode, without a table to handle it by.
const CRASH: [u8; 2] = [0x0f, 0x0b];
/// `hlt`, then the same again.
const STOP: [u8; 3] = [0xf4, 0xeb, 0xfd];

/// A kernel that says `Hi`, then runs `code`.
fn kernel(name: &str, code: &[u8]) -> String {
    let code = [&HI, code, &STOP].concat();
    let kernel = elf64().segment(0x100_0000, &code, 0x1000).pvh(0x100_0000);
    file(name, &kernel.build())
}

/// The engines that can run guests here. The others are named, so that nobody takes silence for
/// success.
pub(crate) fn engines(test: &str) -> Vec<&'static str> {
    let kernel = kernel(&format!("{test}_probe"), &POWER_OFF);
    let there = |engine: &&str| {
        let run = firstlight(&["boot", "--engine", engine, &kernel, GUARD[0], GUARD[1]]);
        if run.status == Some(5) {
            // Not by a macro: what those print is shown only where a test fails.
            let skipped = format!("SKIPPED {test} on {engine}: {}\n", run.stderr);
            io::stderr().write_all(skipped.as_bytes()).expect("stderr");
        }
        run.status != Some(5)
    };
    ["kvm", "qemu"].into_iter().filter(there).collect()
}

/// Boots `code` on every engine, sees that it speaks, and hands each run to `check`.
fn boot(test: &str, code: &[u8], options: &[&str], check: impl Fn(&Run)) {
    boot_silent(test, code, options, |run| {
        assert_eq!(run.stdout, "Hi\n", "{run:#?}");
        check(run);
    });
}

/// The same for a guest that need not come so far as to speak.
pub(crate) fn boot_silent(test: &str, code: &[u8], options: &[&str], check: impl Fn(&Run)) {
    let kernel = kernel(test, code);
    for engine in engines(test) {
        let words = ["boot", "--engine", engine, &kernel, GUARD[0], GUARD[1]];
        check(&firstlight(&[&words, options].concat()));
    }
}

#[test]
fn a_guest_that_powers_off_is_a_success() {
    boot("power_off", &POWER_OFF, &[], |run| {
        assert_eq!(run.status, Some(0), "{run:#?}");
        assert!(run.stderr.starts_with("firstlight: "), "{run:#?}");
    });
}

#[test]
fn vcpus_are_pinned_where_they_are_threads_of_ours_and_nowhere_else() {
    let options = ["--cpu-affinity", "0=0", "--core-scheduling"];
    boot_silent("pinned", &POWER_OFF, &options[..2], |run| {
        let refused = run.stderr.contains("take the kvm engine");
        let status = if refused { 5 } else { 0 };
        assert_eq!(run.status, Some(status), "{run:#?}");
    });
    let kernel = kernel("pinned_qemu", &POWER_OFF);
    let words = ["boot", "--engine=qemu", &kernel, options[2], "--quiet"];
    firstlight(&words).failed_with(5, &[]);
}

#[test]
fn nothing_is_said_about_a_success_where_quiet_was_asked_for() {
    boot("quiet", &POWER_OFF, &["--quiet"], |run| {
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""));
    });
}

#[test]
fn a_reset_ends_the_guest_where_that_was_asked_for() {
    boot("no_reboot", &RESET, &["--no-reboot"], |run| {
        assert_eq!(run.status, Some(0), "{run:#?}");
    });
}

#[test]
fn a_guests_own_status_is_handed_on_where_that_was_asked_for() {
    boot("exit_42", &EXIT_42, &["--exit-from-guest"], |run| {
        assert_eq!(run.status, Some(42), "{run:#?}");
    });
}

#[test]
fn the_exit_port_is_not_there_unless_it_was_asked_for() {
    let code = [EXIT_42.as_slice(), &POWER_OFF].concat();
    boot("no_exit", &code, &[], |run| {
        assert_eq!(run.status, Some(0), "{run:#?}");
    });
}

#[test]
fn a_panic_is_told_from_a_crash() {
    boot("panic", &PANIC, &[], |run| {
        assert_eq!(run.status, Some(34), "{run:#?}");
        assert!(run.stderr.contains("panicked"), "{run:#?}");
    });
}

#[test]
fn a_crash_leaves_registers_and_instruction() {
    boot("crash", &CRASH, &[], |run| {
        assert_eq!(run.status, Some(33), "{run:#?}");
        assert!(run.stderr.contains("rip"), "{run:#?}");
        // On AMD processors KVM has reset the vCPU by the time it tells (`shutdown_interception`
        // in Linux' arch/x86/kvm/svm/svm.c), and nobody can say where it was.
        if run.stderr.contains("qemu:") {
            for word in ["ud2", "kernel segment 0"] {
                assert!(run.stderr.contains(word), "{word:?} is missing: {run:#?}");
            }
        }
    });
}

#[test]
fn a_guest_that_takes_too_long_is_ended() {
    boot_silent("too_long", &[], &["--timeout", "1"], |run| {
        assert_eq!(run.status, Some(124), "{run:#?}");
        assert!(run.stderr.contains("--timeout 1 seconds"), "{run:#?}");
    });
}

#[test]
fn a_guest_that_resets_is_booted_again_until_a_signal_ends_it() {
    let kernel = kernel("reboot", &RESET);
    for engine in engines("reboot") {
        let mut command = program();
        command
            .args(["boot", "--engine", engine, &kernel])
            .args(GUARD);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was built for this test");
        let stdout = child.stdout.take().expect("it was asked for");
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        assert_eq!(lines.take(3).collect::<Vec<_>>(), ["Hi"; 3], "{engine}");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it has not ended");
        let status = child.wait().expect("it is our child");
        assert_eq!(status.signal(), Some(15), "{engine}: {status:?}");
    }
}

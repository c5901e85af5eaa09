//! The command and its QEMU process: neither is left alone with the other's end.

use firstlight_image::testing::elf64;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Says `up` and a newline on the serial port at 0x3f8, then jumps to itself.
const UP_AND_ON: [u8; 15] = [
    0x66, 0xba, 0xf8, 0x03, 0xb0, b'u', 0xee, 0xb0, b'p', 0xee, 0xb0, b'\n', 0xee, 0xeb, 0xfe,
];

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("qemu-{name}"));
    fs::write(&path, bytes).expect("a folder for tests");
    path
}

/// Boots a guest that says `up` and then runs until it is ended.
fn boot(name: &str, qemu: Option<&Path>) -> Child {
    let kernel = elf64()
        .segment(0x100_0000, &UP_AND_ON, 0x1000)
        .pvh(0x100_0000)
        .build();
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstlight"));
    // What tests unpack is no user's to keep.
    command.env(
        "FIRSTLIGHT_CACHE",
        env!("CARGO_TARGET_TMPDIR").to_owned() + "/cache",
    );
    command
        .args(["boot", "--engine", "qemu", "--timeout", "50"])
        .arg(file(name, &kernel))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(qemu) = qemu {
        command.env("FIRSTLIGHT_QEMU", qemu);
    }
    command.spawn().expect("it was built for this test")
}

/// The command with its guest up, and the QEMU that runs it; `None`, and said so, where there is
/// no QEMU.
fn boot_until_up(name: &str) -> Option<(Child, Pid)> {
    let mut child = boot(name, None);
    let stdout = child.stdout.take().expect("it was asked for");
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("a readable pipe");
    if line != "up\n" {
        let output = child.wait_with_output().expect("it is ours");
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        // Not by a macro: what those print is shown only where a test fails.
        let skipped = format!("SKIPPED {name}: {}", said(&output));
        io::stderr().write_all(skipped.as_bytes()).expect("stderr");
        return None;
    }
    let [qemu] = children(child.id())[..] else {
        panic!("QEMU is the only child");
    };
    Some((child, qemu))
}

/// The processes that some thread of a process has started.
fn children(pid: u32) -> Vec<Pid> {
    let mut pids = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("it runs") {
        let list = thread.expect("it runs").path().join("children");
        let list = fs::read_to_string(list).expect("it runs");
        pids.extend(
            list.split_whitespace()
                .filter_map(|pid| Pid::from_raw(pid.parse().ok()?)),
        );
    }
    pids
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn qemu_ends_with_us_even_where_we_are_killed() {
    let Some((mut child, qemu)) = boot_until_up("our-end") else {
        return;
    };
    let qemu = pidfd_open(qemu, PidfdFlags::empty()).expect("it runs");
    child.kill().expect("it runs");
    child.wait().expect("it is ours");
    // A pidfd is readable once the process has ended.
    let mut fds = [PollFd::new(&qemu, PollFlags::IN)];
    poll(&mut fds, None).expect("a wait");
    assert!(fds[0].revents().contains(PollFlags::IN));
}

#[test]
fn a_qemu_that_is_killed_is_the_hosts_failure() {
    let Some((child, qemu)) = boot_until_up("its-end") else {
        return;
    };
    kill_process(qemu, Signal::KILL).expect("it runs");
    let output = child.wait_with_output().expect("it is ours");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = said(&output);
    assert!(said.contains("it ended by itself, signal: 9"), "{said}");
}

#[test]
fn what_a_failing_qemu_says_is_handed_on() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failing-qemu.sh");
    let output = boot("failing-kernel", Some(&script))
        .wait_with_output()
        .expect("it is ours");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = said(&output);
    assert!(said.contains("QEMU cannot run the guest"), "{said}");
    assert!(said.contains("no such machine"), "{said}");
}

#[test]
fn a_qemu_that_is_not_there_is_named() {
    let output = boot("nowhere-kernel", Some(Path::new("/nowhere/qemu")))
        .wait_with_output()
        .expect("it is ours");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let said = said(&output);
    let expected = "FIRSTLIGHT_QEMU names /nowhere/qemu, which is not there";
    assert!(said.contains(expected), "{said}");
}

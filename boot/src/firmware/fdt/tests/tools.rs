//! The device tree compiler. Where it is not installed, what it was to check is skipped, and the
//! test says so.

use super::std::io::{ErrorKind, Write};
use super::std::process::{Command, Output, Stdio};
use super::std::{eprintln, string::String, thread};
use alloc::vec::Vec;

/// Warnings that are no defects: dtc wants `#address-cells` in every interrupt controller, but Linux'
/// bindings have none in those that no `interrupt-map` refers to (harts' own, IMSICs).
const SILENT: [&str; 2] = ["-W", "no-interrupt_provider"];

/// What dtc reads in a compiled tree, which it may not complain of.
pub(super) fn decompiled(tree: &[u8]) -> Option<String> {
    let output = dtc(&["-I", "dtb", "-O", "dts"], tree)?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "of dtc");
    Some(String::from_utf8(output.stdout).expect("source is text"))
}

/// The tree that dtc makes of its source.
pub(super) fn compiled(source: &str) -> Vec<u8> {
    let output = dtc(&["-I", "dts", "-O", "dtb"], source.as_bytes());
    output.expect("it is there").stdout
}

fn dtc(arguments: &[&str], input: &[u8]) -> Option<Output> {
    let child = Command::new("dtc")
        .args(arguments)
        .args(SILENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: dtc is not installed");
            return None;
        }
        Err(error) => panic!("cannot start dtc: {error}"),
    };
    let mut stdin = child.stdin.take().expect("a pipe to dtc");
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("dtc reads all"));
        child.wait_with_output().expect("dtc ends")
    });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output)
}

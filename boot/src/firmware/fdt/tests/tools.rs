//! Other projects' programs. Where one is not installed, what it was to check is skipped, and the
//! test says so.

use super::std::io::{ErrorKind, Write};
use super::std::path::{Path, PathBuf};
use super::std::process::{Command, Output, Stdio};
use super::std::{env, eprintln, fs, process, thread};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Warnings that are no defects: dtc wants `#address-cells` in every interrupt controller, but Linux'
/// bindings have none in those that no `interrupt-map` refers to (harts' own, IMSICs).
const SILENT: [&str; 2] = ["-W", "no-interrupt_provider"];

/// What dtc reads in a compiled tree, sorted by name; it may not complain.
pub(super) fn decompiled(tree: &[u8]) -> Option<String> {
    let arguments = ["-I", "dtb", "-O", "dts", "-s"];
    let output = run(Command::new("dtc").args(arguments).args(SILENT), tree)?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "of dtc");
    Some(String::from_utf8(output.stdout).expect("source is text"))
}

/// The same, where it may.
pub(super) fn decompiled_anyhow(tree: &[u8]) -> Option<String> {
    let arguments = ["-q", "-I", "dtb", "-O", "dts", "-s"];
    let output = run(Command::new("dtc").args(arguments), tree)?;
    Some(String::from_utf8(output.stdout).expect("source is text"))
}

/// What dtc makes of a source, with labels.
pub(super) fn compiled(source: &str) -> Option<Vec<u8>> {
    let arguments = ["-q", "-@", "-I", "dts", "-O", "dtb"];
    let output = run(Command::new("dtc").args(arguments), source.as_bytes())?;
    Some(output.stdout)
}

/// What libfdt makes of a tree and overlays over it.
pub(super) fn overlaid(name: &str, base: &[u8], overlays: &[Vec<u8>]) -> Option<Vec<u8>> {
    let folder = Folder::new(name);
    let mut command = Command::new("fdtoverlay");
    let result = folder.0.join("result");
    command
        .arg("-i")
        .arg(folder.file("base", base))
        .arg("-o")
        .arg(&result);
    for (number, overlay) in overlays.iter().enumerate() {
        command.arg(folder.file(&format!("{number}"), overlay));
    }
    run(&mut command, &[])?;
    Some(fs::read(result).expect("what fdtoverlay wrote"))
}

/// The tree of QEMU's machine, with two vCPUs and 512 MiB.
pub(super) fn qemu([program, cpu]: [&str; 2], machine: &str) -> Option<Vec<u8>> {
    let folder = Folder::new(&machine.replace(',', "-"));
    let tree = folder.0.join("tree");
    let machine = format!("{machine},dumpdtb={}", tree.display());
    let arguments = [
        "-cpu", cpu, "-smp", "2", "-m", "512", "-display", "none", "-M",
    ];
    run(Command::new(program).args(arguments).arg(machine), &[])?;
    Some(fs::read(tree).expect("what QEMU wrote"))
}

/// What a program has to say, which has to succeed; `None` where it is not installed.
fn run(command: &mut Command, input: &[u8]) -> Option<Output> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {:?} is not installed", command.get_program());
            return None;
        }
        Err(error) => panic!("cannot start {command:?}: {error}"),
    };
    let mut stdin = child.stdin.take().expect("a pipe to it");
    let output = thread::scope(|scope| {
        // It need not read what it does not want.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().expect("it ends")
    });
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    Some(output)
}

/// A folder that is there for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("firstlight-fdt-{}-{name}", process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("the test's own folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        let _ = fs::remove_dir_all(path);
    }
}

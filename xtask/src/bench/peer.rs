//! The two command lines that a bench compares.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What both boot.
pub(super) struct Guest {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) cmdline: String,
    /// In MiB.
    pub(super) memory: u32,
}

/// `firstlight boot`.
pub(super) fn firstlight(program: &Path, guest: &Guest, engine: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["boot", "--quiet", "--engine", engine, "--no-reboot"])
        .args(["--memory", &format!("{}M", guest.memory)])
        .args(["--cmdline", &guest.cmdline, "--kernel"])
        .arg(&guest.kernel)
        .arg("--initrd")
        .arg(&guest.initrd);
    command
}

/// QEMU's quickest machine with QEMU's own way of booting.
pub(super) fn qemu(program: &Path, guest: &Guest, accelerator: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-M", "microvm,rtc=on", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-accel", accelerator, "-cpu", cpu(accelerator)])
        .args(["-m", &guest.memory.to_string()])
        .args(["-append", &guest.cmdline, "-kernel"])
        .arg(&guest.kernel)
        .arg("-initrd")
        .arg(&guest.initrd);
    command
}

fn cpu(accelerator: &str) -> &'static str {
    if accelerator == "kvm" { "host" } else { "max" }
}

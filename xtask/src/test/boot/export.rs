//! Exported boots, carried out by others.

use super::cases::Then;
use super::{Heard, marker_complaint, now};
use crate::cache::Cache;
use crate::failure::Outcome;
use crate::initramfs;
use crate::kernel::{self, Kernel};
use crate::process;
use crate::project::Project;
use crate::test::{Tally, Verdict};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packs a kernel with its initramfs and command line into one file, unpacked and as it is, and
/// boots each with QEMU's own firmware and loader, and with ourselves.
pub(crate) fn run(project: &Project, cache: &Cache, tally: &Tally) -> Outcome {
    let kernel = kernel::fetch(cache, &kernel::DEBIAN_12_CLOUD)?;
    for unpack in ["host", "guest"] {
        let file = project.scratch("guest")?.join(format!("{unpack}.elf"));
        export(project, cache, &kernel, unpack, &file)?;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "512"])
            .args(["-display", "none", "-nodefaults", "-no-user-config"])
            .args(["-serial", "stdio", "-no-reboot", "-kernel"])
            .arg(&file);
        let mut ours = Command::new(project.built_firstlight());
        ours.args([
            "boot",
            "--engine",
            "qemu",
            "--protocol",
            "pvh",
            "--cmdline",
            "",
        ])
        .arg(&file);
        for (who, boot) in [("qemu -kernel", qemu), ("firstlight", ours)] {
            let name = format!("pvh-elf, unpacked by the {unpack}, by {who}");
            tally.check(&name, || boots(&boot, &kernel))?;
        }
    }
    Ok(())
}

fn export(
    project: &Project,
    cache: &Cache,
    kernel: &Kernel,
    unpack: &str,
    file: &Path,
) -> Outcome<()> {
    let initrd: PathBuf = initramfs::build(project, cache, kernel::DEBIAN_12_CLOUD.architecture)?;
    process::run(
        Command::new(project.built_firstlight())
            .args(["export", "--format", "pvh-elf", "--unpack", unpack])
            .args(["--cmdline", "console=ttyS0 panic=-1"])
            .arg("--kernel")
            .arg(&kernel.file)
            .arg("--initrd")
            .arg(initrd)
            .arg("--output")
            .arg(file),
    )
}

fn boots(boot: &Command, kernel: &Kernel) -> Outcome<Verdict> {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=10", "180"])
        .arg(boot.get_program())
        .args(boot.get_args());
    let heard = Heard::listen(&mut limited, Then::Wait)?;
    let wrong = match marker_complaint(&heard.console, &kernel.version, 1, now()) {
        None if heard.status.success() => return Ok(Verdict::Passed(String::new())),
        None => "it did not end with status 0".to_owned(),
        Some(wrong) => wrong,
    };
    Ok(Verdict::Failed(heard.told(&wrong, &limited)))
}

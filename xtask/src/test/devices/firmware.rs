//! UEFI firmware in flash: it reaches its shell, starts a kernel from a disk, and remembers.

use super::{FIRMWARE, Ground, cases, cpus};
use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs;
use crate::kernel;
use crate::package;
use crate::process;
use crate::project::Project;
use crate::test::boot::{self, Heard, Setting, Then};
use crate::test::{Tally, Verdict};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the firmware is to remember, in less than a line of its shell's dump, and under which name.
const REMEMBERED: &str = "kept-in-flash";
const NAME: &str = "FirstlightTest";

/// Starts firmware in `setting` with the program `firstlight`.
pub(crate) fn run(
    project: &Project,
    cache: &Cache,
    (setting, firstlight): (Setting, &Path),
    tally: &Tally,
) -> Outcome {
    let architecture = setting.architecture;
    let firmware = Firmware {
        firstlight: firstlight.to_owned(),
        setting,
        code: package::fetch(cache, &package::firmware(architecture))?,
        disk: disk(project, architecture)?,
        kernel: kernel::installed(cache, cases::release(architecture))?.version,
        cpus: cpus(setting),
    };
    let name = format!("{}: {FIRMWARE}", setting.name());
    tally.check(&name, || firmware.check(&Ground::make("firmware")?))
}

/// Firmware, and what it is given.
struct Firmware {
    firstlight: PathBuf,
    setting: Setting,
    code: PathBuf,
    /// A disk that it finds the kernel on.
    disk: PathBuf,
    /// What that kernel calls itself.
    kernel: String,
    cpus: u32,
}

impl Firmware {
    /// Has the firmware set a variable and start a kernel, kills Firstlight, and does it again: the
    /// variable is still there.
    fn check(&self, ground: &Ground) -> Outcome<Verdict> {
        let flash = ground.folder.join("flash");
        let mut command = self.command(&flash);
        let first = Heard::listen(&mut command, Then::KillAfter(" uptime="))?;
        let marker = |heard: &Heard| {
            boot::marker_complaint(&heard.console, &self.kernel, self.cpus, boot::now())
        };
        if let Some(wrong) = marker(&first) {
            return Ok(Verdict::Failed(first.told(&wrong, &command)));
        }
        if first.console.contains(REMEMBERED) {
            return Ok(Verdict::Failed("new flash is not empty".to_owned()));
        }
        wait_until_free(&flash)?;
        let second = Heard::listen(&mut command, Then::Wait)?;
        let wrong = match second.status.code() {
            Some(0) => marker(&second),
            _ => Some("expected status 0".to_owned()),
        };
        let forgot = || {
            let remembers = second.console.contains(REMEMBERED);
            (!remembers).then(|| format!("{NAME} is not {REMEMBERED}"))
        };
        Ok(match wrong.or_else(forgot) {
            None => Verdict::Passed(String::new()),
            Some(wrong) => Verdict::Failed(second.told(&wrong, &command)),
        })
    }

    fn command(&self, flash: &Path) -> Command {
        let mut disk = self.disk.clone().into_os_string();
        disk.push(",readonly");
        // Nothing between us and Firstlight, so that it is what is killed.
        let mut command = Command::new(&self.firstlight);
        command
            .args(["boot", "--engine", self.setting.engine.name()])
            .args(["--timeout", &super::TIMEOUT.to_string()])
            .args(["--memory", "512M", "--cpus", &self.cpus.to_string()])
            .arg("--pflash")
            .arg(flash)
            .arg("--disk")
            .arg(disk)
            .arg(&self.code);
        command
    }
}

/// A QEMU ends when its Firstlight is killed, and a moment later.
fn wait_until_free(flash: &Path) -> Outcome {
    let file = File::open(flash).because(|| format!("cannot open {}", flash.display()))?;
    let locked = flock(&file, FlockOperation::LockExclusive);
    locked.because(|| format!("cannot wait for {}", flash.display()))
}

fn disk(project: &Project, architecture: Architecture) -> Outcome<PathBuf> {
    let name = format!("firmware-{}.fat", architecture.name());
    Ok(project.scratch("devices")?.join(name))
}

/// Makes the disk anew: the kernel that is an application of UEFI, our initramfs, and what the shell is to do.
pub(crate) fn build(project: &Project, cache: &Cache, architecture: Architecture) -> Outcome {
    package::fetch(cache, &package::firmware(architecture))?;
    let image = disk(project, architecture)?;
    let script = image.with_extension("nsh");
    fs::write(&script, startup(architecture))
        .because(|| format!("cannot write {}", script.display()))?;
    let kernel = kernel::installed(cache, cases::release(architecture))?.file;
    let initrd = initramfs::build(project, cache, architecture)?;
    let _ = fs::remove_file(&image);
    // 64 MiB: 128 tracks of 16 heads and 64 sectors.
    let geometry = ["-C", "-t", "128", "-h", "16", "-s", "64"];
    mtool("mformat", &image, &geometry, &[])?;
    for (file, name) in [
        (&script, "startup.nsh"),
        (&kernel, "linux.efi"),
        (&initrd, "initrd"),
    ] {
        let from = file
            .to_str()
            .ok_or_else(|| Failure::new(format!("mcopy cannot be told of {}", file.display())))?;
        mtool("mcopy", &image, &[], &[from, &format!("::{name}")])?;
    }
    Ok(())
}

fn mtool(name: &str, image: &Path, options: &[&str], words: &[&str]) -> Outcome {
    let mut command = Command::new(name);
    command.args(options).arg("-i").arg(image);
    match words {
        [] => command.arg("::"),
        words => command.args(words),
    };
    process::output_of(&mut command).map(|_quiet| ())
}

/// A script of the UEFI shell: it shows the variable, sets it, and starts the kernel.
fn startup(architecture: Architecture) -> String {
    const VENDOR: &str = "-guid 5cd3a4b4-3a7c-4a3e-9d53-0f1e7f5a8c11";
    let console = architecture.console();
    [
        "@echo -off".to_owned(),
        format!("dmpstore {NAME} {VENDOR}"),
        format!("setvar {NAME} {VENDOR} -nv -bs -rt =\"{REMEMBERED}\""),
        "fs0:".to_owned(),
        format!("linux.efi initrd=initrd console={console} panic=-1"),
        String::new(),
    ]
    .join("\r\n")
}

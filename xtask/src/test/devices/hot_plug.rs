//! A disk that is plugged into a running Linux and pulled out again, twice, by the library's example.

use super::{Ground, HOT_PLUG, MIB, cases, loader, looks, said_of};
use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Outcome};
use crate::kernel::{self, Kernel};
use crate::project::Project;
use crate::test::boot::{self, Heard, Setting, Then};
use crate::test::{Tally, Verdict};
use firstlight_initramfs::INIT;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package whose example plugs the disk in, and the example.
pub(in crate::test) const EXAMPLE: (&str, &str) = ("firstlight-vmm", "hotplug");

/// What the guest's script is told.
const WORDS: &str = "hotplug poweroff";
/// What it may load: all else that it takes is in the kernel.
const DRIVERS: [&str; 3] = ["pci_host_generic", "virtio_pci", "virtio_blk"];
/// The longest that it may take, in seconds: more than the example gives its guest.
const TIMEOUT: u32 = 300;

/// Makes the guest's initramfs anew.
pub(in crate::test) fn build(
    project: &Project,
    cache: &Cache,
    architecture: Architecture,
) -> Outcome {
    let file = file(project, architecture)?;
    loader::build(cache, architecture, (&file, &DRIVERS))
}

/// Where that is once it has been built.
fn file(project: &Project, architecture: Architecture) -> Outcome<PathBuf> {
    let name = format!("hotplug-{}.cpio", architecture.name());
    Ok(project.scratch("devices")?.join(name))
}

/// Has `program`, the example, boot the guest, and looks at the disk when all is over.
pub(in crate::test) fn run(
    project: &Project,
    cache: &Cache,
    (setting, program): (Setting, &Path),
    tally: &Tally,
) -> Outcome {
    let kernel = kernel::installed(cache, cases::release(setting.architecture))?;
    let initrd = file(project, setting.architecture)?;
    tally.check(&format!("{}: {HOT_PLUG}", setting.name()), || {
        let ground = Ground::make("hotplug")?;
        fs::write(&ground.disk, vec![b'H'; 4 * MIB])
            .because(|| format!("cannot write {}", ground.disk.display()))?;
        let mut command = Command::new("timeout");
        command
            .args(["-k", "10", &TIMEOUT.to_string()])
            .arg(program)
            .args([&kernel.file, &initrd, &ground.disk])
            .arg(format!("rdinit={INIT} -- {WORDS}"));
        let heard = Heard::listen(&mut command, Then::Wait)?;
        Ok(match complaint(&heard, &kernel, &ground) {
            None => Verdict::Passed(String::new()),
            Some(wrong) => Verdict::Failed(heard.told(&wrong, &command)),
        })
    })
}

/// What is wrong, if anything is; first what the guest says itself.
fn complaint(heard: &Heard, kernel: &Kernel, ground: &Ground) -> Option<String> {
    if let Err(failure) = said_of("hotplug", &heard.console) {
        return Some(failure.to_string());
    }
    if !heard.status.success() {
        return Some("expected status 0".to_owned());
    }
    // A megabyte was written each time.
    if let Err(failure) = looks(&ground.disk, b"HGGH") {
        return Some(failure.to_string());
    }
    boot::marker_complaint(&heard.console, &kernel.version, 1, boot::now())
}

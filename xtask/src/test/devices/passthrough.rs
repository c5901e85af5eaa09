//! A disk of the lab's own, on NVMe and behind an IOMMU, that a guest has for itself: it interrupts by messages, and then by its
//! pin.

use super::{BY_PIN, MIB, PASSED_THROUGH, cases, loader, looks, said_of};
use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Outcome};
use crate::kernel::{self, Kernel};
use crate::lab;
use crate::project::Project;
use crate::test::boot::{self, Heard, Setting, Then};
use crate::test::{Tally, Verdict};
use firstlight_initramfs::INIT;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the guest may load: all else that it takes is in the kernel.
const DRIVERS: [&str; 1] = ["nvme"];

/// How the disk is to interrupt: what that is called, by which word of the guest's script, and what its kernel is told for that.
const WAYS: [(&str, &str, &str); 2] = [
    (PASSED_THROUGH, "nvme=messages,1", ""),
    (BY_PIN, "nvme=pin,2", "pci=nomsi"),
];

/// Makes the guest's initramfs and the disk's contents anew, and says where those are.
pub(in crate::test) fn build(project: &Project, cache: &Cache) -> Outcome<PathBuf> {
    loader::build(cache, Architecture::X86_64, (&file(project)?, &DRIVERS))?;
    let spare = project.scratch("devices")?.join("spare");
    fs::write(&spare, vec![b'H'; 4 * MIB])
        .because(|| format!("cannot write {}", spare.display()))?;
    Ok(spare)
}

fn file(project: &Project) -> Outcome<PathBuf> {
    Ok(project.scratch("devices")?.join("passthrough.cpio"))
}

/// Whether what guests have written has come to the disk, seen from outside of the lab.
pub(in crate::test) fn look(spare: &Path) -> Outcome<Verdict> {
    looks(spare, b"HGGH")?;
    Ok(Verdict::Passed(String::new()))
}

/// Gives the lab's spare disk to guests, in the lab.
pub(in crate::test) fn run(
    project: &Project,
    cache: &Cache,
    (setting, firstlight): (Setting, &Path),
    tally: &Tally,
) -> Outcome {
    let guest = Guest {
        firstlight,
        setting,
        kernel: kernel::installed(cache, cases::release(setting.architecture))?,
        initrd: file(project)?,
    };
    tally.check(
        &format!("{}: a device that the host has", setting.name()),
        || guest.refused(),
    )?;
    hand_over()?;
    for (what, word, parameters) in WAYS {
        let name = format!("{}: {what}", setting.name());
        tally.check(&name, || guest.check(word, parameters))?;
    }
    Ok(())
}

/// The spare disk's address, as the lab's kernel writes it.
fn address() -> String {
    format!("0000:00:{}", lab::SPARE)
}

/// Has the lab's kernel bind it to the driver that hands devices to guests.
fn hand_over() -> Outcome {
    let at = address();
    let say = |path: String, word: &str| {
        fs::write(&path, word).because(|| format!("cannot write {word} to {path}"))
    };
    say(
        format!("/sys/bus/pci/devices/{at}/driver_override"),
        "vfio-pci",
    )?;
    say("/sys/bus/pci/drivers_probe".to_owned(), &at)
}

struct Guest<'a> {
    firstlight: &'a Path,
    setting: Setting,
    kernel: Kernel,
    initrd: PathBuf,
}

impl Guest<'_> {
    /// Without a word on how to hand it over, nobody has the disk.
    fn refused(&self) -> Outcome<Verdict> {
        let mut command = self.command("poweroff", "");
        let heard = Heard::listen(&mut command, Then::Wait)?;
        let is_told = heard.complaints.contains("driver_override");
        Ok(match heard.status.code() == Some(1) && is_told {
            true => Verdict::Passed(String::new()),
            false => Verdict::Failed(heard.told("expected status 1, and how to bind it", &command)),
        })
    }

    fn check(&self, word: &str, parameters: &str) -> Outcome<Verdict> {
        let mut command = self.command(&format!("{word} poweroff"), parameters);
        let mut heard = Heard::listen(&mut command, Then::Wait)?;
        let is_again = heard.ended_with_the_emulation(self.setting);
        if is_again {
            heard = Heard::listen(&mut command, Then::Wait)?;
        }
        Ok(match self.complaint(&heard) {
            None if is_again => Verdict::Passed(boot::SECOND_TRY.to_owned()),
            None => Verdict::Passed(String::new()),
            Some(wrong) => Verdict::Failed(heard.told(&wrong, &command)),
        })
    }

    /// What is wrong, if anything is; first what the guest says itself.
    fn complaint(&self, heard: &Heard) -> Option<String> {
        if let Err(failure) = said_of("nvme", &heard.console) {
            return Some(failure.to_string());
        }
        if heard.status.code() != Some(0) {
            return Some("expected status 0".to_owned());
        }
        boot::marker_complaint(&heard.console, &self.kernel.version, 1, boot::now())
    }

    fn command(&self, words: &str, parameters: &str) -> Command {
        let console = self.setting.architecture.console();
        let mut command = Command::new("timeout");
        command
            .args(["-k", "10", &(super::TIMEOUT + 60).to_string()])
            .arg(self.firstlight)
            .args(["boot", "--engine", self.setting.engine.name()])
            .args(["--timeout", &super::TIMEOUT.to_string()])
            .args(["--memory", "512M", "--vfio", &address(), "--kernel"])
            .arg(&self.kernel.file)
            .arg("--initrd")
            .arg(&self.initrd)
            .arg("--cmdline")
            .arg(format!(
                "console={console} panic=-1 {parameters} rdinit={INIT} -- {words}"
            ));
        command
    }
}

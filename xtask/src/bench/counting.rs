//! A machine whose clock counts instructions, with real KVM, on which guests are measured.
//!
//! The machine is the lab's, on one processor, under QEMU's exact instruction counting: a
//! nanosecond there is an executed instruction or a jump over idle time, and two runs on it agree
//! to the last digit whatever else the host does. Everything lies in memory, since a disc or a
//! network would answer when the host pleases. What it does not model are caches and the cost of
//! entering a guest.

use crate::architecture::Architecture;
use crate::cache::{self, Cache};
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs;
use crate::kernel;
use crate::lab;
use crate::process;
use crate::project::Project;
use crate::tools;
use firstlight_initramfs::cpio::Archive;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const INIT: &str = include_str!("../../guest/race-init");
/// What a line begins with that is shown.
pub(super) const RESULT: &str = "RESULT";
/// What is said after the last result.
pub(super) const FINISH: &str = "FINISH";
/// Where Firstlight and QEMU are on the machine.
pub(super) const FIRSTLIGHT: &str = "/race/firstlight";
pub(super) const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// The longest that everything on it may take, in seconds.
const PATIENCE: &str = "3600";

/// Runs this program's `bench` on a machine that has `files`, and shows its results.
pub(super) fn run(cache: &Cache, kernel: &Path, (files, bench): (Files, &str)) -> Outcome {
    let initrd = files.finish(bench)?;
    let mut machine = Command::new("setpriv");
    machine
        .args(["--pdeathsig", "TERM", "timeout", "--kill-after=5", PATIENCE])
        .args(lab::emulator(cache, Architecture::X86_64)?)
        .args(["-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot", "-M", "q35", "-m", "3072"])
        .args(["-cpu", lab::X86_64_WITH_SVM, "-accel", "tcg", "-seed", "1"])
        .args(["-icount", "shift=0,sleep=off"])
        .args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"])
        .args(["-serial", "stdio", "-append"])
        .arg(format!(
            "console=ttyS0 quiet panic=-1 nokaslr norandmaps mitigations=off bench={bench}"
        ))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&initrd);
    let mut running = machine
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .because(|| format!("cannot start {}", process::shown(&machine)))?;
    let mut said = String::new();
    let mut finished = false;
    for line in console_of(&mut running)?.lines() {
        let line = line.because(|| format!("cannot read what the {bench} prints"))?;
        match line.trim_end().strip_prefix(RESULT) {
            Some(result) => println!("{result}"),
            None => said += &format!("  {}\n", line.trim_end()),
        }
        finished |= line.starts_with(FINISH);
    }
    let status = running
        .wait()
        .because(|| format!("cannot wait for the {bench}"))?;
    if finished {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "the {bench} was not finished ({status}):\n{said}"
        )))
    }
}

/// An archive that has the folders of what is put into it.
pub(super) struct Files {
    archive: Archive,
    folders: BTreeSet<String>,
    /// Where the archive is made.
    scratch: PathBuf,
}

impl Files {
    /// What every such machine has: this program, both VMMs, and `modules`, names of files with what
    /// is in them, in the order of loading.
    pub(super) fn new(
        project: &Project,
        cache: &Cache,
        modules: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Outcome<Self> {
        tools::install(&[tools::QEMU])?;
        let mut files = Self {
            archive: initramfs::skeleton(cache, kernel::DEBIAN_12.architecture)?,
            folders: BTreeSet::new(),
            scratch: project.scratch("race")?,
        };
        files.archive.program("init", INIT.as_bytes());
        let mut order = String::new();
        for (name, module) in modules {
            files.write(&format!("modules/{name}"), &module);
            order += &format!("{name}\n");
        }
        files.write("modules/order", order.as_bytes());
        let programs = [
            (project.this_program()?, "race/xtask"),
            (project.built_firstlight(), FIRSTLIGHT),
            (the_machines_qemu()?, QEMU),
        ];
        let mut libraries = BTreeSet::new();
        for (program, place) in &programs {
            files.copy(program, place)?;
            libraries.extend(shared_libraries(program)?);
        }
        for library in libraries {
            files.copy(&library, &library.to_string_lossy())?;
        }
        files.copy_firmware()?;
        Ok(files)
    }

    /// What QEMU's machines need.
    fn copy_firmware(&mut self) -> Outcome {
        for folder in ["/usr/share/qemu", "/usr/share/seabios"] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_firmware = path
                    .extension()
                    .is_some_and(|extension| extension == "bin" || extension == "rom");
                // Firmware for other machines is larger.
                let is_small = fs::metadata(&path).is_ok_and(|file| file.len() <= 256 << 10);
                if is_firmware && is_small {
                    self.copy(&path, &path.to_string_lossy())?;
                }
            }
        }
        Ok(())
    }

    /// Copies a file to `place`.
    pub(super) fn copy(&mut self, from: &Path, place: &str) -> Outcome {
        let contents = fs::read(from).because(|| format!("cannot read {}", from.display()))?;
        self.write(place, &contents);
        Ok(())
    }

    /// Puts a file at `place`, with the folders that it is in.
    pub(super) fn write(&mut self, place: &str, contents: &[u8]) {
        let place = place.trim_start_matches('/');
        for (at, _) in place.match_indices('/') {
            if self.folders.insert(place[..at].to_owned()) {
                self.archive.folder(&place[..at]);
            }
        }
        self.archive.program(place, contents);
    }

    /// The archive for `bench`.
    fn finish(self, bench: &str) -> Outcome<PathBuf> {
        let initrd = self.scratch.join(format!("{bench}.cpio"));
        let archive = self.archive.finish();
        let archive = archive.because(|| "cannot make the archive".to_owned())?;
        cache::write_whole(&initrd, &archive)?;
        Ok(initrd)
    }
}

fn the_machines_qemu() -> Outcome<PathBuf> {
    process::find("qemu-system-x86_64")
        .ok_or_else(|| Failure::new("QEMU vanished from the search path"))
}

/// The files that the dynamic linker would load for `program`, itself included.
fn shared_libraries(program: &Path) -> Outcome<Vec<PathBuf>> {
    let said = process::output_of(Command::new("ldd").arg(program))?;
    Ok(library_paths(&said))
}

/// The absolute paths in what `ldd` prints: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
fn library_paths(said: &str) -> Vec<PathBuf> {
    said.lines()
        .filter_map(|line| {
            let path = line.split_once("=>").map_or(line, |(_, path)| path);
            path.split_whitespace().next()
        })
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// What a guest or a machine prints.
pub(super) fn console_of(running: &mut Child) -> Outcome<impl BufRead + use<>> {
    let console = running.stdout.take();
    console
        .map(BufReader::new)
        .ok_or_else(|| Failure::new("a guest without a console"))
}

/// Ends a VMM.
pub(super) fn end(running: &mut Child) -> Outcome {
    running.kill().because(|| "cannot end a VMM".to_owned())?;
    running
        .wait()
        .because(|| "cannot wait for a VMM".to_owned())?;
    Ok(())
}

/// Milliseconds of the clock that events are stamped with, too.
pub(super) fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    #[expect(clippy::cast_precision_loss, reason = "the machine runs for minutes")]
    let (seconds, nanoseconds) = (now.tv_sec as f64, now.tv_nsec as f64);
    seconds * 1e3 + nanoseconds / 1e6
}

/// One of KVM's counters, over all guests there are: that is one.
pub(super) fn kvm_count(name: &str) -> u64 {
    let text = fs::read_to_string(format!("/sys/kernel/debug/kvm/{name}"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            library_paths(said),
            [
                PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        assert!(library_paths("\tstatically linked\n").is_empty());
    }
}

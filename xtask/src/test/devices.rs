//! Guests with disks, networks, sockets and whatever else virtio has: Debian's stock kernel, with the
//! modules of its package, from an ext4 root.

mod cases;
pub(super) mod control;
mod crash;
mod durability;
pub(super) mod firmware;
pub(super) mod hot_plug;
mod loader;
mod network;
mod others;
pub(super) mod passthrough;
mod root;
mod socket;
mod watchdog;

pub(super) use cases::{ServedBy, Transport, name, name_served};

use super::boot::{self, Engine, Heard, Setting, Then};
use super::{Tally, Verdict, at_once};
use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::kernel::{self, Kernel};
use crate::lab::Board;
use crate::project::Project;
use crate::tree::Planted;
use cases::{Case, Ends, STATUS, Try};
use network::Server;
use others::Others;
use socket::Host;
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What a disk's coming and going in a running Linux is called, behind the setting's name.
pub(super) const HOT_PLUG: &str = "a disk that comes and goes";
/// The same of a kernel's last words.
pub(super) const KEPT_PANIC: &str = "a panic is kept";
/// The same of firmware that starts a kernel, and still knows what it was told before Firstlight was killed.
pub(super) const FIRMWARE: &str = "firmware starts a disk and remembers";
/// And of a disk of the host's own.
pub(super) const PASSED_THROUGH: &str = "a disk of the host's own (VFIO), messages";
/// The same of one that interrupts by its pin.
pub(super) const BY_PIN: &str = "a disk of the host's own (VFIO), pin";
/// And of a root that is memory.
pub(super) const DIRECT_ROOT: &str = "a root for direct access";
/// The same of memory that goes out to a file.
pub(super) const SWAPPED: &str = "memory goes out and comes back";
/// The same of a battery.
pub(super) const BATTERY: &str = "a battery that changes";
/// The same of sleep.
pub(super) const SLEEP: &str = "sleep is told, and woken from";
/// The same of a watchdog.
pub(super) const STARVED: &str = "a watchdog that nobody feeds";

/// All that guests with devices are tried in.
pub(super) fn settings() -> impl Iterator<Item = Setting> {
    let qemu = Architecture::ALL.map(|architecture| (Engine::Qemu, architecture));
    let kvm = [Architecture::X86_64, Architecture::Arm64].map(|one| (Engine::Kvm, one));
    let settings = qemu.into_iter().chain(kvm);
    settings.map(|(engine, architecture)| Setting {
        engine,
        architecture,
        board: Board::Newest,
    })
}

/// Whether any guest of `setting` had success with something.
pub(super) fn ran(setting: Setting, passed: &BTreeSet<String>) -> bool {
    let mut cases = cases::of(setting).into_iter();
    cases.any(|case| {
        let mut tries = case.tries.iter();
        tries.any(|one| passed.contains(&case.of(one.word())))
    })
}

/// Fetches and builds all that guests with devices need: in the lab, nothing can be.
pub(crate) fn prepare(project: &Project, cache: &Cache, architecture: Architecture) -> Outcome {
    kernel::installed(cache, cases::release(architecture))?;
    others::fetch(cache)?;
    root::build(project, cache, architecture)?;
    firmware::build(project, cache, architecture)
}

/// Boots every guest with devices that is tried in `setting` with the program `firstlight`.
pub(crate) fn run(
    project: &Project,
    cache: &Cache,
    (setting, firstlight): (Setting, &Path),
    tally: &Tally,
) -> Outcome {
    let is_lab = setting.engine == Engine::Kvm;
    if is_lab {
        network::make_in_the_lab(setting.architecture)?;
    }
    let address = match is_lab {
        true => Ipv4Addr::UNSPECIFIED,
        false => Ipv4Addr::LOCALHOST,
    };
    let cases = cases::of(setting);
    let with_others = cases.iter().any(|case| case.served_by == ServedBy::Others);
    let place = Place {
        firstlight: firstlight.to_owned(),
        others: with_others.then(|| others::fetch(cache)).transpose()?,
        kernel: kernel::installed(cache, cases::release(setting.architecture))?,
        root: root::file(project, setting.architecture)?,
        folder: root::folder(project, setting.architecture)?,
        server: Server::start(address)?,
        cpus: cpus(setting),
    };
    let at_a_time = boot::at_a_time(setting.engine);
    at_once(at_a_time, &cases, |case| {
        place.try_all(case, tally);
    });
    // Debian's kernel for riscv64 has no driver for these.
    if setting.architecture != Architecture::Riscv64 {
        let name = format!("{}: {STARVED}", setting.name());
        tally.check(&name, || {
            watchdog::check(&place, setting.engine, &Ground::make("watchdog")?)
        })?;
        place.panic(setting, tally);
    }
    if is_lab && setting.architecture == Architecture::X86_64 {
        tally.check("kvm: what is written is there after SIGKILL", || {
            durability::check(&place, &Ground::make("durability")?)
        })?;
    }
    if is_lab {
        place.control(setting, cache, tally)?;
    }
    Ok(())
}

/// A guest's root: the option, and where it is.
type Root<'a> = (&'static str, &'a Path);

/// What every guest is booted with.
struct Place {
    firstlight: PathBuf,
    kernel: Kernel,
    /// The image that each guest gets a copy of.
    root: PathBuf,
    /// The folder with the same in it.
    folder: PathBuf,
    server: Server,
    /// The programs that serve devices by vhost-user, where a guest has such devices.
    others: Option<Planted>,
    /// So many vCPUs each guest has.
    cpus: u32,
}

/// A guest that has run, with all that it had to do with.
struct Boot {
    ground: Ground,
    host: Host,
    _others: Option<Others>,
    command: Command,
    heard: Heard,
}

/// The longest that a guest may run, in seconds.
const TIMEOUT: u32 = 300;
const MIB: usize = 1 << 20;

impl Place {
    fn try_all(&self, case: &Case, tally: &Tally) {
        let start = Instant::now();
        let outcome = self.boot(case);
        let took = start.elapsed();
        match outcome {
            Err(failure) => {
                let verdict = Verdict::Failed(failure.to_string());
                tally.report(&case.of(case.ends.title()), took, &verdict);
            }
            Ok(verdicts) => {
                for (what, verdict) in verdicts {
                    let took = match what == case.ends.title() {
                        true => took,
                        false => Duration::ZERO,
                    };
                    tally.report(&case.of(what), took, &verdict);
                }
            }
        }
    }

    /// Has a kernel panic whose root is memory, where that is to be had.
    fn panic(&self, setting: Setting, tally: &Tally) {
        let start = Instant::now();
        let seen = Ground::make("crash")
            .and_then(|ground| crash::check(self, setting.engine, &ground))
            .unwrap_or_else(|failure| crash::Seen {
                log: Verdict::Failed(failure.to_string()),
                direct: None,
            });
        let name = |what: &str| format!("{}: {what}", setting.name());
        tally.report(&name(KEPT_PANIC), start.elapsed(), &seen.log);
        if let Some(direct) = &seen.direct {
            tally.report(&name(DIRECT_ROOT), Duration::ZERO, direct);
        }
    }

    /// Controls a guest by its socket.
    fn control(&self, setting: Setting, cache: &Cache, tally: &Tally) -> Outcome {
        let start = Instant::now();
        let seen = control::check(
            self,
            (cache, setting.architecture),
            &Ground::make("control")?,
        )?;
        for (what, verdict) in &seen {
            tally.report(
                &format!("{}: {what}", setting.name()),
                start.elapsed(),
                verdict,
            );
        }
        Ok(())
    }

    /// How the guest ended, and all that it tried.
    fn boot(&self, case: &Case) -> Outcome<Vec<(&'static str, Verdict)>> {
        let first = self.hear(case)?;
        let is_again = first.heard.ended_with_the_emulation(case.setting);
        let Boot {
            ground,
            host,
            command,
            heard,
            ..
        } = match is_again {
            true => {
                drop(first);
                self.hear(case)?
            }
            false => first,
        };
        let ended = match self.complaint(case, &heard) {
            None if is_again => Verdict::Passed(boot::SECOND_TRY.to_owned()),
            None => Verdict::Passed(heard.engine_note()),
            Some(wrong) => Verdict::Failed(heard.told(&wrong, &command)),
        };
        let mut verdicts = vec![(case.ends.title(), ended)];
        for &one in &case.tries {
            let seen = said_of(one.word(), &heard.console).and_then(|()| match one {
                Try::Disk => ground.look_at_disk(),
                Try::Debugcon => ground.look_at_debugcon(),
                Try::ReadOnly => ground.look_at_readonly(),
                Try::Share => ground.look_at_shares(),
                Try::Pmem => ground.look_at_pmems(),
                Try::Covered => uncovered(&self.folder),
                Try::Vsock => host.outcome(),
                _ => Ok(()),
            });
            let verdict = match seen {
                Ok(()) => Verdict::Passed(String::new()),
                Err(failure) => Verdict::Failed(failure.to_string()),
            };
            verdicts.push((one.word(), verdict));
        }
        Ok(verdicts)
    }

    fn hear(&self, case: &Case) -> Outcome<Boot> {
        let ground = Ground::make(&case.of(case.ends.title()).replace([' ', ':'], "-"))?;
        ground.fill(&self.root)?;
        let host = Host::listen(&ground.vsock)?;
        let others = match (&self.others, case.served_by) {
            (Some(programs), ServedBy::Others) => Some(Others::start(programs, &ground)?),
            _ => None,
        };
        let mut command = self.command(case, &ground);
        let heard = Heard::listen(&mut command, Then::Type)?;
        Ok(Boot {
            ground,
            host,
            _others: others,
            command,
            heard,
        })
    }

    fn complaint(&self, case: &Case, heard: &Heard) -> Option<String> {
        let expected = match case.ends {
            Ends::Command | Ends::Shared => STATUS,
            Ends::System => 0,
        };
        if heard.status.code() != Some(expected) {
            return Some(format!("expected status {expected}"));
        }
        let is_last = |line: &str| line.trim_end() == LAST;
        if case.prints() && !heard.console.lines().any(is_last) {
            return Some("what it printed last is missing".to_owned());
        }
        boot::marker_complaint(&heard.console, &self.kernel.version, self.cpus, boot::now())
    }

    /// `firstlight boot` with a root, and a limit to itself.
    fn limited(&self, engine: Engine, root: Root<'_>) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-k", "10", &(TIMEOUT + 60).to_string()])
            .arg(&self.firstlight);
        self.add_options(&mut command, engine, root);
        command
    }

    fn add_options(&self, command: &mut Command, engine: Engine, (option, path): Root<'_>) {
        command
            .env("FIRSTLIGHT_CACHE", unpacked())
            .args(["boot", "--engine", engine.name()])
            .args(["--timeout", &TIMEOUT.to_string()])
            .args(["--memory", "512M", "--cpus", &self.cpus.to_string()])
            .arg("--kernel")
            .arg(&self.kernel.file)
            .arg(option)
            .arg(path);
    }

    fn command(&self, case: &Case, ground: &Ground) -> Command {
        let root = match case.ends {
            Ends::Command | Ends::System => ground.root(),
            Ends::Shared => ("--root", &*self.folder),
        };
        let mut command = self.limited(case.setting.engine, root);
        command.args(["--virtio", case.transport.name()]);
        if case.setting.engine == Engine::Kvm {
            let is_jailed = case.served_by == ServedBy::Jails;
            command.args(["--sandbox", if is_jailed { "on" } else { "off" }]);
        }
        for &one in &case.tries {
            match one {
                Try::Disk | Try::Share | Try::User if case.served_by == ServedBy::Others => {
                    for device in others::devices(one, &ground.folder) {
                        command.arg("--vhost-user").arg(device);
                    }
                }
                Try::Root | Try::Covered => {}
                Try::Disk => _ = command.arg("--disk").arg(&ground.disk),
                Try::ReadOnly => {
                    let mut disk = ground.readonly.clone().into_os_string();
                    disk.push(",readonly");
                    command.arg("--disk").arg(disk);
                }
                Try::Share => {
                    for (name, more) in SHARES {
                        let mut share = ground.folder.join(name).into_os_string();
                        share.push(more);
                        command.arg("--share").arg(share);
                    }
                }
                Try::Pmem => {
                    for (name, more) in PMEMS {
                        let mut pmem = ground.folder.join(name).into_os_string();
                        pmem.push(more);
                        command.arg("--pmem").arg(pmem);
                    }
                }
                Try::Tap => _ = command.arg("--net").arg(format!("tap={}", network::TAP)),
                Try::User => _ = command.args(["--net", "user"]),
                Try::Vsock => {
                    let mut vsock = "3,uds=".to_owned();
                    vsock += &ground.vsock.to_string_lossy();
                    command.arg("--vsock").arg(vsock);
                }
                Try::Rng => _ = command.arg("--rng"),
                Try::Balloon => _ = command.arg("--balloon"),
                Try::FwCfg => _ = command.args(["--fw-cfg", OFFERED]),
                Try::Firmware => {
                    command.args(["--smbios", MAKER]);
                    command.arg("--acpi-table").arg(ground.folder.join(TABLE));
                }
                Try::Debugcon => _ = command.arg("--debugcon").arg(ground.debugcon()),
                Try::Watchdog => _ = command.arg("--watchdog"),
                Try::Console => _ = command.args(["--console", "virtio"]),
            }
        }
        let words = self.words(case);
        match case.ends {
            Ends::Command | Ends::Shared => command.args(["--", "/sbin/init"]).args(words),
            Ends::System => {
                let console = case.setting.architecture.console();
                let words = words.join(" ");
                command
                    .arg("--cmdline")
                    .arg(format!("console={console} panic=-1 -- {words}"))
            }
        };
        command
    }

    /// What the guest's script is told.
    fn words(&self, case: &Case) -> Vec<String> {
        let port = self.server.port;
        let mut words: Vec<String> = Vec::new();
        for one in &case.tries {
            let word = one.word();
            words.push(match one {
                Try::Root => format!("{word}={}", case.transport.name()),
                Try::Tap => format!("{word}={port}"),
                // The tap, where there is one, comes first.
                Try::User => {
                    let number = u8::from(case.tries.contains(&Try::Tap));
                    format!("{word}=eth{number},{port}")
                }
                _ => word.to_owned(),
            });
        }
        words.extend(case.prints().then(|| "print".to_owned()));
        words.push(match case.ends {
            Ends::Command | Ends::Shared => format!("exit={STATUS}"),
            Ends::System => "poweroff".to_owned(),
        });
        words
    }
}

/// The last line that a command prints.
const LAST: &str = "FIRSTLIGHT-LAST";
/// What the guests' firmware is offered.
const OFFERED: &str = "opt/org.firstlight/test,string=offered by the host";
/// What their firmware says of who made the machine.
const MAKER: &str = "manufacturer=Maker,, Inc.,product=Test machine";
/// The file of an ACPI table that they are given.
const TABLE: &str = "table";
/// So many vCPUs a guest has. On QEMU's emulation of SVM two that are busy do not always come to an end.
const fn cpus(setting: Setting) -> u32 {
    match (setting.engine, setting.architecture) {
        (Engine::Kvm, Architecture::X86_64) => 1,
        _ => 2,
    }
}

/// What the guest said of what its script calls `word`.
fn said_of(word: &str, console: &str) -> Outcome {
    let start = format!("FIRSTLIGHT-DEVICE {word} ");
    let said = console.lines().find_map(|line| line.strip_prefix(&start));
    match said {
        Some("ok") => Ok(()),
        Some(wrong) => Err(Failure::new(wrong)),
        None => Err(Failure::new(format!(
            "the guest says nothing of it; last lines of its console:\n{}",
            boot::last_lines(console, 40)
        ))),
    }
}

/// What the guests' kernels are unpacked to: not the user's.
fn unpacked() -> PathBuf {
    std::env::temp_dir().join("firstlight-unpacked")
}

/// A guest's files, which are removed with this value.
struct Ground {
    folder: PathBuf,
    root: PathBuf,
    disk: PathBuf,
    readonly: PathBuf,
    vsock: PathBuf,
}

impl Ground {
    fn make(name: &str) -> Outcome<Self> {
        let name = format!("firstlight-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).because(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            root: folder.join("root.ext4"),
            disk: folder.join("disk"),
            readonly: folder.join("readonly"),
            vsock: folder.join("vsock"),
            folder,
        })
    }

    /// Makes the disks: a copy of `root`, one that the guest writes to, and one that it cannot.
    fn fill(&self, root: &Path) -> Outcome {
        self.copy_root(root)?;
        for (path, count) in [(&self.disk, 4), (&self.readonly, 1)] {
            let bytes = vec![b'H'; count * MIB];
            fs::write(path, bytes).because(|| format!("cannot write {}", path.display()))?;
        }
        let [written, fixed, direct] = PMEMS.map(|(name, _)| self.folder.join(name));
        for (path, len) in [(&written, 4 * MIB), (&fixed, MIB + 1)] {
            let bytes = vec![b'H'; len];
            fs::write(path, bytes).because(|| format!("cannot write {}", path.display()))?;
        }
        copy(root, &direct)?;
        let table = self.folder.join(TABLE);
        fs::write(&table, acpi_table()).because(|| format!("cannot write {}", table.display()))?;
        self.fill_shares()
    }

    /// Makes the folders that are shared, with a file in each, and a link that leads out of them.
    fn fill_shares(&self) -> Outcome {
        for (name, _) in SHARES {
            let folder = self.folder.join(name);
            let fill = || {
                fs::create_dir(&folder)?;
                fs::write(folder.join("host"), vec![b'H'; MIB])?;
                symlink("../disk", folder.join("out"))
            };
            fill().because(|| format!("cannot fill {}", folder.display()))?;
        }
        Ok(())
    }

    /// The guest has read and written one of them, and only read the other.
    fn look_at_shares(&self) -> Outcome {
        let [written, fixed] = SHARES.map(|(name, _)| self.folder.join(name));
        looks(&written.join("host"), b"H")?;
        looks(&written.join("guest"), b"G")?;
        looks(&fixed.join("host"), b"H")?;
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).map(Iterator::count);
            entries.because(|| format!("cannot read {}", folder.display()))
        };
        match (names(&written)?, names(&fixed)?) {
            (3, 2) => Ok(()),
            other => Err(Failure::new(format!("so many files are there: {other:?}"))),
        }
    }

    /// The guest has written to one of them, and to none that it was only to read.
    fn look_at_pmems(&self) -> Outcome {
        let [written, fixed, _direct] = PMEMS.map(|(name, _)| self.folder.join(name));
        looks(&written, b"HGHH")?;
        let bytes = fs::read(&fixed).because(|| format!("cannot read {}", fixed.display()))?;
        match bytes.len() == MIB + 1 && bytes.iter().all(|&byte| byte == b'H') {
            true => Ok(()),
            false => Err(Failure::new("the guest has written to what it was to read")),
        }
    }

    /// The disk as a guest's root.
    fn root(&self) -> Root<'_> {
        ("--rootfs", &self.root)
    }

    fn copy_root(&self, root: &Path) -> Outcome {
        copy(root, &self.root)
    }

    /// What the guest wrote and discarded has come here, and nothing else.
    fn look_at_disk(&self) -> Outcome {
        looks(&self.disk, b"HG\0H")
    }

    fn debugcon(&self) -> PathBuf {
        self.folder.join("debugcon")
    }

    /// The guest has said one letter there.
    fn look_at_debugcon(&self) -> Outcome {
        let path = self.debugcon();
        let said = fs::read(&path).because(|| format!("cannot read {}", path.display()))?;
        match &said[..] {
            b"s" => Ok(()),
            _ => Err(Failure::new(format!("it said {}", said.escape_ascii()))),
        }
    }

    fn look_at_readonly(&self) -> Outcome {
        looks(&self.readonly, b"H")
    }
}

/// An ACPI table that means nothing.
fn acpi_table() -> Vec<u8> {
    let mut table = b"OEM1\x2d\0\0\0\x01\0TESTERTESTS   \x01\0\0\0TEST\x01\0\0\0the table".to_vec();
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = table.get_mut(9) {
        *checksum = sum.wrapping_neg();
    }
    table
}

/// The folders that are shared, and what is behind their names: a tag, and that one is only read.
const SHARES: [(&str, &str); 2] = [("written", ":host"), ("fixed", ":fixed,readonly")];

/// The files that are memory, and what is behind their names: one is only read, and has no whole pages.
const PMEMS: [(&str, &str); 3] = [("pmem", ""), ("fixed-pmem", ",readonly"), ("direct", "")];

fn copy(from: &Path, to: &Path) -> Outcome {
    let copied = fs::copy(from, to).map(|_count| ());
    copied.because(|| format!("cannot copy {}", from.display()))
}

/// What a guest has written over its root is not in that.
fn uncovered(folder: &Path) -> Outcome {
    match folder.join("etc/note").exists() {
        false => Ok(()),
        true => Err(Failure::new("the guest has written to the host's folder")),
    }
}

/// Whether each MiB of the file at `path` is full of one of `letters`.
fn looks(path: &Path, letters: &[u8]) -> Outcome {
    let bytes = fs::read(path).because(|| format!("cannot read {}", path.display()))?;
    let expected = letters
        .iter()
        .flat_map(|&letter| std::iter::repeat_n(letter, MIB));
    if let Some(place) = bytes
        .iter()
        .copied()
        .zip(expected)
        .position(|(a, b)| a != b)
    {
        let found = bytes.get(place).copied().unwrap_or_default();
        return Err(Failure::new(format!(
            "the file has {found:#x} at {place:#x}"
        )));
    }
    if bytes.len() != letters.len() * MIB {
        return Err(Failure::new(format!("the file has {} bytes", bytes.len())));
    }
    Ok(())
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

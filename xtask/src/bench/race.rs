//! The race: Firstlight and QEMU on real KVM, on a machine whose clock counts instructions.
//!
//! The machine is the lab's, on one processor, under QEMU's exact instruction counting: a
//! nanosecond there is an executed instruction or a jump over idle time, and two runs of the race
//! agree to the last digit whatever else the host does. Everything lies in memory, since a disc or
//! a network would answer when the host pleases. What it does not model are caches and the cost of
//! entering a guest.

use super::peer;
use crate::cache::{self, Cache};
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs::{self, MARKER};
use crate::kernel;
use crate::process;
use crate::project::Project;
use crate::tools;
use firstlight_initramfs::cpio::Archive;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const INIT: &str = include_str!("../../guest/race-init");
/// What a result's line begins with.
const RESULT: &str = "RESULT";
/// What is said after the last result.
const FINISH: &str = "FINISH";
/// KVM's counters that are shown: what we call them, and their files.
const COUNTERS: [(&str, &str); 7] = [
    ("exits", "exits"),
    ("I/O", "io_exits"),
    ("MMIO", "mmio_exits"),
    ("faults", "pf_taken"),
    ("emulated", "insn_emulation"),
    ("irqs", "irq_exits"),
    ("halts", "halt_exits"),
];
/// Memory of each guest, in MiB.
const MEMORY: u32 = 256;
/// The longest that the whole race may take, in seconds.
const PATIENCE: &str = "1500";

/// Runs the race and prints its table.
pub(super) fn run(project: &Project, cache: &Cache) -> Outcome {
    tools::install(&[tools::QEMU])?;
    println!("\n== boot: both on real KVM, on a machine whose clock counts instructions");
    println!("   1 vCPU, {MEMORY} MiB; times in ms of that clock, from the start of the process");
    let initrd = project.scratch("race")?.join("initramfs.cpio");
    cache::write_whole(&initrd, &machine_files(project, cache)?)?;
    let kernel = kernel::fetch(cache, &kernel::DEBIAN_12)?;
    let mut machine = Command::new("setpriv");
    machine
        .args(["--pdeathsig", "TERM", "timeout", "--kill-after=5", PATIENCE])
        .args(["qemu-system-x86_64", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot", "-M", "q35", "-m", "3072"])
        .args(["-cpu", "max,+svm,-la57", "-accel", "tcg", "-seed", "1"])
        .args(["-icount", "shift=0,sleep=off"])
        .args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"])
        .args(["-serial", "stdio", "-append"])
        .arg("console=ttyS0 quiet panic=-1 nokaslr norandmaps mitigations=off")
        .arg("-kernel")
        .arg(&kernel.file)
        .arg("-initrd")
        .arg(&initrd);
    let times = ["KVM_RUN", "output", "init", "own kB", "guest kB"];
    print!("{:<16} {:<12}", "kernel", "VMM");
    for column in times.iter().chain(COUNTERS.iter().map(|(title, _)| title)) {
        print!(" {column:>9}");
    }
    println!();
    let mut running = machine
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .because(|| format!("cannot start {}", process::shown(&machine)))?;
    let mut said = String::new();
    let mut finished = false;
    for line in console_of(&mut running)?.lines() {
        let line = line.because(|| "cannot read what the race prints".to_owned())?;
        match line.trim_end().strip_prefix(RESULT) {
            Some(result) => println!("{result}"),
            None => said += &format!("  {}\n", line.trim_end()),
        }
        finished |= line.starts_with(FINISH);
    }
    let status = running
        .wait()
        .because(|| "cannot wait for the race".to_owned())?;
    if finished {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "the race was not finished ({status}):\n{said}"
        )))
    }
}

/// Everything that the race's machine has.
fn machine_files(project: &Project, cache: &Cache) -> Outcome<Vec<u8>> {
    let mut files = Files {
        archive: initramfs::skeleton(cache, kernel::DEBIAN_12.architecture)?,
        folders: BTreeSet::new(),
    };
    files.archive.program("init", INIT.as_bytes());
    let kernel = kernel::fetch(cache, &kernel::DEBIAN_12)?;
    let order = kernel.modules.join("order");
    let order =
        fs::read_to_string(&order).because(|| format!("cannot read {}", order.display()))?;
    let order: Vec<&str> = order.lines().filter(|name| is_for_kvm(name)).collect();
    for name in &order {
        files.copy(&kernel.modules.join(name), &format!("modules/{name}"))?;
    }
    files.write(
        "modules/order",
        format!("{}\n", order.join("\n")).as_bytes(),
    );
    for release in &kernel::RELEASES {
        let kernel = kernel::fetch(cache, release)?;
        files.copy(&kernel.file, &format!("race/{}", release.name))?;
    }
    files.copy(
        &initramfs::build(project, cache, kernel::DEBIAN_12.architecture)?,
        "race/initramfs",
    )?;
    let qemu = process::find("qemu-system-x86_64")
        .ok_or_else(|| Failure::new("QEMU vanished from the search path"))?;
    let programs = [
        (project.this_program()?, "race/xtask"),
        (project.built_firstlight(), "race/firstlight"),
        (qemu, "usr/bin/qemu-system-x86_64"),
    ];
    let mut libraries = BTreeSet::new();
    for (program, place) in &programs {
        files.copy(program, place)?;
        libraries.extend(shared_libraries(program)?);
    }
    for library in libraries {
        let place = library.to_string_lossy();
        files.copy(&library, place.trim_start_matches('/'))?;
    }
    for folder in ["/usr/share/qemu", "/usr/share/seabios"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_firmware = path
                .extension()
                .is_some_and(|extension| extension == "bin" || extension == "rom");
            // Firmware for other machines is larger.
            let is_small = fs::metadata(&path).is_ok_and(|file| file.len() <= 256 << 10);
            if is_firmware && is_small {
                let place = path.to_string_lossy();
                files.copy(&path, place.trim_start_matches('/'))?;
            }
        }
    }
    files
        .archive
        .finish()
        .because(|| "cannot make the archive".to_owned())
}

/// KVM and what it needs; not the virtio devices and file systems of the lab.
fn is_for_kvm(module: &str) -> bool {
    ["virtio", "9p", "netfs", "fscache", "overlay", "failover"]
        .iter()
        .all(|other| !module.starts_with(other))
}

/// An archive that has the folders of what is put into it.
struct Files {
    archive: Archive,
    folders: BTreeSet<String>,
}

impl Files {
    fn copy(&mut self, from: &Path, place: &str) -> Outcome {
        let contents = fs::read(from).because(|| format!("cannot read {}", from.display()))?;
        self.write(place, &contents);
        Ok(())
    }

    fn write(&mut self, place: &str, contents: &[u8]) {
        for (at, _) in place.match_indices('/') {
            if self.folders.insert(place[..at].to_owned()) {
                self.archive.folder(&place[..at]);
            }
        }
        self.archive.program(place, contents);
    }
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

/// The race itself, on its machine: boots each guest with each VMM and prints what it saw.
pub(crate) fn inside_the_race() -> Outcome {
    for release in &kernel::RELEASES {
        let guest = peer::Guest {
            kernel: Path::new("/race").join(release.name),
            initrd: "/race/initramfs".into(),
            cmdline: "console=ttyS0 reboot=t panic=-1 quiet nokaslr fl.do=idle".to_owned(),
            memory: MEMORY,
        };
        let runners: [(&str, Command); 2] = [
            (
                "firstlight",
                peer::firstlight(Path::new("/race/firstlight"), &guest, "kvm"),
            ),
            (
                "qemu microvm",
                peer::qemu(Path::new("/usr/bin/qemu-system-x86_64"), &guest, "kvm"),
            ),
        ];
        for (name, mut command) in runners {
            let first_run = first_run(&mut command)?;
            let seen = boot(&mut command)?;
            print!("{RESULT}{:<16} {name:<12}", release.name);
            for time in [first_run, seen.first_output, seen.init] {
                print!(" {time:>9.2}");
            }
            print!(" {:>9} {:>9}", seen.memory.own, seen.memory.guest);
            for count in seen.counts {
                print!(" {count:>9}");
            }
            println!();
        }
    }
    println!("{FINISH}");
    Ok(())
}

/// What was seen of a boot; times in ms.
struct Seen {
    first_output: f64,
    init: f64,
    memory: Resident,
    counts: [u64; COUNTERS.len()],
}

fn boot(command: &mut Command) -> Outcome<Seen> {
    let start = now();
    let mut running = start_with_console(command)?;
    let mut console = console_of(&mut running)?;
    let mut line = Vec::new();
    let mut first_output = None;
    let init = loop {
        let mut byte = [0];
        match console.read(&mut byte) {
            Ok(1) => {}
            _ => return Err(no_init(&mut running, command)),
        }
        first_output.get_or_insert_with(|| now() - start);
        line.push(byte[0]);
        if byte[0] == b'\n' {
            if String::from_utf8_lossy(&line).contains(MARKER) {
                break now() - start;
            }
            line.clear();
        }
    };
    let counts = COUNTERS.map(|(_, file)| kvm_count(file));
    let smaps = format!("/proc/{}/smaps", running.id());
    let smaps = fs::read_to_string(&smaps).because(|| format!("cannot read {smaps}"))?;
    end(&mut running)?;
    Ok(Seen {
        first_output: first_output.unwrap_or_default(),
        init,
        memory: resident(&smaps, u64::from(MEMORY) << 10),
        counts,
    })
}

/// When the guest's first instruction ran, in ms from the start of the process.
fn first_run(command: &mut Command) -> Outcome<f64> {
    trace("trace_clock", "mono")?;
    trace("trace", "")?;
    // The first events are wanted, not the last.
    trace("options/overwrite", "0")?;
    trace("events/kvm/kvm_entry/enable", "1")?;
    let start = now();
    let mut running = start_with_console(command)?;
    let mut console = console_of(&mut running)?;
    let mut byte = [0];
    if console.read(&mut byte).ok() != Some(1) {
        return Err(no_init(&mut running, command));
    }
    end(&mut running)?;
    trace("events/kvm/kvm_entry/enable", "0")?;
    let path = format!("{TRACING}/trace");
    let text = fs::read_to_string(&path).because(|| format!("cannot read {path}"))?;
    first_entry(&text)
        .map(|when| when - start)
        .ok_or_else(|| Failure::new(format!("no guest was entered:\n{text}")))
}

const TRACING: &str = "/sys/kernel/debug/tracing";

fn trace(file: &str, text: &str) -> Outcome {
    let path = format!("{TRACING}/{file}");
    fs::write(&path, text).because(|| format!("cannot write {path}"))
}

/// When a guest was first entered at the reset vector or above 1 MiB, in ms: Firstlight's probe
/// guest lies below.
fn first_entry(trace: &str) -> Option<f64> {
    trace.lines().find_map(|line| {
        let (before, event) = line.split_once(": kvm_entry: ")?;
        let address = event.split("rip 0x").nth(1)?;
        let address = u64::from_str_radix(address.split_whitespace().next()?, 16).ok()?;
        let seconds: f64 = before.split_whitespace().last()?.parse().ok()?;
        (address == 0xfff0 || address >= 0x10_0000).then_some(seconds * 1e3)
    })
}

fn start_with_console(command: &mut Command) -> Outcome<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .because(|| format!("cannot start {}", process::shown(command)))
}

fn console_of(running: &mut Child) -> Outcome<impl BufRead + use<>> {
    let console = running.stdout.take();
    console
        .map(BufReader::new)
        .ok_or_else(|| Failure::new("a guest without a console"))
}

fn end(running: &mut Child) -> Outcome {
    running.kill().because(|| "cannot end a VMM".to_owned())?;
    running
        .wait()
        .because(|| "cannot wait for a VMM".to_owned())?;
    Ok(())
}

fn no_init(running: &mut Child, command: &Command) -> Failure {
    let status = running.wait();
    Failure::new(format!(
        "{} ended before its guest's init: {status:?}",
        process::shown(command)
    ))
}

/// Milliseconds of the clock that events are stamped with, too.
fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    #[expect(clippy::cast_precision_loss, reason = "the machine runs for minutes")]
    let (seconds, nanoseconds) = (now.tv_sec as f64, now.tv_nsec as f64);
    seconds * 1e3 + nanoseconds / 1e6
}

/// One of KVM's counters, over all guests there are: that is one.
fn kvm_count(name: &str) -> u64 {
    let text = fs::read_to_string(format!("/sys/kernel/debug/kvm/{name}"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default()
}

/// Resident memory in kB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resident {
    own: u64,
    guest: u64,
}

/// Tells a VMM's own memory from its guest's, in `/proc/PID/smaps`: the guest's is the row of
/// neighbouring mappings that together are at least as large as its RAM.
fn resident(smaps: &str, guest_kb: u64) -> Resident {
    let mut rows: Vec<(u64, u64, u64)> = Vec::new(); // begin, end, kB resident
    for line in smaps.lines() {
        if let Some((begin, end)) = addresses(line) {
            match rows.last_mut() {
                // Mappings of libraries and stacks are not next to one another for as much.
                Some(row) if row.1 == begin => row.1 = end,
                _ => rows.push((begin, end, 0)),
            }
        } else if let Some(rest) = line.strip_prefix("Rss:") {
            let size = rest.split_whitespace().next().and_then(|n| n.parse().ok());
            if let Some(row) = rows.last_mut() {
                row.2 += size.unwrap_or(0);
            }
        }
    }
    let all: u64 = rows.iter().map(|row| row.2).sum();
    let guest = rows
        .iter()
        .filter(|row| (row.1 - row.0) >> 10 >= guest_kb)
        .map(|row| row.2)
        .max()
        .unwrap_or(0);
    Resident {
        own: all - guest,
        guest,
    }
}

/// The addresses at the begin of a mapping's first line.
fn addresses(line: &str) -> Option<(u64, u64)> {
    let (begin, end) = line.split_whitespace().next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(begin)?, number(end)?))
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

    #[test]
    fn the_first_entry_of_the_guest_is_not_that_of_the_probe() {
        let trace = "# tracer: nop\n\
            vcpu 0-140  [000] d....  9.430000: kvm_entry: vcpu 0, rip 0x1000\n\
            vcpu 0-140  [000] d....  9.432292: kvm_entry: vcpu 0, rip 0x1000000\n\
            vcpu 0-140  [000] d....  9.500000: kvm_entry: vcpu 0, rip 0x1000010\n";
        let when = first_entry(trace).unwrap();
        assert!((when - 9432.292).abs() < 1e-6, "{when}");
        assert_eq!(first_entry("# nothing\n"), None);
    }

    #[test]
    fn the_guests_memory_is_told_from_the_vmms_own() {
        let smaps = "00400000-00500000 r-xp 00000000 00:01 5 /race/x\nRss: 800 kB\nPss: 1 kB\n\
            7f0000000000-7f0008000000 rw-p 00000000 00:00 0\nRss: 5000 kB\n\
            7f0008000000-7f0010000000 rw-p 00000000 00:01 7 /cache/image\nRss: 3000 kB\n\
            7fff00000000-7fff00021000 rw-p 00000000 00:00 0 [stack]\nRss: 12 kB\n";
        let expected = Resident {
            own: 812,
            guest: 8000,
        };
        assert_eq!(resident(smaps, 256 << 10), expected);
    }
}

//! The race: Firstlight and QEMU on real KVM, on a machine whose clock counts instructions.

use super::counting::{
    self, FINISH, FIRSTLIGHT, Files, QEMU, RESULT, console_of, end, kvm_count, now,
};
use super::peer;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs::{self, MARKER};
use crate::kernel;
use crate::process;
use crate::project::Project;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// Runs the race and prints its table.
pub(super) fn run(project: &Project, cache: &Cache) -> Outcome {
    println!("\n== boot: both on real KVM, on a machine whose clock counts instructions");
    println!("   1 vCPU, {MEMORY} MiB; times in ms of that clock, from the start of the process");
    let files = machine_files(project, cache)?;
    let times = ["KVM_RUN", "output", "init", "own kB", "guest kB"];
    print!("{:<16} {:<12}", "kernel", "VMM");
    for column in times.iter().chain(COUNTERS.iter().map(|(title, _)| title)) {
        print!(" {column:>9}");
    }
    println!();
    let kernel = kernel::fetch(cache, &kernel::DEBIAN_12)?;
    counting::run(cache, &kernel.file, (files, "race"))
}

/// Everything that the race's machine has.
fn machine_files(project: &Project, cache: &Cache) -> Outcome<Files> {
    let mut files = Files::new(project, cache, modules(cache)?)?;
    for release in &kernel::RELEASES {
        let kernel = kernel::fetch(cache, release)?;
        files.copy(&kernel.file, &format!("race/{}", release.name))?;
    }
    files.copy(
        &initramfs::build(project, cache, kernel::DEBIAN_12.architecture)?,
        "race/initramfs",
    )?;
    Ok(files)
}

/// KVM and what it needs, in the order of loading.
fn modules(cache: &Cache) -> Outcome<Vec<(String, Vec<u8>)>> {
    let kernel = kernel::fetch(cache, &kernel::DEBIAN_12)?;
    let read = |path: &Path| fs::read(path).because(|| format!("cannot read {}", path.display()));
    let order = read(&kernel.modules.join("order"))?;
    let order = String::from_utf8_lossy(&order);
    let names = order.lines().filter(|name| is_for_kvm(name));
    names
        .map(|name| Ok((name.to_owned(), read(&kernel.modules.join(name))?)))
        .collect()
}

/// KVM and what it needs; not the virtio devices and file systems of the lab.
fn is_for_kvm(module: &str) -> bool {
    ["virtio", "9p", "netfs", "fscache", "overlay", "failover"]
        .iter()
        .all(|other| !module.starts_with(other))
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
                peer::firstlight(Path::new(FIRSTLIGHT), &guest, "kvm"),
            ),
            ("qemu microvm", peer::qemu(Path::new(QEMU), &guest, "kvm")),
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

fn no_init(running: &mut Child, command: &Command) -> Failure {
    let status = running.wait();
    Failure::new(format!(
        "{} ended before its guest's init: {status:?}",
        process::shown(command)
    ))
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

//! From the start of the process to init's first line, on an emulated processor.

use super::{median, modules, peer};
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs::{self, MARKER};
use crate::kernel;
use crate::process;
use crate::project::Project;
use crate::tools;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const QEMU: &str = "qemu-system-x86_64";
const MEMORY: u32 = 512;
/// A machine that has not come to its init by then has stalled.
const PATIENCE: &str = "60";
/// As long may a counted boot take: xz of 90 MiB, emulated and counted, takes minutes.
const LONG_PATIENCE: &str = "900";

/// Wall times on the qemu engine and on QEMU by itself, taking turns.
pub(crate) fn wall(project: &Project, cache: &Cache, rounds: usize) -> Outcome {
    tools::install(&[tools::QEMU])?;
    println!("\n== start: process start to init's line, both on QEMU's emulated processor");
    println!("   wall times, medians of {rounds} runs that took turns; 1 vCPU, {MEMORY} MiB");
    println!(
        "{:<16} {:>7} {:>14} {:>16} {:>8}",
        "kernel", "payload", "firstlight, s", "qemu -kernel, s", "ratio"
    );
    let firstlight = project.built_firstlight();
    for release in &kernel::RELEASES {
        let guest = guest(project, cache, release, "panic=-1 quiet")?;
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        let mut stalled = 0;
        for _ in 0..rounds {
            match line_of_init(&peer::firstlight(&firstlight, &guest, "qemu"), PATIENCE)? {
                Some(line) => ours.push(line.seconds),
                None => return Err(Failure::new("firstlight did not reach init")),
            }
            match line_of_init(&peer::qemu(Path::new(QEMU), &guest, "tcg"), PATIENCE)? {
                Some(line) => theirs.push(line.seconds),
                None => stalled += 1,
            }
        }
        println!(
            "{:<16} {:>7} {:>14.2} {:>16.2} {:>8.2}",
            release.name,
            release.payload,
            median(&ours),
            median(&theirs),
            median(&ours) / median(&theirs)
        );
        if stalled > 0 {
            println!("   (qemu -kernel stalled {stalled} times in {rounds})");
        }
    }
    Ok(())
}

/// Guest instructions from reset to init's line: QEMU's clock counts them exactly with `-icount`,
/// and the guest reads it as its time stamp counter.
pub(crate) fn counts(project: &Project, cache: &Cache) -> Outcome {
    tools::install(&[tools::QEMU])?;
    println!("\n== count: guest instructions from reset to init's line, millions");
    println!("   (QEMU -icount, -cpu qemu64)");
    println!(
        "{:<16} {:>7} {:>14} {:>16} {:>8}",
        "kernel", "payload", "firstlight", "qemu -kernel", "ratio"
    );
    for release in &kernel::RELEASES {
        let initrd = initramfs::build(project, cache, release.architecture)?;
        counts_of(project, cache, release, initrd)?;
    }
    println!(
        "\n== count: the same with {} MiB of kernel modules in an initrd of the",
        modules::MIB
    );
    println!("   same compression (B4; goal for the ratio: xz 0.14, zstd 0.48, lz4 0.83)");
    for release in &kernel::RELEASES {
        let initrd = modules::initrd(cache, release.payload)?;
        counts_of(project, cache, release, initrd)?;
    }
    Ok(())
}

fn counts_of(
    project: &Project,
    cache: &Cache,
    release: &kernel::Release,
    initrd: PathBuf,
) -> Outcome {
    let counting = counting_qemu(project)?;
    let guest = peer::Guest {
        initrd,
        // The counter runs at 1 GHz there; nobody's calibration is counted.
        ..guest(
            project,
            cache,
            release,
            "panic=-1 quiet nokaslr tsc_early_khz=1000000",
        )?
    };
    let mut ours = peer::firstlight(&project.built_firstlight(), &guest, "qemu");
    ours.env("FIRSTLIGHT_QEMU", &counting);
    let ours = counted(&ours)?;
    let theirs = counted(&peer::qemu(&counting, &guest, "tcg"))?;
    println!(
        "{:<16} {:>7} {ours:>14.1} {theirs:>16.1} {:>8.2}",
        release.name,
        release.payload,
        ours / theirs
    );
    Ok(())
}

fn guest(
    project: &Project,
    cache: &Cache,
    release: &kernel::Release,
    words: &str,
) -> Outcome<peer::Guest> {
    Ok(peer::Guest {
        kernel: kernel::fetch(cache, release)?.file,
        initrd: initramfs::build(project, cache, release.architecture)?,
        cmdline: format!("console=ttyS0 {words}"),
        memory: MEMORY,
    })
}

/// Guest instructions from reset to the first at the kernel's own, high addresses (B3): QEMU logs
/// every instruction below 4 GiB, and until init no other low one is run.
pub(crate) fn first(project: &Project, cache: &Cache) -> Outcome {
    println!(
        "\n== first: guest instructions from reset to the first at the kernel's own addresses"
    );
    println!("   (B3; goal: at most 3500)");
    let log = project.scratch("bench")?.join("instructions.log");
    let options = format!(
        "-singlestep -d exec,nochain -dfilter 0..0xffffffff -D {}",
        log.display()
    );
    let logging = qemu_with(project, "logging-qemu", &options)?;
    for release in &kernel::RELEASES {
        let guest = guest(project, cache, release, "panic=-1 tsc_early_khz=1000000")?;
        let mut boot = peer::firstlight(&project.built_firstlight(), &guest, "qemu");
        boot.env("FIRSTLIGHT_QEMU", &logging)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut running = boot
            .spawn()
            .because(|| format!("cannot start {}", process::shown(&boot)))?;
        // The kernel's first message comes long after its first instruction.
        let mut byte = [0];
        let spoken = running
            .stdout
            .take()
            .is_some_and(|mut console| console.read_exact(&mut byte).is_ok());
        let _ = running.kill();
        let ended = running.wait();
        ended.because(|| "cannot wait for a guest".to_owned())?;
        if !spoken {
            return Err(Failure::new("a guest said nothing"));
        }
        let lines = BufReader::new(
            fs::File::open(&log).because(|| format!("cannot open {}", log.display()))?,
        )
        .split(b'\n');
        let count = lines
            .map_while(Result::ok)
            .filter(|line| line.starts_with(b"Trace "))
            .count();
        println!("{:<16} {:>7} {count:>14}", release.name, release.payload);
    }
    fs::remove_file(&log).because(|| format!("cannot remove {}", log.display()))
}

/// A QEMU whose clock counts instructions, with QEMU's default processor: on those that copy with
/// `rep movsb`, every byte counts as an instruction, though no processor takes so long.
fn counting_qemu(project: &Project) -> Outcome<PathBuf> {
    qemu_with(
        project,
        "counting-qemu",
        "-icount shift=0,sleep=off -cpu qemu64",
    )
}

/// A program that is QEMU with further `options`.
fn qemu_with(project: &Project, name: &str, options: &str) -> Outcome<PathBuf> {
    let path = project.scratch("bench")?.join(name);
    let script = format!("#!/bin/sh\nexec {QEMU} \"$@\" {options}\n");
    crate::cache::write_whole(&path, script.as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .because(|| format!("cannot make {} a program", path.display()))?;
    Ok(path)
}

/// Init's line, and when it came.
struct Line {
    text: String,
    seconds: f64,
}

/// Runs a boot to its end; hands back init's line, unless it did not come in time.
fn line_of_init(boot: &Command, patience: &str) -> Outcome<Option<Line>> {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", patience])
        .arg(boot.get_program())
        .args(boot.get_args())
        .envs(
            boot.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut running = limited
        .spawn()
        .because(|| format!("cannot start {}", process::shown(&limited)))?;
    let console = running
        .stdout
        .take()
        .ok_or_else(|| Failure::new("a guest without a console"))?;
    let mut found = None;
    for line in BufReader::new(console).split(b'\n') {
        let line = line.because(|| "cannot read a guest's console".to_owned())?;
        let text = String::from_utf8_lossy(&line).into_owned();
        if found.is_none() && text.contains(MARKER) {
            found = Some(Line {
                text,
                seconds: start.elapsed().as_secs_f64(),
            });
        }
    }
    running
        .wait()
        .because(|| "cannot wait for a guest".to_owned())?;
    Ok(found)
}

/// Millions of instructions up to init's line.
fn counted(boot: &Command) -> Outcome<f64> {
    let line = line_of_init(boot, LONG_PATIENCE)?
        .ok_or_else(|| Failure::new("a guest did not reach init"))?;
    let mut words = line.text.split_whitespace();
    let count: f64 = words
        .find_map(|word| word.strip_prefix("tsc=")?.parse().ok())
        .ok_or_else(|| Failure::new(format!("no count in {}", line.text)))?;
    Ok(count / 1e6)
}

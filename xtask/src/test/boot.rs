//! Guests: real kernels, booted by the program that is shipped, judged by what they say.

mod cases;
mod export;
pub(super) mod table;
mod uki;

pub(crate) use export::run as exports;

use super::{Tally, Verdict, at_once};
use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs::{self, MARKER};
use crate::lab::Board;
use crate::process;
use crate::project::Project;
use cases::{Case, Expected, Guest, Guests};
pub(super) use cases::{OWN, SPLIT, Then};
use rustix::process::{Pid, Signal};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// The engine that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Auto,
    Kvm,
    Qemu,
}

impl Engine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }
}

/// What guests run on, and by what means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) engine: Engine,
    pub(crate) architecture: Architecture,
    /// In the lab, which of its machines.
    pub(crate) board: Board,
}

impl Setting {
    /// What the names of its guests begin with.
    pub(super) fn name(self) -> String {
        let engine = self.engine.name();
        match (self.architecture, self.board) {
            (Architecture::X86_64, _) => engine.to_owned(),
            (Architecture::Arm64, Board::OlderIrqchip) => format!("{engine} GICv2"),
            (Architecture::Riscv64, Board::OlderIrqchip) => format!("{engine} PLIC"),
            (other, Board::Newest) => format!("{engine} {}", other.name()),
        }
    }
}

/// Fetches and builds all that is booted but Firstlight itself: in the lab, nothing can be.
pub(crate) fn prepare(project: &Project, cache: &Cache, architecture: Architecture) -> Outcome {
    Guests::fetch(project, cache, architecture)?;
    initramfs::build(project, cache, architecture)?;
    match architecture {
        Architecture::X86_64 => uki::build(project, cache),
        Architecture::Arm64 | Architecture::Riscv64 => Ok(()),
    }
}

/// Boots every guest that is tried in `setting` with the program `firstlight`, and adds up how they
/// ended.
pub(crate) fn run(
    project: &Project,
    cache: &Cache,
    (setting, firstlight): (Setting, &Path),
    tally: &Tally,
) -> Outcome {
    let Setting {
        engine,
        architecture,
        ..
    } = setting;
    let place = Place {
        setting,
        firstlight: firstlight.to_owned(),
        console: architecture.console(),
        initrd: initramfs::build(project, cache, architecture)?,
        cache: match engine {
            // In the lab, whose own folders are in memory: there, files can be mapped.
            Engine::Kvm => std::env::temp_dir().join("firstlight-unpacked"),
            Engine::Qemu | Engine::Auto => project.scratch("unpacked")?,
        },
    };
    let cases = cases::of(&Guests::fetch(project, cache, architecture)?, setting);
    at_once(at_a_time(engine), &cases, |case| {
        let start = Instant::now();
        let verdict = place
            .judge(case)
            .unwrap_or_else(|failure| Verdict::Failed(failure.to_string()));
        tally.report(&case.name, start.elapsed(), &verdict);
    });
    Ok(())
}

/// So many guests run at once: as many as the smallest machine that we care for has processors.
/// In the lab it is one: with two, of which one has two vCPUs, QEMU 7.2's emulation of SVM was seen
/// to give a guest a triple fault, and to stop for good.
pub(super) fn at_a_time(engine: Engine) -> usize {
    match engine {
        Engine::Kvm => 1,
        Engine::Qemu | Engine::Auto => 2,
    }
}

/// What is typed on a guest's console, and what the guest answers.
const TYPED: &str = "over the wire and back";
const ECHO: &str = "FIRSTLIGHT-ECHO over the wire and back";

/// What every guest is booted with.
struct Place {
    setting: Setting,
    firstlight: PathBuf,
    /// The guests' serial port.
    console: &'static str,
    initrd: PathBuf,
    /// What the guests' kernels are unpacked to: not the user's.
    cache: PathBuf,
}

impl Place {
    fn judge(&self, case: &Case) -> Outcome<Verdict> {
        let mut command = self.command(case);
        let mut heard = Heard::listen(&mut command, case.then)?;
        let is_again = heard.ended_with_the_emulation(self.setting);
        if is_again {
            heard = Heard::listen(&mut command, case.then)?;
        }
        let wrong = complaint(case, &heard);
        Ok(match wrong {
            None if is_again => Verdict::Passed(SECOND_TRY.to_owned()),
            None => Verdict::Passed(heard.engine_note()),
            Some(wrong) => Verdict::Failed(heard.told(&wrong, &command)),
        })
    }

    fn command(&self, case: &Case) -> Command {
        // Firstlight limits the guest's time; this limits Firstlight's.
        let mut command = Command::new("timeout");
        command
            .args(["-k", "10", &(case.timeout + 60).to_string()])
            .arg(&self.firstlight)
            .env("FIRSTLIGHT_CACHE", &self.cache)
            .args(["boot", "--engine", case.engine.name()])
            .args(["--timeout", &case.timeout.to_string()])
            .args(["--memory", "512M"]);
        match &case.guest {
            Guest::Linux { kernel, cpus, todo } => command
                .arg("--kernel")
                .arg(&kernel.file)
                .arg("--initrd")
                .arg(&self.initrd)
                .arg("--cmdline")
                .arg(format!("console={} panic=-1 fl.do={todo}", self.console))
                .args(["--cpus", &cpus.to_string()]),
            Guest::Unified { file, .. } | Guest::Other { file } => {
                command.arg("--kernel").arg(file)
            }
        };
        command.args(&case.options);
        command
    }
}

/// What is said of a guest that was tried again.
pub(super) const SECOND_TRY: &str = "the second time, after a triple fault of the emulation's";

/// What was seen and heard of a boot.
pub(super) struct Heard {
    pub(super) status: ExitStatus,
    pub(super) console: String,
    /// What Firstlight said beside the guest's console.
    pub(super) complaints: String,
    took: Duration,
}

impl Heard {
    pub(super) fn listen(command: &mut Command, then: Then) -> Outcome<Self> {
        let start = Instant::now();
        let mut running = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .because(|| format!("cannot start {}", process::shown(command)))?;
        // The input is kept until the end: a console whose input has ended is another case.
        let (Some(mut input), Some(mut output), Some(mut errors)) = (
            running.stdin.take(),
            running.stdout.take(),
            running.stderr.take(),
        ) else {
            return Err(Failure::new("a guest without a console"));
        };
        let pid = Pid::from_child(&running);
        let send = |signal| {
            let sent = rustix::process::kill_process(pid, signal);
            sent.because(|| "cannot send a signal to Firstlight".to_owned())
        };
        let complaints = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let mut said = Vec::new();
        let mut chunk = [0; 4096];
        let mut waiting = true;
        let mut answered = 0;
        // Not by lines: some guests draw their screen without ever ending one.
        loop {
            let len = output
                .read(&mut chunk)
                .because(|| "cannot read the guest's console".to_owned())?;
            if len == 0 {
                break;
            }
            said.extend_from_slice(&chunk[..len]);
            let has_said = |words: &str| waiting && contains(&said, words);
            match then {
                Then::Type => {
                    let asked = count(&said, "FIRSTLIGHT-INIT listens");
                    for _ in answered..asked {
                        writeln!(input, "{TYPED}")
                            .because(|| "cannot type on the guest's console".to_owned())?;
                    }
                    answered = asked;
                }
                // `timeout` hands the signal on.
                Then::TerminateAfter(words) if has_said(words) => {
                    waiting = false;
                    send(Signal::TERM)?;
                }
                Then::KillAfter(words) if has_said(words) => {
                    waiting = false;
                    send(Signal::KILL)?;
                }
                Then::Wait | Then::TerminateAfter(_) | Then::KillAfter(_) => {}
            }
        }
        let mut console = String::new();
        for line in String::from_utf8_lossy(&said).lines() {
            console += line.trim_end_matches('\r');
            console.push('\n');
        }
        let status = running
            .wait()
            .because(|| "cannot wait for firstlight".to_owned())?;
        Ok(Self {
            status,
            console,
            complaints: complaints
                .join()
                .map_err(|_panic| Failure::new("cannot read what firstlight complained of"))?,
            took: start.elapsed(),
        })
    }

    /// Whether a guest of the x86 lab ended as QEMU's emulation of SVM has guests end now and then, QEMU's own
    /// among them: by a triple fault, wherever it was. Such a guest is tried again.
    pub(super) fn ended_with_the_emulation(&self, setting: Setting) -> bool {
        const CRASHED: i32 = 33;
        (setting.engine, setting.architecture) == (Engine::Kvm, Architecture::X86_64)
            && self.status.code() == Some(CRASHED)
            && self.complaints.contains("triple fault")
    }

    /// What is wrong, and everything that may tell why.
    pub(super) fn told(&self, wrong: &str, command: &Command) -> String {
        format!(
            "{wrong}\n{}\nended: {}\nstderr:\n{}\nlast lines of the console:\n{}",
            process::shown(command),
            self.status,
            self.complaints,
            last_lines(&self.console, 40),
        )
    }

    /// The line in which Firstlight says which engine it took.
    pub(super) fn engine_note(&self) -> String {
        let mut lines = self.complaints.lines();
        let note = lines.find_map(|line| line.strip_prefix("firstlight: "));
        note.unwrap_or_default().chars().take(100).collect()
    }
}

/// What is wrong with what was heard, if anything is.
fn complaint(case: &Case, heard: &Heard) -> Option<String> {
    let code = heard.status.code();
    // `timeout` ends with 128 + N, or by the signal itself, when its child ends by signal N.
    let by_signal = |number| code == Some(128 + number) || heard.status.signal() == Some(number);
    match case.expected {
        Expected::StatusOrNoEngine if code == Some(5) => {
            let quick = heard.took < Duration::from_secs(30);
            return (!quick).then(|| format!("it took {:?} to say so", heard.took));
        }
        Expected::TimedOut => {
            return (code != Some(124)).then(|| "expected status 124".to_owned());
        }
        Expected::Status(expected) if code != Some(expected) => {
            return Some(format!("expected status {expected}"));
        }
        Expected::Taken(_) | Expected::StatusOrNoEngine if code != Some(0) => {
            return Some("expected status 0".to_owned());
        }
        Expected::Signal(number) if !by_signal(number) => {
            return Some(format!("expected an end by signal {number}"));
        }
        Expected::Taken(engine) if !heard.engine_note().starts_with(engine) => {
            return Some(format!("expected the engine {engine}"));
        }
        _ => {}
    }
    let (kernel, cpus, todo) = match &case.guest {
        Guest::Linux { kernel, cpus, todo } => (kernel, *cpus, *todo),
        Guest::Unified { kernel, .. } => (kernel, 1, "poweroff"),
        Guest::Other { .. } => return None,
    };
    if todo == "panic" && !heard.console.contains("Kernel panic - not syncing") {
        return Some("the console does not tell of a panic".to_owned());
    }
    if case.then == Then::Type && !heard.console.lines().any(|line| line == ECHO) {
        return Some("what was typed did not come back".to_owned());
    }
    marker_complaint(&heard.console, &kernel.version, cpus, now())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

/// What is wrong with init's line, if anything is.
pub(super) fn marker_complaint(
    console: &str,
    version: &str,
    cpus: u32,
    now: u64,
) -> Option<String> {
    let Some(line) = console.lines().find_map(|line| {
        let (_, words) = line.split_once(MARKER)?;
        words.contains(" uname=").then_some(words)
    }) else {
        return Some("init's line is missing".to_owned());
    };
    let word = |name: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    if word("uname") != Some(version) {
        return Some(format!("not the kernel {version}: {line}"));
    }
    if word("nproc") != Some(cpus.to_string().as_str()) {
        return Some(format!("not {cpus} vCPUs: {line}"));
    }
    let date: u64 = word("date").and_then(|date| date.parse().ok()).unwrap_or(0);
    if date.abs_diff(now) > CLOCK_TOLERANCE {
        return Some(format!("the guest's clock is wrong (it is {now}): {line}"));
    }
    None
}

fn contains(bytes: &[u8], words: &str) -> bool {
    count(bytes, words) > 0
}

/// How often `words` are among `bytes`.
fn count(bytes: &[u8], words: &str) -> usize {
    let places = bytes.windows(words.len());
    places.filter(|place| *place == words.as_bytes()).count()
}

/// So many seconds may lie between the guest's first line and our looking at it.
const CLOCK_TOLERANCE: u64 = 300;

pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "[    0.1] Linux version 6.1.0\n\
        FIRSTLIGHT-INIT uname=6.1.0-50-amd64 nproc=2 date=1795221667 uptime=2.14\n\
        [    2.2] reboot: Power down\n";

    #[test]
    fn a_good_line_of_init_is_believed() {
        let now = 1_795_221_700;
        assert_eq!(marker_complaint(CONSOLE, "6.1.0-50-amd64", 2, now), None);
    }

    #[test]
    fn another_kernel_another_number_of_cpus_or_another_time_is_not() {
        let wrong = |version, cpus, now| {
            marker_complaint(CONSOLE, version, cpus, now).expect("a complaint")
        };
        assert!(wrong("6.1.0-5", 2, 1_795_221_700).contains("not the kernel"));
        assert!(wrong("6.1.0-50-amd64", 1, 1_795_221_700).contains("not 1 vCPUs"));
        assert!(wrong("6.1.0-50-amd64", 2, 1_795_231_700).contains("clock is wrong"));
    }

    #[test]
    fn a_missing_line_is_missed() {
        let console = "[    0.0] Command line: fl.do=poweroff\nFIRSTLIGHT-INIT listens\n";
        let wrong = marker_complaint(console, "6.1.0-50-amd64", 1, 0);
        assert_eq!(wrong.as_deref(), Some("init's line is missing"));
    }
}

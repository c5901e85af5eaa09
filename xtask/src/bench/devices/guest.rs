//! A guest that does what it is told, and what that costs.

use super::super::counting::{self, console_of, kvm_count, now};
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs::MARKER;
use crate::process;
use std::fs;
use std::io::{BufRead, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// KVM's counters that are shown: what we call them, and their files.
pub(super) const COUNTERS: [(&str, &str); 6] = [
    ("exits", "exits"),
    ("I/O", "io_exits"),
    ("MMIO", "mmio_exits"),
    ("emulated", "insn_emulation"),
    ("irqs", "irq_injections"),
    ("halts", "halt_exits"),
];

/// What something took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) milliseconds: f64,
    pub(super) counts: [f64; COUNTERS.len()],
    /// What the VMM's threads but its vCPU's ran for.
    pub(super) own_milliseconds: f64,
    /// How often they waited.
    pub(super) switches: f64,
}

impl Spent {
    /// The middle one, by the time it took, of an odd number.
    pub(super) fn median(mut all: Vec<Self>) -> Self {
        all.sort_by(|one, other| one.milliseconds.total_cmp(&other.milliseconds));
        all[all.len() / 2]
    }

    /// What is left of it without `other`.
    pub(super) fn less(self, other: &Self) -> Self {
        let mut counts = self.counts;
        for (count, other) in counts.iter_mut().zip(other.counts) {
            *count -= other;
        }
        Self {
            milliseconds: self.milliseconds - other.milliseconds,
            counts,
            own_milliseconds: self.own_milliseconds - other.own_milliseconds,
            switches: self.switches - other.switches,
        }
    }
}

/// A guest that waits for a line to carry out.
pub(super) struct Guest {
    running: Child,
    input: ChildStdin,
    /// What it prints, line by line.
    lines: Receiver<String>,
}

/// The longest that a guest may print nothing that is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

impl Guest {
    /// Boots one to its init's line; with what that took.
    pub(super) fn boot(mut command: Command) -> Outcome<Option<(Self, Spent)>> {
        let start = now();
        let mut running = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .because(|| format!("cannot start {}", process::shown(&command)))?;
        let lines = lines_of(console_of(&mut running)?);
        let input = running.stdin.take();
        let input = input.ok_or_else(|| Failure::new("a guest without a console"))?;
        let guest = Self {
            running,
            input,
            lines,
        };
        if !guest.says(MARKER)? {
            guest.end()?;
            return Ok(None);
        }
        let spent = Spent {
            milliseconds: now() - start,
            ..guest.spent_so_far(kvm_counts())?
        };
        Ok(Some((guest, spent)))
    }

    /// Has it carry out a line of shell; with what that took, or `None` where it stops for good.
    pub(super) fn carry_out(&mut self, line: &str) -> Outcome<Option<Spent>> {
        self.tell(line)?;
        if !self.says("READY")? {
            return Ok(None);
        }
        // It is to wait for us, not we for it.
        thread::sleep(Duration::from_millis(100));
        let before = self.spent_so_far(kvm_counts())?;
        self.tell("")?;
        if !self.says("DONE")? {
            return Ok(None);
        }
        let after = self.spent_so_far(kvm_counts())?;
        Ok(Some(after.less(&before)))
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Outcome {
        counting::end(&mut self.running)
    }

    /// How many threads its VMM has, and how many files it has open.
    pub(super) fn threads_and_files(&self) -> Outcome<(usize, usize)> {
        let count = |folder: &str| {
            let folder = format!("/proc/{}/{folder}", self.running.id());
            let entries = fs::read_dir(&folder).because(|| format!("cannot list {folder}"))?;
            Ok(entries.count())
        };
        Ok((count("task")?, count("fd")?))
    }

    fn tell(&mut self, line: &str) -> Outcome {
        writeln!(self.input, "{line}").because(|| "cannot tell a guest".to_owned())
    }

    /// Waits until it says `word`; false where it says nothing for long.
    fn says(&self, word: &str) -> Outcome<bool> {
        let mut heard = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(word) => return Ok(true),
                Ok(line) => heard += &line,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(format!(
                        "a guest ended before {word}: {heard}"
                    )));
                }
            }
        }
    }

    fn spent_so_far(&self, counts: [u64; COUNTERS.len()]) -> Outcome<Spent> {
        let milliseconds = now();
        let tasks = format!("/proc/{}/task", self.running.id());
        let read =
            |path: String| fs::read_to_string(&path).because(|| format!("cannot read {path}"));
        let mut nanoseconds = 0;
        let mut switches = 0;
        let entries = fs::read_dir(&tasks).because(|| format!("cannot list {tasks}"))?;
        for entry in entries.flatten() {
            let task = entry.path().display().to_string();
            if is_vcpu(read(format!("{task}/comm"))?.trim()) {
                continue;
            }
            let ran = read(format!("{task}/schedstat"))?;
            nanoseconds += number(ran.split(' ').next());
            let status = read(format!("{task}/status"))?;
            let waited = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            switches += number(waited);
        }
        Ok(Spent {
            milliseconds,
            counts: counts.map(as_f64),
            own_milliseconds: as_f64(nanoseconds) / 1e6,
            switches: as_f64(switches),
        })
    }
}

/// The lines that come from `console`, as they come.
fn lines_of(mut console: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        while console
            .read_until(b'\n', &mut line)
            .is_ok_and(|len| len > 0)
        {
            let text = String::from_utf8_lossy(&line).into_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

fn kvm_counts() -> [u64; COUNTERS.len()] {
    COUNTERS.map(|(_, file)| kvm_count(file))
}

fn is_vcpu(thread: &str) -> bool {
    thread.starts_with("vcpu") || thread.starts_with("CPU ")
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

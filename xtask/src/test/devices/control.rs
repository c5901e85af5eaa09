//! A guest that is controlled while it runs, by `firstlight ctl`: its memory goes out and comes back, its battery changes,
//! and it sleeps and is woken.

use super::{BATTERY, Ground, Place, SLEEP, STATUS, SWAPPED, said_of};
use crate::architecture::Architecture;
use crate::battery_driver;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::test::Verdict;
use crate::test::boot::Engine;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::thread;

/// So much the guest has in a file system in its memory.
const COLD: u64 = 32 << 20;
/// So much room there is at first where its memory is to go to: too little.
const LITTLE: &str = "size=8m";
/// And then.
const ENOUGH: &str = "size=512m";
/// The size of a disk's sector.
const SECTOR: usize = 512;

/// Fetches and builds what the guest takes: in the lab, nothing can be.
pub(in crate::test) fn build(cache: &Cache) -> Outcome {
    battery_driver::built(cache).map(drop)
}

/// What the guest is asked for, by the word of its script, and what that is called.
const WORDS: [(&str, &str); 3] = [("swap", SWAPPED), ("battery", BATTERY), ("sleep", SLEEP)];

/// What was seen of the guest, by its name.
pub(super) type Seen = Vec<(&'static str, Verdict)>;

/// The words for guests of `architecture`: a battery and sleep are there where ACPI is, and the kernel of the lab that
/// they have is too old to swap their memory.
fn words(architecture: Architecture) -> &'static [(&'static str, &'static str)] {
    match architecture {
        Architecture::X86_64 => &WORDS[1..],
        Architecture::Arm64 | Architecture::Riscv64 => &WORDS[..1],
    }
}

/// Controls a guest, and looks at what becomes of it.
pub(super) fn check(
    place: &Place,
    (cache, architecture): (&Cache, Architecture),
    ground: &Ground,
) -> Outcome<Seen> {
    ground.copy_root(&place.root)?;
    let words = words(architecture);
    let room = Room::make(ground.folder.join("room"))?;
    let controller = Controller {
        firstlight: &place.firstlight,
        socket: &ground.folder.join("api.sock"),
        room: &room,
    };
    let mut command = Command::new("timeout");
    command.args(["-k", "10", "240"]).arg(&place.firstlight);
    command
        .args(["boot", "--engine", Engine::Kvm.name(), "--timeout", "180"])
        .args(["--memory", "256M", "--rootfs"])
        .arg(&ground.root)
        .arg("--api-sock")
        .arg(controller.socket);
    match architecture {
        Architecture::X86_64 => give_power(cache, &mut command, ground)?,
        Architecture::Arm64 | Architecture::Riscv64 => {
            command.arg("--swap").arg(&room.0);
            command.arg("--kernel").arg(&place.kernel.file);
        }
    }
    command.args(["--", "/sbin/init"]);
    command.args(words.iter().map(|(word, _)| word));
    command.arg(format!("exit={STATUS}"));
    let heard = controller.listen(&mut command)?;
    let verdicts = words
        .iter()
        .map(|&(word, name)| (name, heard.verdict(word)));
    Ok(verdicts.collect())
}

/// A battery with its driver on a disk, the kernel that this is for, and word of its sleep.
fn give_power(cache: &Cache, command: &mut Command, ground: &Ground) -> Outcome {
    let (kernel, driver) = battery_driver::built(cache)?;
    let disk = ground.folder.join("driver");
    put_on_disk(&driver, &disk)?;
    command.args(["--battery", "--suspend-notice", "--disk"]);
    command.arg(format!("{},readonly", disk.display()));
    command.arg("--kernel").arg(&kernel.file);
    Ok(())
}

/// A disk whose first bytes are those of the file.
fn put_on_disk(file: &Path, disk: &Path) -> Outcome {
    let mut bytes = fs::read(file).because(|| format!("cannot read {}", file.display()))?;
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    fs::write(disk, bytes).because(|| format!("cannot write {}", disk.display()))
}

/// A file system of its own, in the lab.
struct Room(PathBuf);

impl Room {
    fn make(folder: PathBuf) -> Outcome<Self> {
        fs::create_dir(&folder).because(|| format!("cannot make {}", folder.display()))?;
        let room = Self(folder);
        room.mount(LITTLE)?;
        Ok(room)
    }

    fn mount(&self, options: &str) -> Outcome {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "room"])
            .arg(&self.0);
        process::output_of(&mut mount).map(drop)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // It goes with the lab, too.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What became of the guest.
struct Heard {
    status: ExitStatus,
    console: String,
    /// All that was said, for somebody who wants to know why.
    told: String,
    /// What was done to it, by the word that it is asked for by.
    notes: Vec<(&'static str, Result<String, String>)>,
}

impl Heard {
    /// What became of `word`.
    fn verdict(&self, word: &str) -> Verdict {
        let noted = match self.noted(word) {
            Some(noted) => noted.clone(),
            None => Err("nothing was done to the guest".to_owned()),
        };
        let said = said_of(word, &self.console).map_err(|failure| failure.to_string());
        let ended = match self.status.code() {
            Some(STATUS) => Ok(()),
            _ => Err(format!("expected status {STATUS}")),
        };
        match noted.and_then(|note| said.and(ended).map(|()| note)) {
            Ok(note) => Verdict::Passed(note),
            Err(wrong) => Verdict::Failed(format!("{wrong}\n{}", self.told)),
        }
    }

    /// What was noted of `word`: the first failure, or else the last note.
    fn noted(&self, word: &str) -> Option<&Result<String, String>> {
        let mut of_word = self.notes.iter().filter(|(of, _)| *of == word);
        let failed = of_word.clone().find(|(_, note)| note.is_err());
        failed.or(of_word.next_back()).map(|(_, note)| note)
    }
}

struct Controller<'a> {
    firstlight: &'a Path,
    socket: &'a Path,
    room: &'a Room,
}

impl Controller<'_> {
    /// Runs the guest, and does what it asks for on its console.
    fn listen(&self, command: &mut Command) -> Outcome<Heard> {
        let mut running = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .because(|| format!("cannot start {}", process::shown(command)))?;
        let pipes = (
            running.stdin.take(),
            running.stdout.take(),
            running.stderr.take(),
        );
        let (Some(mut keyboard), Some(screen), Some(errors)) = pipes else {
            return Err(Failure::new("a guest without a console"));
        };
        let errors = thread::spawn(move || std::io::read_to_string(errors).unwrap_or_default());
        let mut console = String::new();
        let mut notes = Vec::new();
        for line in BufReader::new(screen).lines() {
            let line = line.because(|| "cannot read the guest's console".to_owned())?;
            let line = line.trim_end();
            notes.extend(self.answer(line, &mut keyboard));
            console += line;
            console.push('\n');
        }
        let status = running.wait().because(|| "cannot wait".to_owned())?;
        let errors = errors.join().unwrap_or_default();
        Ok(Heard {
            status,
            told: format!("{}\n{status}\n{console}{errors}", process::shown(command)),
            console,
            notes,
        })
    }

    /// Does what the guest's `line` asks for, and lets it go on.
    fn answer(
        &self,
        line: &str,
        keyboard: &mut ChildStdin,
    ) -> Option<(&'static str, Result<String, String>)> {
        let (word, done) = match line {
            "FIRSTLIGHT-COLD" => ("swap", self.page_out()),
            "FIRSTLIGHT-WARM" => ("swap", self.page_in()),
            "FIRSTLIGHT-CHARGED" => ("battery", self.unplug()),
            "FIRSTLIGHT-TIRED" => ("sleep", self.await_sleep()),
            _ => return None,
        };
        // A guest that has gone needs no key.
        let _ = keyboard.write_all(b"\n");
        let done = match done {
            Ok(note) if word == "sleep" => self.await_state("awake").map(|()| note),
            done => done,
        };
        Some((word, done.map_err(|failure| failure.to_string())))
    }

    /// Memory does not go where there is no room for it, and goes where there is.
    fn page_out(&self) -> Outcome<String> {
        let refused = self.command(&["swap", "out"]).output();
        let refused = refused.because(|| "cannot start ctl".to_owned())?;
        let why = String::from_utf8_lossy(&refused.stderr);
        if refused.status.code() != Some(1) || !why.contains("No space left on device") {
            return Err(Failure::new(format!(
                "a full disk: {}\n{why}",
                refused.status
            )));
        }
        let before = number(&self.ask(&["swap", "status"])?, "/swap/resident_bytes")?;
        self.room.mount(&format!("remount,{ENOUGH}"))?;
        let out = self.ask(&["swap", "out"])?;
        let swapped = number(&out, "/swap/swapped_bytes")?;
        if swapped < COLD {
            return Err(Failure::new(format!("too little goes out: {out}")));
        }
        Ok(format!("{before} bytes resident before, {swapped} out"))
    }

    /// Some came back where it was touched, and the rest does now.
    fn page_in(&self) -> Outcome<String> {
        let touched = self.ask(&["swap", "status"])?;
        let faults = number(&touched, "/swap/faults")?;
        if faults < COLD / 4096 / 8 {
            return Err(Failure::new(format!("too little was touched: {touched}")));
        }
        let back = self.ask(&["swap", "in"])?;
        if back.pointer("/swap/out") != Some(&Value::Bool(false))
            || number(&back, "/swap/swapped_bytes")? != 0
        {
            return Err(Failure::new(format!("not all is back: {back}")));
        }
        let moved = |way: &str| -> Outcome<String> {
            let bytes = number(&back, &format!("/swap/{way}/bytes"))?;
            let seconds = back.pointer(&format!("/swap/{way}/seconds"));
            let seconds = seconds.and_then(Value::as_f64).unwrap_or_default();
            Ok(format!("{} MiB in {seconds:.2} s", bytes >> 20))
        };
        Ok(format!(
            "(out {}, {faults} faults, in {})",
            moved("went_out")?,
            moved("came_in")?
        ))
    }

    fn unplug(&self) -> Outcome<String> {
        let wrong = self.command(&["battery", "capacity=101"]).output();
        let wrong = wrong.because(|| "cannot start ctl".to_owned())?;
        if wrong.status.code() != Some(1) {
            return Err(Failure::new(format!("101 percent: {}", wrong.status)));
        }
        let now = self.ask(&["battery", "capacity=42,status=discharging,ac=off"])?;
        match number(&now, "/battery/capacity")? {
            42 => Ok(String::new()),
            _ => Err(Failure::new(format!("it is not set: {now}"))),
        }
    }

    fn await_sleep(&self) -> Outcome<String> {
        self.await_state("suspended").map(|()| String::new())
    }

    fn await_state(&self, state: &str) -> Outcome {
        self.ask(&["suspension", "--wait", state]).map(drop)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "10", "120"]).arg(self.firstlight);
        command.arg("ctl").arg("--api-sock").arg(self.socket);
        command.args(words);
        command
    }

    fn ask(&self, words: &[&str]) -> Outcome<Value> {
        let said = process::output_of(self.command(words).args(["--format", "json"]))?;
        serde_json::from_str(&said).because(|| format!("no JSON: {said}"))
    }
}

fn number(answer: &Value, pointer: &str) -> Outcome<u64> {
    let found = answer.pointer(pointer).and_then(Value::as_u64);
    found.ok_or_else(|| Failure::new(format!("{pointer} is not in {answer}")))
}

//! Fuzzing: gives the targets in `fuzz/` bytes that libFuzzer thinks of.
//!
//! The targets are built as cargo-fuzz builds them, with coverage counters and the address
//! sanitizer, but by the toolchain that is here: the sanitizer's switch is the only one that asks
//! for a nightly compiler, and a stable one takes it when it is told that it builds itself.

use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::project::Project;
use crate::tools;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What cargo-fuzz gives the compiler.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cforce-frame-pointers=yes",
    "-Zsanitizer=address",
];
/// What the names of inputs begin with that once went wrong.
const WENT_WRONG: &str = "fixed-";
/// The most bytes that a target's kept corpus has beside those.
const KEPT: usize = 16_000;
/// And the most inputs.
const KEPT_INPUTS: usize = 120;
/// What one costs beside its bytes, so that both run out together.
const PLACE: u64 = (KEPT / KEPT_INPUTS) as u64;
/// The longest input that is kept.
const KEPT_EACH: &str = "2048";

/// What is wanted.
pub(crate) struct Campaign<'a> {
    /// The targets; all where none is named.
    pub(crate) targets: &'a [String],
    /// How long each is fuzzed.
    pub(crate) minutes: f64,
    /// Whether the project's corpora are made anew from what has been found.
    pub(crate) keep: bool,
}

/// Fuzzes; says whether nothing went wrong.
pub(crate) fn run(project: &Project, campaign: &Campaign<'_>) -> Outcome<bool> {
    tools::install(&[tools::LINKER, tools::LIBC, tools::CXX])?;
    let all = targets(project)?;
    let unknown = |name: &&String| !all.contains(name);
    if let Some(name) = campaign.targets.iter().find(unknown) {
        return Err(Failure::new(format!(
            "there is no target {name}; there are {}",
            all.join(", ")
        )));
    }
    let folder = project.scratch("fuzz")?;
    let programs = build(project, &folder)?;
    let seeds = folder.join("seeds");
    process::run(Command::new(programs.join("fuzz-seeds")).arg(&seeds))?;
    println!("target        minutes   executions  each second  edges  inputs");
    let mut is_clean = true;
    for name in &all {
        if !campaign.targets.is_empty() && !campaign.targets.contains(name) {
            continue;
        }
        let target = Target {
            name,
            program: programs.join(format!("fuzz-{name}")),
            working: made(folder.join("corpus").join(name))?,
            seeds: seeds.join(name),
            kept: corpora(project).join(name),
            folder: &folder,
        };
        is_clean &= target.fuzz(campaign.minutes)?;
        if campaign.keep {
            target.keep()?;
        }
    }
    Ok(is_clean)
}

fn corpora(project: &Project) -> PathBuf {
    project.root().join("fuzz/corpus")
}

/// The targets' names, which are those of their corpora.
fn targets(project: &Project) -> Outcome<Vec<String>> {
    let folder = corpora(project);
    let entries = fs::read_dir(&folder).because(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.because(|| format!("cannot list {}", folder.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds the targets' programs; returns the folder that they are in.
fn build(project: &Project, folder: &Path) -> Outcome<PathBuf> {
    let host = process::output_of(project.cargo(&["-vV"]).env("LC_ALL", "C"))?;
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or_else(|| Failure::new("cargo does not tell what it was built for"))?;
    let build = folder.join("build");
    let words = [
        "build",
        "--locked",
        "--quiet",
        "--profile=fuzz",
        "--package=firstlight-fuzz",
        "--features=libfuzzer",
        "--bins",
        // With a target given, build scripts and macros are built without these flags.
        "--target",
        host,
        "--target-dir",
    ];
    let mut cargo = project.cargo(&words);
    cargo.arg(&build);
    cargo.env("RUSTFLAGS", FLAGS.join(" "));
    cargo.env("RUSTC_BOOTSTRAP", "1");
    process::run(&mut cargo)?;
    Ok(build.join(host).join("fuzz"))
}

fn made(folder: PathBuf) -> Outcome<PathBuf> {
    fs::create_dir_all(&folder).because(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A target, and where its things are.
struct Target<'a> {
    name: &'a str,
    program: PathBuf,
    /// The corpus that grows with every run.
    working: PathBuf,
    seeds: PathBuf,
    /// The corpus in the project.
    kept: PathBuf,
    folder: &'a Path,
}

impl Target<'_> {
    /// Fuzzes for that long and prints a line about it; says whether nothing went wrong.
    fn fuzz(&self, minutes: f64) -> Outcome<bool> {
        let found = made(self.folder.join("found"))?.join(format!("{}-", self.name));
        let log = self.folder.join(format!("{}.log", self.name));
        let mut program = Command::new(&self.program);
        // 0 would be for ever.
        let seconds = (minutes * 60.0).max(1.0);
        program
            .arg(format!("-max_total_time={seconds:.0}"))
            .arg(format!("-artifact_prefix={}", found.display()))
            .args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"])
            .args([&self.working, &self.seeds, &self.kept]);
        let is_clean = logged(&mut program, &log)?;
        let said = fs::read_to_string(&log).because(|| format!("cannot read {}", log.display()))?;
        println!("{:<12} {minutes:>8} {}", self.name, Totals::of(&said));
        if !is_clean {
            println!("  went wrong: {}", what_went_wrong(&said));
            println!("  all that was said: {}", log.display());
        }
        Ok(is_clean)
    }

    /// Makes the project's corpus anew: few and short inputs that reach what no seed reaches, those
    /// first that reach most for their length, as far as there is room. What once went wrong stays.
    fn keep(&self) -> Outcome {
        let because = || format!("cannot put the corpus of {} together", self.name);
        let merged = self.folder.join("merged").join(self.name);
        let control = self.folder.join(format!("{}.control", self.name));
        if merged.exists() {
            fs::remove_dir_all(&merged).because(because)?;
        }
        // libFuzzer would go on where it ends.
        if control.exists() {
            fs::remove_file(&control).because(because)?;
        }
        let merged = made(merged)?;
        for seed in files(&self.seeds)? {
            let name = seed.file_name().unwrap_or_default();
            fs::copy(&seed, merged.join(name)).because(because)?;
        }
        let mut program = Command::new(&self.program);
        program
            .arg("-merge=1")
            .arg(format!("-max_len={KEPT_EACH}"))
            .arg(format!("-merge_control_file={}", control.display()))
            .args([&merged, &self.kept, &self.working]);
        let log = self.folder.join(format!("{}.merge.log", self.name));
        if !logged(&mut program, &log)? {
            return Err(Failure::new(format!(
                "the inputs of {} cannot be merged; see {}",
                self.name,
                log.display()
            )));
        }
        let said = fs::read_to_string(&control).because(because)?;
        let mut room = KEPT;
        let mut kept = Vec::new();
        for input in best_first(&said) {
            let bytes = fs::read(input).because(because)?;
            if kept.len() == KEPT_INPUTS {
                break;
            }
            if let Some(left) = room.checked_sub(bytes.len()) {
                room = left;
                kept.push((Path::new(input).file_name().unwrap_or_default(), bytes));
            }
        }
        for old in files(&self.kept)? {
            let name = old.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(WENT_WRONG) {
                fs::remove_file(&old).because(because)?;
            }
        }
        for (name, bytes) in kept {
            fs::write(self.kept.join(name), bytes).because(because)?;
        }
        Ok(())
    }
}

/// The files in `folder`.
fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let because = || format!("cannot list {}", folder.display());
    fs::read_dir(folder)
        .because(because)?
        .map(|entry| entry.map(|entry| entry.path()).because(because))
        .collect()
}

/// The inputs that reach what no seed does, from what libFuzzer notes when it merges corpora
/// (`FuzzerMerge.h`): the number of files, that of the first folder's files, the files, then for
/// each `STARTED number bytes`, `FT ...`, and in `COV number edge...` the edges that none before it
/// has reached.
fn best_first(control: &str) -> Vec<&str> {
    let mut lines = control.lines();
    let mut number = || lines.next()?.parse::<usize>().ok();
    let (count, seeds) = (number().unwrap_or(0), number().unwrap_or(0));
    let names: Vec<&str> = lines.by_ref().take(count).collect();
    let mut lens = vec![0_u64; count];
    let mut found = Vec::new();
    for line in lines {
        let mut words = line.split(' ');
        let (kind, index) = (
            words.next(),
            words.next().and_then(|word| word.parse().ok()),
        );
        let Some(index) = index.filter(|&index: &usize| index < count) else {
            continue;
        };
        match kind {
            Some("STARTED") => {
                let len = words.next().and_then(|word| word.parse().ok());
                lens[index] = len.unwrap_or(0);
            }
            Some("COV") if index >= seeds => {
                let edges = words.count() as u64;
                let bytes_each = ((lens[index] + PLACE) * 1000).checked_div(edges);
                found.extend(bytes_each.map(|bytes| (bytes, names[index])));
            }
            _ => {}
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
}

/// Runs `program`, with what it says in `log`; says whether it was content.
fn logged(program: &mut Command, log: &Path) -> Outcome<bool> {
    let file = File::create(log).because(|| format!("cannot make {}", log.display()))?;
    let status = program
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .status()
        .because(|| format!("cannot start {}", process::shown(program)))?;
    Ok(status.success())
}

/// What a program that libFuzzer drives says at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    executions: u64,
    each_second: u64,
    edges: u64,
    inputs: u64,
}

impl Totals {
    fn of(said: &str) -> Self {
        let statistic = |name: &str| {
            let value = said.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok()
        };
        // #28643  DONE   cov: 1859 ft: 2151 corp: 68/3204b lim: 219 exec/s: 2203 rss: 417Mb
        let last = said.lines().rfind(|line| line.contains(" cov: "));
        let number = |name: &str| {
            let (_, rest) = last?.split_once(name)?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        Self {
            executions: statistic("stat::number_of_executed_units:").unwrap_or(0),
            each_second: statistic("stat::average_exec_per_sec:").unwrap_or(0),
            edges: number(" cov: ").unwrap_or(0),
            inputs: number(" corp: ").unwrap_or(0),
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            executions,
            each_second,
            edges,
            inputs,
        } = self;
        write!(
            f,
            "{executions:>12} {each_second:>12} {edges:>6} {inputs:>7}"
        )
    }
}

/// The lines that tell why a program stopped early.
fn what_went_wrong(said: &str) -> String {
    let telling = ["panicked at", "ERROR:", "SUMMARY:", "Test unit written to"];
    let mut lines = said.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if telling.iter().any(|words| line.contains(words)) {
            found.push(line);
        }
        // A panic's message is on the line behind its place.
        if line.contains("panicked at") {
            found.extend(lines.peek());
        }
    }
    found.join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_and_the_statistics_tell_what_was_done() {
        let said = "#2\tINITED cov: 7 ft: 8 corp: 1/1b exec/s: 0 rss: 1Mb\n\
                    #28643\tDONE   cov: 1859 ft: 2151 corp: 68/3204b lim: 219 exec/s: 2203\n\
                    stat::number_of_executed_units: 28643\n\
                    stat::average_exec_per_sec:     2203\n";
        let totals = Totals {
            executions: 28643,
            each_second: 2203,
            edges: 1859,
            inputs: 68,
        };
        assert_eq!(Totals::of(said), totals);
    }

    #[test]
    fn inputs_are_kept_that_reach_what_no_seed_does_and_the_best_first() {
        let control = "4\n1\nseed\nlong\nshort\nnothing\n\
                       STARTED 0 9\nFT 0 1\nCOV 0 1 2\nDONE 0\n\
                       STARTED 3 1\nFT 3 1\nCOV 3\n\
                       STARTED 2 4\nFT 2 1\nCOV 2 3 4\n\
                       STARTED 1 100\nFT 1 1\nCOV 1 5 6 7\n";
        assert_eq!(best_first(control), ["short", "long"]);
    }

    #[test]
    fn a_panic_is_told_with_its_message_and_its_input() {
        let said = "#1 NEW\nthread 'x' panicked at image/src/elf.rs:1:2:\nindex out of bounds\n\
                    other\nSUMMARY: libFuzzer: deadly signal\n\
                    artifact_prefix='f'; Test unit written to found/elf-crash-1\n";
        let told = what_went_wrong(said);
        assert_eq!(told.lines().count(), 4, "{told}");
        assert!(told.contains("index out of bounds"), "{told}");
    }
}

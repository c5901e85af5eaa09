//! Everything that is checked before a change goes in, and what CI runs.

mod boot;
mod dependencies;
mod devices;
mod features;
mod house;
mod no_std;

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::cross::Cross;
use crate::failure::{Because, Failure, Outcome};
use crate::kernel;
use crate::lab::{Board, Clock, Ending, Lab};
use crate::process;
use crate::project::Project;
use crate::tools;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a step hands back: what is worth saying about its success in a word or two.
type Checked = Outcome<Verdict>;

/// How a step ended that could be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should; perhaps with a remark.
    Passed(String),
    /// It could not be tried here, and why.
    Skipped(String),
    /// Not as it should.
    Failed(String),
}

/// One named step.
struct Step {
    name: &'static str,
    what: &'static str,
    load: Load,
    run: fn(&Workshop<'_>, &Tally) -> Outcome,
}

/// How much of the machine a step keeps busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// All of it, or it wants the results of all that stand before it.
    Whole,
    /// About one processor, as a lab does: guests run in it one by one.
    Half,
}

/// What steps work with.
struct Workshop<'a> {
    project: &'a Project,
    cache: &'a Cache,
}

const STEPS: [Step; 26] = [
    Step {
        name: "rules",
        what: "the house's rules that can be read off the text",
        load: Load::Whole,
        run: |shop, tally| tally.check("rules", || house::check(shop.project.root())),
    },
    Step {
        name: "format",
        what: "cargo fmt",
        load: Load::Whole,
        run: |shop, tally| tally.cargo(shop, "format", &["fmt", "--all", "--check"]),
    },
    Step {
        name: "dependencies",
        what: "their licences, sources and declared Rust versions",
        load: Load::Whole,
        run: |shop, tally| tally.check("dependencies", || dependencies::check(shop.project)),
    },
    Step {
        name: "clippy",
        what: "cargo clippy, warnings denied",
        load: Load::Whole,
        run: |shop, tally| {
            let words = [
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "--deny=warnings",
            ];
            tally.cargo(shop, "clippy", &words)
        },
    },
    Step {
        name: "tests",
        what: "unit and integration tests",
        load: Load::Whole,
        run: |shop, tally| {
            let mut names = BTreeSet::new();
            tally.check("tests", || rust_tests(shop, &["--workspace"], &mut names))?;
            tally.count().names.extend(names);
            Ok(())
        },
    },
    Step {
        name: "vm-memory",
        what: "clippy and the tests of what is there for rust-vmm's memory only",
        load: Load::Whole,
        run: |shop, tally| tally.check("vm-memory", || with_vm_memory(shop)),
    },
    Step {
        name: "program",
        what: "the program that is shipped, which most steps below boot guests with",
        load: Load::Half,
        run: |shop, _| shop.project.firstlight().map(drop),
    },
    Step {
        name: "other-hosts",
        what: "the whole workspace for arm64 and riscv64 hosts",
        load: Load::Half,
        run: |shop, tally| {
            for architecture in [Architecture::Arm64, Architecture::Riscv64] {
                let name = format!("other-hosts {}", architecture.name());
                tally.check(&name, || for_host(shop, architecture))?;
            }
            Ok(())
        },
    },
    Step {
        name: "docs",
        what: "the crates' documentation, warnings denied",
        load: Load::Half,
        run: |shop, tally| {
            tally.check("docs", || {
                let mut doc = shop
                    .project
                    .cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
                whole_output(doc.env("RUSTDOCFLAGS", "--deny=warnings"))?;
                Ok(Verdict::Passed(String::new()))
            })
        },
    },
    Step {
        name: "no-std",
        what: "base, image, boot and devices without the standard library",
        load: Load::Half,
        run: |shop, tally| tally.check("no-std", || no_std::check(shop.project)),
    },
    Step {
        name: "oldest-rust",
        what: "a build with the oldest Rust that is promised",
        load: Load::Half,
        run: |shop, tally| {
            tally.check("oldest-rust", || {
                dependencies::build_with_oldest(shop.project)
            })
        },
    },
    Step {
        name: "boots-qemu",
        what: "guests on the qemu engine",
        load: Load::Whole,
        run: |shop, tally| boots_here(shop, tally, (boot::Engine::Qemu, Architecture::X86_64)),
    },
    Step {
        name: "boots-qemu-arm64",
        what: "the same of arm64",
        load: Load::Whole,
        run: |shop, tally| boots_here(shop, tally, (boot::Engine::Qemu, Architecture::Arm64)),
    },
    Step {
        name: "boots-qemu-riscv64",
        what: "the same of riscv64",
        load: Load::Whole,
        run: |shop, tally| boots_here(shop, tally, (boot::Engine::Qemu, Architecture::Riscv64)),
    },
    Step {
        name: "boots-auto",
        what: "guests on the engine that Firstlight chooses on this machine",
        load: Load::Whole,
        run: |shop, tally| boots_here(shop, tally, (boot::Engine::Auto, Architecture::X86_64)),
    },
    Step {
        name: "exports",
        what: "exported boots, by QEMU's own firmware and by ourselves",
        load: Load::Whole,
        run: |shop, tally| {
            shop.project.firstlight()?;
            boot::exports(shop.project, shop.cache, tally)
        },
    },
    Step {
        name: "devices-qemu",
        what: "guests with disks and networks on the qemu engine, of every architecture",
        load: Load::Whole,
        run: |shop, tally| {
            for architecture in Architecture::ALL {
                devices_here(shop, tally, architecture)?;
            }
            Ok(())
        },
    },
    Step {
        name: "devices-kvm",
        what: "the same and more on the kvm engine, in the lab",
        load: Load::Half,
        run: |shop, tally| devices_in_the_lab(shop, tally, Architecture::X86_64),
    },
    Step {
        name: "devices-kvm-arm64",
        what: "the same of arm64",
        load: Load::Half,
        run: |shop, tally| devices_in_the_lab(shop, tally, Architecture::Arm64),
    },
    Step {
        name: "boots-kvm-riscv64",
        what: "the same of riscv64",
        load: Load::Half,
        run: |shop, tally| boots_in_the_lab(shop, tally, Architecture::Riscv64),
    },
    Step {
        name: "boots-kvm-arm64",
        what: "the same of arm64, and KVM's own tests there",
        load: Load::Half,
        run: |shop, tally| boots_in_the_lab(shop, tally, Architecture::Arm64),
    },
    Step {
        name: "boots-kvm",
        what: "guests on the kvm engine, in the lab",
        load: Load::Half,
        run: |shop, tally| boots_in_the_lab(shop, tally, Architecture::X86_64),
    },
    Step {
        name: "passthrough-kvm",
        what: "a device of the host's own on the kvm engine, in a lab with an IOMMU",
        load: Load::Half,
        run: passthrough_in_the_lab,
    },
    Step {
        name: "firmware-kvm",
        what: "UEFI firmware on the kvm engine, in the labs",
        load: Load::Half,
        run: |shop, tally| {
            firmware_in_the_lab(shop, tally, Architecture::X86_64)?;
            firmware_in_the_lab(shop, tally, Architecture::Arm64)
        },
    },
    Step {
        name: "lab",
        what: "the lab itself: status, output and time limit",
        load: Load::Half,
        run: |shop, tally| tally.check("lab", || lab_itself(shop)),
    },
    Step {
        name: "table",
        what: "the README's tables of what boots and of what machines have, against what did",
        load: Load::Whole,
        run: |shop, tally| {
            let passed = tally.names();
            tally.check("table of what boots", || {
                boot::table::check(shop.project, shop.cache, &passed)
            })?;
            tally.check("table of what machines have", || {
                features::check(shop.project, &passed)
            })
        },
    },
];

/// Prints the names of the steps.
pub(crate) fn list() {
    for step in &STEPS {
        println!("{:<18} {}", step.name, step.what);
    }
}

/// Sets up and carries out the steps named `only`, or all; says whether all passed.
pub(crate) fn run(project: &Project, cache: &Cache, only: &[String]) -> Outcome<bool> {
    if let Some(unknown) = only
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != **name))
    {
        return Err(Failure::new(format!(
            "there is no step {unknown}; --list shows them"
        )));
    }
    tools::install(&[
        tools::LINKER,
        tools::LIBC,
        tools::QEMU,
        tools::QEMU_ARM64,
        tools::QEMU_RISCV64,
        tools::CPIO,
        tools::IASL,
        tools::DMIDECODE,
        tools::MAKE,
        tools::XZ,
        tools::DTC,
        tools::MKE2FS,
        tools::MTOOLS,
        tools::PASST,
        tools::IP,
    ])?;
    let shop = Workshop { project, cache };
    let tally = Tally::default();
    let wanted = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(wanted).collect();
    let start = Instant::now();
    for alike in steps.chunk_by(|one, next| one.load == next.load) {
        at_once(alike[0].load.at_a_time(), alike, |step| {
            step.carry_out(&shop, &tally);
        });
    }
    println!("\nIn {:.0} s:", start.elapsed().as_secs_f64());
    println!("{tally}");
    Ok(tally.is_good())
}

impl Step {
    fn carry_out(&self, shop: &Workshop<'_>, tally: &Tally) {
        let start = Instant::now();
        println!("-- {}: {}", self.name, self.what);
        if let Err(failure) = (self.run)(shop, tally) {
            let verdict = Verdict::Failed(failure.to_string());
            tally.report(self.name, start.elapsed(), &verdict);
        }
        println!(
            "-- {} took {:.0} s",
            self.name,
            start.elapsed().as_secs_f64()
        );
    }
}

impl Load {
    /// So many steps with this load fill the smallest machine that we care for, which has two processors.
    fn at_a_time(self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Half => 2,
        }
    }
}

/// Does `work` to each of `items`, `count` of them at a time, in their order.
fn at_once<T: Sync>(count: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let waiting = Mutex::new(items.iter());
    let next = || waiting.lock().expect("no iterator panics").next();
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                while let Some(item) = next() {
                    work(item);
                }
            });
        }
    });
}

/// Which guests are booted inside the lab.
#[derive(Clone, Copy)]
pub(crate) enum Guests<'a> {
    /// Kernels of all kinds.
    Kernels,
    /// One kernel with devices of all kinds; the program plugs disks into it.
    Devices(&'a Path),
    /// Firmware.
    Firmware,
    /// One kernel that has a device of the lab's.
    Passthrough,
}

/// What is done inside the lab.
pub(crate) struct Inside<'a> {
    /// The lab's machine.
    pub(crate) board: Board,
    /// Boots the guests of the kvm engine.
    pub(crate) firstlight: &'a Path,
    /// Which guests are booted.
    pub(crate) guests: Guests<'a>,
    /// Programs of Rust tests, which come first.
    pub(crate) tests: &'a [PathBuf],
}

/// Carries out what is done inside the lab.
pub(crate) fn inside_the_lab(
    project: &Project,
    cache: &Cache,
    inside: &Inside<'_>,
) -> Outcome<bool> {
    let tally = Tally::default();
    let setting = boot::Setting {
        engine: boot::Engine::Kvm,
        architecture: Architecture::of_this_machine()?,
        board: inside.board,
    };
    for program in inside.tests {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        // Cargo puts a number behind the name.
        let name = name.rsplit_once('-').map_or(&*name, |(name, _)| name);
        let name = format!("tests of {name} for {}", setting.architecture.name());
        tally.check(&name, || {
            tests_passed(&whole_output(&mut Command::new(program))?)
        })?;
    }
    let how = (setting, inside.firstlight);
    match inside.guests {
        Guests::Devices(hot_plug) => {
            devices::run(project, cache, how, &tally)?;
            devices::hot_plug::run(project, cache, (setting, hot_plug), &tally)?;
        }
        Guests::Kernels => boot::run(project, cache, how, &tally)?,
        Guests::Firmware => devices::firmware::run(project, cache, how, &tally)?,
        Guests::Passthrough => devices::passthrough::run(project, cache, how, &tally)?,
    }
    println!("{tally}");
    Ok(tally.is_good())
}

/// What passed so far, and what did not: of many steps and guests at once.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    /// The names of what passed.
    names: BTreeSet<String>,
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Count {
            passed,
            failed,
            skipped,
            ..
        } = &*self.count();
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// What stands before the details under a failed step's line.
const DETAIL: &str = "    | ";

impl Tally {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().expect("nobody panics who counts")
    }

    /// The names of what passed so far.
    fn names(&self) -> BTreeSet<String> {
        self.count().names.clone()
    }

    /// Whether nothing has failed.
    fn is_good(&self) -> bool {
        self.count().failed == 0
    }

    /// Carries `step` out, and counts and prints how it ended.
    fn check(&self, name: &str, step: impl FnOnce() -> Checked) -> Outcome {
        let start = Instant::now();
        let verdict = step().unwrap_or_else(|failure| Verdict::Failed(failure.to_string()));
        self.report(name, start.elapsed(), &verdict);
        Ok(())
    }

    /// Carries out a step that is one call of cargo.
    fn cargo(&self, shop: &Workshop<'_>, name: &str, words: &[&str]) -> Outcome {
        self.check(name, || {
            whole_output(&mut shop.project.cargo(words))?;
            Ok(Verdict::Passed(String::new()))
        })
    }

    /// Counts and prints how something ended.
    fn report(&self, name: &str, took: Duration, verdict: &Verdict) {
        let seconds = took.as_secs_f64();
        let line = |word: &str, remark: &str| {
            let line = format!("{word:<8} {seconds:6.1} s  {name}  {remark}");
            format!("{}\n", line.trim_end())
        };
        let mut count = self.count();
        let text = match verdict {
            Verdict::Passed(remark) => {
                count.passed += 1;
                count.names.insert(name.to_owned());
                line("ok", remark)
            }
            Verdict::Skipped(why) => {
                count.skipped += 1;
                line("SKIPPED", why)
            }
            Verdict::Failed(details) => {
                count.failed += 1;
                let details = details.lines().map(|detail| format!("{DETAIL}{detail}\n"));
                details.fold(line("FAILED", ""), |text, detail| text + &detail)
            }
        };
        // At once: lines of other steps must not come between.
        print!("{text}");
    }

    /// Counts a line that another of us printed; says whether it was such a line.
    fn take_over(&self, line: &str) -> bool {
        let mut guard = self.count();
        let Count {
            names,
            passed,
            failed,
            skipped,
        } = &mut *guard;
        let count = match line.split_whitespace().next() {
            Some("ok") => passed,
            Some("FAILED") => failed,
            Some("SKIPPED") => skipped,
            _ => return false,
        };
        *count += 1;
        if line.starts_with("ok") {
            // What stands between the time and a remark, two blanks from either.
            let mut columns = line
                .split("  ")
                .map(str::trim)
                .filter(|text| !text.is_empty());
            names.extend(columns.nth(2).map(str::to_owned));
        }
        true
    }

    fn add(&self, other: Self) {
        let other = other.0.into_inner().expect("nobody panics who counts");
        let mut count = self.count();
        count.names.extend(other.names);
        count.passed += other.passed;
        count.failed += other.failed;
        count.skipped += other.skipped;
    }
}

/// Runs `command`; when it fails, all that it printed is the failure.
fn whole_output(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .because(|| format!("cannot start {}", process::shown(command)))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(text);
    }
    Err(Failure::new(format!(
        "{} failed: {}\n{text}",
        process::shown(command),
        output.status,
    )))
}

/// Runs the tests of `packages`, and adds the names of those that passed to `names`.
fn rust_tests(shop: &Workshop<'_>, packages: &[&str], names: &mut BTreeSet<String>) -> Checked {
    let mut tests = shop.project.cargo(&["test", "--locked", "--no-fail-fast"]);
    let kernels = kernel::folder(shop.project, shop.cache)?;
    tests.args(packages).env("FIRSTLIGHT_KERNELS", kernels);
    let text = whole_output(&mut tests)?;
    let passed = text.lines().filter_map(|line| line.strip_suffix(" ... ok"));
    names.extend(passed.map(str::to_owned));
    tests_passed(&text)
}

/// What there is to say about tests that passed, of which `text` tells.
fn tests_passed(text: &str) -> Checked {
    let (passed, ignored) = test_results(text);
    // Tests that lack a tool say so themselves.
    let skipped = text.lines().filter(|line| line.starts_with("skipped: "));
    for line in skipped {
        println!("         {line}");
    }
    let ignored = if ignored == 0 {
        String::new()
    } else {
        format!(", {ignored} ignored")
    };
    Ok(Verdict::Passed(format!("({passed} tests{ignored})")))
}

/// The only feature that is no test's: other steps leave it off, as users do by default.
fn with_vm_memory(shop: &Workshop<'_>) -> Checked {
    const PACKAGE: [&str; 4] = ["--package", "firstlight-boot", "--features", "vm-memory"];
    let mut clippy = shop.project.cargo(&["clippy", "--locked", "--all-targets"]);
    clippy.args(PACKAGE).args(["--", "--deny=warnings"]);
    whole_output(&mut clippy)?;
    rust_tests(shop, &PACKAGE, &mut BTreeSet::new())
}

/// How many tests passed and were ignored, from what cargo printed.
fn test_results(text: &str) -> (u32, u32) {
    let mut sum = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        let count = |what: &str| -> u32 {
            line.split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(what))
                .find_map(|number| number.trim().parse().ok())
                .unwrap_or(0)
        };
        sum.0 += count("passed");
        sum.1 += count("ignored");
    }
    sum
}

/// Builds what there is for hosts of `architecture`, but libFuzzer, which is a C++ library, and the
/// tests: those of KVM are built for its lab, and others ask linux-loader, which has its x86 side
/// on x86 hosts only.
fn for_host(shop: &Workshop<'_>, architecture: Architecture) -> Checked {
    let cross = Cross::prepare(shop.project, shop.cache, architecture)?;
    let words = [
        "--locked",
        "--workspace",
        "--lib",
        "--bins",
        "--exclude=firstlight-fuzz",
    ];
    whole_output(&mut cross.cargo(shop.project, "check", &words))?;
    Ok(Verdict::Passed(String::new()))
}

fn boots_here(
    shop: &Workshop<'_>,
    tally: &Tally,
    (engine, architecture): (boot::Engine, Architecture),
) -> Outcome {
    let firstlight = shop.project.firstlight()?;
    boot::prepare(shop.project, shop.cache, architecture)?;
    let setting = boot::Setting {
        engine,
        architecture,
        board: Board::Newest,
    };
    boot::run(shop.project, shop.cache, (setting, &firstlight), tally)
}

/// What runs in a lab.
struct Programs {
    /// Ourselves.
    xtask: PathBuf,
    firstlight: PathBuf,
}

impl Programs {
    fn build(shop: &Workshop<'_>, architecture: Architecture) -> Outcome<Self> {
        let project = shop.project;
        if architecture == Architecture::of_this_machine()? {
            return Ok(Self {
                xtask: project.this_program()?,
                firstlight: project.firstlight()?,
            });
        }
        let cross = Cross::prepare(project, shop.cache, architecture)?;
        Ok(Self {
            xtask: cross.program(project, "xtask")?,
            firstlight: cross.program(project, "firstlight")?,
        })
    }
}

/// Builds a package's example for the lab of `architecture`.
fn example(
    shop: &Workshop<'_>,
    architecture: Architecture,
    (package, name): (&str, &str),
) -> Outcome<PathBuf> {
    if architecture == Architecture::of_this_machine()? {
        return shop.project.example(package, name);
    }
    let cross = Cross::prepare(shop.project, shop.cache, architecture)?;
    cross.example(shop.project, package, name)
}

fn boots_in_the_lab(shop: &Workshop<'_>, tally: &Tally, architecture: Architecture) -> Outcome {
    boot::prepare(shop.project, shop.cache, architecture)?;
    let programs = Programs::build(shop, architecture)?;
    // Of the unit tests, these are better for a real KVM.
    let tests = match architecture {
        Architecture::X86_64 => Vec::new(),
        other => Cross::prepare(shop.project, shop.cache, other)?
            .tests(shop.project, &["firstlight-hv", "firstlight-vmm"])?,
    };
    let mut lab = Lab::prepare(shop.project, shop.cache, architecture)?;
    lab.memory = 3072;
    lab.time_limit = 1800;
    let words = [programs.xtask, "inside-the-lab".into(), programs.firstlight];
    let mut command: Vec<OsString> = words.map(OsString::from).into();
    if architecture != Architecture::X86_64 {
        lab.board = Board::OlderIrqchip;
        visit(
            &lab,
            &[&command[..], &["--older-irqchip".into()]].concat(),
            tally,
        )?;
        lab.board = Board::Newest;
    }
    command.extend(tests.into_iter().map(OsString::from));
    visit(&lab, &command, tally)
}

fn devices_here(shop: &Workshop<'_>, tally: &Tally, architecture: Architecture) -> Outcome {
    let firstlight = shop.project.firstlight()?;
    devices::prepare(shop.project, shop.cache, architecture)?;
    let setting = boot::Setting {
        engine: boot::Engine::Qemu,
        architecture,
        board: Board::Newest,
    };
    let how = (setting, &*firstlight);
    devices::run(shop.project, shop.cache, how, tally)?;
    devices::firmware::run(shop.project, shop.cache, how, tally)
}

fn devices_in_the_lab(shop: &Workshop<'_>, tally: &Tally, architecture: Architecture) -> Outcome {
    devices::prepare(shop.project, shop.cache, architecture)?;
    devices::hot_plug::build(shop.project, shop.cache, architecture)?;
    if architecture == Architecture::X86_64 {
        devices::control::build(shop.cache)?;
    }
    let programs = Programs::build(shop, architecture)?;
    let hot_plug = example(shop, architecture, devices::hot_plug::EXAMPLE)?;
    let mut lab = Lab::prepare(shop.project, shop.cache, architecture)?;
    lab.memory = 3072;
    lab.time_limit = 1800;
    let words = [
        programs.xtask,
        "inside-the-lab".into(),
        "--devices".into(),
        hot_plug,
        programs.firstlight,
    ];
    let command = words.map(OsString::from);
    visit(&lab, &command, tally)
}

fn firmware_in_the_lab(shop: &Workshop<'_>, tally: &Tally, architecture: Architecture) -> Outcome {
    devices::firmware::build(shop.project, shop.cache, architecture)?;
    let programs = Programs::build(shop, architecture)?;
    let mut lab = Lab::prepare(shop.project, shop.cache, architecture)?;
    lab.time_limit = 1800;
    if architecture == Architecture::X86_64 {
        // A PC's firmware writes the register CR8 at the end of each interrupt. It seems that where the next is due by then,
        // as it is where all is slow enough, QEMU 10.0 ends by a failed assertion (`bql_locked`).
        lab.clock = Clock::Instructions;
    }
    let words = [
        programs.xtask,
        "inside-the-lab".into(),
        "--firmware".into(),
        programs.firstlight,
    ];
    let command = words.map(OsString::from);
    visit(&lab, &command, tally)
}

fn passthrough_in_the_lab(shop: &Workshop<'_>, tally: &Tally) -> Outcome {
    let spare = devices::passthrough::build(shop.project, shop.cache)?;
    let programs = Programs::build(shop, Architecture::X86_64)?;
    let mut lab = Lab::with_spare(shop.project, shop.cache, spare.clone())?;
    lab.time_limit = 1800;
    let words = [
        programs.xtask,
        "inside-the-lab".into(),
        "--passthrough".into(),
        programs.firstlight,
    ];
    visit(&lab, &words.map(OsString::from), tally)?;
    tally.check(
        "kvm: what guests wrote is on the disk of the host's own",
        || devices::passthrough::look(&spare),
    )
}

/// Has `command`, which is ourselves inside the lab, carried out, and takes over what it tells.
fn visit(lab: &Lab, command: &[OsString], tally: &Tally) -> Outcome {
    let seen = Tally::default();
    let mut other = Vec::new();
    let ending = lab.run(command, |output| {
        for line in output.lines().map_while(Result::ok) {
            if seen.take_over(&line) || line.starts_with(DETAIL) {
                println!("{line}");
            } else {
                other.push(line);
            }
        }
    })?;
    let count = seen.to_string();
    tally.add(seen);
    match ending {
        // The count that it ends with shows that no line was lost.
        Ending::Status(0 | 1) if other.last() == Some(&count) => Ok(()),
        ending => Err(Failure::new(format!(
            "the lab ended before all guests had run: {ending:?}\n{}",
            other.join("\n")
        ))),
    }
}

fn lab_itself(shop: &Workshop<'_>) -> Checked {
    let mut lab = Lab::prepare(shop.project, shop.cache, Architecture::X86_64)?;
    let mut said = Vec::new();
    let every_byte = r"exec 2>&1; printf '\0\1\r\n\377'; head -c 200000 /dev/zero; exit 7";
    let ending = lab.run(&["sh".into(), "-c".into(), every_byte.into()], |output| {
        let _ = output.read_to_end(&mut said);
    })?;
    if ending != Ending::Status(7) {
        return Ok(Verdict::Failed(format!("not status 7 but {ending:?}")));
    }
    if said.len() != 200_005 || !said.starts_with(b"\0\x01\r\n\xff\0") {
        return Ok(Verdict::Failed(format!(
            "the output came out changed: {} bytes, beginning with {:x?}",
            said.len(),
            said.iter().take(8).collect::<Vec<_>>()
        )));
    }
    lab.time_limit = 20;
    let ending = lab.run(&["sleep".into(), "1000".into()], |_| {})?;
    if ending != Ending::TimedOut {
        return Ok(Verdict::Failed(format!("no time-out but {ending:?}")));
    }
    Ok(Verdict::Passed(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_test_programs_are_added_up() {
        let text = "running 3 tests\ntest result: ok. 17 passed; 0 failed; 1 ignored; 0 measured; 0 \
                    filtered out; finished in 0.01s\n\ntest result: ok. 4 passed; 0 failed; 0 \
                    ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(test_results(text), (21, 1));
    }

    #[test]
    fn lines_of_another_run_are_counted_by_their_first_word() {
        let tally = Tally::default();
        assert!(tally.take_over("ok          1.0 s  qemu debian12 pvh  a remark"));
        assert!(tally.take_over("FAILED      1.0 s  debian13"));
        assert!(tally.take_over("SKIPPED     0.0 s  other  no QEMU"));
        assert!(!tally.take_over("    | ok"));
        assert!(!tally.take_over(""));
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped");
        assert!(tally.names().iter().eq(["qemu debian12 pvh"]));
    }
}

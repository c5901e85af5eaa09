//! Work on the project itself: what `cargo xtask` does.
//!
//! One file for each noun: the programs a machine must have ([`tools`]), Debian's packages
//! ([`debian`]), the kernels and other files in them ([`kernel`], [`package`], [`tree`]), the guests'
//! first userspace ([`initramfs`]), compilers for other architectures ([`cross`]), the machine with
//! KVM ([`lab`]); and one for each verb.

mod architecture;
mod battery_driver;
mod bench;
mod cache;
mod cross;
mod debian;
mod demo;
mod failure;
mod fuzz;
mod guest_program;
mod initramfs;
mod kernel;
mod lab;
mod package;
mod process;
mod project;
mod test;
mod tools;
mod tree;

use architecture::Architecture;
use cache::Cache;
use clap::{Parser, Subcommand};
use failure::Outcome;
use project::Project;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Work on the project itself.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set everything up and boot a stock Debian kernel to a prompt.
    Demo {
        /// Boot to the guest's first line and power-off; succeed only if the line was seen.
        #[arg(long)]
        non_interactive: bool,
    },
    /// Set everything up and run all that CI runs.
    Test {
        /// Only these steps.
        #[arg(long, value_name = "STEP", num_args = 1..)]
        only: Vec<String>,
        /// Show the names of the steps, and do nothing.
        #[arg(long)]
        list: bool,
    },
    /// Measure: the program's size, loading, start, guest instructions, and boots and devices beside QEMU's on KVM.
    Bench {
        /// What to measure: size, load, start, first, count, boot, devices; all if nothing is named.
        which: Vec<String>,
        /// How many runs a median is taken of.
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// Where `load` is measured: x86_64, arm64 or riscv64; on all of them if nothing is named.
        #[arg(short, long)]
        arch: Option<Architecture>,
    },
    /// Fuzz what takes bytes from outside; ends with 1 if something went wrong.
    Fuzz {
        /// Only these targets.
        targets: Vec<String>,
        /// How long each is fuzzed.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Make the corpora in the project anew from what has been found.
        #[arg(long)]
        keep: bool,
    },
    /// Measure guests; for use on a machine whose clock counts instructions.
    #[command(hide = true)]
    InsideTheRace {
        /// What is measured: race, devices.
        bench: String,
    },
    /// Boot the guests of the kvm engine; for use within the lab.
    #[command(hide = true)]
    InsideTheLab {
        /// The machine is one with an older interrupt controller.
        #[arg(long)]
        older_irqchip: bool,
        /// Boot the guests with devices instead; this program plugs disks into them.
        #[arg(long, value_name = "PROGRAM")]
        devices: Option<PathBuf>,
        /// Start firmware instead.
        #[arg(long, conflicts_with = "devices")]
        firmware: bool,
        /// Give the lab's spare disk to guests instead.
        #[arg(long, conflicts_with_all = ["devices", "firmware"])]
        passthrough: bool,
        /// The command they are booted with.
        firstlight: PathBuf,
        /// Rust tests to run there before.
        tests: Vec<PathBuf>,
    },
    /// Run a command of this machine in the lab: an emulated machine with a real /dev/kvm.
    ///
    /// Ends with the command's status; with 124 if it did not end in time, with 125 if the lab
    /// failed.
    Lab {
        /// What the machine is: x86_64, arm64 or riscv64. Other architectures than the host's have
        /// nothing but busybox and the folders that are shared.
        #[arg(short, long, default_value = "x86_64")]
        arch: Architecture,
        /// Gives the machine the interrupt controller of older ones: a GICv2, or a PLIC.
        #[arg(long)]
        older_irqchip: bool,
        /// Longest time it may take, in seconds.
        #[arg(short, long, value_name = "SECONDS", default_value_t = 600)]
        time: u32,
        /// Memory of the lab, in MiB.
        #[arg(short, long, value_name = "MIB", default_value_t = 2048)]
        memory: u32,
        /// A folder that the command may write to, beside the project's own.
        #[arg(short, long, value_name = "FOLDER")]
        writable: Vec<PathBuf>,
        /// Gives the machine an IOMMU, and behind that an NVMe disk at 00:10.0 with this file's contents, which no
        /// driver of the lab takes; on x86.
        #[arg(long, value_name = "FILE", conflicts_with = "arch")]
        spare: Option<PathBuf>,
        /// Show the messages of the lab's own kernel, on stderr.
        #[arg(short, long)]
        verbose: bool,
        /// The command.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Run cargo for another architecture; programs and tests are run in its lab.
    Cross {
        /// The architecture: arm64 or riscv64.
        #[arg(short, long)]
        arch: Architecture,
        /// What cargo is to do: build, check, test or run.
        verb: String,
        /// What else cargo is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Fetch the kernels that guests run, and say where they are.
    Kernels {
        /// Look for newer ones.
        #[arg(long)]
        update: bool,
    },
}

/// The status that says that the lab failed rather than the command, as with `env` and `timeout`.
const LAB_FAILED: u8 = 125;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failed = if matches!(arguments.task, Task::Lab { .. }) {
        LAB_FAILED
    } else {
        1
    };
    match perform(arguments.task) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failed)
        }
    }
}

fn perform(task: Task) -> Outcome<u8> {
    let project = Project::find()?;
    let cache = Cache::open()?;
    match task {
        Task::Lab {
            arch,
            older_irqchip,
            time,
            memory,
            writable,
            spare,
            verbose,
            command,
        } => {
            let mut lab = match spare {
                Some(spare) => lab::Lab::with_spare(&project, &cache, spare)?,
                None => lab::Lab::prepare(&project, &cache, arch)?,
            };
            lab.board = board(older_irqchip);
            lab.time_limit = time;
            lab.memory = memory;
            lab.verbose = verbose;
            lab.writable.extend(writable);
            lab::command(&lab, &command)
        }
        Task::Demo {
            non_interactive: false,
        } => demo::to_a_prompt(&project, &cache),
        Task::Demo {
            non_interactive: true,
        } => demo::to_the_marker(&project, &cache),
        Task::Test { list: true, .. } => {
            test::list();
            Ok(0)
        }
        Task::Test { list: false, only } => {
            test::run(&project, &cache, &only).map(|passed| u8::from(!passed))
        }
        Task::Bench {
            which,
            rounds,
            arch,
        } => {
            let wanted = bench::Wanted {
                which: &which,
                rounds,
                architecture: arch,
            };
            bench::run(&project, &cache, &wanted).map(|()| 0)
        }
        Task::Fuzz {
            targets,
            minutes,
            keep,
        } => {
            let campaign = fuzz::Campaign {
                targets: &targets,
                minutes,
                keep,
            };
            fuzz::run(&project, &campaign).map(|is_clean| u8::from(!is_clean))
        }
        Task::Cross { arch, verb, words } => {
            let cross = cross::Cross::prepare(&project, &cache, arch)?;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            process::run(&mut cross.cargo(&project, &verb, &words)).map(|()| 0)
        }
        Task::InsideTheRace { bench } => bench::on_the_counting_machine(&bench).map(|()| 0),
        Task::InsideTheLab {
            older_irqchip,
            devices,
            firmware,
            passthrough,
            firstlight,
            tests,
        } => {
            let guests = match &devices {
                Some(hot_plug) => test::Guests::Devices(hot_plug),
                None if firmware => test::Guests::Firmware,
                None if passthrough => test::Guests::Passthrough,
                None => test::Guests::Kernels,
            };
            let inside = test::Inside {
                board: board(older_irqchip),
                firstlight: &firstlight,
                guests,
                tests: &tests,
            };
            test::inside_the_lab(&project, &cache, &inside).map(|passed| u8::from(!passed))
        }
        Task::Kernels { update } => {
            for release in kernel::releases(None) {
                if update {
                    kernel::forget(&cache, release)?;
                }
                let kernel = kernel::fetch(&cache, release)?;
                println!(
                    "{:<16} {:<24} {:<6} {}",
                    release.name,
                    kernel.version,
                    release.payload,
                    kernel.file.display()
                );
            }
            Ok(0)
        }
    }
}

fn board(older_irqchip: bool) -> lab::Board {
    if older_irqchip {
        lab::Board::OlderIrqchip
    } else {
        lab::Board::Newest
    }
}

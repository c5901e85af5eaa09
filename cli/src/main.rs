//! The `firstlight` command: finds out what a kernel file is, shows where a boot would put
//! everything, and boots it.

mod address;
mod args;
mod boot;
mod cache;
mod config;
mod control;
mod diff;
mod exit_status;
mod export;
mod failure;
mod file;
mod initramfs;
mod initrd;
mod inspect;
mod json;
mod kernel;
mod manual;
mod memory_size;
mod output;
mod plan;
mod progress;
mod pstore;
mod root_image;

use crate::args::Verb;
use crate::boot::Outcome;
use crate::config::Refusal;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use firstlight_load::LargeBuffers;
use rustix::process::{Signal, getpid, kill_process};
use std::env;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: LargeBuffers = LargeBuffers;

fn main() -> ExitCode {
    if let Some(ended) = firstlight_vmm::serve_if_jailed() {
        return ended;
    }
    let cli = match config::parse(env::args_os().collect()) {
        Ok(cli) => cli,
        Err(Refusal::Usage(error)) => return usage(&error),
        Err(Refusal::File(failure)) => {
            note(&failure.to_string());
            return failure.status().into();
        }
    };
    match run(cli.verb, Progress::new(cli.verbose)) {
        Ok(Outcome::Status(status)) => status.into(),
        Ok(Outcome::Guest(status)) => status.into(),
        Ok(Outcome::Signal(number)) => end_by_signal(number),
        Err(failure) => {
            note(&failure.to_string());
            failure.status().into()
        }
    }
}

fn run(verb: Verb, progress: Progress) -> Result<Outcome, Failure> {
    match verb {
        Verb::Inspect(args) => inspect::inspect(&args, progress)?,
        Verb::Plan(args) => plan::plan(&args, progress)?,
        Verb::Diff(args) => diff::compare(&args, progress)?,
        Verb::Boot(args) => {
            let progress = if args.quiet {
                Progress::QUIET
            } else {
                progress
            };
            return boot::boot(&args, progress);
        }
        Verb::Export(args) => export::export(&args, progress)?,
        Verb::Cache(args) => cache::cache(&args)?,
        Verb::Pstore(args) => pstore::pstore(&args)?,
        Verb::Ctl(args) => control::ctl(&args, progress)?,
        Verb::ConfigSchema => config::schema::print()?,
        Verb::Completions(args) => manual::completions(args.shell)?,
        Verb::Man(args) => manual::page(args.command.as_deref())?,
    }
    Ok(Outcome::Status(ExitStatus::Done))
}

/// Help and version were asked for and are no failure; the rest is told with what is right.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        note(text.trim_end());
        return ExitStatus::Usage.into();
    }
    match output::print(&text) {
        Ok(()) => ExitStatus::Done.into(),
        Err(failure) => {
            note(&failure.to_string());
            failure.status().into()
        }
    }
}

/// Whoever waits for this process is told how it ended: by the signal that it was sent.
fn end_by_signal(number: i32) -> ExitCode {
    if let Some(signal) = Signal::from_named_raw(number) {
        // Sending oneself a signal fails only for a number that is none.
        let _ = kill_process(getpid(), signal);
    }
    // Here only where the signal is ignored; then as a shell tells it.
    ExitCode::from(u8::try_from(number).unwrap_or_default().saturating_add(128))
}

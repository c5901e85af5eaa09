//! What loading costs, beside linux-loader: the bench is the loader's own, the kernels are Debian's.
//!
//! linux-loader has loaders for the host's architecture only. So each architecture's kernels are
//! measured on a machine of it: for others than this one, in the lab, whose clock then counts
//! instructions, since time means nothing there.

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::cross::Cross;
use crate::failure::{Failure, Outcome};
use crate::kernel;
use crate::lab::{self, Clock, Lab};
use crate::process;
use crate::project::Project;
use std::ffi::OsString;
use std::path::PathBuf;

const PACKAGE: &str = "firstlight-load";
const BENCH: &str = "load";
/// Where every run gives the same count but the first, three are enough.
const ROUNDS_IN_THE_LAB: &str = "--rounds=3";
/// Seconds that one architecture may take in the lab.
const PATIENCE: u32 = 1800;

/// Measures with every kernel that is tried, on machines of all architectures, or of one.
pub(super) fn run(project: &Project, cache: &Cache, only: Option<Architecture>) -> Outcome {
    let wanted = |one: &Architecture| only.is_none_or(|only| only == *one);
    for architecture in Architecture::ALL.into_iter().filter(wanted) {
        let kernels: Vec<PathBuf> = kernel::releases(Some(architecture))
            .map(|release| Ok(kernel::fetch(cache, release)?.file))
            .collect::<Outcome<_>>()?;
        if architecture == Architecture::of_this_machine()? {
            here(project, &kernels)?;
        } else {
            in_the_lab(project, cache, architecture, &kernels)?;
        }
    }
    Ok(())
}

fn here(project: &Project, kernels: &[PathBuf]) -> Outcome {
    let words = [
        "bench",
        "--quiet",
        "--package",
        PACKAGE,
        "--bench",
        BENCH,
        "--",
    ];
    process::run(project.cargo(&words).args(kernels))
}

fn in_the_lab(
    project: &Project,
    cache: &Cache,
    architecture: Architecture,
    kernels: &[PathBuf],
) -> Outcome {
    let program = Cross::prepare(project, cache, architecture)?.bench(project, PACKAGE, BENCH)?;
    let mut lab = Lab::prepare(project, cache, architecture)?;
    lab.clock = Clock::Instructions;
    lab.time_limit = PATIENCE;
    println!(
        "\n== load on {}: in the lab, Linux {}, whose clock counts instructions: 1 us is 1000",
        architecture.name(),
        kernel::fetch(cache, &lab::release(architecture))?.version
    );
    let mut command: Vec<OsString> = vec![program.into(), ROUNDS_IN_THE_LAB.into()];
    command.extend(kernels.iter().map(OsString::from));
    match lab::command(&lab, &command)? {
        0 => Ok(()),
        status => Err(Failure::new(format!(
            "the bench ended with {status} in the lab of {}",
            architecture.name()
        ))),
    }
}

//! How fast Firstlight is, beside QEMU with the same files in the same run.
//!
//! Times of a machine that others use mean little by themselves, so every line is a ratio to a
//! peer, from runs that took turns, or a count that does not depend on the machine.

mod counting;
mod devices;
mod load;
mod modules;
mod peer;
mod race;
mod start;

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::project::Project;
use std::fs;
use std::process::Command;

/// What can be measured.
const BENCHES: [&str; 7] = ["size", "load", "start", "first", "count", "boot", "devices"];

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Names of benches; all if nothing is named.
    pub(crate) which: &'a [String],
    /// How many runs a median is taken of.
    pub(crate) rounds: usize,
    /// The only architecture on which loading is measured.
    pub(crate) architecture: Option<Architecture>,
}

/// Measures it.
pub(crate) fn run(project: &Project, cache: &Cache, wanted: &Wanted<'_>) -> Outcome {
    let &Wanted {
        which,
        rounds,
        architecture,
    } = wanted;
    if let Some(unknown) = which.iter().find(|name| !BENCHES.contains(&name.as_str())) {
        return Err(Failure::new(format!(
            "there is no bench {unknown}; there are {}",
            BENCHES.join(", ")
        )));
    }
    let wanted = |name: &str| which.is_empty() || which.iter().any(|other| other == name);
    println!("machine: {}", machine()?);
    // The loader's bench is a program of its own.
    if BENCHES.iter().any(|name| *name != "load" && wanted(name)) {
        project.firstlight()?;
    }
    if wanted("size") {
        size(project)?;
    }
    if wanted("load") {
        load::run(project, cache, architecture)?;
    }
    if wanted("start") {
        start::wall(project, cache, rounds)?;
    }
    if wanted("first") {
        start::first(project, cache)?;
    }
    if wanted("count") {
        start::counts(project, cache)?;
    }
    if wanted("boot") {
        race::run(project, cache)?;
    }
    if wanted("devices") {
        devices::run(project, cache)?;
    }
    Ok(())
}

/// What is done on a machine whose clock counts instructions: the `bench` of that name.
pub(crate) fn on_the_counting_machine(bench: &str) -> Outcome {
    match bench {
        "race" => race::inside_the_race(),
        "devices" => devices::inside(),
        other => Err(Failure::new(format!("there is no bench {other} here"))),
    }
}

/// The machine, as far as it matters here.
fn machine() -> Outcome<String> {
    let info = fs::read_to_string("/proc/cpuinfo").because(|| "cannot read cpuinfo".to_owned())?;
    let value = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(field, _)| field.trim() == name);
        found.map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let cpus = info.matches("processor\t").count();
    let virtual_machine = if info.contains(" hypervisor") {
        ", itself virtual"
    } else {
        ""
    };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let kernel = process::output_of(Command::new("uname").arg("-r"))?;
    let qemu = process::output_of(Command::new("qemu-system-x86_64").arg("--version"))?;
    let qemu = qemu.split_whitespace().nth(3).unwrap_or("?").to_owned();
    Ok(format!(
        "{cpus} x {}{virtual_machine}, load {load}, Linux {}, QEMU {qemu}",
        value("model name"),
        kernel.trim()
    ))
}

fn size(project: &Project) -> Outcome {
    let program = project.built_firstlight();
    let bytes = fs::metadata(&program)
        .because(|| format!("cannot see {}", program.display()))?
        .len();
    println!("\n== size: the program as it is shipped");
    println!(
        "{bytes} bytes, {:.2} MiB (goal: at most 3 MB)",
        as_mib(bytes)
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn as_mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// The middle one.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}

//! What the project is built from: licences, sources, and the Rust versions they ask for.

use super::{Checked, Verdict, whole_output};
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::project::Project;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// Checks every package that a shipped program or crate is built from.
pub(super) fn check(project: &Project) -> Checked {
    let packages = shipped_packages(project)?;
    let path = project.root().join("deny.toml");
    let text = fs::read_to_string(&path).because(|| format!("cannot read {}", path.display()))?;
    let allowed = allowed_licences(&text);
    let ours = oldest_rust(&packages)?;
    let mut wrong = Vec::new();
    let mut sources = BTreeSet::new();
    for package in &packages {
        let name = &package.name;
        match &package.licence {
            Some(licence) if is_allowed(licence, &allowed) => {}
            Some(licence) => wrong.push(format!("{name}: licence {licence} is not in deny.toml")),
            None => wrong.push(format!("{name}: no licence")),
        }
        if let Some(needed) = package.rust.filter(|&needed| needed > ours) {
            wrong.push(format!(
                "{name}: needs Rust {needed:?}, we promise {ours:?}"
            ));
        }
        sources.extend(package.source.clone());
    }
    if sources.len() > 1 {
        wrong.push(format!("more than one source of packages: {sources:?}"));
    }
    Ok(if wrong.is_empty() {
        Verdict::Passed(format!("({} packages)", packages.len()))
    } else {
        Verdict::Failed(wrong.join("\n"))
    })
}

/// Builds the workspace with the oldest Rust that is promised, where it is installed.
pub(super) fn build_with_oldest(project: &Project) -> Checked {
    let (major, minor) = oldest_rust(&shipped_packages(project)?)?;
    let version = format!("{major}.{minor}");
    let toolchains = process::output_of(Command::new("rustup").args(["toolchain", "list"]));
    let toolchains = toolchains.unwrap_or_default();
    let Some(toolchain) = toolchains
        .split_whitespace()
        .find(|name| is_version(name, &version))
    else {
        return Ok(Verdict::Skipped(format!(
            "no toolchain {version} on this machine (rustup toolchain install {version})"
        )));
    };
    let mut build = Command::new("rustup");
    build
        .args([
            "run",
            toolchain,
            "cargo",
            "check",
            "--locked",
            "--workspace",
        ])
        .arg("--target-dir")
        .arg(project.scratch("oldest-rust")?)
        .current_dir(project.root());
    for inherited in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        build.env_remove(inherited);
    }
    whole_output(&mut build)?;
    Ok(Verdict::Passed(format!("({toolchain})")))
}

/// A package, as far as it is looked at here.
struct Package {
    name: String,
    licence: Option<String>,
    rust: Option<(u32, u32)>,
    source: Option<String>,
}

/// The packages of the workspace that are shipped, and all that they are built from.
fn shipped_packages(project: &Project) -> Outcome<Vec<Package>> {
    let said = process::output_of(&mut project.cargo(&[
        "metadata",
        "--locked",
        "--format-version=1",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]))?;
    let metadata: Value =
        serde_json::from_str(&said).because(|| "cannot read cargo's metadata".to_owned())?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes: BTreeMap<String, Vec<Value>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| (text(&node["id"]), list(&node["deps"])))
        .collect();
    let mut waiting: Vec<String> = list(&metadata["workspace_members"])
        .iter()
        .map(text)
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        for dependency in nodes.get(&id).into_iter().flatten() {
            // Dependencies of tests have the kind "dev".
            let is_shipped = list(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"] != "dev");
            let id = text(&dependency["pkg"]);
            if is_shipped && !reached.contains(&id) {
                waiting.push(id);
            }
        }
        reached.insert(id);
    }
    let packages = list(&metadata["packages"]);
    let shipped = packages
        .iter()
        .filter(|package| reached.contains(&text(&package["id"])));
    Ok(shipped
        .map(|package| Package {
            name: format!("{} {}", text(&package["name"]), text(&package["version"])),
            licence: package["license"].as_str().map(str::to_owned),
            rust: package["rust_version"].as_str().and_then(rust_version),
            source: package["source"].as_str().map(str::to_owned),
        })
        .collect())
}

/// The oldest Rust that our own packages declare.
fn oldest_rust(packages: &[Package]) -> Outcome<(u32, u32)> {
    let ours = packages.iter().filter(|package| package.source.is_none());
    ours.filter_map(|package| package.rust)
        .min()
        .ok_or_else(|| Failure::new("our own packages declare no Rust version"))
}

/// Major and minor number of a version.
fn rust_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Whether the toolchain `name` is of `version`.
fn is_version(name: &str, version: &str) -> bool {
    name.strip_prefix(version)
        .is_some_and(|rest| rest.starts_with(['.', '-']))
}

/// The list `allow` under `[licenses]` in cargo-deny's configuration.
fn allowed_licences(text: &str) -> Vec<String> {
    let section = text.split_once("[licenses]").map_or("", |(_, rest)| rest);
    let list = section.split_once("allow = [").map_or("", |(_, rest)| rest);
    let list = list.split(']').next().unwrap_or_default();
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether an SPDX expression can be met with `allowed` licences. `AND` binds closer than `OR`;
/// old packages write `/` for `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    alternatives(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn alternatives(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = licence(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= licence(words, allowed);
    }
    met
}

fn licence(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let Some(word) = words.next() else {
        return false;
    };
    if word == "(" {
        let met = alternatives(words, allowed);
        words.next_if_eq(&")");
        return met;
    }
    let mut name = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name += " WITH ";
        name += words.next().unwrap_or_default();
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_expression_is_met_by_one_alternative() {
        let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned()];
        let met = |expression| is_allowed(expression, &allowed);
        assert!(met("MIT"));
        assert!(met("GPL-2.0 OR Apache-2.0"));
        assert!(met("Unlicense/MIT"));
        assert!(met("(MIT OR Apache-2.0) AND Apache-2.0"));
        assert!(!met("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!met("GPL-2.0"));
        assert!(!met("Apache-2.0 WITH LLVM-exception"));
        assert!(!met(""));
    }

    #[test]
    fn the_allowed_licences_are_read_from_the_configuration() {
        let text =
            "[graph]\n[licenses]\nallow = [\n  \"MIT\", # x\n  \"BSD-3-Clause\",\n]\n[bans]\n";
        assert_eq!(allowed_licences(text), ["MIT", "BSD-3-Clause"]);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(rust_version("1.9") < rust_version("1.88.0"));
        assert_eq!(rust_version("two"), None);
        assert!(is_version("1.88.0-x86_64-unknown-linux-gnu", "1.88"));
        assert!(is_version("1.88-x86_64-unknown-linux-gnu", "1.88"));
        assert!(!is_version("1.880-x", "1.88"));
    }
}

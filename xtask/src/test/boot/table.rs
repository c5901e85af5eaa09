//! The README's table of what boots, made from the guests that did.

use super::cases::{self, Guests};
use super::{Engine, Setting};
use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::lab::Board;
use crate::project::Project;
use crate::test::Verdict;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

/// What the success of a guest shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The image.
    pub(super) image: String,
    /// The boot protocol.
    pub(super) way: &'static str,
    /// The engine.
    pub(super) engine: Engine,
}

/// The columns.
const WAYS: [&str; 8] = [
    "linux64",
    "linux32",
    "linux16",
    "pvh",
    "multiboot",
    "multiboot2",
    "arm64",
    "riscv64",
];

const BEGIN: &str = "<!-- What boots: written by `cargo xtask test`. -->\n";
const END: &str = "<!-- End of what boots. -->\n";
/// Set to rewrite what differs instead of complaining.
const BLESS: &str = "FIRSTLIGHT_BLESS";

/// Holds the README's table against the names of the guests that passed.
pub(crate) fn check(
    project: &Project,
    cache: &Cache,
    passed: &BTreeSet<String>,
) -> Outcome<Verdict> {
    let mut shown = Vec::new();
    for architecture in Architecture::ALL {
        let guests = Guests::fetch(project, cache, architecture)?;
        for engine in [Engine::Qemu, Engine::Kvm] {
            let setting = Setting {
                engine,
                architecture,
                board: Board::Newest,
            };
            let cases = cases::of(&guests, setting);
            if !cases.iter().any(|case| passed.contains(&case.name)) {
                return Ok(Verdict::Skipped(format!(
                    "no guest ran: {}",
                    setting.name()
                )));
            }
            let passed = cases.into_iter().filter(|case| passed.contains(&case.name));
            shown.extend(passed.filter_map(|case| case.shows));
        }
    }
    hold(project, (BEGIN, END), &table(&shown))
}

/// Holds the README's table between two marks against `table`, or writes it.
pub(in crate::test) fn hold(
    project: &Project,
    marks: (&str, &str),
    table: &str,
) -> Outcome<Verdict> {
    let path = project.root().join("README.md");
    let readme = fs::read_to_string(&path).because(|| format!("cannot read {}", path.display()))?;
    let updated = with_table(&readme, marks, table)?;
    if updated == readme {
        return Ok(Verdict::Passed(format!(
            "({} lines)",
            table.lines().count()
        )));
    }
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, updated).because(|| format!("cannot write {}", path.display()))?;
        return Ok(Verdict::Passed("(rewritten)".into()));
    }
    Ok(Verdict::Failed(format!(
        "the README's table is not what was seen; {BLESS}=1 rewrites it. Seen:\n{table}"
    )))
}

/// `readme` with `table` in the table's place.
fn with_table(readme: &str, (begin, end): (&str, &str), table: &str) -> Outcome<String> {
    let parts = readme
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        Failure::new(format!(
            "the README has no place for the table: {begin}{end}"
        ))
    })?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

/// A line for each image, in the order in which they come, a column for each way in.
fn table(shown: &[Shown]) -> String {
    let mut text = format!("| | {} |\n|---|", WAYS.join(" | "));
    text += &"---|".repeat(WAYS.len());
    text.push('\n');
    let mut images: Vec<&str> = Vec::new();
    for Shown { image, .. } in shown {
        if !images.contains(&image.as_str()) {
            images.push(image);
        }
    }
    for image in images {
        let cell = |way: &&str| {
            let engines = shown
                .iter()
                .filter(|shown| shown.image == image && shown.way == *way)
                .map(|shown| shown.engine.name());
            engines.collect::<Vec<_>>().join(", ")
        };
        let cells: Vec<String> = WAYS.iter().map(cell).collect();
        writeln!(text, "| {image} | {} |", cells.join(" | ")).expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(image: &str, way: &'static str, engine: Engine) -> Shown {
        Shown {
            image: image.to_owned(),
            way,
            engine,
        }
    }

    #[test]
    fn a_cell_names_the_engines_that_were_seen() {
        let table = table(&[
            shown("One", "linux64", Engine::Qemu),
            shown("Two", "pvh", Engine::Qemu),
            shown("One", "linux64", Engine::Kvm),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[2], "| One | qemu, kvm |  |  |  |  |  |  |  |");
        assert_eq!(lines[3], "| Two |  |  |  | qemu |  |  |  |  |");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn the_table_is_replaced_and_nothing_else() {
        let readme = format!("before\n{BEGIN}old\n{END}after\n");
        let updated = with_table(&readme, (BEGIN, END), "new\n").unwrap();
        assert_eq!(updated, format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(with_table("no place", (BEGIN, END), "new\n").is_err());
    }
}

//! The house's rules that can be read off the text of the sources.

use super::{Checked, Verdict};
use crate::failure::{Because, Outcome};
use std::fs;
use std::path::Path;

/// Checks every file of the project that cargo or git did not make.
pub(super) fn check(root: &Path) -> Checked {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| complaints(path, text))
        .collect();
    Ok(if wrong.is_empty() {
        Verdict::Passed(format!("({} files)", files.len()))
    } else {
        Verdict::Failed(wrong.join("\n"))
    })
}

/// Reads the text files below `folder`, with their paths from `root`.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> Outcome {
    let entries = fs::read_dir(folder).because(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .because(|| format!("cannot list {}", folder.display()))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // In another working tree of the same clone, .git is a file.
        if ["target", ".git"].contains(&name.as_ref()) {
            continue;
        }
        if path.is_dir() {
            // A build folder of another name says what it is.
            if !path.join("CACHEDIR.TAG").exists() {
                collect(root, &path, files)?;
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).unwrap_or(&path);
            files.push((path.to_string_lossy().into_owned(), text));
        }
    }
    Ok(())
}

/// What is wrong with the file at `path`.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    // This file names what it looks for.
    if path == "xtask/src/test/house.rs" {
        return wrong;
    }
    for (number, line) in (1..).zip(text.lines()) {
        if names_a_folder_of_somebody(line) {
            wrong.push(format!(
                "{path}:{number}: a path of somebody's machine: {line}"
            ));
        }
    }
    if !path.ends_with(".rs") {
        return wrong;
    }
    let mut complain = |rule: &str| wrong.push(format!("{path}: {rule}"));
    if path.ends_with("/mod.rs") || text.contains("#[path") {
        complain("a module is the file named for it, not mod.rs or #[path]");
    }
    let may_ask = HOST_ARCHITECTURE
        .iter()
        .any(|place| path.starts_with(place));
    if text.contains("target_arch") && !may_ask {
        complain(
            "the guest's architecture is a value; target_arch stands only where the host's matters",
        );
    }
    if text.contains("#[ignore") {
        complain("a test that cannot run skips itself out loud");
    }
    if !text.starts_with("//!") && !path.ends_with("/tests.rs") {
        complain("a file opens with what it is (//!), or is the tests of one that does");
    }
    let expects = text
        .lines()
        .take_while(|line| line.starts_with("//!") || line.trim().is_empty() || inner(line))
        .any(|line| line.contains("unsafe_code"))
        || text
            .split_once("#![expect(")
            .is_some_and(|(_, rest)| rest.trim_start().starts_with("unsafe_code"));
    if has_unsafe_code(text) && !expects {
        complain("unsafe code lies in files named for it, which open by expecting it");
    }
    wrong
}

/// Where the host's architecture may be asked for: KVM's own ABI, the host's own counter, and
/// linux-loader, which has loaders for the host's architecture only.
const HOST_ARCHITECTURE: [&str; 3] = [
    "hv/src/kvm",
    "vmm/src/engine/qemu/timer_frequency",
    "load/benches/load/peer.rs",
];

/// An attribute of the whole file.
fn inner(line: &str) -> bool {
    line.starts_with("#![")
}

fn has_unsafe_code(text: &str) -> bool {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .any(|code| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|form| code.contains(form))
        })
}

/// Whether `line` holds a path that means something on one machine only.
fn names_a_folder_of_somebody(line: &str) -> bool {
    ["home", "root", "work", "Users"]
        .map(|name| format!("/{name}/"))
        .iter()
        .any(|folder| {
            line.match_indices(folder).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + folder.len()..].chars().next();
                // The end of a longer path is another folder.
                let begins =
                    before.is_none_or(|c| !c.is_ascii_alphanumeric() && !"._-$}".contains(c));
                begins && after.is_some_and(|c| c.is_ascii_alphanumeric())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_files_pass() {
        assert!(
            complaints(
                "hv/src/kvm/x86.rs",
                "//! x\n#[cfg(target_arch = \"x86_64\")]"
            )
            .is_empty()
        );
        let audited = "//! x\n#![expect(unsafe_code, reason = \"y\")]\nunsafe { f() }\n";
        assert!(complaints("load/src/mapping.rs", audited).is_empty());
        let broken_line =
            "//! x\n#![expect(\n    unsafe_code,\n    reason = \"y\"\n)]\nunsafe { f() }\n";
        assert!(complaints("load/src/mapping.rs", broken_line).is_empty());
        assert!(complaints("boot/src/a.rs", "//! x\n// unsafe { }\n").is_empty());
        let administrator = "root";
        let inside = format!("root=/new/{administrator}/x HOME=/{administrator}\n");
        assert!(complaints("xtask/guest/init", &inside).is_empty());
    }

    #[test]
    fn each_rule_is_kept() {
        let broken = |path: &str, text: &str| {
            let wrong = complaints(path, text);
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            wrong[0].clone()
        };
        assert!(broken("vmm/src/a/mod.rs", "//! x").contains("mod.rs"));
        assert!(broken("boot/src/a.rs", "//! x\ncfg!(target_arch)").contains("target_arch"));
        assert!(broken("boot/src/a.rs", "//! x\nunsafe { f() }").contains("unsafe"));
        assert!(broken("boot/src/a.rs", "//! x\n#[ignore]").contains("skips"));
        assert!(broken("boot/src/a.rs", "fn f() {}").contains("opens"));
        assert!(broken("README.md", "see /home/me/notes").contains("README.md:1"));
    }
}

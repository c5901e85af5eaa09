//! What a guest has been told is on the disk is there, whatever becomes of Firstlight.

use super::{Ground, Place};
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::test::Verdict;
use crate::test::boot::Engine;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// So many blocks of each file are waited for before Firstlight is killed.
const ENOUGH: u64 = 16;
/// The size of a block, which is full of its number.
const BLOCK: usize = 4096;
/// The guest's files: what it calls them.
const FILES: [&str; 2] = ["disk", "file"];

/// Kills Firstlight while its guest writes to a disk and to its root, and looks at both.
pub(super) fn check(place: &Place, ground: &Ground) -> Outcome<Verdict> {
    ground.copy_root(&place.root)?;
    let disk = fs::File::create(&ground.disk).and_then(|file| file.set_len(64 << 20));
    disk.because(|| format!("cannot make {}", ground.disk.display()))?;
    let written = until_killed(place, ground)?;

    let told = |name| written.get(name).copied().unwrap_or(0);
    let on_disk = first_missing(&ground.disk, told("disk"))?;
    let repaired = repair(&ground.root)?;
    let copy = ground.folder.join("blocks");
    let mut debugfs = tool("debugfs")?;
    let dump = format!("dump /var/blocks {}", copy.display());
    process::output_of(debugfs.args(["-R", &dump]).arg(&ground.root))?;
    let in_file = first_missing(&copy, told("file"))?;
    match on_disk.or(in_file) {
        Some(wrong) => Ok(Verdict::Failed(wrong)),
        None => Ok(Verdict::Passed(format!(
            "({} blocks of the disk, {} in the file; e2fsck ended with {repaired})",
            told("disk"),
            told("file")
        ))),
    }
}

/// Boots the guest, and kills Firstlight when there is enough; says of each file how many blocks
/// the guest said were written.
fn until_killed(place: &Place, ground: &Ground) -> Outcome<BTreeMap<String, u64>> {
    // Not by way of `timeout`: what is killed is Firstlight itself.
    let mut command = Command::new(&place.firstlight);
    place.add_options(&mut command, Engine::Kvm, ground.root());
    command.arg("--disk").arg(&ground.disk);
    command.args(["--", "/sbin/init", "churn"]);
    let mut running = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .because(|| format!("cannot start {}", process::shown(&command)))?;
    let output = running.stdout.take();
    let output = output.ok_or_else(|| Failure::new("a guest without a console"))?;
    let mut written = BTreeMap::new();
    let mut said = String::new();
    let mut reader = BufReader::new(output);
    let mut line = String::new();
    let mut is_killed = false;
    // To the end of what it had said when it was killed. What has no end of a line is not said.
    while reader
        .read_line(&mut line)
        .because(|| "cannot read the guest's console".to_owned())?
        > 0
    {
        if let Some((name, number)) = wrote(&line) {
            written.insert(name.to_owned(), number);
        } else {
            said += &line;
        }
        line.clear();
        let has_enough = |name: &&str| written.get(*name).is_some_and(|&count| count >= ENOUGH);
        if !is_killed && FILES.iter().all(has_enough) {
            is_killed = true;
            running.kill().because(|| "cannot kill".to_owned())?;
        }
    }
    running.wait().because(|| "cannot wait".to_owned())?;
    match is_killed {
        true => Ok(written),
        false => Err(Failure::new(format!(
            "it ended before it had written enough: {written:?}\n{said}"
        ))),
    }
}

/// The file, and the block that is written, where `line` tells that.
fn wrote(line: &str) -> Option<(&str, u64)> {
    let line = line.strip_suffix('\n')?.trim_end_matches('\r');
    let (name, number) = line.strip_prefix("FIRSTLIGHT-WROTE ")?.split_once(' ')?;
    Some((name, number.parse().ok()?))
}

/// What is wrong with the first of `count` blocks in the file at `path` that is not there.
fn first_missing(path: &Path, count: u64) -> Outcome<Option<String>> {
    let bytes = fs::read(path).because(|| format!("cannot read {}", path.display()))?;
    let mut blocks = bytes.chunks(BLOCK);
    for number in 1..=count {
        let block = number.to_le_bytes().repeat(BLOCK / 8);
        if blocks.next() != Some(&block) {
            return Ok(Some(format!(
                "{}: block {number} of {count} is not there",
                path.display()
            )));
        }
    }
    Ok(None)
}

/// Repairs the file system as one does when a machine has lost its power, and says the status.
fn repair(image: &Path) -> Outcome<i32> {
    let mut e2fsck = tool("e2fsck")?;
    let output = e2fsck
        .args(["-f", "-p"])
        .arg(image)
        .output()
        .because(|| "cannot start e2fsck".to_owned())?;
    match output.status.code() {
        // Nothing was wrong, or it is right again (e2fsck(8)).
        Some(status @ (0 | 1)) => Ok(status),
        _ => Err(Failure::new(format!(
            "e2fsck: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

fn tool(name: &str) -> Outcome<Command> {
    let path = process::find(name);
    let path = path.ok_or_else(|| Failure::new(format!("{name} is not on the search path")))?;
    Ok(Command::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_tells_of_a_block() {
        assert_eq!(wrote("FIRSTLIGHT-WROTE disk 12\r\n"), Some(("disk", 12)));
        assert_eq!(wrote("FIRSTLIGHT-WROTE disk 1"), None);
        assert_eq!(wrote("FIRSTLIGHT-WROTE disk\n"), None);
        assert_eq!(wrote("[ 1.0] FIRSTLIGHT\n"), None);
    }
}

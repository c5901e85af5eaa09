//! What a kernel says when it dies is kept, and shown by `firstlight pstore`.

use super::{Ground, Place};
use crate::failure::{Because, Outcome};
use crate::process;
use crate::test::Verdict;
use crate::test::boot::Engine;
use std::process::{Command, Stdio};

/// The status of a guest whose kernel has panicked.
const PANICKED: i32 = 34;
/// What the guest says to its kernel before it has it panic, and what the kernel says then.
const SAID: [&str; 2] = ["FIRSTLIGHT-LEFT-BEHIND", "sysrq triggered crash"];

/// Has a guest's kernel panic, and looks for its log.
pub(super) fn check(place: &Place, engine: Engine, ground: &Ground) -> Outcome<Verdict> {
    ground.copy_root(&place.root)?;
    let file = ground.folder.join("crash.log");
    let mut command = place.limited(engine, ground.root());
    command.arg("--pstore").arg(&file);
    command.args(["--", "/sbin/init", "crash"]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .because(|| format!("cannot start {}", process::shown(&command)))?;
    if output.status.code() != Some(PANICKED) {
        return Ok(Verdict::Failed(format!(
            "it ended with {}, not with status {PANICKED}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let mut pstore = Command::new(&place.firstlight);
    let shown = process::output_of(pstore.arg("pstore").arg(&file))?;
    match SAID.iter().find(|said| !shown.contains(**said)) {
        Some(said) => Ok(Verdict::Failed(format!("{said:?} is not in it\n{shown}"))),
        None => Ok(Verdict::Passed(format!(
            "({} lines)",
            shown.lines().count()
        ))),
    }
}

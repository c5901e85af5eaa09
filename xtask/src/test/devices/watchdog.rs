//! A guest that does not feed its watchdog is ended, and that is said.

use super::{Ground, Place};
use crate::failure::{Because, Outcome};
use crate::process;
use crate::test::Verdict;
use crate::test::boot::Engine;
use std::process::Stdio;

/// The status of a guest whose watchdog fired, and what is said then.
const FIRED: i32 = 36;
const SAID: &str = "a watchdog fired";

/// Has a guest turn its watchdog on, and feed it no more.
pub(super) fn check(place: &Place, engine: Engine, ground: &Ground) -> Outcome<Verdict> {
    ground.copy_root(&place.root)?;
    let mut command = place.limited(engine, ground.root());
    command.args(["--watchdog", "--", "/sbin/init", "starve"]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .because(|| format!("cannot start {}", process::shown(&command)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(FIRED) && said.contains(SAID) {
        return Ok(Verdict::Passed(String::new()));
    }
    Ok(Verdict::Failed(format!(
        "it ended with {}, not with status {FIRED}\n{}{said}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
    )))
}

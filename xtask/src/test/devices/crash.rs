//! What a kernel says when it dies is kept, and shown by `firstlight pstore`.

use super::{Ground, Place, said_of};
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::test::Verdict;
use crate::test::boot::{self, Engine};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The status of a guest whose kernel has panicked.
const PANICKED: i32 = 34;
/// What the guest says to its kernel before it has it panic, and what the kernel says then.
const SAID: [&str; 2] = ["FIRSTLIGHT-LEFT-BEHIND", "sysrq triggered crash"];

/// What the guest leaves behind in its root where that is memory.
const IN_ROOT: &[u8] = b"direct-42\n";

/// What was seen of a guest whose kernel panics.
pub(super) struct Seen {
    /// Of the kernel's log.
    pub(super) log: Verdict,
    /// Of a root that is memory, where the engine has that.
    pub(super) direct: Option<Verdict>,
}

/// Has a guest's kernel panic, and looks for its log, and for what it wrote to its root.
pub(super) fn check(place: &Place, engine: Engine, ground: &Ground) -> Outcome<Seen> {
    ground.copy_root(&place.root)?;
    let file = ground.folder.join("crash.log");
    let is_memory = engine == Engine::Kvm;
    let (option, root) = ground.root();
    let mut root = root.as_os_str().to_owned();
    root.push(if is_memory { ",pmem" } else { "" });
    let mut command = place.limited(engine, (option, root.as_ref()));
    command.arg("--pstore").arg(&file);
    command.args(["--", "/sbin/init"]);
    command.args(is_memory.then_some("dax")).arg("crash");
    let output = command
        .stdin(Stdio::null())
        .output()
        .because(|| format!("cannot start {}", process::shown(&command)))?;
    let console = String::from_utf8_lossy(&output.stdout);
    let direct = is_memory.then(|| {
        let seen = said_of("dax", &console).and_then(|()| in_root(ground));
        match seen {
            Ok(()) => Verdict::Passed(String::new()),
            Err(failure) => Verdict::Failed(failure.to_string()),
        }
    });
    if output.status.code() != Some(PANICKED) {
        let log = Verdict::Failed(format!(
            "it ended with {}, not with status {PANICKED}\n{console}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
        return Ok(Seen { log, direct });
    }
    let log = match look_at_log(place, &file)? {
        Verdict::Failed(wrong) => {
            let complaints = String::from_utf8_lossy(&output.stderr);
            let console = boot::last_lines(&console, 40);
            Verdict::Failed(format!("{wrong}\n{complaints}\n{console}"))
        }
        passed => passed,
    };
    Ok(Seen { log, direct })
}

fn look_at_log(place: &Place, file: &Path) -> Outcome<Verdict> {
    let mut pstore = Command::new(&place.firstlight);
    let shown = process::output_of(pstore.arg("pstore").arg(file))?;
    match SAID.iter().find(|said| !shown.contains(**said)) {
        Some(said) => Ok(Verdict::Failed(format!("{said:?} is not in it\n{shown}"))),
        None => Ok(Verdict::Passed(format!(
            "({} lines)",
            shown.lines().count()
        ))),
    }
}

/// What the guest wrote to its root is in the file that this is.
fn in_root(ground: &Ground) -> Outcome {
    let bytes = fs::read(&ground.root).because(|| "cannot read the root".to_owned())?;
    match bytes.windows(IN_ROOT.len()).any(|bytes| bytes == IN_ROOT) {
        true => Ok(()),
        false => Err(Failure::new(
            "what the guest wrote is not in its root's file",
        )),
    }
}

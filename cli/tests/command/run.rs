//! Running the command, with a limit: one that hangs fails its test and not the whole run.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Far more than any of this takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run of the command left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `firstlight` without words. What tests unpack is no user's to keep.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstlight"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.env("FIRSTLIGHT_CACHE", cache);
    command
}

/// Runs `firstlight` with `words`, without input, to its end.
pub(crate) fn firstlight<W: AsRef<OsStr>>(words: &[W]) -> Run {
    let mut command = program();
    command.args(words);
    run(command)
}

/// Runs `command` without input to its end.
pub(crate) fn run(mut command: Command) -> Run {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .expect("the command was built for this test");
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        // The receiver has gone where the test has failed by then.
        let _ = ended.send(child.wait_with_output());
    });
    let Ok(output) = end.recv_timeout(PATIENCE) else {
        kill_process(pid, Signal::KILL).expect("a child that has not been waited for is there");
        panic!("{command:?} does not end");
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("the output of a child can be read");
    let text = |bytes| String::from_utf8(bytes).expect("all output is UTF-8");
    Run {
        status: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

impl Run {
    /// Fails unless the command ended with `status`, and said all of `words` on standard error and
    /// nothing on standard output.
    pub(crate) fn failed_with(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        assert!(self.stderr.starts_with("error: "), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:#?}");
        }
    }

    /// Standard output of a command that did what it was asked to and complained about nothing.
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.status, Some(0), "{self:#?}");
        assert_eq!(self.stderr, "", "{self:#?}");
        self.stdout
    }
}

/// A folder of the test `name`'s own, empty.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("the folder is this test's own");
    }
    fs::create_dir_all(&folder).expect("cargo gives tests a folder to write to");
    folder
}

/// A file with `bytes` in a folder of the test `name`'s own.
pub(crate) fn file(name: &str, bytes: &[u8]) -> String {
    let path = folder(name).join("file");
    fs::write(&path, bytes).expect("the folder can be written to");
    path.into_os_string()
        .into_string()
        .expect("names of this project are UTF-8")
}

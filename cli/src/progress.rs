//! Steps that may take a while: told on standard error, so that nobody takes patience for a hang.

use crate::output::note;
use rustix::termios::isatty;
use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How steps are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    verbose: bool,
    terminal: bool,
}

/// Nobody is kept informed of what is over before he has read it.
const PATIENCE: Duration = Duration::from_millis(500);

impl Progress {
    pub(crate) fn new(verbose: bool) -> Self {
        Self {
            verbose,
            terminal: isatty(io::stderr()),
        }
    }

    /// Says nothing, whatever happens.
    pub(crate) const QUIET: Self = Self {
        verbose: false,
        terminal: false,
    };

    /// Whether everything is told.
    pub(crate) fn is_verbose(self) -> bool {
        self.verbose
    }

    /// Says `what` where steps are told.
    pub(crate) fn say(self, what: &str) {
        if self.verbose {
            note(&format!("firstlight: {what}"));
        }
    }

    /// Does `step`, and says so: while it takes long, where somebody is looking, and afterwards
    /// with its time where that was asked for.
    pub(crate) fn step<T>(self, doing: &str, step: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let status = (self.terminal && !self.verbose).then(|| StatusLine::start(doing));
        let done = step();
        drop(status);
        if self.verbose {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            note(&format!("firstlight: {doing}: {ms:.1} ms"));
        }
        done
    }
}

/// A line that appears when a step takes long, and is gone when it is over.
struct StatusLine {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StatusLine {
    fn start(doing: &str) -> Self {
        let (over, ended) = mpsc::channel();
        let line = format!("{doing} ...");
        let show = move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let mut stderr = io::stderr();
                // Where standard error cannot be written there is nobody to be kept informed.
                let _ = write!(stderr, "{line}");
                let _ = ended.recv();
                let _ = write!(stderr, "\r{:width$}\r", "", width = line.chars().count());
            }
        };
        let thread = thread::Builder::new()
            .name("status line".into())
            .spawn(show);
        Self {
            over: Some(over),
            thread: thread.ok(),
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "the status line only writes");
        }
    }
}

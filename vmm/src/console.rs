//! The guest's serial console: the standard input and output of this process, as a rule.

use crate::RunError;
use crate::escape::{EscapeParser, HELP, Key};
use crate::panic_watch::{PanicWatch, Said};
use crate::terminal::{RawMode, is_ours};
use firstlight_devices::virtio::console::ScreenSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::termios::isatty;
use rustix::termios::tcgetwinsize;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long output without a newline may wait for more of it.
const FLUSH_AFTER: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Most bytes of output that wait, and most that are written at once: what a pipe that is
/// writable takes without blocking (pipe(7), `PIPE_BUF`).
const CHUNK: usize = 4096;

/// Most bytes that are kept for a reader that nobody waits for any more; what a guest writes on
/// top of that while it ends is lost.
const MOST_LEFT: usize = 1 << 20;

/// Bytes of the last line that reports quote.
const LAST_LINE: usize = 160;

/// The person's side of the guest's console.
#[derive(Debug)]
pub struct Console {
    input: Option<OwnedFd>,
    output: ConsoleOutput,
    escape: Option<EscapeParser>,
    raw: Option<RawMode>,
}

/// What came from the person's side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Bytes for the guest, perhaps none.
    Bytes,
    /// The person wants to leave.
    Leave,
}

impl Console {
    /// Standard input and output.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host has no descriptors left.
    pub fn stdio() -> Result<Self, RunError> {
        let copy = |fd| fcntl_dupfd_cloexec(fd, 3).map_err(RunError::host("open the console"));
        Self::new(
            copy(rustix::stdio::stdin())?,
            copy(rustix::stdio::stdout())?,
        )
    }

    /// A console that reads `input` and writes `output`.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host has no descriptors left.
    pub fn new(input: OwnedFd, output: OwnedFd) -> Result<Self, RunError> {
        let escape = isatty(&input).then(EscapeParser::default);
        Ok(Self {
            input: Some(input),
            output: ConsoleOutput::new(output)?,
            escape,
            raw: None,
        })
    }

    /// Where the guest's bytes go.
    #[must_use]
    pub fn output(&self) -> &ConsoleOutput {
        &self.output
    }

    /// Whether somebody sits at a terminal and the escape keys work.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        self.escape.is_some()
    }

    /// Takes the terminal for the guest: raw mode, if it is one and ours to read. Also after this
    /// process was stopped and goes on.
    pub(crate) fn attach(&mut self) -> Result<(), RunError> {
        match (&self.raw, &self.input) {
            (Some(raw), _) => raw.renew(),
            (None, Some(input)) => {
                self.raw =
                    RawMode::enter(input).map_err(RunError::host("set the terminal's mode"))?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Gives the terminal back as it was, all output written.
    pub(crate) fn detach(&mut self) {
        self.output.flush();
        self.raw = None;
    }

    /// How large the terminal is, where somebody sits at one.
    pub(crate) fn screen_size(&self) -> Option<ScreenSize> {
        let terminal = self.input.as_ref().filter(|_| self.is_interactive())?;
        let size = tcgetwinsize(terminal).ok()?;
        Some(ScreenSize {
            columns: size.ws_col,
            rows: size.ws_row,
        })
    }

    /// What to wait for, if input may still come.
    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        let input = self.input.as_ref()?;
        (self.escape.is_none() || is_ours(input)).then(|| input.as_fd())
    }

    /// Reads what is there, and adds to `guest` what is meant for it.
    pub(crate) fn read(&mut self, guest: &mut Vec<u8>) -> Input {
        let Some(input) = &self.input else {
            return Input::Bytes;
        };
        let mut bytes = [0; 1024];
        let typed = match rustix::io::read(input, &mut bytes) {
            Ok(0) => &[],
            Ok(len) => bytes.get(..len).unwrap_or(&[]),
            Err(Errno::INTR | Errno::AGAIN) => return Input::Bytes,
            // A terminal that hung up, a directory, a descriptor for writing only: no input.
            Err(_) => &[],
        };
        if typed.is_empty() {
            self.input = None;
            return Input::Bytes;
        }
        let Some(escape) = &mut self.escape else {
            guest.extend_from_slice(typed);
            return Input::Bytes;
        };
        let mut help = false;
        for &byte in typed {
            match escape.key(byte) {
                Key::Guest(byte) => guest.push(byte),
                Key::Nothing => {}
                Key::Leave => return Input::Leave,
                Key::Help => help = true,
            }
        }
        if help {
            self.note(HELP);
        }
        Input::Bytes
    }

    /// Says something to the person, on stderr, whatever mode the terminal is in.
    pub(crate) fn note(&self, text: &str) {
        self.output.flush();
        let text = if self.raw.is_some() {
            format!("\r\n{}", text.replace('\n', "\r\n"))
        } else {
            text.to_owned()
        };
        // Nobody can be told that stderr is broken.
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    }
}

/// Where the guest's console output goes, from whatever thread it comes.
///
/// A line is written when it ends, the rest some milliseconds after it came. While the reader does
/// not read, the guest waits, as at the end of a slow serial line.
#[derive(Clone)]
pub struct ConsoleOutput(Arc<Shared>);

/// How long to wait for a reader that does not read.
#[derive(Clone, Copy)]
enum Patience {
    /// Not at all.
    None,
    /// Until it reads, or the guest ends.
    UntilReleased,
}

struct Shared {
    to: OwnedFd,
    /// Runs out when something may have waited long enough.
    timer: OwnedFd,
    /// Readable once nobody will wait for the reader any more.
    released: OwnedFd,
    state: Mutex<State>,
    /// Held while writing, so that nobody overtakes; always taken before `state`.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    timer_runs: bool,
    watch: PanicWatch,
    total: u64,
    last_line: Vec<u8>,
    line_ended: bool,
    broken: Option<io::Error>,
}

impl ConsoleOutput {
    fn new(to: OwnedFd) -> Result<Self, RunError> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .map_err(RunError::host("create a timer"))?;
        let released = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )
        .map_err(RunError::host("create an event"))?;
        Ok(Self(Arc::new(Shared {
            to,
            timer,
            released,
            state: Mutex::default(),
            writing: Mutex::default(),
        })))
    }

    /// Takes bytes from the guest's console, from a thread that runs the guest: blocks while the
    /// reader does not read.
    pub fn write(&self, bytes: &[u8]) {
        if self.take(bytes) {
            let _writing = self.writing();
            self.write_out(Patience::UntilReleased);
        }
    }

    /// Takes bytes from the guest's console, from the session's thread: never blocks. Whoever
    /// calls this takes no more from the guest while [`ConsoleOutput::is_full`].
    pub fn offer(&self, bytes: &[u8]) {
        if self.take(bytes) {
            let _writing = self.writing();
            self.write_out(Patience::None);
        }
    }

    /// Whether as much waits for the reader as should.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state().waiting.len() >= CHUNK
    }

    /// Takes the bytes in, and says whether they are to be written now.
    fn take(&self, bytes: &[u8]) -> bool {
        let mut state = self.state();
        state.watch.read(bytes);
        state.total += bytes.len() as u64;
        state.remember_line(bytes);
        let room = MOST_LEFT.saturating_sub(state.waiting.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        state.waiting.extend_from_slice(kept);
        // Also where it is written at once: the session is to notice what was said.
        if !state.timer_runs {
            state.timer_runs = true;
            self.start_timer();
        }
        bytes.contains(&b'\n') || state.waiting.len() >= CHUNK
    }

    /// Writes what can be written without waiting, unless somebody is writing already.
    pub(crate) fn flush(&self) {
        if let Ok(_writing) = self.0.writing.try_lock() {
            self.write_out(Patience::None);
        }
    }

    /// The reader's end, where there is something left for it that nobody is writing.
    pub(crate) fn backlog(&self) -> Option<BorrowedFd<'_>> {
        let idle = self.0.writing.try_lock().is_ok();
        let state = self.state();
        (idle && !state.timer_runs && !state.waiting.is_empty()).then(|| self.0.to.as_fd())
    }

    /// What runs out when [`ConsoleOutput::tick`] is due.
    pub(crate) fn timer(&self) -> BorrowedFd<'_> {
        self.0.timer.as_fd()
    }

    /// Writes what has waited long enough, unless somebody is writing already.
    ///
    /// # Errors
    ///
    /// [`RunError::Output`] where writing failed, now or before.
    pub(crate) fn tick(&self) -> Result<(), RunError> {
        let mut count = [0; 8];
        // It may have run out for a tick that was served already.
        let _ = rustix::io::read(&self.0.timer, &mut count);
        self.state().timer_runs = false;
        self.flush();
        match self.state().broken.take() {
            Some(error) => Err(RunError::Output(error)),
            None => Ok(()),
        }
    }

    /// A new guest: nothing has been said. Nobody has given up waiting for the reader.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        state.watch = PanicWatch::default();
        state.total = 0;
        state.last_line.clear();
        state.line_ended = false;
        drop(state);
        let mut count = [0; 8];
        // Nothing to read where it was not released.
        let _ = rustix::io::read(&self.0.released, &mut count);
    }

    /// From here on nobody waits for a reader that does not read: the guest has ended.
    pub(crate) fn release(&self) {
        // Fails only where the counter is full, and then the event is set.
        let _ = rustix::io::write(&self.0.released, &1u64.to_ne_bytes());
    }

    /// How many bytes have come.
    pub(crate) fn total(&self) -> u64 {
        self.state().total
    }

    /// What the last lines say about the kernel's end.
    pub(crate) fn said(&self) -> Said {
        self.state().watch.said()
    }

    /// The last line that was not empty, its unprintable characters escaped.
    pub(crate) fn last_line(&self) -> Option<String> {
        let state = self.state();
        (!state.last_line.is_empty()).then(|| {
            state
                .last_line
                .escape_ascii()
                .to_string()
                .replace("\\\"", "\"")
        })
    }

    /// Writes what waits; `writing` is held.
    fn write_out(&self, patience: Patience) {
        let mut waiting = {
            let mut state = self.state();
            if state.broken.is_some() {
                state.waiting.clear();
            }
            std::mem::take(&mut state.waiting)
        };
        let result = self.write_part(&waiting, patience);
        let mut state = self.state();
        match result {
            Ok(written) => {
                // The buffer is kept, so that no line allocates one.
                waiting.drain(..written);
                waiting.append(&mut state.waiting);
                state.waiting = waiting;
            }
            Err(error) => {
                state.broken = Some(error.into());
                state.timer_runs = true;
                self.start_timer();
            }
        }
    }

    /// Writes as much as `patience` allows, and says how much that was.
    fn write_part(&self, bytes: &[u8], patience: Patience) -> Result<usize, Errno> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            if !self.wait_for_reader(patience)? {
                break;
            }
            let chunk = rest.get(..CHUNK).unwrap_or(rest);
            match rustix::io::write(&self.0.to, chunk) {
                Ok(len) => written += len,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Whether something can be written, after waiting for it as `patience` allows.
    fn wait_for_reader(&self, patience: Patience) -> Result<bool, Errno> {
        let timeout = match patience {
            Patience::None => Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
            Patience::UntilReleased => None,
        };
        loop {
            let mut fds = [
                PollFd::new(&self.0.to, PollFlags::OUT),
                PollFd::new(&self.0.released, PollFlags::IN),
            ];
            match poll(&mut fds, timeout) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                // An error or a hang-up is what the write will tell.
                Ok(_) => return Ok(!fds[0].revents().is_empty()),
            }
        }
    }

    fn start_timer(&self) {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: FLUSH_AFTER,
        };
        timerfd_settime(&self.0.timer, TimerfdTimerFlags::empty(), &once)
            .expect("a timer of our own takes a valid time");
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember_line(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.line_ended = true,
                b'\r' => {}
                _ => {
                    if self.line_ended {
                        self.line_ended = false;
                        self.last_line.clear();
                    }
                    if self.last_line.len() < LAST_LINE {
                        self.last_line.push(byte);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for ConsoleOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleOutput").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

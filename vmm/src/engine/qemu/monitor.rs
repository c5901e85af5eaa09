//! Our side of QEMU's machine protocol: a JSON object per line, either way
//! (`docs/interop/qmp-spec.txt` of QEMU).

use super::{debugger, register_dump};
use firstlight_base::VcpuState;
use firstlight_image::Architecture;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long an answer may take; QEMU's main loop gives it within a millisecond or so.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the first answer may take, which comes when QEMU has made its machine: after 0.1 s,
/// on a host that has nothing else to do.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(60);
/// A line longer than this is not QEMU's protocol.
const LONGEST_LINE: usize = 1 << 20;

/// What can end a guest, as the protocol tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The machine has stopped for good.
    Shutdown(Reason),
    /// `pvpanic` was written to.
    Panicked,
    /// A watchdog fired.
    WatchdogFired,
    /// A request of ours came back with an error.
    Refused(String),
    /// The process has closed its end.
    Gone,
}

/// `ShutdownCause` of QEMU's `qapi/run-state.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    GuestShutdown,
    GuestReset,
    GuestPanic,
    Other(String),
}

/// The connection.
pub(super) struct Monitor {
    socket: UnixStream,
    unread: Vec<u8>,
    events: VecDeque<Event>,
    /// The last answer to a request that has a number.
    answer: Option<(u64, Value)>,
    requests: u64,
    gone: bool,
}

impl Monitor {
    /// `socket` does not block.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            unread: Vec::new(),
            events: VecDeque::new(),
            answer: None,
            requests: 0,
            gone: false,
        }
    }

    /// Greets QEMU, which it wants before anything else.
    pub(super) fn greet(&mut self) {
        self.send(&json!({ "execute": "qmp_capabilities" }));
    }

    /// Waits until QEMU has made its machine and reset it for the first time. `None` where it does
    /// not come to that.
    pub(super) fn wait_for_machine(&mut self) -> Option<()> {
        self.ask("query-status", &json!({}), START_PATIENCE)
            .map(drop)
    }

    /// Lets the guest go as soon as QEMU listens. Events come from here on.
    pub(super) fn begin(&mut self) {
        self.send(&json!({ "execute": "cont" }));
    }

    /// What to wait for: also where an event came with an answer and has not been taken yet, so
    /// that the wait is over at once.
    pub(super) fn interest(&self) -> PollFlags {
        if self.events.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        }
    }

    /// The next event, of those that have come.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.read();
        self.events.pop_front()
    }

    /// Stops the guest's vCPUs. While they run, QEMU keeps registers in places that it does not
    /// look at.
    pub(super) fn pause(&mut self) -> Option<()> {
        self.ask("stop", &json!({}), PATIENCE).map(drop)
    }

    /// Lets them go on.
    pub(super) fn resume(&mut self) -> Option<()> {
        self.ask("cont", &json!({}), PATIENCE).map(drop)
    }

    /// Every vCPU's registers, of a guest that stands still.
    pub(super) fn registers(&mut self, of: Architecture) -> Option<Vec<VcpuState>> {
        let text = self.human("info registers -a")?;
        register_dump::parse(of, &text)
    }

    /// Lets QEMU listen on the debugger's connection, which stops the guest.
    pub(super) fn listen_to_debugger(&mut self) -> Option<()> {
        self.human(&format!("gdbserver chardev:{}", debugger::NAME))
            .map(drop)
    }

    /// What QEMU prints for a command that people type.
    fn human(&mut self, line: &str) -> Option<String> {
        let command = json!({ "command-line": line });
        let answer = self.ask("human-monitor-command", &command, PATIENCE)?;
        answer.as_str().map(str::to_owned)
    }

    /// What QEMU returns for a command, unless it takes too long, refuses or is gone.
    fn ask(&mut self, command: &str, arguments: &Value, patience: Duration) -> Option<Value> {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "execute": command, "arguments": arguments, "id": id }));
        let until = Instant::now() + patience;
        loop {
            self.read();
            match self.answer.take() {
                Some((answered, value)) if answered == id => return value.get("return").cloned(),
                _ if self.gone => return None,
                _ => self.wait(until)?,
            }
        }
    }

    /// Waits for something to read; `None` where `until` has passed.
    fn wait(&self, until: Instant) -> Option<()> {
        let left = until.checked_duration_since(Instant::now())?;
        let left = Timespec::try_from(left).ok()?;
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        // An interrupted wait is begun again by the caller.
        let _ = poll(&mut fds, Some(&left));
        Some(())
    }

    /// Sends a request. They are few and small, so that they always fit the socket.
    fn send(&mut self, request: &Value) {
        let mut line = request.to_string();
        line.push('\n');
        if (&self.socket).write_all(line.as_bytes()).is_err() {
            // Reading tells whether it is gone.
            self.read();
        }
    }

    /// Takes in all that has come.
    fn read(&mut self) {
        let mut bytes = [0; 4096];
        while !self.gone {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => self.close(),
                Ok(len) => self
                    .unread
                    .extend_from_slice(bytes.get(..len).unwrap_or(&[])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.close(),
            }
            self.take_lines();
        }
    }

    fn close(&mut self) {
        self.gone = true;
        self.events.push_back(Event::Gone);
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            self.take_line(&line);
        }
        if self.unread.len() > LONGEST_LINE {
            self.unread.clear();
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        if let Some(id) = message.get("id").and_then(Value::as_u64) {
            self.answer = Some((id, message));
        } else {
            self.events.extend(event(&message));
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a message without a number means for the guest, if anything.
fn event(message: &Value) -> Option<Event> {
    if let Some(error) = message.get("error") {
        let words = error.get("desc").and_then(Value::as_str);
        return Some(Event::Refused(words.unwrap_or_default().to_owned()));
    }
    match message.get("event")?.as_str()? {
        "SHUTDOWN" => {
            let reason = message.get("data").and_then(|data| data.get("reason"));
            Some(Event::Shutdown(
                match reason.and_then(Value::as_str).unwrap_or_default() {
                    "guest-shutdown" => Reason::GuestShutdown,
                    "guest-reset" => Reason::GuestReset,
                    "guest-panic" => Reason::GuestPanic,
                    other => Reason::Other(other.to_owned()),
                },
            ))
        }
        "WATCHDOG" => Some(Event::WatchdogFired),
        "GUEST_PANICKED" => Some(Event::Panicked),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

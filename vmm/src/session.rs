//! The wait on the calling thread, the same whatever runs the guest: console, signals, limits and
//! the engine's own descriptors, all at once.

use crate::console::{Console, Input};
use crate::ending::CrashKind;
use crate::panic_watch::Said;
use crate::post_mortem::{PostMortem, Reason};
use crate::signals::{Signal, Signals};
use crate::{Crash, Ending, Limits, RunError, Running, Stop, trim};
use firstlight_boot::BootPlan;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long a panic's last line must be the console's last before the guest is ended for it.
const PANIC_SILENCE: Duration = Duration::from_secs(2);

/// Runs the guest until it ends, and gives back terminal and signals as they were.
pub(crate) fn run(
    running: Box<dyn Running>,
    plan: &BootPlan,
    limits: &Limits,
    console: &mut Console,
) -> Result<Ending, RunError> {
    let signals = Signals::take().map_err(RunError::host("block signals"))?;
    console.output().begin();
    let mut session = Session {
        running,
        plan,
        console,
        signals,
        typed: Vec::new(),
        deadlines: Deadlines::new(limits),
    };
    let result = session.serve();
    let Session {
        running,
        console,
        signals,
        ..
    } = session;
    console.output().release();
    let kept = running.end();
    if let Ok(ending) = &result
        && ending.is_guests_own()
    {
        drain(console, &signals)?;
    }
    console.detach();
    let ending = result?;
    kept?;
    Ok(ending)
}

struct Session<'a> {
    running: Box<dyn Running>,
    plan: &'a BootPlan,
    console: &'a mut Console,
    signals: Signals,
    /// What the engine has not taken yet.
    typed: Vec<u8>,
    deadlines: Deadlines,
}

/// What a wait found.
struct Woken {
    signal: bool,
    tick: bool,
    typed: bool,
    engine: Vec<PollFlags>,
}

impl Session<'_> {
    fn serve(&mut self) -> Result<Ending, RunError> {
        self.console.attach()?;
        self.tell_size();
        self.running.start(self.console.output())?;
        trim::give_back_start_up_pages();
        loop {
            let woken = self.wait()?;
            if woken.signal
                && let Some(ending) = self.serve_signals()?
            {
                return Ok(ending);
            }
            if woken.tick {
                self.console.output().tick()?;
                self.deadlines.hear(self.console);
            }
            if woken.typed && self.console.read(&mut self.typed) == Input::Leave {
                return Ok(Ending::Left);
            }
            if woken.engine.iter().any(|ready| !ready.is_empty())
                && let Some(stop) = self.running.ready(&woken.engine)?
            {
                return Ok(self.ending(stop));
            }
            self.send_typed()?;
            if let Some(ending) = self.serve_deadlines() {
                return Ok(ending);
            }
        }
    }

    fn wait(&self) -> Result<Woken, RunError> {
        let output = self.console.output();
        let engine = self.running.waits();
        let engine_len = engine.len();
        let mut fds = engine;
        fds.push(PollFd::new(&self.signals, PollFlags::IN));
        fds.push(PollFd::from_borrowed_fd(output.timer(), PollFlags::IN));
        let backlog = output.backlog();
        if let Some(reader) = backlog {
            fds.push(PollFd::from_borrowed_fd(reader, PollFlags::OUT));
        }
        // What was typed goes on first, so that a pasted file waits where it comes from.
        let input = self.console.input().filter(|_| self.typed.is_empty());
        if let Some(input) = input {
            fds.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        match poll(&mut fds, self.deadlines.next().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(RunError::host("wait for the guest")(error)),
        }
        let mut ready = fds.iter().map(PollFd::revents);
        let engine = ready.by_ref().take(engine_len).collect();
        let mut next = || ready.next().is_some_and(|ready| !ready.is_empty());
        Ok(Woken {
            engine,
            signal: next(),
            tick: next() | (backlog.is_some() && next()),
            typed: input.is_some() && next(),
        })
    }

    fn serve_signals(&mut self) -> Result<Option<Ending>, RunError> {
        while let Some(signal) = self
            .signals
            .next()
            .map_err(RunError::host("read a signal"))?
        {
            match signal {
                Signal::End(number) => return Ok(Some(Ending::Signalled(number))),
                Signal::Continued => self.console.attach()?,
                Signal::Resized => self.tell_size(),
            }
        }
        Ok(None)
    }

    fn tell_size(&mut self) {
        if let Some(size) = self.console.screen_size() {
            self.running.resize(size);
        }
    }

    fn send_typed(&mut self) -> Result<(), RunError> {
        if !self.typed.is_empty() {
            let taken = self.running.send_input(&self.typed)?;
            self.typed.drain(..taken.min(self.typed.len()));
        }
        Ok(())
    }

    fn serve_deadlines(&mut self) -> Option<Ending> {
        let now = Instant::now();
        if Deadlines::strikes(&mut self.deadlines.panic_end, now) {
            return Some(Ending::Panicked);
        }
        if Deadlines::strikes(&mut self.deadlines.timeout, now) {
            let silent = self.console.output().total() == 0;
            return Some(Ending::TimedOut(
                silent.then(|| Box::new(self.examine(Reason::TimedOut))),
            ));
        }
        if Deadlines::strikes(&mut self.deadlines.watchdog, now)
            && self.console.output().total() == 0
        {
            let report = self.examine(Reason::Silent(self.deadlines.watchdog_after));
            self.console.note(&report.to_string());
        }
        None
    }

    fn examine(&mut self, reason: Reason) -> PostMortem {
        let registers = self.running.examine();
        self.report(reason, registers, &[])
    }

    fn report(
        &self,
        reason: Reason,
        registers: Option<firstlight_base::VcpuState>,
        instruction: &[u8],
    ) -> PostMortem {
        PostMortem::new(
            reason,
            registers,
            instruction,
            self.running.memory(),
            self.plan,
            self.console.output().last_line(),
        )
    }

    /// What a stop means after what the console has said.
    fn ending(&self, stop: Stop) -> Ending {
        let said = self.console.output().said();
        match (stop, said) {
            (Stop::ExitCode(code), _) => Ending::ExitCode(code),
            (Stop::WatchdogFired, _) => Ending::WatchdogFired,
            (Stop::Panicked, _)
            | (Stop::PowerOff | Stop::Reset | Stop::Crashed(_), Said::Panic | Said::PanicEnd) => {
                Ending::Panicked
            }
            (Stop::PowerOff, Said::Nothing | Said::Orderly) => Ending::PowerOff,
            (Stop::Reset, Said::Nothing | Said::Orderly) => Ending::Reset,
            // Linux's `reboot=t` resets by a triple fault, after saying so.
            (Stop::Crashed(crash), Said::Orderly) if crash.kind == CrashKind::TripleFault => {
                Ending::Reset
            }
            (Stop::Crashed(crash), Said::Nothing | Said::Orderly) => {
                let Crash {
                    vcpu,
                    kind,
                    registers,
                    instruction,
                } = *crash;
                let reason = Reason::Crashed(vcpu, kind);
                Ending::Crashed(Box::new(self.report(reason, registers, &instruction)))
            }
        }
    }
}

impl Ending {
    /// Whether the guest came to it by itself, so that all it has said is worth waiting for.
    fn is_guests_own(&self) -> bool {
        match self {
            Self::PowerOff
            | Self::Reset
            | Self::Crashed(_)
            | Self::Panicked
            | Self::WatchdogFired
            | Self::ExitCode(_) => true,
            Self::TimedOut(_) | Self::Left | Self::Signalled(_) => false,
        }
    }
}

/// Writes what a slow reader has not taken yet, until a signal says that nobody wants it.
fn drain(console: &mut Console, signals: &Signals) -> Result<(), RunError> {
    let output = console.output();
    output.tick()?;
    while let Some(reader) = output.backlog() {
        let mut fds = [
            PollFd::from_borrowed_fd(reader, PollFlags::OUT),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(RunError::host("wait for the console's reader")(error)),
        }
        if let Ok(Some(Signal::End(_))) = signals.next() {
            break;
        }
        output.tick()?;
    }
    Ok(())
}

/// The moments at which something is due.
struct Deadlines {
    timeout: Option<Instant>,
    watchdog: Option<Instant>,
    watchdog_after: Duration,
    panic_end: Option<Instant>,
    heard: u64,
}

impl Deadlines {
    fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        let after = |limit: Option<Duration>| limit.and_then(|limit| now.checked_add(limit));
        Self {
            timeout: after(limits.timeout),
            watchdog: after(limits.boot_watchdog),
            watchdog_after: limits.boot_watchdog.unwrap_or_default(),
            panic_end: None,
            heard: 0,
        }
    }

    /// Takes note of the console: a panic's last line must stay the last for a while.
    fn hear(&mut self, console: &Console) {
        let output = console.output();
        let total = output.total();
        if output.said() != Said::PanicEnd {
            self.panic_end = None;
        } else if self.panic_end.is_none() || total != self.heard {
            self.panic_end = Instant::now().checked_add(PANIC_SILENCE);
        }
        self.heard = total;
    }

    /// How long until the next; `None` where nothing is due ever.
    fn next(&self) -> Option<Timespec> {
        let next = [self.timeout, self.watchdog, self.panic_end]
            .into_iter()
            .flatten()
            .min()?;
        let wait = next.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        })
    }

    /// Whether the moment has come; it does so once.
    fn strikes(deadline: &mut Option<Instant>, now: Instant) -> bool {
        deadline.take_if(|moment| *moment <= now).is_some()
    }
}

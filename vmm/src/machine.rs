//! A machine that carries a plan, and the trait through which an engine serves it.

use crate::arch::Expansion;
use crate::{Battery, Console, ConsoleOutput, Ending, RunError, Stop, Suspension, Swap, session};
use firstlight_base::VcpuState;
use firstlight_boot::BootPlan;
use firstlight_devices::virtio::console::ScreenSize;
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a guest may run, and how long it may stay silent before something is said about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// The guest is ended after this time.
    pub timeout: Option<Duration>,
    /// Where no byte has come from the console after this time, a report of what the boot vCPU is
    /// doing goes to stderr and the guest goes on.
    pub boot_watchdog: Option<Duration>,
}

/// A guest in its memory, ready to run.
pub struct Machine {
    running: Box<dyn Running>,
}

impl Machine {
    /// A machine of any engine.
    #[must_use]
    pub fn new(running: Box<dyn Running>) -> Self {
        Self { running }
    }

    /// The machine's slots, to plug devices in while it runs; the kvm engine has them.
    #[must_use]
    pub fn expansion(&self) -> Option<Arc<Expansion>> {
        self.running.expansion()
    }

    /// What swaps the machine's memory while it runs, where it was
    /// [given a folder](crate::Equipment::swap).
    #[must_use]
    pub fn swap(&self) -> Option<Arc<Swap>> {
        self.running.swap()
    }

    /// The machine's battery, where it was [given one](crate::Devices::battery).
    #[must_use]
    pub fn battery(&self) -> Option<Arc<Battery>> {
        self.running.battery()
    }

    /// What the guest's system says of its sleep, where it was [asked to](crate::Devices::suspend_notice).
    #[must_use]
    pub fn suspension(&self) -> Option<Arc<Suspension>> {
        self.running.suspension()
    }

    /// Runs the guest until it ends. The calling thread serves console, signals and limits.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host fails; the guest has ended then too.
    pub fn run(
        self,
        plan: &BootPlan,
        limits: &Limits,
        console: &mut Console,
    ) -> Result<Ending, RunError> {
        session::run(self.running, plan, limits, console)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

/// An engine's machine, as the session on the calling thread sees it.
///
/// The session waits for everything at once: the console, signals, limits and what the engine
/// names in [`Running::waits`]. Nothing here blocks for longer than a system call takes.
pub trait Running {
    /// Lets the vCPUs go. Signals that end programs are blocked by now, and stay so in threads
    /// that are created here. The console's bytes go to `output`, from any thread.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host refuses.
    fn start(&mut self, output: &ConsoleOutput) -> Result<(), RunError>;

    /// The engine's own file descriptors and what to wait for on each. Asked before every wait,
    /// so one that has unsent input may add `POLLOUT` only while it has.
    fn waits(&self) -> Vec<PollFd<'_>>;

    /// Serves the descriptors of the last [`Running::waits`]: what each is ready for, in the same
    /// order; called only where one is ready for something.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host failed; the machine has stopped then.
    fn ready(&mut self, ready: &[PollFlags]) -> Result<Option<Stop>, RunError>;

    /// Hands the console's input over, and says how many bytes it took. Called again with the
    /// rest after [`Running::ready`] was, so what makes room must be waited for.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host failed; the machine has stopped then.
    fn send_input(&mut self, bytes: &[u8]) -> Result<usize, RunError>;

    /// The terminal has this size now, which the guest is told where its console has one.
    fn resize(&mut self, _size: ScreenSize) {}

    /// The boot vCPU's registers as they are now, where they can be had while the guest runs.
    fn examine(&mut self) -> Option<VcpuState>;

    /// The guest's memory.
    fn memory(&self) -> &GuestMemory;

    /// The machine's slots, to plug devices in while it runs, where the engine has them.
    fn expansion(&self) -> Option<Arc<Expansion>> {
        None
    }

    /// What swaps the machine's memory while it runs, where the engine can and it was asked for.
    fn swap(&self) -> Option<Arc<Swap>> {
        None
    }

    /// The machine's battery, where it has one.
    fn battery(&self) -> Option<Arc<Battery>> {
        None
    }

    /// What the guest's system says of its sleep, where it does.
    fn suspension(&self) -> Option<Arc<Suspension>> {
        None
    }

    /// Ends whatever runs: threads are joined, processes waited for.
    ///
    /// # Errors
    ///
    /// [`RunError`] where something cannot be kept that was to be.
    fn end(self: Box<Self>) -> Result<(), RunError>;
}

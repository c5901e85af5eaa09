//! The signal that takes a vCPU's thread out of the guest.
//!
//! Two things together leave no gap: the flag `immediate_exit`, which KVM looks at on the way into
//! the guest, and a signal, which interrupts it on the way and inside (KVM API, section 5,
//! `immediate_exit`). The signal's handler does nothing.
#![expect(unsafe_code, reason = "signal handlers and signals to one thread")]

use super::mapping::ImmediateExit;
use crate::HvError;
use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// A vCPU as whoever kicks it sees it.
#[derive(Debug)]
pub(super) struct KickTarget {
    immediate_exit: ImmediateExit,
    /// The thread that ran the vCPU last; 0 before the first run.
    thread: AtomicI32,
}

impl KickTarget {
    pub(super) fn new(immediate_exit: ImmediateExit) -> Result<Self, HvError> {
        install_handler().map_err(|source| HvError::Refused {
            what: "handle the signal that stops a vCPU",
            source,
        })?;
        Ok(Self {
            immediate_exit,
            thread: AtomicI32::new(0),
        })
    }

    /// Notes which thread to signal. A kick that comes too early to see it has set the flag
    /// before, so the run that follows returns at once.
    pub(super) fn entered_by_this_thread(&self) {
        let this = this_thread();
        if self.thread.load(Ordering::Relaxed) != this {
            self.thread.store(this, Ordering::SeqCst);
        }
    }

    /// Makes the run under way return, or else the next.
    pub(super) fn kick(&self) {
        self.immediate_exit.set(true);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            signal_thread(thread);
        }
    }

    /// The run has returned because of a kick; the next one is to go on.
    pub(super) fn answered(&self) {
        self.immediate_exit.set(false);
    }
}

/// The calling thread's number, and its readiness to be signalled.
fn this_thread() -> i32 {
    thread_local! {
        static NUMBER: Cell<i32> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            unblock_signal();
            number.set(rustix::thread::gettid().as_raw_nonzero().get());
        }
        number.get()
    })
}

/// The first real-time signal that the C library leaves to programs.
fn number() -> i32 {
    libc::SIGRTMIN()
}

fn signal_thread(thread: i32) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the call reads three numbers. Should the thread have ended and its number be another
    // thread's of this process by now, that one is interrupted by a handler that does nothing.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, number()) };
    // A thread that has ended runs no vCPU, and that is all a kick is for.
    let _ = result;
}

extern "C" fn do_nothing(_signal: i32) {}

fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let result = INSTALLED.get_or_init(|| {
        // SAFETY: the C structure's all-zero value is a valid one: default action, no flags.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        let handler: extern "C" fn(i32) = do_nothing;
        action.sa_sigaction = handler as libc::sighandler_t;
        // A console write that the signal hits goes on.
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler touches nothing, so it may run at any time; the old action is not
        // wanted.
        let result = unsafe { libc::sigaction(number(), &raw const action, ptr::null_mut()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or(0))
        }
    });
    result.map_err(io::Error::from_raw_os_error)
}

/// Threads inherit a signal mask; one that blocks this signal would make a vCPU unstoppable.
fn unblock_signal() {
    // SAFETY: the C structure's all-zero value is the empty set on Linux.
    let mut set: libc::sigset_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the set is this function's own, and the number is a signal's.
    let added = unsafe { libc::sigaddset(&raw mut set, number()) };
    // SAFETY: the set is read only, and the old one is not wanted.
    let unblocked =
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
    debug_assert!(
        added == 0 && unblocked == 0,
        "a valid signal can be unblocked"
    );
}

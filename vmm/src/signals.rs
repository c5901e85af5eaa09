//! Signals as something to wait for: they are blocked, and read from a file descriptor instead.
//!
//! See signalfd(2) and sigaction(2).
#![expect(
    unsafe_code,
    reason = "signal masks and signalfd are only to be had from libc"
)]

use libc::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH, c_int, sigset_t};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// The signals that ask a program to end.
const ENDING: [c_int; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// To end; the signal's number.
    End(i32),
    /// Nothing: the program was stopped and goes on, perhaps with another terminal mode.
    Continued,
    /// Nothing: the terminal has another size.
    Resized,
}

/// The calling thread's signals, blocked as long as this lives.
///
/// Threads that are created meanwhile have them blocked as well, so no thread can be killed by
/// one. A signal that was ignored before, as under nohup(1), stays ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: OwnedFd,
    before: Mask,
}

/// Leaves signals, for as long as the calling thread lives, to that which has the terminal to put back: one that ends a
/// process ends it in whichever thread lets it. A file that may not grow is an error of the write's, and no signal.
pub fn leave_to_others() {
    let mut set = wanted_set();
    // SAFETY: `set` is an initialised set and the number that of a signal.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGXFSZ) };
    // SAFETY: the set is initialised, and the mask before is not asked for.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
    debug_assert_eq!(error, 0, "these are signals, and they can be blocked");
}

struct Mask(sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

impl Signals {
    pub(crate) fn take() -> io::Result<Self> {
        let set = wanted_set();
        let mut blocked = set;
        // A disk that may not grow is the guest's I/O error, and not our end.
        // SAFETY: `blocked` is an initialised set and the number that of a signal.
        unsafe { libc::sigaddset(&raw mut blocked, libc::SIGXFSZ) };
        let mut before = MaybeUninit::uninit();
        // SAFETY: `blocked` is an initialised set, `before` has room for one.
        let error = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, before.as_mut_ptr())
        };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: pthread_sigmask succeeded, so it has filled `before`.
        let before = Mask(unsafe { before.assume_init() });
        // SAFETY: `set` is an initialised set; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            restore(&before);
            return Err(error);
        }
        // SAFETY: signalfd made the descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, before })
    }

    /// The next signal that has come, if one has.
    pub(crate) fn next(&self) -> io::Result<Option<Signal>> {
        // signalfd_siginfo begins with the signal's number, 32 bits wide, and is 128 bytes long.
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut info) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let [a, b, c, d, ..] = info;
        let number = i32::from_ne_bytes([a, b, c, d]);
        Ok(Some(match number {
            SIGCONT => Signal::Continued,
            SIGWINCH => Signal::Resized,
            _ => Signal::End(number),
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn restore(mask: &Mask) {
    // SAFETY: the mask is one that pthread_sigmask filled; no old mask is asked for.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask.0, ptr::null_mut()) };
    debug_assert_eq!(error, 0, "a mask that was in force can be again");
}

/// The signals to take: those that end programs, unless somebody had us ignore them, and those that
/// tell of the terminal.
///
/// A signal that is both blocked and ignored would still reach the descriptor, so it must not be
/// in the set.
fn wanted_set() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` has room for a signal set, which sigemptyset fills.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has filled it.
    let mut set = unsafe { set.assume_init() };
    let wanted = ENDING.into_iter().filter(|&number| !is_ignored(number));
    for number in wanted.chain([SIGCONT, SIGWINCH]) {
        // SAFETY: `set` is an initialised set and the number that of a signal.
        unsafe { libc::sigaddset(&raw mut set, number) };
    }
    set
}

fn is_ignored(number: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is set, and `action` has room for the one in force.
    let result = unsafe { libc::sigaction(number, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid action, and where the call succeeded it filled it.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_instead_of_killing() {
        let signals = Signals::take().unwrap();
        // SAFETY: raise sends the signal to the calling thread, which has it blocked.
        unsafe { libc::raise(SIGTERM) };
        assert_eq!(signals.next().unwrap(), Some(Signal::End(SIGTERM)));
        assert_eq!(signals.next().unwrap(), None);
    }
}

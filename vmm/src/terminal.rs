//! The terminal's mode, and that it is what it was whatever happens.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};
use std::io;
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

/// The one terminal that is in raw mode, for the panic hook: a release build aborts on a panic,
/// so no destructor would run.
static RAW: Mutex<Option<Saved>> = Mutex::new(None);

struct Saved {
    terminal: OwnedFd,
    mode: Termios,
}

/// A terminal in raw mode; what it was before is restored when this is dropped, and by a panic.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Puts `input` into raw mode; `None` where it is no terminal, or one that belongs to another
    /// job just now and would stop us.
    pub(crate) fn enter(input: impl AsFd) -> io::Result<Option<Self>> {
        if !is_ours(&input) {
            return Ok(None);
        }
        let mode = tcgetattr(&input)?;
        let mut raw = mode.clone();
        raw.make_raw();
        restore_on_panic();
        let terminal = fcntl_dupfd_cloexec(&input, 0)?;
        *lock() = Some(Saved { terminal, mode });
        let this = Self(());
        set(&input, &raw)?;
        Ok(Some(this))
    }

    /// Sets raw mode again after somebody else may have changed it.
    pub(crate) fn renew(&self) {
        if let Some(saved) = &*lock()
            && is_ours(&saved.terminal)
        {
            let mut raw = saved.mode.clone();
            raw.make_raw();
            // A terminal that is gone needs no mode.
            let _ = set(&saved.terminal, &raw);
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether `input` is a terminal from which this process may read now: not one that has another
/// job in its foreground.
pub(crate) fn is_ours(input: impl AsFd) -> bool {
    isatty(&input) && tcgetpgrp(&input).is_ok_and(|foreground| foreground == getpgrp())
}

/// A terminal that is gone, or that a shell has given to another job with that job's mode, is let
/// be: setting its mode would stop us.
fn restore() {
    if let Some(saved) = lock().take()
        && is_ours(&saved.terminal)
    {
        // Between the two calls it may have gone.
        let _ = set(&saved.terminal, &saved.mode);
    }
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            next(info);
        }));
    });
}

fn lock() -> std::sync::MutexGuard<'static, Option<Saved>> {
    RAW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the mode without losing what was typed meanwhile.
fn set(terminal: impl AsFd, mode: &Termios) -> io::Result<()> {
    loop {
        match tcsetattr(&terminal, OptionalActions::Now, mode) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let (input, _keyboard) = rustix::pipe::pipe().unwrap();
        assert!(RawMode::enter(input).unwrap().is_none());
    }
}

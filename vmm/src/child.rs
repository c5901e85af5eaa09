//! How a process that serves a guest begins: with what it inherits, and never alone.

use rustix::fd::AsFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid};
use std::io;

/// To be called between fork and exec: exec leaves `inherited` open, the terminal and its Ctrl-C are not this process's
/// business, and the host kills it when the thread of `parent` ends that made it. It makes system calls only.
pub(crate) fn begin(inherited: &[impl AsFd], parent: Pid) -> io::Result<()> {
    for fd in inherited {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    setsid()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before it was watched.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

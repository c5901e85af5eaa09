//! The calling thread's scheduling policy (sched(7)).
#![expect(unsafe_code, reason = "sched_setscheduler is only to be had from libc")]

use std::io;

/// Makes the calling thread a real-time one that takes turns with others of its level. Threads that it
/// makes are like any other.
pub(super) fn run_round_robin(level: i32) -> io::Result<()> {
    /// The calling thread.
    const MYSELF: libc::pid_t = 0;
    let mut parameters: libc::sched_param = empty();
    parameters.sched_priority = level;
    // The system call itself: the C library's function of this name fails always in one of them.
    // SAFETY: it only reads `parameters`, which lives until it is over, and changes how the calling
    // thread is scheduled.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            MYSELF,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn empty() -> libc::sched_param {
    // SAFETY: it is a struct of integers, for which zeros are a value.
    unsafe { std::mem::zeroed() }
}

//! The QEMU process: what it inherits, what it says, and that it never outlives us.
//!
//! The one unsafe block of the engine is here: code between fork and exec.
#![expect(unsafe_code, reason = "preparing a child between fork and exec")]

use super::{QemuError, contents, file};
use crate::RunError;
use crate::child::begin;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal, getpid, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running QEMU. It ends with this value, and with this process, however that ends.
pub(super) struct Process {
    child: Child,
    stderr: OwnedFd,
}

impl Process {
    /// Starts `program`, which keeps `inherited` under their numbers.
    ///
    /// It has a session of its own. The terminal and its Ctrl-C are not its business, and Linux
    /// gives every session a fair share of the processors (sched(7), "The autogroup feature"):
    /// kernels that time their timers while they start mistake a pause for a slow timer, and a
    /// busy build beside us would make many pauses.
    pub(super) fn start(
        program: &Path,
        arguments: &[String],
        inherited: Vec<OwnedFd>,
    ) -> Result<Self, RunError> {
        let failed = |source: io::Error| QemuError::Start {
            program: program.display().to_string(),
            source,
        };
        let stderr = file("qemu-stderr", &[]).map_err(|error| failed(error.into()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().map_err(failed)?);
        let parent = getpid();
        let prepare = move || begin(&inherited, parent);
        // SAFETY: between fork and exec the closure makes system calls only; it neither allocates
        // nor locks, and an error without a message does not allocate either.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, stderr })
    }

    /// What it has said on stderr, without the warnings about what we ask for knowingly.
    pub(super) fn stderr(&self) -> String {
        complaints(&String::from_utf8_lossy(&contents(&self.stderr)))
    }

    /// Waits for its end, which is near: it has closed its sockets.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Process {
    /// Ends it, with all that it may have started, and waits until it is gone: where the program is
    /// a script around QEMU, killing the script alone would leave QEMU behind.
    fn drop(&mut self) {
        // Either fails only where it has ended and been waited for. Nobody else has the number of
        // its group until then.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn complaints(stderr: &str) -> String {
    let known = |line: &&str| !line.contains("warning: TCG doesn't support requested feature");
    let lines: Vec<&str> = stderr.lines().filter(known).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn only_features_we_force_are_no_complaint() {
        let stderr = "qemu: warning: TCG doesn't support requested feature: \
                      CPUID.80000007H:EDX.invtsc [bit 8]\nqemu: cannot set up guest memory\n";
        assert_eq!(complaints(stderr), "qemu: cannot set up guest memory");
        assert_eq!(complaints(""), "");
    }

    #[test]
    fn a_program_inherits_what_it_is_handed_and_its_end_is_seen() {
        let handed = file("handed", b"through the fork").unwrap();
        let number = rustix::fd::AsRawFd::as_raw_fd(&handed);
        // By its name: a shell has uses of its own for numbers above 9.
        let script = format!("cat /proc/self/fd/{number} >&2; exit 7");
        let arguments = ["-c".to_owned(), script];
        let mut process = Process::start(Path::new("/bin/sh"), &arguments, vec![handed]).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(7));
        assert_eq!(process.stderr(), "through the fork");
    }

    /// The other end of the pipe is closed when the last process that has it is gone.
    #[test]
    fn what_a_script_started_ends_with_it() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let number = rustix::fd::AsRawFd::as_raw_fd(&writer);
        let script = format!("sleep 1000 & echo up >/proc/self/fd/{number}; wait");
        let process = Process::start(
            Path::new("/bin/sh"),
            &["-c".to_owned(), script],
            vec![writer],
        );
        let mut line = [0; 3];
        let read = rustix::io::read(&reader, &mut line);
        assert_eq!((read, &line), (Ok(3), b"up\n"));
        drop(process.unwrap());
        let mut fds = [PollFd::new(&reader, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&patience)).unwrap();
        assert!(fds[0].revents().contains(PollFlags::HUP));
    }
}

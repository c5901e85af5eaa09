//! The terminal's mode while a guest runs and on every way out.
//!
//! Each guest runs in a process of its own at a terminal of its own: this very program, started
//! again with the name of its part in an environment variable.

use firstlight_base::{Gpa, GpaRange, MIB, VcpuState};
use firstlight_boot::{BootPlan, Request};
use firstlight_image::testing::elf64;
use firstlight_image::{Image, Limits as ImageLimits};
use firstlight_load::{Backing, GuestMemory};
use firstlight_vmm::{Console, ConsoleOutput, Ending, Limits, Machine, RunError, Running, Stop};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::env;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

const PART: &str = "FIRSTLIGHT_TEST_PART";

fn main() {
    match env::var(PART) {
        Ok(part) => play(&part),
        Err(_) => test(),
    }
}

fn test() {
    let tests: [(&str, fn()); 4] = [
        (
            "the_terminal_is_raw_while_the_guest_runs_and_sane_after_the_escape_key",
            the_terminal_is_raw_while_the_guest_runs_and_sane_after_the_escape_key,
        ),
        (
            "the_terminal_is_sane_after_each_signal_that_ends_the_program",
            the_terminal_is_sane_after_each_signal_that_ends_the_program,
        ),
        (
            "a_panic_leaves_a_sane_terminal",
            a_panic_leaves_a_sane_terminal,
        ),
        (
            "what_is_typed_reaches_the_guest_as_it_was_typed",
            what_is_typed_reaches_the_guest_as_it_was_typed,
        ),
    ];
    for (name, test) in tests {
        print!("test {name} ... ");
        // A panic ends the program with a status that says so.
        test();
        println!("ok");
    }
}

fn the_terminal_is_raw_while_the_guest_runs_and_sane_after_the_escape_key() {
    let mut terminal = Terminal::with("guest");
    terminal.waits_for("guest runs");
    assert!(!terminal.is_sane());
    terminal.types(b"\x01x");
    terminal.waits_for("left");
    assert!(terminal.is_sane());
    assert!(terminal.ends().success());
}

fn the_terminal_is_sane_after_each_signal_that_ends_the_program() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut terminal = Terminal::with("guest");
        terminal.waits_for("guest runs");
        assert!(!terminal.is_sane());
        kill_process(Pid::from_child(&terminal.child), signal).expect("the child still runs");
        terminal.waits_for(&format!("signal {}.", signal.as_raw()));
        assert!(terminal.is_sane());
        assert!(terminal.ends().success());
    }
}

fn a_panic_leaves_a_sane_terminal() {
    let mut terminal = Terminal::with("panic");
    terminal.waits_for("panicked");
    assert!(terminal.is_sane());
    terminal.types(b"\x01x\n");
    terminal.waits_for("left");
    assert!(terminal.ends().success());
}

fn what_is_typed_reaches_the_guest_as_it_was_typed() {
    let mut terminal = Terminal::with("guest");
    terminal.waits_for("guest runs");
    terminal.types(b"\x03\x1a\r\x01\x01\x04\xff");
    terminal.waits_for("[03][1a][0d][01][04][ff]");
    terminal.types(b"\x01x");
    terminal.waits_for("left");
    assert!(terminal.ends().success());
}

/// The person's side of a terminal, and the program at the other.
struct Terminal {
    person: File,
    child: Child,
}

impl Terminal {
    fn with(part: &str) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).expect("a host has pseudo-terminals");
        grantpt(&person).expect("a new pseudo-terminal can be granted");
        unlockpt(&person).expect("a new pseudo-terminal can be unlocked");
        let name = ptsname(&person, Vec::new()).expect("a pseudo-terminal has a name");
        let program = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(OsStr::from_bytes(name.as_bytes()))
            .expect("an unlocked pseudo-terminal can be opened");
        let end = || Stdio::from(program.try_clone().expect("a descriptor can be copied"));
        // Whoever started the tests may ignore signals, as nohup does, and children inherit that.
        let child = Command::new("env")
            .arg("--default-signal=HUP,INT,QUIT,TERM")
            .arg(env::current_exe().expect("a running program has a file"))
            .env(PART, part)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("a program can be started again");
        Self {
            person: person.into(),
            child,
        }
    }

    fn types(&mut self, keys: &[u8]) {
        let typed = self.person.write_all(keys);
        typed.expect("a terminal takes a few keys at once");
    }

    fn waits_for(&mut self, text: &str) {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen).contains(text) {
            if self.person.read_exact(&mut byte).is_err() {
                let seen = String::from_utf8_lossy(&seen);
                panic!("waited for {text:?}, and the program ended with {seen:?}");
            }
            seen.extend_from_slice(&byte);
        }
    }

    /// Whether keys are echoed and gathered into lines, as a shell has it. Both ends of a
    /// pseudo-terminal tell the same mode (pty(7)).
    fn is_sane(&self) -> bool {
        let mode = tcgetattr(&self.person).expect("a terminal has a mode");
        let sane = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        mode.local_modes.contains(sane)
    }

    fn ends(mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }
}

/// The program's side: runs a guest at the terminal that it has been given.
fn play(part: &str) {
    setsid().expect("a child leads no process group");
    ioctl_tiocsctty(io::stdin()).expect("the terminal is nobody's yet");
    let mut console = Console::stdio().expect("there are descriptors left");
    let guest = Guest {
        memory: memory(),
        panics: part == "panic",
        output: None,
    };
    let ending = Machine::new(Box::new(guest)).run(&plan(), &Limits::default(), &mut console);
    match ending {
        Ok(Ending::Left) => println!("left"),
        Ok(Ending::Signalled(number)) => println!("signal {number}."),
        other => panic!("{other:?}"),
    }
}

/// A guest that prints what it gets, and never ends.
struct Guest {
    memory: GuestMemory,
    panics: bool,
    output: Option<ConsoleOutput>,
}

impl Running for Guest {
    fn start(&mut self, output: &ConsoleOutput) -> Result<(), RunError> {
        self.output = Some(output.clone());
        if self.panics {
            // In another thread, so that no destructor of the console runs: the hook alone acts.
            let panicked = thread::spawn(|| panic!("on purpose")).join();
            assert!(panicked.is_err());
            output.write(b"panicked\r\n");
        } else {
            output.write(b"guest runs\r\n");
        }
        Ok(())
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        Vec::new()
    }

    fn ready(&mut self, _ready: &[PollFlags]) -> Result<Option<Stop>, RunError> {
        Ok(None)
    }

    fn send_input(&mut self, bytes: &[u8]) -> Result<usize, RunError> {
        let output = self.output.as_ref().expect("input comes after the start");
        for byte in bytes {
            output.offer(format!("[{byte:02x}]").as_bytes());
        }
        Ok(bytes.len())
    }

    fn examine(&mut self) -> Option<VcpuState> {
        None
    }

    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn end(self: Box<Self>) -> Result<(), RunError> {
        Ok(())
    }
}

fn memory() -> GuestMemory {
    let range = GpaRange::new(Gpa::new(0), MIB).expect("a MiB is not nothing");
    GuestMemory::allocate(&[range], Backing::Private).expect("a host has a MiB")
}

fn plan() -> BootPlan {
    let file = elf64()
        .segment(0x10_0000, &[0xf4], 0x1000)
        .pvh(0x10_0000)
        .build();
    let image = Image::open(&file, &ImageLimits::default()).expect("the builder makes kernels");
    let request = Request {
        memory: 16 * MIB,
        ..Request::default()
    };
    firstlight_boot::plan(&image, &request).expect("a small kernel fits")
}

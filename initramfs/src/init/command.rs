//! Running one command.

use super::call::Call;
use super::program::{Done, Operation, Place, Value, Word};
use super::{CONSOLE, Init};
use crate::initramfs::{Command, Console, Peer, Root};

/// Errors (`include/uapi/asm-generic/errno-base.h`).
const ENOENT: u64 = 2;
const EACCES: u64 = 13;
const ENOTDIR: u64 = 20;
/// `SIGKILL` and `SIGCHLD`
const SIGKILL: u64 = 9;
const SIGCHLD: u64 = 17;
/// `TIOCSCTTY` (`include/uapi/asm-generic/ioctls.h`)
const TIOCSCTTY: u64 = 0x540e;
const TCGETS: u64 = 0x5401;
const TCSETS: u64 = 0x5402;

/// Flags of a terminal (`include/uapi/asm-generic/termbits.h` and `termbits-common.h`): what Linux
/// has for new ones (`tty_std_termios`), and what of it is not for files.
const OPOST: u64 = 0o1;
const ONLCR: u64 = 0o4;
const LOCAL: u64 = 0o105_073;
/// `ECHO`, `ECHOE`, `ECHOK`, `ECHOCTL` and `ECHOKE`
const ALL_ECHO: u64 = 0o10 | 0o20 | 0o40 | 0o1000 | 0o4000;
/// The words that `struct termios` fits in.
const TERMIOS: usize = 5;

/// The statuses of commands that cannot be run, and of those that a signal ended, as shells have
/// them (POSIX, Shell Command Language, section 2.8.2).
const NOT_EXECUTABLE: u64 = 126;
const NOT_FOUND: u64 = 127;
const SIGNALLED: u64 = 128;

/// What a command finds in its environment, unless it is given another.
const ENVIRONMENT: [&str; 3] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TERM=linux",
];

/// File systems that a command finds beside the kernel's: terminals, and memory that is shared.
const OF_A_COMMAND: [(&str, &str); 2] = [("devpts", "/dev/pts"), ("tmpfs", "/dev/shm")];
/// Folders that every system can write to.
pub(super) const WRITABLE: [&str; 2] = ["/tmp", "/run"];

/// `AF_INET`, and `SOCK_DGRAM` with `SOCK_CLOEXEC` (`include/linux/net.h`).
const AF_INET: u64 = 2;
const SOCK_DGRAM: u64 = 0o200_0002;
/// `SIOCSIFFLAGS` and `IFF_UP` (`include/uapi/linux/sockios.h` and `if.h`)
const SIOCSIFFLAGS: u64 = 0x8914;
const IFF_UP: u64 = 1;

impl Init {
    /// Does what a system's own init would see to.
    pub(super) fn provide_for_a_command(&mut self, root: Option<&Root>) {
        for (kind, place) in OF_A_COMMAND {
            self.mount_made_up(kind, place);
        }
        if root.is_some_and(|root| root.read_only && !root.covered) {
            for place in WRITABLE {
                self.mount_made_up("tmpfs", place);
            }
        }
        // The machine's own network, 127.0.0.1: `struct ifreq`, a name of 16 bytes and flags.
        let own = u64::from_le_bytes(*b"lo\0\0\0\0\0\0");
        let interface = [own, 0, IFF_UP, 0, 0].map(Word::Number);
        let interface = self.program.words(&interface);
        let socket = [AF_INET.into(), SOCK_DGRAM.into(), 0.into()];
        let socket = self.program.call(Call::Socket, &socket);
        let up = [socket.into(), SIOCSIFFLAGS.into(), interface.into()];
        self.program.call(Call::Ioctl, &up);
        self.program.call(Call::Close, &[socket.into()]);
    }

    /// Runs the command in a process of its own, and keeps its status.
    pub(super) fn run(&mut self, command: &Command) {
        self.take_console(&command.console);
        let child = self.program.label();
        let process = self.program.call(Call::Clone, &[SIGCHLD.into()]);
        self.stop(process, "cannot start a process".to_owned());
        self.program.if_equal(process, 0, child);
        self.wait_for(process);
        self.end_the_others();
        self.program.jump(self.end);
        self.program.bind(child);
        self.become_command(command);
    }

    /// Makes `console` the terminal of this session. It is the first process that leads the session:
    /// when a leader ends, what its terminal has not printed yet is lost (`disassociate_ctty`, Linux
    /// `drivers/tty/tty_jobctrl.c`).
    fn take_console(&mut self, console: &Console) {
        if console.device != CONSOLE {
            self.change_console(&console.device);
        }
        self.program.call(Call::Setsid, &[]);
        let take = [0.into(), TIOCSCTTY.into(), 0.into()];
        self.program.call(Call::Ioctl, &take);
        self.set_console(console);
    }

    /// Goes over to another console when that has come.
    fn change_console(&mut self, path: &str) {
        let place = self.program.text(path);
        let file = self.open_when_there(path, "the command");
        for standard in 0..3_u64 {
            self.program.call(Call::Close, &[standard.into()]);
        }
        self.open_as_standard(place);
        self.program.call(Call::Close, &[file.into()]);
    }

    /// Waits for `process`, and for whatever is left to the first process meanwhile.
    fn wait_for(&mut self, process: Done) {
        let (signalled, kept) = (self.program.label(), self.program.label());
        let ended = self.program.number(0);
        let again = self.program.here();
        let wait = [Value::minus(1), ended.into(), 0.into(), 0.into()];
        let wait = self.program.call(Call::Wait4, &wait);
        self.stop(wait, "cannot wait for the command".to_owned());
        self.program.unless_equal(wait, process, again);
        // A signal's number, or 0 and the status behind it (Linux `include/linux/wait.h`).
        let ended = Value::Contents(ended);
        let field = [ended, 0.into(), 0x7f.into()];
        let signal = self.program.step(Operation::Field, &field);
        self.program.unless_equal(signal, 0, signalled);
        let field = [ended, 8.into(), 0xff.into()];
        let status = self.program.step(Operation::Field, &field);
        self.program.store(self.status, status);
        self.program.jump(kept);
        self.program.bind(signalled);
        let sum = [SIGNALLED.into(), signal.into(), 1.into()];
        let status = self.program.step(Operation::MultiplyAdd, &sum);
        self.program.store(self.status, status);
        self.program.bind(kept);
    }

    /// Ends every other process, so that none has files open.
    fn end_the_others(&mut self) {
        let kill = [Value::minus(1), SIGKILL.into()];
        self.program.call(Call::Kill, &kill);
        let (again, alone) = (self.program.here(), self.program.label());
        let wait = [Value::minus(1), 0.into(), 0.into(), 0.into()];
        let wait = self.program.call(Call::Wait4, &wait);
        self.program.on_error(wait, alone);
        self.program.jump(again);
        self.program.bind(alone);
    }

    /// Lets this process be the command.
    fn become_command(&mut self, command: &Command) {
        if let Some(folder) = &command.folder {
            let folder = self.program.text(folder);
            self.program.call(Call::Chdir, &[folder.into()]);
        }
        let environment = environment(&command.environment);
        let arguments = command.arguments.iter().map(String::as_str);
        let arguments = self.program.text_list(arguments);
        let variables = self
            .program
            .text_list(environment.iter().map(String::as_str));
        let refused = self.program.number(0);
        let name = command.arguments.first().map_or("", String::as_str);
        for path in candidates(name, &environment) {
            let path = self.program.text(&path);
            self.try_to_run(name, [path, arguments, variables], refused);
        }
        let not_allowed = self.program.label();
        self.program
            .unless_equal(Value::Contents(refused), 0, not_allowed);
        self.say(&format!("firstlight: {name}: not found\n"));
        self.program.call(Call::ExitGroup, &[NOT_FOUND.into()]);
        self.program.bind(not_allowed);
        self.say(&format!("firstlight: {name}: permission denied\n"));
        self.program.call(Call::ExitGroup, &[NOT_EXECUTABLE.into()]);
    }

    /// Has the console treat bytes as suits whoever is at its other end. Its speed and the like stay.
    fn set_console(&mut self, console: &Console) {
        let output = match console.output {
            Peer::Terminal => OPOST | ONLCR,
            Peer::File => 0,
        };
        let local = match console.input {
            Peer::Terminal => LOCAL,
            Peer::File => LOCAL & !ALL_ECHO,
        };
        let no_terminal = self.program.label();
        let termios = self.program.words(&[Word::Number(0); TERMIOS]);
        let get = [0.into(), TCGETS.into(), termios.into()];
        let get = self.program.call(Call::Ioctl, &get);
        self.program.on_error(get, no_terminal);
        // Four numbers of four bytes: input, output, control and local flags.
        for (word, flags) in [(termios, output), (termios.behind(8), local)] {
            let first = [Value::Contents(word), 0.into(), 0xffff_ffff.into()];
            let first = self.program.step(Operation::Field, &first);
            let both = [first.into(), flags.into(), (1 << 32).into()];
            let both = self.program.step(Operation::MultiplyAdd, &both);
            self.program.store(word, both);
        }
        let set = [0.into(), TCSETS.into(), termios.into()];
        self.program.call(Call::Ioctl, &set);
        self.program.bind(no_terminal);
    }

    /// Runs the file, or goes on where it is not there or must not be run, which is kept.
    fn try_to_run(&mut self, name: &str, run: [Place; 3], refused: Place) {
        let (next, not_allowed) = (self.program.label(), self.program.label());
        let run = self.program.call(Call::Execve, &run.map(Into::into));
        for missing in [ENOENT, ENOTDIR] {
            self.program.if_equal(run, Value::minus(missing), next);
        }
        self.program
            .if_equal(run, Value::minus(EACCES), not_allowed);
        self.say(&format!("firstlight: {name}: "));
        self.say_error(run);
        self.program.call(Call::ExitGroup, &[NOT_EXECUTABLE.into()]);
        self.program.bind(not_allowed);
        self.program.store(refused, 1);
        self.program.bind(next);
    }
}

/// The variables that a command gets: its own, and those that it leaves out.
fn environment(own: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    let mut all = own.to_vec();
    for variable in ENVIRONMENT {
        if !own.iter().any(|other| name(other) == name(variable)) {
            all.push(variable.to_owned());
        }
    }
    all
}

/// The files that `name` may stand for: itself where it is a path, or one in each of the folders
/// of the search path.
fn candidates(name: &str, environment: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or_default()
        .split(':')
        // An empty one is the current folder (POSIX, section 8.3).
        .map(|folder| match folder {
            "" => format!("./{name}"),
            folder => format!("{folder}/{name}"),
        })
        .collect()
}

//! The guest's first program, made to measure: a list of system calls, and a few dozen machine
//! instructions that carry it out.

mod arm64;
mod call;
mod command;
mod elf;
mod errno;
mod program;
mod riscv64;
mod root;
mod status;
#[cfg(test)]
mod tests;
mod x86_64;

use crate::initramfs::{Initramfs, Then};
use crate::modules::Module;
use call::Call;
pub(crate) use elf::Interpreter;
use program::{Done, Label, Operation, Place, Program, Value, Word};

/// The folder of all that is ours in the guest.
pub(crate) const FOLDER: &str = "firstlight";
/// Where the disk is mounted, in that.
pub(crate) const ROOT: &str = "root";
/// Where modules are, in that.
pub(crate) const MODULES: &str = "modules";

/// The kernel's console.
pub(crate) const CONSOLE: &str = "/dev/console";

/// So long, in seconds, a device may take to come.
const PATIENCE: u32 = 5;

/// The status of a guest in which we could not do what we were asked for, as for `env(1)`.
const FAILED: u64 = 125;

/// The file of the program that does what `initramfs` says.
pub(crate) fn file(initramfs: &Initramfs, interpreter: &Interpreter) -> Vec<u8> {
    let mut init = Init::new();
    init.be_first();
    init.mount_what_the_kernel_has();
    init.open_console();
    for module in &initramfs.modules {
        init.load_module(module);
    }
    if let Then::Run(_) = &initramfs.then {
        init.open_status(&initramfs.status);
    }
    if let Some(root) = &initramfs.root {
        init.mount_root(root);
        init.switch_to_root();
    }
    match &initramfs.then {
        Then::Init(path) => init.become_init(path),
        Then::Run(command) => {
            init.provide_for_a_command(initramfs.root.as_ref());
            init.run(command);
        }
    }
    init.finish(initramfs);
    interpreter.file(&init.program)
}

/// The program while it is put together.
struct Init {
    program: Program,
    /// What is said only where something fails, and is put down last.
    complaints: Vec<Complaint>,
    /// The status that is handed on.
    status: Place,
    /// The open file that takes it.
    port: Place,
    /// Texts of errors, by their numbers.
    errors: Place,
    /// Where everything ends.
    end: Label,
}

/// What is said where a step gives an error.
struct Complaint {
    label: Label,
    text: String,
    error: Done,
    then: Label,
}

/// Numbers of Linux' interface (`include/uapi/asm-generic/fcntl.h`, `include/uapi/linux/fcntl.h`,
/// `include/uapi/linux/mount.h`, `include/uapi/linux/reboot.h`).
mod linux {
    use super::Value;

    pub(super) const AT_FDCWD: Value = Value::minus(100);
    pub(super) const O_RDONLY: u64 = 0;
    pub(super) const O_WRONLY: u64 = 1;
    pub(super) const O_RDWR: u64 = 2;
    pub(super) const O_NOCTTY: u64 = 0o400;
    pub(super) const O_CLOEXEC: u64 = 0o200_0000;
    pub(super) const MS_RDONLY: u64 = 1;
    pub(super) const MS_REMOUNT: u64 = 32;
    pub(super) const MS_MOVE: u64 = 8192;
    pub(super) const REBOOT_MAGIC_1: u64 = 0xfee1_dead;
    pub(super) const REBOOT_MAGIC_2: u64 = 672_274_793;
    pub(super) const REBOOT_POWER_OFF: u64 = 0x4321_fedc;
}

/// File systems that the kernel makes up, and where they are mounted.
const OF_THE_KERNEL: [(&str, &str); 3] =
    [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")];

impl Init {
    fn new() -> Self {
        let mut program = Program::default();
        let status = program.number(FAILED);
        let no_file = 0_u64.wrapping_sub(1);
        let port = program.number(no_file);
        let errors = errno::texts(&mut program);
        let end = program.label();
        Self {
            program,
            complaints: Vec::new(),
            status,
            port,
            errors,
            end,
        }
    }

    /// Ends at once where another program is the first one: what follows is for nobody else.
    fn be_first(&mut self) {
        let first = self.program.label();
        let own = self.program.call(Call::Getpid, &[]);
        self.program.if_equal(own, 1, first);
        self.say("firstlight: this is for a guest's first process only\n");
        self.program.call(Call::ExitGroup, &[FAILED.into()]);
        self.program.bind(first);
    }

    fn mount_what_the_kernel_has(&mut self) {
        for (kind, place) in OF_THE_KERNEL {
            self.mount_made_up(kind, place);
        }
    }

    /// Mounts a file system that has no device. One that is there already, or is not in this
    /// kernel, is missed by whoever needs it.
    fn mount_made_up(&mut self, kind: &str, place: &str) {
        let (kind, place) = (self.program.text(kind), self.program.text(place));
        self.make_folder(place);
        let nothing = 0.into();
        let mount = [kind.into(), place.into(), kind.into(), nothing, nothing];
        self.program.call(Call::Mount, &mount);
    }

    /// The kernel opens the console for us, unless the file is missing from the initramfs.
    fn open_console(&mut self) {
        let is_open = self.program.label();
        let written = [2.into(), 0.into(), 0.into()];
        let written = self.program.call(Call::Write, &written);
        self.program.then(written, is_open);
        let console = self.program.text(CONSOLE);
        self.open_as_standard(console);
        self.program.bind(is_open);
    }

    /// Opens a file as input, output and errors where these are not open: the lowest numbers are given
    /// out first.
    fn open_as_standard(&mut self, path: Place) {
        let flags = (linux::O_RDWR | linux::O_NOCTTY).into();
        for _ in 0..3 {
            let open = [linux::AT_FDCWD, path.into(), flags];
            self.program.call(Call::Openat, &open);
        }
    }

    /// Waits until all that was printed is out: nobody takes it once the machine is off, or the status
    /// known. A serial port is slow.
    fn drain_console(&mut self) {
        /// With an argument other than 0 it is `tcdrain(3)` (`tty_ioctl(4)`).
        const TCSBRK: u64 = 0x5409;
        /// Of `rt_sigprocmask(2)`.
        const SIG_BLOCK: u64 = 0;
        /// What those get who use a terminal that is another group's, as it is when a shell has ended:
        /// its bit in a set of signals, and the bytes of such a set.
        const SIGTTOU: u64 = 1 << 21;
        const SET_LEN: u64 = 8;
        let set = self.program.number(SIGTTOU);
        let block = [SIG_BLOCK.into(), set.into(), 0.into(), SET_LEN.into()];
        self.program.call(Call::RtSigprocmask, &block);
        let drain = [2.into(), TCSBRK.into(), 1.into()];
        self.program.call(Call::Ioctl, &drain);
    }

    /// Loads a module, and frees the memory that its file takes. What needs a module that cannot be
    /// loaded will say so itself.
    fn load_module(&mut self, module: &Module) {
        const EEXIST: u64 = 17;
        let Module {
            name, parameters, ..
        } = module;
        let path = self.program.text(&format!("/{FOLDER}/{MODULES}/{name}.ko"));
        let (loaded, refused) = (self.program.label(), self.program.label());
        let flags = (linux::O_RDONLY | linux::O_CLOEXEC).into();
        let open = [linux::AT_FDCWD, path.into(), flags];
        let file = self.program.call(Call::Openat, &open);
        self.complain(file, format!("cannot read module {name}"), loaded);
        let parameters = self.program.text(parameters);
        let load = [file.into(), parameters.into(), 0.into()];
        let load = self.program.call(Call::FinitModule, &load);
        self.program.on_error(load, refused);
        let close = self.program.here();
        self.program.call(Call::Close, &[file.into()]);
        let remove = [linux::AT_FDCWD, path.into(), 0.into()];
        self.program.call(Call::Unlinkat, &remove);
        self.program.jump(loaded);
        self.program.bind(refused);
        // It may be built in, or loaded by an initramfs before ours.
        self.program.if_equal(load, Value::minus(EEXIST), close);
        let failed = self.complaint(load, format!("cannot load module {name}"), close);
        self.program.jump(failed);
        self.program.bind(loaded);
    }

    fn make_folder(&mut self, path: Place) {
        let make = [linux::AT_FDCWD, path.into(), 0o755.into()];
        self.program.call(Call::Mkdirat, &make);
    }

    /// Lets the kernel's own arguments and environment go to the program at `path`.
    fn become_init(&mut self, path: &str) {
        let file = self.program.text(path);
        let count = self.program.step(Operation::Load, &[Value::Stack]);
        let behind_stack = |init: &mut Self, words: Value, more: u64| {
            let sum = [Value::Stack, words, 8.into()];
            let sum = init.program.step(Operation::MultiplyAdd, &sum);
            let sum = [sum.into(), more.into(), 1.into()];
            init.program.step(Operation::MultiplyAdd, &sum)
        };
        let arguments = behind_stack(self, 0.into(), 8);
        let environment = behind_stack(self, count.into(), 16);
        // We were called by another name.
        let rename = [arguments.into(), file.into()];
        self.program.step(Operation::Store, &rename);
        let run = [file.into(), arguments.into(), environment.into()];
        let run = self.program.call(Call::Execve, &run);
        self.stop(run, format!("cannot run {path}"));
    }

    /// Everything ends here: the status is handed on, and the machine turned off.
    fn finish(&mut self, initramfs: &Initramfs) {
        let complaints = std::mem::take(&mut self.complaints);
        self.program.jump(self.end);
        for complaint in complaints {
            self.program.bind(complaint.label);
            self.say(&format!("firstlight: {}: ", complaint.text));
            self.say_error(complaint.error);
            self.program.jump(complaint.then);
        }
        self.program.bind(self.end);
        self.program.call(Call::Sync, &[]);
        if initramfs.root.as_ref().is_some_and(|root| !root.read_only) {
            self.remount_root_read_only();
        }
        self.drain_console();
        if let Then::Run(_) = &initramfs.then {
            self.hand_on(&initramfs.status);
        }
        let off = [
            linux::REBOOT_MAGIC_1,
            linux::REBOOT_MAGIC_2,
            linux::REBOOT_POWER_OFF,
        ];
        self.program.call(Call::Reboot, &off.map(Value::Number));
        let status = Value::Contents(self.status);
        self.program.call(Call::ExitGroup, &[status]);
    }

    /// Says what failed where `step` gives an error, and ends.
    fn stop(&mut self, step: Done, text: String) {
        self.complain(step, text, self.end);
    }

    /// Says what failed where `step` gives an error, and goes on at `then`.
    fn complain(&mut self, step: Done, text: String, then: Label) {
        let label = self.complaint(step, text, then);
        self.program.on_error(step, label);
    }

    /// Where it is said what failed, with the error that `step` gave, before it goes on at `then`.
    fn complaint(&mut self, step: Done, text: String, then: Label) -> Label {
        let label = self.program.label();
        self.complaints.push(Complaint {
            label,
            text,
            error: step,
            then,
        });
        label
    }

    /// Writes to the console.
    fn say(&mut self, text: &str) {
        let place = self.program.text(text);
        let write = [2.into(), place.into(), (text.len() as u64).into()];
        self.program.call(Call::Write, &write);
    }

    /// Writes the name of an error to the console, and ends the line.
    fn say_error(&mut self, error: Done) {
        let number = [0.into(), error.into(), Value::minus(1)];
        let number = self.program.step(Operation::MultiplyAdd, &number);
        errno::say(&mut self.program, self.errors, number);
    }

    /// Goes on at `again` after a hundredth of a second, or at `given_up` when `patience` is at its
    /// end.
    fn retry(&mut self, again: Label, patience: Place, given_up: Label) {
        const NANOSECONDS: u64 = 10_000_000;
        self.program.count_down(patience, given_up);
        let time = [Word::Number(0), Word::Number(NANOSECONDS)];
        let time = self.program.words(&time);
        self.program.call(Call::Nanosleep, &[time.into(), 0.into()]);
        self.program.jump(again);
    }

    /// Opens the device at `path` for writing when it has come. Where it does not, everything ends.
    fn open_when_there(&mut self, path: &str, whose: &str) -> Done {
        let place = self.program.text(path);
        let (again, open) = (self.program.here(), self.program.label());
        let file = self.open_for_writing(place.into());
        self.program.then(file, open);
        let text = format!("no {path} for {whose} within {PATIENCE} s");
        let failed = self.complaint(file, text, self.end);
        let patience = self.patience(PATIENCE);
        self.retry(again, patience, failed);
        self.program.bind(open);
        file
    }

    fn open_for_writing(&mut self, path: Value) -> Done {
        let flags = (linux::O_WRONLY | linux::O_NOCTTY | linux::O_CLOEXEC).into();
        let open = [linux::AT_FDCWD, path, flags];
        self.program.call(Call::Openat, &open)
    }

    /// As many hundredths of a second as there are in `seconds`.
    fn patience(&mut self, seconds: u32) -> Place {
        self.program.number(u64::from(seconds) * 100)
    }
}

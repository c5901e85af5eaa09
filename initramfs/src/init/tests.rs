//! Programs that are run here: natively, and by QEMU's emulators of other processors where there
//! are some.

use super::*;
use crate::initramfs::{Command, Root, Status};
use firstlight_image::Architecture;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{self, Output, Stdio};
use tempfile::TempDir;

const ARCHITECTURES: [(Architecture, &str); 3] = [
    (Architecture::X86_64, "x86_64"),
    (Architecture::Arm64, "aarch64"),
    (Architecture::Riscv64, "riscv64"),
];

/// What a program that turns the machine off must have for its own (`unshare(1)`).
const UNSHARED: [&str; 5] = ["--mount", "--pid", "--net", "--fork", "--kill-child"];

/// What runs programs of an architecture on this machine.
#[derive(Clone)]
struct Machine {
    interpreter: Interpreter,
    /// The emulator, where one is needed.
    emulator: Option<PathBuf>,
}

/// Every machine that there is here; says which are missing.
fn machines() -> Vec<Machine> {
    let mut machines = Vec::new();
    for (architecture, name) in ARCHITECTURES {
        let interpreter = Interpreter::of(architecture).unwrap();
        let emulator = format!("qemu-{name}");
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path)
            .map(|folder| folder.join(&emulator))
            .find(|file| file.is_file());
        if std::env::consts::ARCH == name || found.is_some() {
            machines.push(Machine {
                interpreter,
                emulator: found.filter(|_| std::env::consts::ARCH != name),
            });
        } else {
            eprintln!("skipped for {architecture}: there is no {emulator} on this machine");
        }
    }
    machines
}

/// A folder with the file of a program in it, and how one runs that.
struct Stage {
    folder: TempDir,
    emulator: Option<PathBuf>,
}

impl Stage {
    fn new(machine: &Machine) -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            emulator: machine.emulator.clone(),
        }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// Writes a program that can be run at once.
    ///
    /// Another process writes it: a test that starts a program at this moment would hand a file
    /// that this one had open on to its child, and what is open for writing cannot be run.
    fn put(&self, name: &str, contents: &[u8]) -> String {
        let path = self.path(name);
        let mut install = process::Command::new("install")
            .args(["--mode=755", "/dev/stdin", &path])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        install.stdin.take().unwrap().write_all(contents).unwrap();
        assert!(install.wait().unwrap().success());
        path
    }

    /// The words that run `program`.
    fn words(&self, program: &str) -> Vec<String> {
        let emulator = self.emulator.as_deref().and_then(Path::to_str);
        emulator
            .into_iter()
            .chain([program])
            .map(str::to_owned)
            .collect()
    }

    /// Runs `program` as the first process of a system of processes and mounts of its own, which
    /// is all that it can turn off.
    fn first(&self, program: &str) -> process::Command {
        let mut command = process::Command::new("unshare");
        command
            .args(UNSHARED)
            .args(self.words(program))
            .stdin(Stdio::null());
        command
    }
}

/// Whether namespaces can be made here; they cannot be by everyone.
fn can_unshare() -> bool {
    let made = process::Command::new("unshare")
        .args(UNSHARED)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    let can = made.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: this user cannot make namespaces");
    }
    can
}

fn said(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(bytes).unwrap()
}

/// The status with which the program ends that `fill` makes.
fn status_of(machine: &Machine, fill: impl Fn(&mut Program)) -> Option<i32> {
    let mut program = Program::default();
    fill(&mut program);
    let stage = Stage::new(machine);
    let file = stage.put("program", &machine.interpreter.file(&program));
    let words = stage.words(&file);
    let mut command = process::Command::new(&words[0]);
    command.args(&words[1..]).args(["one", "two"]);
    command.status().unwrap().code()
}

fn exit(program: &mut Program, status: impl Into<Value>) {
    program.call(Call::ExitGroup, &[status.into()]);
}

#[test]
fn every_operation_gives_what_it_says() {
    let all = |program: &mut Program| {
        let large = u64::MAX - 4095;
        let number = program.number(0x1234_5678_9abc_def0);
        let contents = Value::Contents(number);
        let field = program.step(Operation::Field, &[contents, 28.into(), 0xff_ffff.into()]);
        let sum = [7.into(), 6.into(), Value::minus(3)];
        let sum = program.step(Operation::MultiplyAdd, &sum);
        let load = program.step(Operation::Load, &[number.into()]);
        let place = program.number(1);
        program.store(place, load);
        let checks = [
            (field.into(), 0x45_6789.into()),
            (sum.into(), Value::minus(11)),
            (load.into(), contents),
            (Value::Contents(place), contents),
            (large.into(), large.into()),
        ];
        for (number, (one, other)) in (1..).zip(checks) {
            let equal = program.label();
            program.if_equal(one, other, equal);
            exit(program, number);
            program.bind(equal);
        }
        let unequal = program.label();
        program.unless_equal(load, 0, unequal);
        exit(program, 99);
        program.bind(unequal);
        exit(program, 100);
    };
    for machine in machines() {
        assert_eq!(status_of(&machine, all), Some(100));
    }
}

#[test]
fn an_error_is_a_number_from_minus_4095_to_minus_1() {
    for machine in machines() {
        for (result, is_error) in [
            (0, false),
            (1, false),
            (0_u64.wrapping_sub(1), true),
            (0_u64.wrapping_sub(4095), true),
            (0_u64.wrapping_sub(4096), false),
            (1 << 63, false),
        ] {
            let status = status_of(&machine, |program| {
                let failed = program.label();
                let step = program.step(Operation::MultiplyAdd, &[result.into()]);
                program.on_error(step, failed);
                exit(program, 0);
                program.bind(failed);
                exit(program, 1);
            });
            assert_eq!(status, Some(i32::from(is_error)), "{result:#x}");
        }
    }
}

#[test]
fn a_counter_counts_down_to_its_end() {
    let count = |program: &mut Program| {
        let (counter, rounds) = (program.number(3), program.number(0));
        let end = program.label();
        let again = program.here();
        let more = [Value::Contents(rounds), 1.into(), 1.into()];
        let more = program.step(Operation::MultiplyAdd, &more);
        program.store(rounds, more);
        program.count_down(counter, end);
        program.jump(again);
        program.bind(end);
        exit(program, Value::Contents(rounds));
    };
    for machine in machines() {
        assert_eq!(status_of(&machine, count), Some(4));
    }
}

#[test]
fn the_stack_holds_the_arguments() {
    let count = |program: &mut Program| {
        let count = program.step(Operation::Load, &[Value::Stack]);
        exit(program, count);
    };
    for machine in machines() {
        assert_eq!(status_of(&machine, count), Some(3));
    }
}

#[test]
fn what_lies_behind_the_last_step_is_the_last_step() {
    for machine in machines() {
        let status = status_of(&machine, |program| {
            let end = program.label();
            program.jump(end);
            exit(program, 1);
            program.bind(end);
            exit(program, 9);
        });
        assert_eq!(status, Some(9));
    }
}

fn initramfs(then: Then, status: Status) -> Initramfs {
    Initramfs {
        modules: Vec::new(),
        root: None,
        then,
        status,
    }
}

fn command(arguments: &[&str], environment: &[&str]) -> Then {
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    Then::Run(Command {
        arguments: owned(arguments),
        environment: owned(environment),
        folder: None,
        ..Command::default()
    })
}

/// The status that a command is said to have ended with, and what was printed.
fn run(machine: &Machine, then: impl Fn(&Stage) -> Then) -> (String, String) {
    let stage = Stage::new(machine);
    let status = stage.put("status", b"");
    let initramfs = initramfs(then(&stage), Status::Device(status.clone()));
    let init = stage.put("init", &file(&initramfs, &machine.interpreter));
    let output = stage.first(&init).output().unwrap();
    (fs::read_to_string(status).unwrap(), said(&output))
}

fn run_shell(machine: &Machine, script: &str) -> (String, String) {
    run(machine, |_| command(&["sh", "-c", script], &[]))
}

fn pair(status: &str, said: &str) -> (String, String) {
    (status.to_owned(), said.to_owned())
}

#[test]
fn a_commands_status_is_handed_on() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        for status in [0, 1, 9, 10, 99, 100, 255] {
            let script = format!("echo out; exit {status}");
            let expected = pair(&format!("{status}\n"), "out\n");
            assert_eq!(run_shell(&machine, &script), expected);
        }
        assert_eq!(run_shell(&machine, "kill -9 $$"), pair("137\n", ""));
        assert_eq!(run_shell(&machine, "kill -15 $$"), pair("143\n", ""));
    }
}

#[test]
fn a_command_that_cannot_be_run_says_why() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        assert_eq!(
            run(&machine, |_| command(&["nonesuch"], &[])),
            pair("127\n", "firstlight: nonesuch: not found\n")
        );
        assert_eq!(
            run(&machine, |_| command(&["/etc/passwd/x"], &[])),
            pair("127\n", "firstlight: /etc/passwd/x: not found\n")
        );
        assert_eq!(
            run(&machine, |_| command(&["/etc/passwd"], &[])),
            pair("126\n", "firstlight: /etc/passwd: permission denied\n")
        );
        let text = |stage: &Stage| {
            stage.put("text", b"no program");
            command(&["text"], &[&format!("PATH=/nonesuch:{}", stage.path(""))])
        };
        let said = "firstlight: text: exec format error (error 8)\n";
        assert_eq!(run(&machine, text), pair("126\n", said));
    }
}

#[test]
fn a_file_that_must_not_be_run_does_not_hide_one_that_may() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        let two = |stage: &Stage| {
            fs::create_dir(stage.path("a")).unwrap();
            fs::write(stage.path("a/it"), "#!/bin/sh\nexit 1\n").unwrap();
            fs::create_dir(stage.path("b")).unwrap();
            stage.put("b/it", b"#!/bin/sh\nexit 5\n");
            let path = format!("PATH={}:{}", stage.path("a"), stage.path("b"));
            command(&["it"], &[&path])
        };
        assert_eq!(run(&machine, two), pair("5\n", ""));
    }
}

#[test]
fn a_command_has_arguments_and_an_environment() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        let script = r#"echo "$# $1 $HOME $TERM $OTHER $PATH""#;
        let arguments = ["sh", "-c", script, "sh", "a b", ""];
        let environment = ["TERM=vt100", "OTHER=x=y"];
        let said = "2 a b /root vt100 x=y \
            /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
        assert_eq!(
            run(&machine, |_| command(&arguments, &environment)),
            pair("0\n", said)
        );
    }
}

#[test]
fn a_command_has_the_console_that_it_is_given() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        let stage = Stage::new(&machine);
        let console = stage.put("console", b"typed\n");
        let with_console = |stage: &Stage| {
            let script = "read -r line; echo \"it was $line\"; echo and >&2; exit 3";
            let Then::Run(mut it) = command(&["sh", "-c", script], &[]) else {
                unreachable!("it is a command");
            };
            it.console.device = stage.path("console");
            Then::Run(it)
        };
        let status = stage.put("status", b"");
        let initramfs = initramfs(with_console(&stage), Status::Device(status.clone()));
        let init = stage.put("init", &file(&initramfs, &machine.interpreter));
        let output = stage.first(&init).output().unwrap();
        assert_eq!(said(&output), "");
        assert_eq!(fs::read_to_string(status).unwrap(), "3\n");
        // Of three that are opened, each is at its own place in the file.
        let printed = fs::read_to_string(console).unwrap();
        assert_eq!(printed, "and\nas typed\n");
    }
}

#[test]
fn what_a_command_leaves_behind_is_waited_for_and_ended() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        // The first of them ends before the command does, with another status.
        let script = "(sleep 0.1; exit 3) & (sleep 600 &) ; sleep 0.3; exit 4";
        assert_eq!(run_shell(&machine, script), pair("4\n", ""));
    }
}

#[test]
fn a_command_finds_what_systems_have() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        // In a /proc of our own, the command has another parent than it has outside.
        let script = "read -r pid rest < /proc/self/stat && test $pid -lt 10 && \
            test -d /sys/class && test -c /dev/pts/ptmx && grep -q ' /dev/shm ' /proc/mounts && \
            grep -q 'lo:' /proc/net/dev && grep -q '127.0.0.1' /proc/net/fib_trie";
        assert_eq!(run_shell(&machine, script), pair("0\n", ""));
    }
}

#[test]
fn a_device_that_does_not_come_is_said_to_be_missing() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        let stage = Stage::new(&machine);
        let status = stage.put("status", b"");
        let root = Root {
            wait_seconds: 0,
            ..Root::ext4("/dev/nonesuch")
        };
        let initramfs = Initramfs {
            root: Some(root),
            ..initramfs(command(&["true"], &[]), Status::Device(status.clone()))
        };
        let init = stage.put("init", &file(&initramfs, &machine.interpreter));
        let output = stage.first(&init).output().unwrap();
        assert_eq!(
            said(&output),
            "firstlight: no /dev/nonesuch within 0 s: no such file or directory (error 2)\n"
        );
        assert_eq!(fs::read_to_string(status).unwrap(), "125\n");
    }
}

#[test]
fn a_module_that_cannot_be_loaded_stops_nobody() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        let stage = Stage::new(&machine);
        let status = stage.put("status", b"");
        let module = Module {
            name: "nonesuch".to_owned(),
            image: Vec::new(),
            parameters: String::new(),
        };
        let initramfs = Initramfs {
            modules: vec![module],
            ..initramfs(command(&["true"], &[]), Status::Device(status.clone()))
        };
        let init = stage.put("init", &file(&initramfs, &machine.interpreter));
        let output = stage.first(&init).output().unwrap();
        assert_eq!(
            said(&output),
            "firstlight: cannot read module nonesuch: no such file or directory (error 2)\n"
        );
        assert_eq!(fs::read_to_string(status).unwrap(), "0\n");
    }
}

#[test]
fn init_gets_the_kernels_arguments_and_environment() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        let stage = Stage::new(&machine);
        let initramfs = initramfs(Then::Init("/bin/sh".to_owned()), Status::Nowhere);
        let init = stage.put("init", &file(&initramfs, &machine.interpreter));
        let mut first = stage.first(&init);
        let script = r#"echo "$$ $0 $MARK"; exit 6"#;
        first.args(["-c", script]).env("MARK", "yes");
        let output = first.output().unwrap();
        assert_eq!(output.status.code(), Some(6));
        assert_eq!(said(&output), "1 /bin/sh yes\n");
    }
}

#[test]
fn only_the_first_process_does_anything() {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        let stage = Stage::new(&machine);
        let initramfs = initramfs(command(&["true"], &[]), Status::Nowhere);
        let init = stage.put("init", &file(&initramfs, &machine.interpreter));
        // The shell is the first.
        let output = process::Command::new("unshare")
            .args(UNSHARED)
            .args(["sh", "-c", r#""$@"; exit $?"#, "sh"])
            .args(stage.words(&init))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert_eq!(
            said(&output),
            "firstlight: this is for a guest's first process only\n"
        );
    }
}

#[test]
fn the_root_is_gone_over_to() {
    tries_the_root(false, "42\n");
}

#[test]
fn a_covered_root_takes_what_is_written_and_stays_as_it_is() {
    tries_the_root(true, "43\n");
}

/// Runs a program in a root, covered or not, that tells by its status whether it can write there. The
/// disk of a guest is a layer of folders here.
fn tries_the_root(covered: bool, expected: &str) {
    if !can_unshare() {
        return;
    }
    for machine in machines() {
        // An emulator is not found any more in the new root.
        if machine.emulator.is_some() {
            continue;
        }
        let stage = Stage::new(&machine);
        for folder in [
            "firstlight",
            "firstlight/root",
            "lower",
            "lower/dev",
            "other",
        ] {
            fs::create_dir(stage.path(folder)).unwrap();
        }
        stage.put("lower/status", b"");
        stage.put("lower/there", &machine.interpreter.file(&writer()));
        let status = stage.put("status", b"");
        let initramfs = Initramfs {
            root: Some(Root {
                source: "layers".to_owned(),
                file_systems: vec!["nonesuch".to_owned(), "overlay".to_owned()],
                read_only: true,
                covered,
                options: "lowerdir=/lower:/other".to_owned(),
                wait_seconds: 0,
            }),
            ..initramfs(
                command(&["/there"], &[]),
                Status::Device("/status".to_owned()),
            )
        };
        stage.put("init", &file(&initramfs, &machine.interpreter));
        let output = process::Command::new("unshare")
            .args(UNSHARED)
            .args(["--root", stage.folder.path().to_str().unwrap(), "/init"])
            .output()
            .unwrap();
        let line = said(&output);
        if line.contains("error 19") {
            eprintln!("skipped: the host's kernel has no overlay");
            continue;
        }
        assert_eq!(line, "");
        assert_eq!(fs::read_to_string(status).unwrap(), expected);
        assert!(!Path::new(&stage.path("lower/made")).exists());
    }
}

/// A program that ends with 43 where it can make a file, with 42 where it cannot, and with 1 where it is
/// not in the root that it should be in.
fn writer() -> Program {
    const CREATE: u64 = 0o100;
    let mut program = Program::default();
    let (elsewhere, refused) = (program.label(), program.label());
    for (path, flags, failed) in [
        ("/dev/null", linux::O_RDONLY, elsewhere),
        ("/made", linux::O_WRONLY | CREATE, refused),
    ] {
        let path = program.text(path);
        let open = [linux::AT_FDCWD, path.into(), flags.into(), 0o644.into()];
        let open = program.call(Call::Openat, &open);
        program.on_error(open, failed);
    }
    exit(&mut program, 43);
    program.bind(refused);
    exit(&mut program, 42);
    program.bind(elsewhere);
    exit(&mut program, 1);
    program
}

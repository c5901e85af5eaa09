//! Tests of what archives hold, and of what cannot be made.

use super::*;

fn sample() -> Initramfs {
    let module = |name: &str| Module {
        name: name.to_owned(),
        image: name.as_bytes().to_vec(),
        parameters: String::new(),
    };
    Initramfs {
        modules: vec![module("virtio"), module("virtio_blk")],
        root: Some(Root::ext4("/dev/vda")),
        then: Then::Run(Command {
            arguments: vec!["true".to_owned()],
            environment: vec!["A=b".to_owned()],
            folder: None,
            console: Console::default(),
        }),
        status: Status::Port("org.firstlight.status".to_owned()),
    }
}

/// The names in an archive, and the sizes of the files.
fn listing(archive: &[u8]) -> Vec<(String, usize)> {
    let mut at = 0;
    let mut entries = Vec::new();
    loop {
        let field = |number: usize| {
            let text = &archive[at + 6 + number * 8..][..8];
            usize::from_str_radix(str::from_utf8(text).unwrap(), 16).unwrap()
        };
        let (size, name_size) = (field(6), field(11));
        let name = &archive[at + 110..][..name_size - 1];
        let name = str::from_utf8(name).unwrap().to_owned();
        if name == "TRAILER!!!" {
            return entries;
        }
        at = (at + 110 + name_size).next_multiple_of(4) + size.next_multiple_of(4);
        entries.push((name, size));
    }
}

fn refusal(change: impl FnOnce(&mut Initramfs)) -> String {
    let mut initramfs = sample();
    change(&mut initramfs);
    let error = initramfs.build(Architecture::X86_64).unwrap_err();
    error.to_string()
}

#[test]
fn all_files_lie_in_our_folder() {
    for architecture in [
        Architecture::X86_64,
        Architecture::Arm64,
        Architecture::Riscv64,
    ] {
        let entries = listing(&sample().build(architecture).unwrap());
        let (names, sizes): (Vec<String>, Vec<usize>) = entries.into_iter().unzip();
        assert_eq!(
            names,
            [
                "firstlight",
                "firstlight/init",
                "firstlight/root",
                "firstlight/modules",
                "firstlight/modules/virtio.ko",
                "firstlight/modules/virtio_blk.ko",
            ]
        );
        assert_eq!(sizes[4..], [6, 10]);
        // No more than a message of a few lines takes, and a table or two.
        assert!(sizes[1] < 64 << 10, "{}", sizes[1]);
    }
}

#[test]
fn the_same_wishes_make_the_same_archive() {
    let build = || sample().build(Architecture::Arm64).unwrap();
    assert_eq!(build(), build());
}

#[test]
fn an_architecture_without_an_init_is_named() {
    let error = sample().build(Architecture::Loongarch64).unwrap_err();
    assert_eq!(error.to_string(), "there is no initramfs for loongarch64");
}

#[test]
fn a_debug_exit_port_is_for_x86() {
    let mut initramfs = sample();
    initramfs.status = Status::DebugExit;
    initramfs.build(Architecture::X86_64).unwrap();
    let error = initramfs.build(Architecture::Riscv64).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a machine for riscv64 has no debug-exit port"
    );
}

#[test]
fn an_archive_is_as_long_for_any_console() {
    let archive = |console| {
        let mut it = sample();
        if let Then::Run(command) = &mut it.then {
            command.console = console;
        }
        it.build(Architecture::X86_64).unwrap()
    };
    let (input, output) = (Peer::File, Peer::File);
    let (terminal, files) = (
        archive(Console::default()),
        archive(Console {
            input,
            output,
            ..Console::default()
        }),
    );
    assert_ne!(terminal, files);
    assert_eq!(terminal.len(), files.len());
}

#[test]
fn what_cannot_be_done_is_refused() {
    let nul = |text: &str| format!("{text:?} holds a NUL, where texts in a guest end");
    let command = |words: &[&str]| {
        Then::Run(Command {
            arguments: words.iter().map(ToString::to_string).collect(),
            ..Command::default()
        })
    };
    assert_eq!(
        refusal(|it| it.then = command(&[])),
        "the command has no name"
    );
    assert_eq!(
        refusal(|it| it.then = command(&[""])),
        "the command has no name"
    );
    assert_eq!(refusal(|it| it.then = command(&["a", "b\0c"])), nul("b\0c"));
    assert_eq!(
        refusal(|it| it.then = Then::Init("/sbin/\0".to_owned())),
        nul("/sbin/\0")
    );
    assert_eq!(
        refusal(|it| it.root = Some(Root::ext4("/dev/\0"))),
        nul("/dev/\0")
    );
    assert_eq!(
        refusal(|it| it.status = Status::Device("\0".to_owned())),
        nul("\0")
    );
    assert_eq!(
        refusal(|it| it.modules[0].name = "../init".to_owned()),
        r#"a module cannot have the name "../init""#
    );
    let long = "n".repeat(129);
    assert_eq!(
        refusal(|it| it.status = Status::Port(long.clone())),
        format!("the port's name {long:?} is longer than 128 bytes")
    );
    let no_kinds = Root {
        file_systems: Vec::new(),
        ..Root::ext4("/dev/vda")
    };
    assert_eq!(
        refusal(|it| it.root = Some(no_kinds)),
        "the root /dev/vda has no file system"
    );
}

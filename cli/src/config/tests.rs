//! What files set, what the command line sets instead, and what is refused.

use super::*;
use crate::args::Verb;
use std::fs;
use std::path::PathBuf;

/// A folder with a configuration, gone with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("firstlight-config-{name}-{}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    fn write(&self, file: &str, text: &str) -> String {
        let path = self.0.join(file);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is a temporary file.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn parsed(words: &[&str]) -> Result<Cli, Refusal> {
    let words = ["firstlight"].iter().chain(words);
    parse(words.map(OsString::from).collect())
}

fn boot(words: &[&str]) -> crate::args::BootArgs {
    match parsed(words).unwrap().verb {
        Verb::Boot(boot) => boot,
        other => panic!("not a boot: {other:?}"),
    }
}

/// What is said of a file with this text, behind its name.
fn refused(name: &str, file: &str, text: &str) -> String {
    let folder = Folder::new(name);
    let path = folder.write(file, text);
    match parsed(&["boot", "--config", &path]) {
        Err(Refusal::File(failure)) => {
            assert_eq!(failure.status(), ExitStatus::Usage);
            let told = failure.to_string();
            let told = told.strip_prefix("error: ").unwrap();
            told.strip_prefix(&path).unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

const TOML: &str = r#"
#:schema ./config.schema.json
kernel = "vmlinuz"
memory = "1G"   # bytes: 0x4000_0000
cpus = 2
timeout = 1.5
no-reboot = true
exit-from-guest = false
load-address = 0x100_0000
reserve = ["1M-2M", "4M+1M"]
module = "xen=dom0"
cmdline = "-- init"
protocol = "pvh"
"#;

const JSON: &str = r#"{
    "$schema": "config.schema.json",
    "kernel": "vmlinuz", "memory": 1073741824, "cpus": 2,
    "timeout": 1.5, "no-reboot": true, "exit-from-guest": false,
    "load-address": "16M", "reserve": ["1M-2M", "4M+1M"],
    "module": ["xen=dom0"], "cmdline": "-- init", "protocol": "pvh"
}"#;

#[test]
fn both_languages_set_what_the_command_line_would() {
    let folder = Folder::new("both");
    // What has no extension is known by its first character.
    for (file, text) in [
        ("vm.toml", TOML),
        ("vm.json", JSON),
        ("a", TOML),
        ("b", JSON),
    ] {
        let path = folder.write(file, &format!("\u{feff}{text}"));
        let args = boot(&["boot", "--config", &path]);
        let kernel = folder.path("vmlinuz");
        let module = format!("{}", folder.path("xen").display());
        let words = [
            "boot",
            kernel.to_str().unwrap(),
            "--memory=1G",
            "--cpus=2",
            "--timeout=1.5",
            "--no-reboot",
            "--load-address=0x1000000",
            "--reserve=1M-2M",
            "--reserve=4M+1M",
            &format!("--module={module}=dom0"),
            "--cmdline=-- init",
            "--protocol=pvh",
        ];
        let typed = boot(&words);
        assert_eq!(args.guest.kernel(), typed.guest.kernel());
        assert_eq!(args.guest.memory, typed.guest.memory);
        assert_eq!(args.guest.cpus, typed.guest.cpus);
        assert_eq!(args.timeout(), typed.timeout());
        assert_eq!((args.no_reboot, args.exit_from_guest), (true, false));
        assert_eq!(args.guest.load_address, typed.guest.load_address);
        assert_eq!(args.guest.reserve, typed.guest.reserve);
        assert_eq!(args.guest.modules, typed.guest.modules);
        assert_eq!(args.guest.protocol(), typed.guest.protocol());
    }
}

#[test]
fn what_is_typed_counts_wherever_it_stands_and_replaces_whole_lists() {
    let folder = Folder::new("typed");
    let path = folder.write("vm.toml", TOML);
    let typed = ["--memory=2G", "--reserve=8M-9M"];
    for words in [
        ["boot", "--config", &path, typed[0], typed[1]],
        ["boot", typed[0], typed[1], "--config", &path],
    ] {
        let args = boot(&words);
        assert_eq!((args.guest.memory, args.guest.cpus), (2 << 30, 2));
        assert_eq!(args.guest.reserve.len(), 1);
    }
    // A default is not typed.
    assert_eq!(boot(&["boot", "--config", &path]).guest.memory, 1 << 30);
}

#[test]
fn a_typed_kernel_takes_the_place_of_the_files() {
    let folder = Folder::new("kernel");
    let path = folder.write("vm.toml", TOML);
    for words in [
        ["boot", "--config", &path, "other"].as_slice(),
        &["-v", "boot", "other", "--config", &path],
        &["boot", "--kernel", "other", "--config", &path],
    ] {
        assert_eq!(boot(words).guest.kernel(), Path::new("other"));
    }
    let path = folder.write("quiet.toml", "kernel = \"k\"\nquiet = true");
    assert!(boot(&["boot", "--config", &path]).quiet);
    assert!(!boot(&["-v", "boot", "--config", &path]).quiet);
}

#[test]
fn other_commands_take_what_they_know() {
    let folder = Folder::new("others");
    let path = folder.write("vm.toml", TOML);
    let Verb::Plan(plan) = parsed(&["plan", "--config", &path]).unwrap().verb else {
        panic!("no plan");
    };
    assert_eq!(plan.guest.memory, 1 << 30);
    let words = ["diff", "old", "new", "--config", &path];
    let Verb::Diff(diff) = parsed(&words).unwrap().verb else {
        panic!("no comparison");
    };
    assert_eq!(diff.guest.kernel(), Path::new("old"));
    assert_eq!(diff.after().kernel(), Path::new("new"));
    assert_eq!(diff.after().cpus, 2);
    let path = folder.write("none.toml", "");
    assert!(matches!(
        parsed(&["plan", "--config", &path]),
        Err(Refusal::Usage(_))
    ));
}

#[test]
fn the_last_of_two_files_counts() {
    let folder = Folder::new("two");
    let one = folder.write("one.toml", "kernel = 'a'\ncpus = 3");
    let two = folder.write("two.toml", "kernel = 'b'");
    let args = boot(&["boot", "--config", &one, "--config", &two]);
    assert_eq!(args.guest.kernel(), &folder.path("b"));
    assert_eq!(args.guest.cpus, 1);
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_what_may_be_meant() {
    for (file, text, told) in [
        (
            "vm.toml",
            "cpus = 1\nmemry = 5",
            ":2: there is no option \"memry\"; did you mean \"memory\"?",
        ),
        (
            "vm.json",
            "{\n\n\"dump_dtb\":\n1}",
            ":4: there is no option \"dump_dtb\"; did you mean \"dump-dtb\"?",
        ),
        (
            "vm.toml",
            "[boot]\ncpus = 1",
            ":1: there is no option \"boot\"",
        ),
        (
            "vm.toml",
            "config = 'x'",
            ":1: there is no option \"config\"",
        ),
        ("vm.toml", "help = true", ":1: there is no option \"help\""),
        ("vm.toml", "\"\" = true", ":1: there is no option \"\""),
        (
            "vm.toml",
            "\"a b=c\" = true",
            ":1: there is no option \"a b=c\"",
        ),
        ("vm.toml", "k = 'vmlinuz'", ":1: there is no option \"k\""),
    ] {
        let said = refused("unknown", file, text);
        assert!(said.starts_with(told), "{text}: {said}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_told_with_what_is_wanted() {
    for (text, told) in [
        (
            "cpus = '2'",
            ":1: \"cpus\" wants a whole number, and this is a string",
        ),
        (
            "cpus = 1.5",
            ":1: \"cpus\" wants a whole number, and this is a number",
        ),
        (
            "cpus = [1, 2]",
            ":1: \"cpus\" wants a whole number, and this is a list",
        ),
        (
            "no-reboot = 1",
            ":1: \"no-reboot\" wants true or false, and this is a whole number",
        ),
        (
            "memory = true",
            ":1: \"memory\" wants a whole number, or a string, and this is true or false",
        ),
        (
            "\n\nreserve = [1]",
            ":3: \"reserve\" wants a string, or a list of such, and this is a whole number",
        ),
        (
            "kernel = { a = 1 }",
            ":1: \"kernel\" wants a string, and this is a table",
        ),
        (
            "kernel.path = 'a'",
            ":1: \"kernel\" wants a string, and this is a table",
        ),
        (
            "kernel = 1979-05-27",
            ":1: \"kernel\" wants a string, and this is a date or time",
        ),
    ] {
        assert_eq!(refused("kinds", "vm.toml", text), told);
    }
    let null = refused("kinds", "vm.json", "{\"kernel\": null}");
    assert_eq!(null, ":1: \"kernel\" wants a string, and this is null");
}

#[test]
fn a_value_that_its_option_refuses_is_told_with_its_line() {
    for (text, told) in [
        (
            "\nmemory = 0",
            ":2: invalid value '0' for '--memory <SIZE>': a guest without memory cannot run",
        ),
        ("cpus = -1", ":1: invalid value '-1' for '--cpus <N>'"),
        (
            "timeout = nan",
            ":1: invalid value 'nan' for '--timeout <SECONDS>'",
        ),
        (
            "protocol = 'pxh'",
            ":1: invalid value 'pxh' for '--protocol <PROTOCOL>'\n  [possible values: auto",
        ),
        (
            "reserve = ['1M-2M', '3']",
            ":1: invalid value '3' for '--reserve <RANGE>'",
        ),
        ("cpus = 99999999999999999999999999", ":1: "),
        (
            "cpu-affinity = '0=x'",
            ":1: invalid value '0=x' for '--cpu-affinity <CPUS>'",
        ),
    ] {
        let said = refused("values", "vm.toml", text);
        assert!(said.starts_with(told), "{text}: {said}");
        assert!(!said.contains("--help"), "{said}");
    }
}

#[test]
fn a_key_that_is_set_twice_and_what_is_neither_language_are_told_with_their_line() {
    for (file, text, told) in [
        (
            "vm.json",
            "{\"cpus\": 1,\n\"cpus\": 2}",
            ":2: \"cpus\" was set in line 1 already",
        ),
        (
            "vm.toml",
            "cpus = 1\ncpus = 2",
            ":2: this is no TOML: duplicate key",
        ),
        ("vm.toml", "cpus = 1\n{", ":2: this is no TOML: "),
        (
            "vm.json",
            "{\n\"cpus\": }",
            ":2: this is no JSON: expected value",
        ),
        (
            "vm.json",
            "[]",
            ":1: this is no JSON: invalid type: sequence, expected an object of options",
        ),
        (
            "vm.json",
            "{} {}",
            ":1: this is no JSON: trailing characters",
        ),
        ("vm.json", "", ":1: this is no JSON: "),
    ] {
        let said = refused("twice", file, text);
        assert!(said.starts_with(told), "{text}: {said}");
    }
    let deep = format!("kernel = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused("deep", "vm.toml", &deep).starts_with(":1: this is no TOML"));
    let deep = format!(
        "{{\"kernel\": {}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(refused("deep", "vm.json", &deep).starts_with(":1: "));
}

#[test]
fn what_is_no_text_file_is_refused() {
    let folder = Folder::new("files");
    let status = |path: &Path| match parsed(&["boot", "--config", path.to_str().unwrap()]) {
        Err(Refusal::File(failure)) => (failure.status(), failure.to_string()),
        other => panic!("{other:?}"),
    };
    let (code, text) = status(&folder.0);
    assert_eq!(code, ExitStatus::Usage);
    assert!(text.contains("is a directory"), "{text}");
    let (code, text) = status(&folder.path("missing"));
    assert_eq!(code, ExitStatus::Host);
    assert!(text.contains("cannot open the configuration"), "{text}");
    fs::write(folder.path("binary"), b"cpus\xff").unwrap();
    let (code, text) = status(&folder.path("binary"));
    assert_eq!(code, ExitStatus::Usage);
    assert!(text.contains("byte 4 is no UTF-8"), "{text}");
    fs::write(folder.path("long"), vec![b'#'; 2 << 20]).unwrap();
    let (code, text) = status(&folder.path("long"));
    assert_eq!(code, ExitStatus::Usage);
    assert!(text.contains("2097152 bytes"), "{text}");
}

#[test]
fn what_the_documentation_shows_is_understood() {
    let document = include_str!("../../../docs/config.md");
    let folder = Folder::new("document");
    for language in ["toml", "json"] {
        let (_, rest) = document.split_once(&format!("```{language}\n")).unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let path = folder.write(&format!("vm.{language}"), text);
        let args = boot(&["boot", "--config", &path]);
        assert_eq!((args.guest.memory, args.guest.cpus), (1 << 30, 4));
    }
}

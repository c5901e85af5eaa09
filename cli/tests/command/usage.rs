//! The command line itself: what is understood, what is not, and what is told about it.

use crate::kernels::vmlinuz;
use crate::run::{file, firstlight, folder, program, run};
use std::fs;
use std::io::Read;
use std::process::Stdio;

#[test]
fn an_unknown_option_is_wrong_usage_with_a_suggestion() {
    let run = firstlight(&["plan", "kernel", "--formt", "json"]);
    run.failed_with(2, &["--formt", "similar argument exists: '--format'"]);
}

#[test]
fn a_missing_kernel_is_wrong_usage() {
    for verb in ["inspect", "plan", "boot"] {
        firstlight(&[verb]).failed_with(2, &["required", "Usage"]);
    }
}

#[test]
fn two_kernels_are_one_too_many() {
    firstlight(&["boot", "a", "--kernel", "b"]).failed_with(2, &["cannot be used with"]);
}

#[test]
fn help_and_version_are_what_was_asked_for() {
    let help = firstlight(&["boot", "--help"]).succeeded();
    for line in [
        "--timeout",
        "Exit status:",
        "34  the guest's kernel panicked",
    ] {
        assert!(help.contains(line), "{line:?} is missing: {help}");
    }
    let version = firstlight(&["--version"]).succeeded();
    assert_eq!(
        version,
        format!("firstlight {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = firstlight(&["completions", shell]).succeeded();
        assert!(script.contains("boot-watchdog"), "{shell}");
    }
    let page = firstlight(&["man"]).succeeded();
    assert!(page.contains(".TH firstlight 1"), "{page}");
    let page = firstlight(&["man", "boot"]).succeeded();
    assert!(page.contains(".TH firstlight-boot 1"), "{page}");
    assert!(page.contains("Exit status"), "{page}");
    firstlight(&["man", "nothing"]).failed_with(2, &["nothing"]);
}

#[test]
fn nothing_is_coloured_when_nobody_looks() {
    let path = file("colours", &vmlinuz().build());
    for words in [
        ["inspect", &path],
        ["plan", &path],
        ["boot", "--help"],
        ["plan", "--nonsense"],
    ] {
        let run = firstlight(&words);
        assert!(
            !run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'),
            "{run:#?}"
        );
    }
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let path = file("broken_pipe", &vmlinuz().build());
    for format in ["text", "json", "svg"] {
        let (reader, writer) = std::io::pipe().expect("a pipe is to be had");
        drop(reader);
        let mut command = program();
        command
            .args(["plan", &path, "--format", format])
            .stdout(writer);
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let status = child.wait().expect("it is our child");
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("it was asked for");
        pipe.read_to_string(&mut stderr).expect("UTF-8");
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{format}");
    }
}

#[test]
fn a_full_disk_is_the_hosts_failure() {
    let path = file("full", &vmlinuz().build());
    let run = firstlight(&["plan", &path, "--output", "/dev/full"]);
    run.failed_with(1, &["cannot write /dev/full", "No space"]);
}

#[test]
fn a_plan_can_be_written_to_a_file() {
    let path = file("output", &vmlinuz().build());
    let output = folder("output_svg").join("plan.svg");
    let words = ["plan", &path, "--format", "svg", "-o"];
    let mut command = program();
    command.args(words).arg(&output);
    assert_eq!(run(command).succeeded(), "");
    let picture = fs::read_to_string(&output).expect("it was written");
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
}

#[test]
fn steps_are_told_when_asked_for() {
    let path = file("verbose", &vmlinuz().build());
    let run = firstlight(&["-v", "inspect", &path]);
    assert_eq!(run.status, Some(0), "{run:#?}");
    for step in ["reading", "unpacking"] {
        let line = run.stderr.lines().find(|line| line.contains(step));
        assert!(line.is_some_and(|line| line.ends_with(" ms")), "{run:#?}");
    }
}

#[test]
fn a_file_name_cannot_speak_to_the_terminal() {
    let run = firstlight(&["inspect", "/no/\x1b[31mred"]);
    run.failed_with(1, &["/no/\\u{1b}[31mred"]);
    assert!(!run.stderr.contains('\x1b'), "{run:#?}");
}

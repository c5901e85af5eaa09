//! Tests of the archive writer.

use super::*;
use std::io::Write;
use std::process::{Command, Stdio};

fn sample() -> Vec<u8> {
    let mut archive = Archive::new();
    archive.folder("dev");
    archive.character_device("dev/console", 5, 1);
    archive.program("init", b"#!/bin/sh\n");
    archive.file("note", b"odd");
    archive.link("sh", "bin/busybox");
    archive.finish().unwrap()
}

#[test]
fn every_record_begins_at_a_multiple_of_four() {
    let bytes = sample();
    assert_eq!(bytes.len() % 4, 0);
    let begins: Vec<usize> = (0..bytes.len() - 6)
        .filter(|&at| &bytes[at..at + 6] == b"070701")
        .collect();
    assert_eq!(begins.len(), 6);
    assert!(begins.iter().all(|at| at % 4 == 0), "{begins:?}");
}

#[test]
fn a_file_is_laid_out_as_the_format_says() {
    let mut archive = Archive::new();
    archive.file("note", b"odd");
    let bytes = archive.finish().unwrap();
    let header = "070701\
        00000001000081A400000000000000000000000100000000000000030000000000000000\
        00000000000000000000000500000000";
    assert_eq!(&bytes[..110], header.as_bytes());
    assert_eq!(&bytes[110..120], b"note\0\0odd\0");
}

#[test]
fn the_cpio_tool_reads_the_same() {
    let Ok(mut cpio) = Command::new("cpio")
        .args(["--list", "--verbose", "--quiet", "--numeric-uid-gid"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    else {
        eprintln!("skipped: there is no cpio on this machine");
        return;
    };
    cpio.stdin.take().unwrap().write_all(&sample()).unwrap();
    let output = cpio.wait_with_output().unwrap();
    assert!(output.status.success());
    let listing = String::from_utf8(output.stdout).unwrap();
    let seen: Vec<Vec<&str>> = listing
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let modes: Vec<&str> = seen.iter().map(|words| words[0]).collect();
    assert_eq!(
        modes,
        [
            "drwxr-xr-x",
            "crw-------",
            "-rwxr-xr-x",
            "-rw-r--r--",
            "lrwxrwxrwx"
        ]
    );
    assert_eq!(seen[1][4..6], ["5,", "1"]);
    assert_eq!(seen[2][4], "10");
    assert_eq!(seen[4][8..], ["sh", "->", "bin/busybox"]);
}

fn refusal(fill: impl FnOnce(&mut Archive)) -> ArchiveError {
    let mut archive = Archive::new();
    archive.folder("before");
    fill(&mut archive);
    archive.folder("behind");
    archive.finish().unwrap_err()
}

#[test]
fn a_file_of_4_gib_is_refused() {
    // None of its pages is ever touched.
    let large = vec![0_u8; 1 << 32];
    let path = "large".to_owned();
    let len = large.len();
    assert_eq!(
        refusal(|archive| archive.file("large", &large)),
        ArchiveError::LargeFile { path, len }
    );
}

#[test]
fn a_name_with_a_nul_is_refused_wherever_it_stands() {
    let text = "a\0b".to_owned();
    let nul = ArchiveError::Nul { text };
    assert_eq!(refusal(|archive| archive.folder("a\0b")), nul);
    assert_eq!(refusal(|archive| archive.file("a\0b", b"")), nul);
    assert_eq!(refusal(|archive| archive.link("sh", "a\0b")), nul);
}

#[test]
fn a_name_that_the_kernel_would_skip_is_refused() {
    let name = "n".repeat(4095);
    let mut archive = Archive::new();
    archive.folder(&name);
    archive.finish().unwrap();
    let long = format!("{name}n");
    let refused = refusal(|archive| archive.folder(&long));
    assert!(
        matches!(refused, ArchiveError::LongName { len: 4096, .. }),
        "{refused}"
    );
}

#[test]
fn the_first_error_is_the_one_that_is_told() {
    let refused = refusal(|archive| {
        archive.folder("a\0");
        archive.folder("b\0");
    });
    assert_eq!(
        refused.to_string(),
        r#""a\0" holds a NUL, where names in an archive end"#
    );
}

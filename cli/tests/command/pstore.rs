//! Crash logs: where they lie, what is refused, and what is shown of those that hold nothing.

use crate::boot::engines;
use crate::kernels::vmlinux;
use crate::run::{file, firstlight, folder};
use std::fs;
use std::path::Path;

#[test]
fn a_plan_keeps_everything_off_it_and_the_kernel_is_told() {
    let kernel = file("pstore_plan", &vmlinux().build());
    let log = file("pstore_plan_log,x", &vec![0; 0x2_0000]);
    let typed = log.replace(',', ",,");
    let told = |mem_size: &str, at: &str| {
        format!("ramoops.mem_address={at} ramoops.mem_size={mem_size} ramoops.mem_type=0x2")
    };
    let plan = |options: &[&str]| {
        let words = [&["plan", "--format", "json", &kernel], options].concat();
        firstlight(&words).succeeded()
    };
    let of_file = plan(&["--pstore", &typed]);
    assert!(
        of_file.contains(&told("0x20000", "0x1ffe0000")),
        "{of_file}"
    );
    let with_size = format!("{typed},size=1M");
    let larger = plan(&["--memory", "256M", "--pstore", &with_size]);
    assert!(larger.contains(&told("0x100000", "0xff00000")), "{larger}");
    let (_, from_there) = larger
        .rsplit_once("\"start\": \"0xff00000\"")
        .expect("it is in e820");
    assert!(from_there.contains("\"kind\": \"reserved\""), "{larger}");
}

#[test]
fn what_is_no_crash_log_is_refused_and_stays_as_it_is() {
    let kernel = file("pstore_refused", &vmlinux().build());
    let letter = file("pstore_letter", b"a letter");
    for engine in engines("pstore_refused") {
        let boot = ["boot", "--quiet", "--timeout", "20", "--engine", engine];
        let refused = |log: &str, status, words: &[&str]| {
            let words_of_boot = [&boot[..], &[&kernel, "--pstore", log]].concat();
            firstlight(&words_of_boot).failed_with(status, words);
        };
        refused(&letter, 2, &[&letter, "a power of two"]);
        let sized = format!("{letter},size=64K");
        refused(&sized, 2, &[&letter, "0x8 bytes", "0x10000"]);
        refused("/dev/null", 2, &["/dev/null is no file"]);
        refused("/no/log", 1, &["cannot open the crash log /no/log"]);
        refused("log,size=100M", 2, &["0x6400000 bytes"]);
    }
    assert_eq!(fs::read(letter).expect("it is there"), b"a letter");
}

#[test]
fn a_log_that_nobody_died_for_is_empty() {
    let log = file("pstore_empty", &vec![0; 0x1_0000]);
    let shown = firstlight(&["pstore", &log]);
    assert!(
        shown.stderr.contains("nothing was left behind"),
        "{shown:?}"
    );
    assert_eq!((shown.status, shown.stdout.as_str()), (Some(0), ""));
    let json = firstlight(&["pstore", &log, "--format", "json"]).succeeded();
    let expected = "{\n  \"records\": [],\n  \"schema\": \"firstlight.pstore/1\"\n}\n";
    assert_eq!(json, expected);
}

#[test]
fn what_cannot_be_shown_is_said_to_be_so() {
    let log = file("pstore_short", b"short");
    firstlight(&["pstore", &log]).failed_with(2, &[&log, "is no crash log"]);
    let nowhere = folder("pstore_nowhere").join("log");
    let nowhere = nowhere.to_str().expect("it is text");
    assert!(!Path::new(nowhere).exists());
    firstlight(&["pstore", nowhere]).failed_with(1, &["cannot read", "No such file"]);
}

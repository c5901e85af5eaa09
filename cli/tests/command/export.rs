//! Exported boots, compared boots, and what they say where they cannot be.

use crate::kernels::{vmlinux, vmlinuz};
use crate::run::{file, firstlight, folder};
use std::fs;
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("names of this project are UTF-8")
}

#[test]
fn a_packed_kernel_is_a_pvh_kernel_that_can_be_planned() {
    let kernel = file("export-pvh-kernel", &vmlinuz().build());
    let output = folder("export-pvh").join("packed");
    for unpack in ["host", "guest"] {
        let words = ["export", "--format", "pvh-elf", "--unpack", unpack, &kernel];
        let run = firstlight(&[&words[..], &["--output", text(&output)]].concat());
        assert_eq!(run.succeeded(), "");
        let plan = firstlight(&["plan", "--protocol", "pvh", text(&output)]).succeeded();
        assert!(plan.contains("entered by    pvh"), "{plan}");
        let written = fs::read_dir(output.parent().expect("a folder")).expect("it is there");
        assert_eq!(written.count(), 1, "nothing is left beside it");
    }
}

#[test]
fn an_igvm_file_is_one_and_a_rom_has_64_kib() {
    let kernel = file("export-others-kernel", &vmlinuz().build());
    let output = folder("export-others").join("out");
    let export = |format| {
        let words = ["export", "--format", format, &kernel, "-o", text(&output)];
        assert_eq!(firstlight(&words).succeeded(), "");
        fs::read(&output).expect("it has been written")
    };
    assert!(export("igvm").starts_with(b"IGVM"));
    assert_eq!(export("rom").len(), 0x1_0000);
}

#[test]
fn what_says_nothing_about_a_packed_kernel_is_refused() {
    let kernel = file("export-protocol", &vmlinuz().build());
    let words = ["export", "--format", "pvh-elf", "-o", "unused", &kernel];
    let run = firstlight(&[&words[..], &["--protocol", "linux64"]].concat());
    run.failed_with(2, &["--protocol linux64"]);
}

#[test]
fn a_file_that_cannot_be_written_is_told_as_the_hosts_failure() {
    let kernel = file("export-nowhere", &vmlinuz().build());
    let nowhere = folder("export-nowhere-folder").join("missing").join("out");
    let words = ["export", "--format", "rom", &kernel, "-o", text(&nowhere)];
    firstlight(&words).failed_with(1, &["cannot write", text(&nowhere)]);
}

#[test]
fn a_kernel_does_not_differ_from_itself() {
    let kernel = file("diff-same", &vmlinuz().build());
    let told = firstlight(&["diff", &kernel, &kernel]).succeeded();
    assert_eq!(told, "Both boot in the same way.\n");
    let json = firstlight(&["diff", "--format", "json", &kernel, &kernel]).succeeded();
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["schema"], "firstlight.diff/1");
    assert_eq!(json["same"], true);
}

#[test]
fn the_first_of_two_kernels_is_the_one_before() {
    let first = file("diff-first", &vmlinuz().build());
    let second = file("diff-second", &vmlinux().build());
    let told = firstlight(&["diff", &first, &second]).succeeded();
    let lines = ["- bzImage 2.15", "+ ELF64 x86-64"];
    assert!(lines.iter().all(|line| told.contains(line)), "{told}");
}

#[test]
fn modules_are_refused_where_the_way_in_hands_over_none() {
    let kernel = file("module-kernel", &vmlinuz().build());
    let module = format!("{}=quiet", file("module-file", b"module"));
    let run = firstlight(&["plan", &kernel, "--module", &module]);
    run.failed_with(4, &["linux64", "modules"]);
    let run = firstlight(&["plan", &kernel, "--module", "/no/such/file"]);
    run.failed_with(1, &["cannot open the module /no/such/file"]);
}

//! Configurations: options from a file, and what is told where something is wrong with it.

use crate::kernels::{vmlinux, vmlinuz};
use crate::run::{firstlight, folder};
use firstlight_image::testing::arm64_image;
use std::fs;
use std::path::PathBuf;

/// A folder with a kernel and a configuration.
fn guest(name: &str, file: &str, text: &str) -> (PathBuf, String) {
    let folder = folder(name);
    fs::write(folder.join("vmlinuz"), vmlinuz().build()).expect("the folder is ours");
    let path = folder.join(file);
    fs::write(&path, text).expect("the folder is ours");
    let path = path.to_str().expect("names of this project are UTF-8");
    (folder.clone(), path.to_owned())
}

#[test]
fn a_plan_from_a_file_is_that_of_the_same_words() {
    let text = "kernel = 'vmlinuz'\nmemory = '64M'\ncpus = 3\ntimeout = 9\nreserve = '1M-2M'\n";
    let (folder, path) = guest("config_plan", "vm.toml", text);
    let kernel = folder.join("vmlinuz");
    let kernel = kernel.to_str().expect("names of this project are UTF-8");
    let typed = [
        "plan",
        kernel,
        "--memory=64M",
        "--cpus=3",
        "--reserve=1M-2M",
    ];
    let typed = firstlight(&typed).succeeded();
    let from_file = firstlight(&["plan", "--config", &path]).succeeded();
    assert_eq!(from_file, typed);
    let other = firstlight(&["plan", "--config", &path, "--cpus", "4"]).succeeded();
    assert_ne!(other, typed);
}

#[test]
fn json_is_understood_too() {
    let text = r#"{ "kernel": "vmlinuz", "memory": 67108864, "$schema": "x" }"#;
    let (_, path) = guest("config_json", "vm.json", text);
    let plan = firstlight(&["plan", "--config", &path, "--format", "json"]).succeeded();
    assert!(plan.contains("firstlight.plan/1"), "{plan}");
}

#[test]
fn what_is_wrong_with_a_file_is_wrong_usage_and_told_with_its_line() {
    for (name, file, text, words) in [
        (
            "config_key",
            "vm.toml",
            "kernel = 'vmlinuz'\nmemry = '1G'",
            ["vm.toml:2: ", "did you mean \"memory\"?"],
        ),
        (
            "config_kind",
            "vm.json",
            "{\n\"cpus\": \"2\"}",
            ["vm.json:2: ", "wants a whole number"],
        ),
        (
            "config_value",
            "vm.toml",
            "memory = 5000",
            ["vm.toml:1: ", "multiple of 4096"],
        ),
        (
            "config_text",
            "vm.toml",
            "kernel",
            ["vm.toml:1: ", "no TOML"],
        ),
        ("config_text", "vm.json", "{", ["vm.json:1: ", "no JSON"]),
    ] {
        let (_, path) = guest(name, file, text);
        for verb in ["plan", "boot"] {
            firstlight(&[verb, "--config", &path]).failed_with(2, &words);
        }
    }
}

#[test]
fn a_file_without_a_kernel_does_not_name_one() {
    let (_, path) = guest("config_none", "vm.toml", "memory = '1G'");
    for verb in ["plan", "boot"] {
        firstlight(&[verb, "--config", &path]).failed_with(2, &["required", "<FILE>"]);
    }
}

#[test]
fn a_configuration_is_a_file_that_is_there() {
    let run = firstlight(&["boot", "--config", "/does/not/exist"]);
    run.failed_with(1, &["configuration /does/not/exist", "No such file"]);
    for (path, is) in [("/", "a directory"), ("/dev/zero", "a character device")] {
        firstlight(&["boot", "--config", path]).failed_with(2, &[path, is, "configuration"]);
    }
}

#[test]
fn a_key_cannot_speak_to_the_terminal() {
    let (_, path) = guest("config_escape", "vm.toml", "\"\\u001b[31m\" = 1");
    let run = firstlight(&["boot", "--config", &path]);
    run.failed_with(2, &["there is no option"]);
    assert!(!run.stderr.contains('\x1b'), "{run:#?}");
}

#[test]
fn the_schema_is_the_published_one() {
    let schema = firstlight(&["config-schema"]).succeeded();
    assert!(schema == include_str!("../../../docs/config.schema.json"));
}

#[test]
fn an_arm64_guest_is_told_what_its_vcpus_are() {
    let text = "kernel = 'Image'\ncpus = 3\ncpu-cluster = ['0-1', '2']\ncpu-capacity = \
                '0=512,2=1024'\ncpu-frequencies = '2=1000000,2000000'\n";
    let (folder, path) = guest("config_topology", "vm.toml", text);
    let image = arm64_image().image_size(4 << 20).build();
    fs::write(folder.join("Image"), image).expect("the folder is ours");
    let tree = folder.join("tree");
    let words = ["plan", "--config", &path, "--dump-dtb"];
    let tree_path = tree.to_str().expect("names of this project are UTF-8");
    firstlight(&[&words[..], &[tree_path]].concat()).succeeded();
    let tree = fs::read(tree).expect("it was written");
    for name in ["capacity-dmips-mhz", "cluster1", "opp-2000000000"] {
        let found = tree.windows(name.len()).any(|part| part == name.as_bytes());
        assert!(found, "{name}");
    }
}

#[test]
fn what_cannot_be_said_of_vcpus_is_refused() {
    let folder = folder("vcpus");
    let kernel = folder.join("vmlinux");
    fs::write(&kernel, vmlinux().build()).expect("the folder is ours");
    let kernel = kernel.to_str().expect("names of this project are UTF-8");
    let told = ["plan", kernel, "--cpu-cluster", "0"];
    firstlight(&told).failed_with(4, &["cannot be given clusters, capacities or frequencies"]);
    for (words, said) in [
        (
            ["--cpu-capacity", "1=5"],
            "speaks of vCPU 1, but there are 1",
        ),
        (["--cpu-affinity", "0=0:x"], "\"x\" names no vCPU"),
    ] {
        firstlight(&[&["plan", kernel], &words[..]].concat()).failed_with(2, &[said]);
    }
    for (words, said) in [
        (["--cpu-affinity", "8000"], "processor 8000"),
        (
            ["--cpu-affinity", "1=0"],
            "vCPU 1 is to be pinned, but there are 1",
        ),
        (
            ["--rt-cpus", "3"],
            "vCPU 3 is to be real-time, but there are 1",
        ),
    ] {
        firstlight(&[&["boot", kernel], &words[..]].concat()).failed_with(2, &[said]);
    }
}

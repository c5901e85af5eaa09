//! Devices that cannot be had: each is refused before the guest starts, with its documented status.

use crate::boot::engines;
use crate::kernels::vmlinux;
use crate::run::{Run, file, firstlight, folder};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// Longer than a refusal takes; here only so that no guest runs for ever where there is none.
const GUARD: [&str; 2] = ["--timeout", "20"];

/// Boots with `options` on every engine, which has to be refused with `status` and `words`.
fn refused(test: &str, options: &[&str], status: i32, words: &[&str]) {
    let kernel = file(&format!("{test}_kernel"), &vmlinux().build());
    for engine in engines(test) {
        let boot = ["boot", "--quiet", "--engine", engine, &kernel];
        let run = firstlight(&[&boot, &GUARD[..], options].concat());
        run.failed_with(status, words);
    }
}

fn plan(options: &[&str]) -> Run {
    let kernel = file("devices_plan_kernel", &vmlinux().build());
    firstlight(&[&["plan", &kernel], options].concat())
}

/// A file of so many bytes.
fn disk(name: &str, len: usize) -> String {
    file(name, &vec![0; len])
}

#[test]
fn a_disk_that_does_not_exist_is_the_hosts_failure() {
    let words = ["cannot open the disk /no/disk", "No such file"];
    refused("no_disk", &["--disk", "/no/disk"], 1, &words);
}

#[test]
fn what_has_no_bytes_at_offsets_is_no_disk() {
    let folder = folder("folder_disk");
    let folder = folder.to_str().expect("names of this project are UTF-8");
    for (path, is) in [(folder, "a folder"), ("/dev/null", "a character device")] {
        let words = [path, is, "cannot be a disk"];
        refused("no_disk_at_all", &["--disk", path], 2, &words);
    }
}

#[test]
fn a_disk_has_a_whole_number_of_sectors_and_at_least_one() {
    for len in [0, 100, 511, 1000] {
        let disk = disk(&format!("disk_of_{len}"), len);
        let words = [&*format!("has {len} bytes"), "sectors of 512 bytes"];
        refused("odd_disk", &["--disk", &disk], 2, &words);
    }
}

#[test]
fn a_disk_that_a_guest_has_is_not_given_to_another() {
    let disk = disk("disk_of_a_guest", 4096);
    let held = File::open(Path::new(&disk)).expect("it has just been written");
    flock(&held, FlockOperation::NonBlockingLockExclusive).expect("nobody else has it");
    let words = ["in use by a guest", &disk];
    refused("taken_disk", &["--disk", &disk], 1, &words);
    let readonly = format!("{disk},readonly");
    refused("taken_to_read", &["--disk", &readonly], 1, &words);
}

#[test]
fn one_guest_cannot_have_a_disk_twice() {
    let disk = disk("disk_given_twice", 4096);
    let words = ["in use by a guest", &disk];
    refused("twice", &["--disk", &disk, "--disk", &disk], 1, &words);
}

#[test]
fn a_folder_to_share_must_be_there_and_be_one() {
    let words = ["cannot share /no/folder", "No such file"];
    refused("no_share", &["--share", "/no/folder"], 1, &words);
    let file = disk("shared_file", 10);
    let words = [&*file, "no folder", "cannot be shared"];
    refused("file_share", &["--share", &file], 2, &words);
    let words = ["/proc", "a file system of the kernel's own"];
    refused("proc_share", &["--share", "/proc:host,ro"], 2, &words);
}

#[test]
fn a_tag_is_one_shares_alone() {
    let folder = folder("shared_twice");
    let folder = folder.to_str().expect("names of this project are UTF-8");
    let tagged = format!("{folder}:share0");
    let words = ["two shares", "the tag share0"];
    refused(
        "same_tag",
        &["--share", folder, "--share", &tagged],
        2,
        &words,
    );
}

#[test]
fn a_tap_that_does_not_exist_comes_with_how_to_make_one() {
    let words = ["no network interface \"firstlight9\"", "ip tuntap add"];
    refused("no_tap", &["--net", "tap=firstlight9"], 1, &words);
}

#[test]
fn a_debug_console_that_cannot_be_written_is_the_hosts_failure() {
    let words = ["cannot write what the debug console says to /no/log"];
    refused("no_debugcon", &["--debugcon", "/no/log"], 1, &words);
}

#[test]
fn a_machine_has_room_for_so_many_devices() {
    let disk = disk("many_disks", 512);
    let readonly = format!("{disk},readonly");
    let many = ["--disk", &readonly].repeat(300);
    refused("many", &many, 4, &["PCI bus 00"]);
    plan(&[&["--devices"], &many[..]].concat()).failed_with(4, &["PCI bus 00"]);

    let nine = [&["--virtio", "mmio"], &many[..18]].concat();
    let words = ["9 virtio transports", "can have 8"];
    refused("nine", &nine, 4, &words);
    plan(&nine).failed_with(4, &words);
    let eight = [&["--virtio", "mmio"], &many[..16]].concat();
    plan(&eight).succeeded();
}

#[test]
fn what_is_no_device_is_wrong_usage() {
    for (option, value, word) in [
        ("--disk", "disk,reedonly", "reedonly"),
        ("--share", ".,writable", "writable"),
        (
            "--share",
            ".:a-tag-that-is-longer-than-any-can-be-",
            "36 bytes",
        ),
        ("--net", "bridge", "tap=NAME"),
        ("--net", "tap=", "tap=NAME"),
        ("--vsock", "2", "from 3"),
        ("--virtio", "isa", "pci"),
        ("--battery=capacity=101", "--rng", "at most 100 percent"),
        ("--battery=colour=red", "--rng", "`colour` is not known"),
        ("--hotplug-slots", "17", "0..=16"),
    ] {
        for verb in ["plan", "boot"] {
            firstlight(&[verb, "kernel", option, value]).failed_with(2, &[word]);
        }
    }
}

#[test]
fn memory_that_is_written_has_whole_subsections() {
    for len in [0, 4096, 3 << 20] {
        let image = disk(&format!("pmem_of_{len}"), len);
        let words = [&*format!("has {len} bytes"), "a whole number of 2 MiB"];
        refused("odd_pmem", &["--pmem", &image], 2, &words);
    }
    refused(
        "no_pmem",
        &["--pmem", "/no/disk"],
        1,
        &["cannot open the disk"],
    );
}

#[test]
fn a_plan_shows_memory_above_ram() {
    let image = disk("planned_pmem", 5000);
    let image = format!("{image},readonly");
    let shown = plan(&["--pmem", &image, "--pmem", &image, "--devices"]).succeeded();
    for line in [
        "0x100000000..0x100200000  persistent memory (virtio-pmem)",
        "0x140000000..0x140200000  persistent memory (virtio-pmem)",
        "pmem 1",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}

#[test]
fn the_qemu_engine_has_no_persistent_memory() {
    let image = disk("pmem_for_qemu", 2 << 20);
    let kernel = file("pmem_kernel", &vmlinux().build());
    let boot = ["boot", "--quiet", "--engine", "qemu", &kernel];
    if engines("pmem").contains(&"qemu") {
        let run = firstlight(&[&boot[..], &GUARD[..], &["--pmem", &image]].concat());
        run.failed_with(5, &["the qemu engine has no persistent memory"]);
    }
}

#[test]
fn the_qemu_engine_has_no_battery_and_no_notice_of_sleep() {
    let kernel = file("battery_kernel", &vmlinux().build());
    let boot = ["boot", "--quiet", "--engine", "qemu", &kernel];
    if engines("battery").contains(&"qemu") {
        for (option, what) in [
            ("--battery", "battery"),
            ("--suspend-notice", "notice of its guest's sleep"),
        ] {
            let run = firstlight(&[&boot[..], &GUARD[..], &[option]].concat());
            run.failed_with(5, &[&format!("the qemu engine has no {what}")]);
        }
    }
}

#[test]
fn a_plan_shows_a_battery_and_the_word_of_sleep() {
    let shown = plan(&["--battery=capacity=7", "--suspend-notice", "--devices"]).succeeded();
    for line in ["battery (Goldfish)", "word of the system's sleep"] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}

#[test]
fn the_qemu_engine_has_no_sandbox() {
    let kernel = file("sandbox_kernel", &vmlinux().build());
    let boot = ["boot", "--quiet", "--engine", "qemu", &kernel];
    if engines("sandbox").contains(&"qemu") {
        let run = firstlight(&[&boot[..], &GUARD[..], &["--sandbox", "on"]].concat());
        run.failed_with(5, &["the qemu engine has no sandbox for its devices"]);
    }
}

#[test]
fn a_process_that_does_not_listen_is_the_hosts_failure() {
    let nobody = disk("no_socket", 1);
    for socket in ["/no/socket", &nobody] {
        let option = format!("block,socket={socket}");
        let words = ["cannot connect to the back end at", socket];
        refused("no_back_end", &["--vhost-user", &option], 1, &words);
    }
    let kernel = file("wrong_back_end_kernel", &vmlinux().build());
    for wrong in ["gpu,socket=s", "fs,socket=s", "block"] {
        let words = ["block,socket=PATH"];
        firstlight(&["plan", &kernel, "--vhost-user", wrong]).failed_with(2, &words);
    }
}

//! Roots, drivers and commands: what Firstlight's own initramfs is made of and how it gets into a
//! boot.

use crate::boot::boot_silent;
use crate::kernels::{vmlinux, vmlinuz};
use crate::run::{Run, file, firstlight, folder};
use firstlight_image::testing::{arm64_image, uki};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The version of `vmlinuz()`.
const VERSION: &str = "6.1.0-test";
/// `EM_X86_64` and `EM_AARCH64`
const X86_64: u8 = 62;
const ARM64: u8 = 183;

/// A module with those strings in its section `.modinfo`, the third of three.
fn module(machine: u8, strings: &[&str]) -> Vec<u8> {
    let names = b"\0.modinfo\0";
    let info = strings.iter().flat_map(|text| [text.as_bytes(), b"\0"]);
    let info = info.collect::<Vec<_>>().concat();
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([1, 0, machine, 0]);
    file.resize(40, 0);
    file.extend(64_u64.to_le_bytes());
    file.resize(58, 0);
    for field in [64_u16, 3, 1] {
        file.extend(field.to_le_bytes());
    }
    let mut from = 64 + 3 * 64;
    for (name, len) in [(0_u32, 0), (0, names.len()), (1, info.len())] {
        let mut header = [0; 64];
        let offset = if len == 0 { 0 } else { from };
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&u64::try_from(offset).expect("it is small").to_le_bytes());
        header[32..40].copy_from_slice(&u64::try_from(len).expect("it is small").to_le_bytes());
        file.extend(header);
        from += len;
    }
    file.extend(names);
    file.extend(info);
    file
}

/// A system with that kernel in `boot`, and the modules of virtio in `lib/modules/VERSION`.
fn system(name: &str, kernel: &[u8], version: &str) -> (PathBuf, String) {
    let root = folder(name);
    let tree = root.join("lib/modules").join(version);
    fs::create_dir_all(root.join("boot")).expect("the folder is ours");
    fs::create_dir_all(tree.join("drivers")).expect("the folder is ours");
    let kernel_file = root.join(format!("boot/vmlinuz-{VERSION}"));
    fs::write(&kernel_file, kernel).expect("the folder is ours");
    let built_in = "kernel/drivers/virtio/virtio.ko\nkernel/fs/ext4/ext4.ko\n";
    fs::write(tree.join("modules.builtin"), built_in).expect("the folder is ours");
    let magic = format!("vermagic={version} SMP mod_unload");
    for (name, needs) in [
        ("virtio_ring", "depends="),
        ("virtio_pci", "depends=virtio,virtio_ring"),
        ("virtio_blk", "depends=virtio,virtio_ring"),
        ("virtio_console", "depends=virtio_ring"),
    ] {
        let path = tree.join(format!("drivers/{name}.ko"));
        fs::write(path, module(X86_64, &[&magic, needs])).expect("the folder is ours");
    }
    let kernel = kernel_file
        .to_str()
        .expect("names of this project are UTF-8");
    (root, kernel.to_owned())
}

/// An image that is an ext4 file system as far as a superblock's magic makes one.
fn ext4(name: &str) -> String {
    let mut image = vec![0; 4096];
    image[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    file(name, &image)
}

fn plan(words: &[&str]) -> Run {
    firstlight(&[&["-v", "plan", "--format", "json"], words].concat())
}

/// The plan, and its initial ramdisk's size.
fn planned(words: &[&str]) -> (Value, u64, String) {
    let run = plan(words);
    assert_eq!(run.status, Some(0), "{run:#?}");
    let plan: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let map = plan["map"].as_array().expect("a list");
    let initrd = map.iter().find(|part| part["name"] == "initrd");
    let size = initrd.and_then(|initrd| initrd["size"].as_u64());
    (plan, size.unwrap_or(0), run.stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("names of this project are UTF-8")
}

#[test]
fn a_root_has_the_drivers_that_are_beside_the_kernel_in_their_order() {
    let (_, kernel) = system("rootfs_drivers", &vmlinuz().build(), VERSION);
    let root = ext4("rootfs_drivers_image");
    let (plan, size, said) = planned(&[&kernel, "--rootfs", &root]);
    let cmdline = "rdinit=/firstlight/init console=ttyS0 panic=-1";
    assert_eq!(plan["cmdline"], cmdline);
    assert!(size > 1000, "{plan}");
    let loads = "the guest loads virtio_ring, virtio_pci, virtio_blk\n";
    assert!(said.contains(loads), "{said}");
    let devices = firstlight(&["plan", &kernel, "--rootfs", &root, "--devices"]).succeeded();
    assert!(devices.contains("disk"), "{devices}");
}

#[test]
fn a_driver_that_the_kernel_does_not_have_is_left_out_and_that_is_told() {
    let (_, kernel) = system("rootfs_no_driver", &vmlinuz().build(), VERSION);
    let root = ext4("rootfs_no_driver_image");
    let (_, _, said) = planned(&[&kernel, "--rootfs", &root, "--rng"]);
    assert!(said.contains("the kernel has no virtio_rng"), "{said}");
}

#[test]
fn without_a_tree_of_modules_the_drivers_are_taken_for_built_in() {
    let kernel = file("rootfs_no_tree", &vmlinuz().build());
    let root = ext4("rootfs_no_tree_image");
    let (_, size, said) = planned(&[&kernel, "--rootfs", &root]);
    assert!(said.contains("no modules are beside"), "{said}");
    assert!(size > 1000, "{size}");
}

#[test]
fn a_command_is_alone_on_the_console_unless_everything_is_to_be_told() {
    let (_, kernel) = system("command_console", &vmlinuz().build(), VERSION);
    let root = ext4("command_console_image");
    let words = ["plan", &kernel, "--rootfs", &root, "--", "uname", "-r"];
    let silent = firstlight(&words).succeeded();
    let cmdline = "rdinit=/firstlight/init console=ttyS0 panic=-1 quiet loglevel=1\n";
    assert!(silent.contains(cmdline), "{silent}");
    let (plan, _, said) = planned(&words[1..]);
    let cmdline = "rdinit=/firstlight/init console=ttyS0 panic=-1";
    assert_eq!(plan["cmdline"], cmdline);
    assert!(said.contains("virtio_blk, virtio_console\n"), "{said}");
}

#[test]
fn a_command_line_of_ones_own_is_kept_behind_the_word_that_starts_ours() {
    let kernel = file("command_cmdline", &vmlinuz().build());
    let ramdisk = file("command_cmdline_ramdisk", b"abc");
    let words = [
        &kernel,
        "--initrd",
        &ramdisk,
        "--cmdline",
        "a -- b",
        "--",
        "c",
    ];
    let (plan, _, _) = planned(&words);
    assert_eq!(plan["cmdline"], "rdinit=/firstlight/init a -- b");
    let words = [
        &kernel,
        "--initrd",
        &ramdisk,
        "--cmdline",
        "rdinit=/x",
        "--",
        "c",
    ];
    firstlight(&[&["plan"], &words[..]].concat()).failed_with(2, &["rdinit=/x"]);
}

#[test]
fn a_ramdisk_keeps_its_place_in_front_of_ours() {
    let kernel = file("command_ramdisk", &vmlinuz().build());
    let sizes = [1, 2, 3, 4, 5].map(|len| {
        let ramdisk = file("command_ramdisk_file", &vec![b'x'; len]);
        planned(&[&kernel, "--initrd", &ramdisk, "--", "c"]).1
    });
    let [one, two, three, four, five] = sizes;
    assert_eq!((one, two, three), (four, four, four));
    assert_eq!(five, four + 4);
}

#[test]
fn the_ramdisks_of_an_image_are_what_a_command_is_run_in_and_not_what_a_root_needs() {
    let image = uki()
        .section(".osrel", b"ID=test\n")
        .section(".cmdline", b"by=image\n")
        .section(".initrd", &[b'x'; 65536])
        .section(".linux", &vmlinuz().build());
    let kernel = file("command_uki", &image.build());
    let (plan, with_ramdisk, _) = planned(&[&kernel, "--", "c"]);
    assert_eq!(plan["cmdline"], "rdinit=/firstlight/init by=image");
    let root = ext4("command_uki_image");
    let (_, alone, _) = planned(&[&kernel, "--rootfs", &root]);
    assert!(
        with_ramdisk > 65_536 && alone < 65_536,
        "{with_ramdisk} {alone}"
    );
}

#[test]
fn what_starts_nothing_is_wrong_usage() {
    let (root, kernel) = system("command_nowhere", &vmlinuz().build(), VERSION);
    let from = "--rootfs or --initrd";
    firstlight(&["plan", &kernel, "--", "c"]).failed_with(2, &[from]);
    let modules = text(&root);
    let run = firstlight(&["plan", &kernel, "--modules", modules]);
    run.failed_with(2, &["drivers alone start nothing"]);
    let image = ext4("command_nowhere_image");
    let run = firstlight(&["plan", &kernel, "--rootfs", &image, "--initrd", &image]);
    run.failed_with(2, &["cannot be used with"]);
    let run = firstlight(&["plan", &kernel, "--rootfs", &image, "--", ""]);
    run.failed_with(2, &["the command has no name"]);
    let output = ["--format", "igvm", "--output", "/dev/null"];
    let words = [
        &["export", &kernel, "--rootfs", &image],
        &output[..],
        &["--", "c"],
    ];
    firstlight(&words.concat()).failed_with(2, &["unexpected argument"]);
}

#[test]
fn modules_of_another_kernel_are_refused_with_both_versions() {
    let (root, kernel) = system("modules_other", &vmlinuz().build(), "5.10.0-other");
    let image = ext4("modules_other_image");
    let tree = root.join("lib/modules/5.10.0-other");
    for folder in [&root, &tree] {
        let words = [
            "plan",
            &kernel,
            "--rootfs",
            &image,
            "--modules",
            text(folder),
        ];
        firstlight(&words).failed_with(2, &["5.10.0-other", VERSION]);
    }
    // A tree that is not named by its version is told by its modules.
    let named_otherwise = root.join("tree");
    fs::rename(&tree, &named_otherwise).expect("the folder is ours");
    let modules = text(&named_otherwise);
    let words = ["plan", &kernel, "--rootfs", &image, "--modules", modules];
    firstlight(&words).failed_with(2, &["virtio", "5.10.0-other", VERSION]);
}

#[test]
fn modules_for_another_machine_or_broken_ones_are_named() {
    let (root, kernel) = system("modules_wrong", &vmlinuz().build(), VERSION);
    let image = ext4("modules_wrong_image");
    let path = root.join(format!("lib/modules/{VERSION}/drivers/virtio_blk.ko"));
    let words = ["plan", &kernel, "--rootfs", &image];
    fs::write(&path, module(ARM64, &[])).expect("the folder is ours");
    firstlight(&words).failed_with(2, &["virtio_blk.ko", "arm64", "x86-64"]);
    fs::write(&path, "text").expect("the folder is ours");
    firstlight(&words).failed_with(3, &["virtio_blk.ko", "no module"]);
    let words = [&words[..], &["--modules", "/no/modules"]].concat();
    firstlight(&words).failed_with(1, &["/no/modules", "No such file"]);
}

#[test]
fn an_arm64_kernels_version_is_found_inside_it() {
    let mut banner = b"Linux version 6.12.0-arm (a@b)".to_vec();
    banner.resize(256, 0);
    let kernel = arm64_image().build();
    let (root, kernel) = system("modules_arm64", &[kernel, banner].concat(), VERSION);
    let image = ext4("modules_arm64_image");
    let words = [
        "plan",
        &kernel,
        "--rootfs",
        &image,
        "--modules",
        text(&root),
    ];
    firstlight(&words).failed_with(2, &["6.12.0-arm", VERSION]);
}

#[test]
fn what_is_no_ext4_file_system_is_named_before_a_guest_finds_out() {
    let kernel = file("rootfs_bad", &vmlinuz().build());
    let image = |bytes: &[u8]| file("rootfs_bad_image", bytes);
    let refused = |path: &str, status: i32, words: &[&str]| {
        for verb in ["plan", "boot"] {
            let run = firstlight(&[verb, &kernel, "--rootfs", path]);
            run.failed_with(status, words);
        }
    };
    let at = |offset: usize, magic: &[u8]| {
        let mut bytes = vec![0; 0x2_0000];
        bytes[offset..offset + magic.len()].copy_from_slice(magic);
        image(&bytes)
    };
    refused(&image(b""), 3, &["it is empty"]);
    refused(&image(&[0; 0x439]), 3, &["0xef53"]);
    refused(&at(0, b"QFI\xfb"), 3, &["qcow2"]);
    refused(&at(0x1_0040, b"_BHRfS_M"), 3, &["btrfs", "rootfstype="]);
    refused(&at(0x200, b"EFI PART"), 3, &["GPT", "root=/dev/vda1"]);
    refused(&at(0x1fe, &[0x55, 0xaa]), 3, &["MBR"]);
    refused("/", 3, &["is a directory"]);
    refused("/no/image", 1, &["/no/image", "No such file"]);
    refused("/dev/null", 3, &["is a character device"]);
    // Whoever says what is to be mounted is believed.
    let partitioned = at(0x200, b"EFI PART");
    let words = ["plan", &kernel, "--rootfs", &partitioned, "--cmdline"];
    firstlight(&[&words[..], &["root=/dev/vda1"]].concat()).succeeded();
    firstlight(&[&words[..], &["rootfstype=btrfs"]].concat()).succeeded();
}

#[test]
fn a_32_bit_kernel_has_no_initramfs_of_ours() {
    let root = ext4("rootfs_arm_image");
    let kernel = vmlinux().machine(3).build();
    let run = firstlight(&["plan", &file("rootfs_i386", &kernel), "--rootfs", &root]);
    assert!([Some(3), Some(4)].contains(&run.status), "{run:#?}");
}

/// Writes 0x34 (go to S5) to the ACPI sleep control register, and 0x42 to the reset register.
const POWER_OFF: [u8; 7] = [0xc6, 0x05, 0x00, 0x02, 0xa0, 0xfe, 0x34];
const RESET: [u8; 7] = [0xc6, 0x05, 0x02, 0x02, 0xa0, 0xfe, 0x42];

#[test]
fn a_guest_that_ends_without_the_commands_status_is_no_success() {
    let ramdisk = file("command_no_status_ramdisk", b"abc");
    for (name, code) in [("off", &POWER_OFF), ("reset", &RESET)] {
        let options = ["--initrd", &ramdisk, "--", "true"];
        boot_silent(&format!("command_{name}"), code, &options, |run| {
            assert_eq!(run.status, Some(125), "{run:#?}");
            let said = "error: the guest has ended without the command's status\n";
            assert_eq!(run.stderr, said);
        });
    }
}

#[test]
fn a_root_for_direct_access_has_blocks_as_large_as_pages() {
    let (_, kernel) = system("rootfs_pmem", &vmlinuz().build(), VERSION);
    let image = ext4("rootfs_pmem_image");
    let root = format!("{image},readonly,pmem");
    let words = ["blocks of 1024 bytes", "dax", "mke2fs -b 4096"];
    firstlight(&["plan", &kernel, "--rootfs", &root]).failed_with(3, &words);
    let flags = ["--cmdline", "rootflags=dax=never"];
    let never = [&["plan", &kernel, "--rootfs", &root], &flags[..]].concat();
    firstlight(&never).succeeded();
    let mut bytes = fs::read(&image).expect("it has just been written");
    bytes[0x418] = 2;
    fs::write(&image, bytes).expect("it is ours");
    let run = firstlight(&["plan", &kernel, "--rootfs", &root, "--devices"]);
    assert!(run.succeeded().contains("pmem 0"));
}

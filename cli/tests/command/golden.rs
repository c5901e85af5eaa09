//! Whole answers, compared as the text that people and programs read. With `FIRSTLIGHT_BLESS` set
//! the files are written instead.

use crate::kernels::{vmlinux, vmlinuz};
use crate::run::{file, firstlight};
use firstlight_image::Codec;
use firstlight_image::testing::{android_boot, arm64_image, pack, uki};
use std::path::Path;
use std::{env, fs};

/// The answer to `words` about the kernel in `bytes` is what `tests/golden/NAME` holds.
fn golden(name: &str, bytes: &[u8], words: &[&str]) {
    let kernel = file(name, bytes);
    let run = firstlight(&[words, &[kernel.as_str()]].concat());
    let answer = run.succeeded().replace(&kernel, "KERNEL");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if env::var_os("FIRSTLIGHT_BLESS").is_some() {
        fs::write(&path, answer).expect("the project's own folder");
    } else {
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(answer, expected, "{}", path.display());
    }
}

#[test]
fn a_bzimage_is_inspected() {
    golden("inspect-bzimage.txt", &vmlinuz().build(), &["inspect"]);
    let words = ["inspect", "--format", "json"];
    golden("inspect-bzimage.json", &vmlinuz().build(), &words);
}

#[test]
fn a_vmlinux_is_inspected() {
    let kernel = vmlinux().pvh_relocation(0x20_0000, 0x100_0000, 0x3fff_ffff);
    golden("inspect-vmlinux.txt", &kernel.build(), &["inspect"]);
}

#[test]
fn a_unified_kernel_image_is_inspected() {
    let image = uki()
        .section(".osrel", b"PRETTY_NAME=\"Debian\"")
        .section(".cmdline", b"root=/dev/vda quiet\n")
        .section(".ucode", &[1; 100])
        .section(".initrd", b"070701 and so on")
        .section(".linux", &vmlinuz().build())
        .section(".profile", b"ID=main\nTITLE=Debian\n")
        .section(".profile", b"ID=debug\n");
    golden("inspect-uki.txt", &image.build(), &["inspect"]);
}

#[test]
fn an_arm64_image_in_an_android_boot_image_is_inspected() {
    let image = android_boot(2, &pack(Codec::Gzip, &arm64_image().build()))
        .ramdisk(b"070701 and so on")
        .cmdline("console=ttyAMA0");
    golden("inspect-android.txt", &image.build(), &["inspect"]);
}

#[test]
fn a_bzimage_is_planned_by_every_protocol() {
    for protocol in ["linux64", "linux32", "pvh"] {
        let name = format!("plan-{protocol}.txt");
        let words = ["plan", "--cpus", "2", "--protocol", protocol];
        golden(&name, &vmlinuz().build(), &words);
    }
}

#[test]
fn a_kernel_that_unpacks_itself_is_planned() {
    let words = [
        "plan",
        "--unpack",
        "guest",
        "--cmdline",
        "console=ttyS0 quiet",
    ];
    golden("plan-unpack-guest.txt", &vmlinuz().build(), &words);
}

#[test]
fn a_plan_is_told_to_programs() {
    let words = ["plan", "--memory", "8G", "--format", "json"];
    golden("plan.json", &vmlinuz().build(), &words);
}

#[test]
fn a_plan_is_the_same_every_time() {
    let kernel = file("same", &vmlinuz().build());
    let plan = || firstlight(&["plan", &kernel, "--format", "svg"]).succeeded();
    assert_eq!(plan(), plan());
}

//! Unified kernel images: what they carry beside the kernel is booted with it.

use crate::kernels::vmlinuz;
use crate::run::{file, firstlight};
use firstlight_image::testing::uki;
use serde_json::Value;

fn unified(name: &str) -> String {
    let image = uki()
        .section(".osrel", b"ID=test\n")
        .section(".cmdline", b"console=ttyS0 by=image\n")
        .section(".ucode", b"micro")
        .section(".initrd", b"ramdisk")
        .section(".linux", &vmlinuz().build());
    file(name, &image.build())
}

fn plan(words: &[&str]) -> Value {
    let words = [&["plan", "--format", "json"], words].concat();
    serde_json::from_str(&firstlight(&words).succeeded()).expect("it is JSON")
}

fn initrd_len(plan: &Value) -> u64 {
    let map = plan["map"].as_array().expect("a list");
    let initrd = map.iter().find(|part| part["name"] == "initrd");
    let initrd = initrd.expect("there is an initial ramdisk");
    initrd["size"].as_u64().expect("a number")
}

#[test]
fn the_images_own_command_line_and_ramdisks_are_the_default() {
    let plan = plan(&[&unified("uki_default")]);
    assert_eq!(plan["cmdline"], "console=ttyS0 by=image");
    assert_eq!(plan["protocol"], "linux64");
    // The microcode comes first, and the next archive is looked for at a multiple of 4.
    assert_eq!(initrd_len(&plan), 8 + 8);
}

#[test]
fn a_command_line_replaces_the_images_and_a_ramdisk_comes_behind_the_images() {
    let ramdisk = file("uki_ramdisk", b"the user's");
    let kernel = unified("uki_options");
    let plan = plan(&[&kernel, "--cmdline", "quiet", "--initrd", &ramdisk]);
    assert_eq!(plan["cmdline"], "quiet");
    assert_eq!(initrd_len(&plan), 8 + 8 + 10);
}

#[test]
fn a_plan_for_reading_says_whose_command_line_it_is() {
    let text = firstlight(&["plan", &unified("uki_text")]).succeeded();
    assert!(
        text.contains("The command line is the image's own"),
        "{text}"
    );
}

#[test]
fn another_profile_has_its_own_command_line() {
    let image = uki()
        .section(".osrel", b"ID=test\n")
        .section(".cmdline", b"by=base\n")
        .section(".linux", &vmlinuz().build())
        .section(".profile", b"ID=main\n")
        .section(".profile", b"ID=rescue\n")
        .section(".cmdline", b"by=rescue\n");
    let kernel = file("uki_profiles", &image.build());
    assert_eq!(plan(&[&kernel])["cmdline"], "by=base");
    assert_eq!(plan(&[&kernel, "--profile", "1"])["cmdline"], "by=rescue");
    let missing = firstlight(&["plan", &kernel, "--profile", "2"]);
    missing.failed_with(3, &["profile"]);
}

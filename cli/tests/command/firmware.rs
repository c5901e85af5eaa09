//! Firmware in flash: what is shown of it, and which files it can keep its variables in.

use crate::kernels::vmlinux;
use crate::run::{file, firstlight};
use firstlight_image::testing::firmware;
use std::fs;

const PE_ARM64: u16 = 0xaa64;

#[test]
fn its_plan_shows_the_flash_and_nothing_but_a_tree_in_memory() {
    let code = file("firmware_plan", &firmware(PE_ARM64).build());
    let plan = firstlight(&["plan", &code]).succeeded();
    for words in [
        "entered by    firmware",
        "0x000000000..0x004000000          flash with the firmware",
        "flash for the firmware's variables",
        "files for the firmware (fw_cfg)",
        "device tree  the beginning of RAM",
    ] {
        assert!(plan.contains(words), "{words} in {plan}");
    }
    assert!(!plan.contains("The command line is"), "{plan}");
}

#[test]
fn a_store_of_variables_is_told_from_firmware() {
    let store = file("firmware_store", &firmware(PE_ARM64).without_code().build());
    firstlight(&["plan", &store]).failed_with(3, &["a store of variables"]);
}

#[test]
fn flash_is_for_firmware_and_as_long_as_a_bank() {
    let kernel = file("pflash_kernel", &vmlinux().build());
    let code = file("pflash_code", &firmware(PE_ARM64).build());
    let letter = file("pflash_letter", b"a letter");
    let boot = |image: &str, flash: &str| {
        let words = ["boot", "--quiet", "--engine", "qemu", "--timeout", "20"];
        firstlight(&[&words[..], &["--pflash", flash, image]].concat())
    };
    boot(&kernel, &letter).failed_with(2, &["--pflash is for firmware", "ELF64 x86-64"]);
    boot(&code, &letter).failed_with(2, &[&letter, "0x8 bytes", "0x4000000"]);
    boot(&code, "/dev/null").failed_with(2, &["/dev/null is no file"]);
    boot(&code, "/no/flash").failed_with(1, &["cannot open the flash for variables /no/flash"]);
    assert_eq!(fs::read(letter).expect("it is there"), b"a letter");
}

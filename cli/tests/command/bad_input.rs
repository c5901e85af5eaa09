//! Bad files and impossible wishes: each gets its documented status and a message that names the
//! rule and the numbers, at once.

use crate::kernels::{vmlinux, vmlinuz};
use crate::run::{Run, file, firstlight, folder};
use firstlight_image::Codec;
use firstlight_image::testing::{bzimage, elf64};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::File;
use std::os::unix::net::UnixListener;

/// Every verb that reads a kernel has to refuse a bad one the same way.
fn refused(path: &str, status: i32, words: &[&str]) {
    for verb in ["inspect", "plan", "boot"] {
        firstlight(&[verb, path]).failed_with(status, words);
    }
}

fn plan(words: &[&str]) -> Run {
    firstlight(&[&["plan"], words].concat())
}

#[test]
fn a_file_that_does_not_exist_is_the_hosts_failure() {
    refused("/does/not/exist", 1, &["/does/not/exist", "No such file"]);
}

#[test]
fn an_initrd_that_does_not_exist_is_the_hosts_failure() {
    let kernel = file("missing_initrd", &vmlinuz().build());
    plan(&[&kernel, "--initrd", "/no/initrd"]).failed_with(1, &["initial ramdisk /no/initrd"]);
}

#[test]
fn a_directory_is_named_as_such() {
    refused("/", 3, &["is a directory"]);
}

#[test]
fn devices_are_not_even_opened() {
    for device in ["/dev/zero", "/dev/null", "/dev/tty"] {
        refused(device, 3, &[device, "is a character device"]);
    }
}

#[test]
fn a_fifo_is_not_waited_for() {
    let path = folder("fifo").join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .expect("a fifo needs no rights");
    let path = path.to_str().expect("a name of ours");
    refused(path, 3, &["named pipe (FIFO)"]);
    let kernel = file("fifo_initrd", &vmlinuz().build());
    plan(&[&kernel, "--initrd", path]).failed_with(3, &["named pipe (FIFO)", "initial ramdisk"]);
}

#[test]
fn a_socket_is_named_as_such() {
    // Names of sockets are short (unix(7)), so this one is not where cargo has its files.
    let path = std::env::temp_dir().join(format!("firstlight-{}", std::process::id()));
    let socket = UnixListener::bind(&path).expect("nothing of this name is there");
    let run = firstlight(&["inspect".as_ref(), path.as_os_str()]);
    std::fs::remove_file(&path).expect("the socket is this test's own");
    drop(socket);
    run.failed_with(3, &["is a socket"]);
}

#[test]
fn a_file_larger_than_any_kernel_is_not_read() {
    let path = file("huge", b"");
    let sparse = File::create(&path).expect("the file is this test's own");
    sparse.set_len(3 << 30).expect("a hole takes no room");
    refused(
        &path,
        3,
        &["3221225472 bytes (3 GiB)", "2147483648 (2 GiB)"],
    );
}

#[test]
fn an_empty_file_is_named_as_such() {
    refused(&file("empty", b""), 3, &["an empty file"]);
}

#[test]
fn a_text_file_is_named_as_such() {
    let text = "Never gonna boot you up, never gonna boot you down.\n".repeat(99);
    refused(&file("text", text.as_bytes()), 3, &["a text file"]);
}

#[test]
fn an_initramfs_is_named_as_such() {
    let archive = [b"070701".as_slice(), &[b'0'; 104], b"TRAILER!!!\0\0\0\0"].concat();
    refused(&file("cpio", &archive), 3, &["cpio", "beside it"]);
}

#[test]
fn a_packed_text_is_named_by_its_chain() {
    let text = firstlight_image::testing::pack(Codec::Gzip, b"just some words of text");
    refused(&file("packed_text", &text), 3, &["gzip → a text file"]);
}

#[test]
fn a_bzimage_cut_short_is_told_with_both_lengths() {
    let whole = vmlinuz().build();
    let cut = whole.len() - 100;
    let words = [whole.len().to_string(), cut.to_string()];
    let path = file("cut", &whole[..cut]);
    refused(&path, 3, &["truncated", &words[0], &words[1]]);
}

#[test]
fn a_bzimage_cut_inside_its_header_is_told() {
    let path = file("cut_header", &vmlinuz().build()[..0x220]);
    refused(&path, 3, &["ends inside the setup header", "0x220"]);
}

#[test]
fn a_broken_payload_is_told_with_its_codec() {
    let kernel = bzimage().raw_payload(&[0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9, 9, 9, 9, 9, 9]);
    let path = file("broken_payload", &kernel.build());
    for verb in ["plan", "boot"] {
        firstlight(&[verb, &path]).failed_with(3, &["cannot unpack the bzImage 2.15", "zstd"]);
    }
    let told = firstlight(&["inspect", &path]).succeeded();
    assert!(told.contains("not unpacked"), "{told}");
}

#[test]
fn a_codec_that_cannot_be_unpacked_comes_with_the_way_round() {
    let kernel = bzimage().payload(Codec::Unknown(*b"new!"), &[1; 64]);
    let path = file("new-codec", &kernel.build());
    plan(&[&path]).failed_with(3, &["unknown compression", "hint: --unpack guest"]);
    plan(&[&path, "--unpack", "guest"]).succeeded();
}

#[test]
fn an_elf_segment_beyond_the_file_is_told() {
    // Without notes the first program header is the segment; p_offset is its second word.
    let kernel = elf64().segment(0x100_0000, &[0xf4; 16], 0x1000);
    let kernel = kernel.patch(64 + 8, &0x7fff_ffff_u64.to_le_bytes());
    refused(&file("beyond", &kernel.build()), 3, &["ELF", "0x7fffffff"]);
}

#[test]
fn elf_segments_larger_than_memory_have_no_sound_plan() {
    let kernel = elf64().segment(0x100_0000, &[0xf4; 16], 1 << 40);
    let path = file("tebibyte", &kernel.build());
    plan(&[&path]).failed_with(
        4,
        &[
            "kernel segment 0",
            "0x001000000..0x10001000000",
            "not all RAM",
        ],
    );
}

#[test]
fn an_elf_segment_that_wraps_is_refused() {
    let kernel = elf64().segment(0x100_0000, &[0xf4; 16], 0x1000);
    let kernel = kernel.patch(64 + 40, &u64::MAX.to_le_bytes());
    let run = plan(&[&file("wraps", &kernel.build())]);
    run.failed_with(3, &["ELF", "0xffffffffffffffff"]);
}

#[test]
fn an_elf_for_another_machine_is_named_as_such() {
    let kernel = elf64()
        .machine(183)
        .segment(0x100_0000, &[0xf4; 16], 0x1000);
    plan(&[&file("aarch64", &kernel.build())]).failed_with(3, &["ELF64 aarch64"]);
}

#[test]
fn a_kernel_that_does_not_fit_into_memory_has_no_sound_plan() {
    let path = file("no_room", &vmlinuz().build());
    for memory in ["1M", "16M"] {
        let run = plan(&[&path, "--memory", memory]);
        run.failed_with(4, &["kernel segment 0", "0x001000000..0x001200000"]);
        let run = firstlight(&["boot", &path, "--memory", memory]);
        run.failed_with(4, &["kernel segment 0"]);
    }
}

#[test]
fn the_room_a_kernel_needs_while_it_starts_counts() {
    // The file is a few KiB, but its header asks for 4 MiB from 16 MiB on (init_size).
    let path = file("init_size", &bzimage().build());
    let run = plan(&[&path, "--unpack", "guest", "--memory", "19M"]);
    run.failed_with(4, &["init_size", "0x400000 bytes"]);
    plan(&[&path, "--unpack", "guest", "--memory", "20M"]).succeeded();
}

#[test]
fn a_command_line_longer_than_the_kernel_takes_is_refused_with_both_lengths() {
    let path = file("cmdline", &vmlinuz().build());
    let longest = "x".repeat(2047);
    plan(&[&path, "--cmdline", &longest]).succeeded();
    let longer = "x".repeat(2048);
    let run = plan(&[&path, "--cmdline", &longer]);
    run.failed_with(4, &["2048 bytes", "2047"]);
}

#[test]
fn an_initrd_larger_than_memory_is_refused_without_being_read() {
    let kernel = file("large_initrd_kernel", &vmlinuz().build());
    let initrd = file("large_initrd", b"");
    let sparse = File::create(&initrd).expect("the file is this test's own");
    sparse.set_len(8 << 40).expect("a hole takes no room");
    for verb in ["plan", "boot"] {
        let run = firstlight(&[verb, &kernel, "--initrd", &initrd]);
        run.failed_with(4, &["initrd", "0x80000000000 bytes", "largest free range"]);
    }
}

#[test]
fn an_empty_initrd_is_refused() {
    let kernel = file("empty_initrd_kernel", &vmlinuz().build());
    let initrd = file("empty_initrd", b"");
    plan(&[&kernel, "--initrd", &initrd]).failed_with(4, &["initial ramdisk is empty"]);
}

#[test]
fn a_protocol_that_the_kernel_lacks_is_refused_with_the_reason() {
    let path = file("no_pvh", &bzimage().build());
    plan(&[&path, "--protocol", "pvh"]).failed_with(4, &["pvh", "unpacked"]);
    let path = file("no_linux32", &vmlinux().build());
    plan(&[&path, "--protocol", "linux32"]).failed_with(4, &["linux32", "32-bit entry"]);
}

#[test]
fn more_memory_than_the_host_has_is_refused_before_anything_is_read() {
    let run = firstlight(&["boot", "/does/not/exist", "--memory", "16T"]);
    run.failed_with(
        1,
        &["17592186044416 bytes of memory (16 TiB)", "this host has"],
    );
}

#[test]
fn sizes_and_counts_that_no_machine_has_are_wrong_usage() {
    for (option, value, words) in [
        ("--memory", "0", "without memory"),
        ("--memory", "5000", "multiple of 4096"),
        ("--memory", "much", "no number"),
        ("--memory", "99999999999T", "64-bit"),
        ("--cpus", "0", "0 is not in 1..=512"),
        ("--cpus", "100000", "100000 is not in 1..=512"),
        ("--cpus", "-1", "unexpected"),
        ("--protocol", "carrier-pigeon", "linux64"),
    ] {
        for verb in ["plan", "boot"] {
            firstlight(&[verb, "kernel", option, value]).failed_with(2, &[words]);
        }
    }
}

#[test]
fn more_memory_than_addresses_reach_is_wrong_usage() {
    let path = file("too_much_memory", &vmlinuz().build());
    plan(&[&path, "--memory", "1000T"]).failed_with(2, &["memory", "0x200000000000"]);
}

#[test]
fn what_is_no_acpi_table_is_wrong_usage_and_says_why() {
    let kernel = file("acpi_table_kernel", &vmlinuz().build());
    let option = |path: &str| plan(&[&kernel, "--acpi-table", path]);
    option("/no/table").failed_with(1, &["cannot open the ACPI table /no/table"]);
    let short = file("acpi_table_short", b"SSDT");
    option(&short).failed_with(2, &[&short, "it has 4 bytes", "a header of 36"]);
    let mut table = b"SSDT\x24\0\0\0\x02\0MAKER MACHINE \x01\0\0\0MAKE\x01\0\0\0".to_vec();
    let wrong = file("acpi_table_sum", &table);
    option(&wrong).failed_with(2, &[&wrong, "its checksum is wrong"]);
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = sum.wrapping_neg();
    option(&file("acpi_table", &table)).succeeded();
}

#[test]
fn what_smbios_cannot_say_is_wrong_usage() {
    for (value, word) in [
        ("colour=red", "`colour` is not known"),
        ("uuid=1", "`1` is no UUID"),
        ("serial=", "1 to 255 visible"),
    ] {
        plan(&["kernel", "--smbios", value]).failed_with(2, &[word]);
    }
}

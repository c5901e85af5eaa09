use super::*;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

fn named(bytes: &[u8]) -> String {
    let other = Other::by_magic(bytes).unwrap_or_else(|| Other::by_looks(bytes));
    format!("{other}")
}

fn at(offset: usize, magic: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x90; offset];
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&[0x90; 64]);
    bytes
}

/// A PE file with sections of these names.
fn pe(machine: u16, sections: &[&[u8; 8]]) -> Vec<u8> {
    let mut bytes = vec![0; 0x40];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes.extend_from_slice(b"PE\0\0");
    bytes.extend_from_slice(&machine.to_le_bytes());
    let count = u16::try_from(sections.len()).unwrap();
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&[16, 0, 0, 0]);
    bytes.extend_from_slice(&[0; 16]);
    for name in sections {
        bytes.extend_from_slice(*name);
        bytes.extend_from_slice(&[0; 32]);
    }
    bytes
}

#[test]
fn files_without_a_format_are_told_apart() {
    assert_eq!(named(b""), "an empty file");
    assert_eq!(named(&[0; 5000]), "a file of zeros");
    assert_eq!(named(b"root:x:0:0:\n"), "a text file");
    assert_eq!(named("Grüße\r\n\t".as_bytes()), "a text file");
    assert_eq!(named(b"#!/bin/sh\n"), "a script");
    assert_eq!(
        named(&[1, 2, 3]),
        "an unknown file that begins with 01 02 03 00 00 00 00 00"
    );
}

#[test]
fn a_character_cut_where_the_look_ends_is_still_text() {
    let mut text = vec![b'a'; 4095];
    text.extend_from_slice("é and more".as_bytes());
    assert_eq!(named(&text), "a text file");
    text[100] = 0xff;
    assert!(named(&text).starts_with("an unknown file"));
}

#[test]
fn programs_are_named_with_what_they_run_on() {
    assert_eq!(named(&pe(0x8664, &[])), "a PE/COFF application, x86-64");
    assert_eq!(named(&pe(0xaa64, &[])), "a PE/COFF application, arm64");
    assert_eq!(
        named(&pe(0x1234, &[b".osrel\0\0"])),
        "a PE/COFF application, unknown machine"
    );
    // The mark that newer zboot images carry at 0x38 is on x86 kernels too.
    let mut other = pe(0x8664, &[]);
    other[0x38..0x3c].copy_from_slice(&0x8182_23cd_u32.to_le_bytes());
    assert_eq!(named(&other), "a PE/COFF application, x86-64");
}

#[test]
fn a_kernel_that_only_efi_starts_is_named() {
    let mut kernel = pe(0x6264, &[]);
    kernel[0x38..0x3c].copy_from_slice(&0x8182_23cd_u32.to_le_bytes());
    assert_eq!(named(&kernel), "loongarch64 Image");
}

#[test]
fn a_bios_is_told_by_where_it_begins() {
    let mut bios = vec![0xff; 128 << 10];
    let jump = bios.len() - 16;
    bios[jump..jump + 5].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
    assert_eq!(named(&bios), "a PC BIOS");
    bios.pop();
    assert!(named(&bios).starts_with("an unknown file"));
}

#[test]
fn section_counts_and_offsets_of_pe_files_may_lie() {
    let mut many = pe(0x8664, &[b".text\0\0\0"]);
    many[0x46..0x48].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(named(&many), "a PE/COFF application, x86-64");
    let mut far = pe(0x8664, &[]);
    far[0x3c..0x40].copy_from_slice(&[0xff; 4]);
    assert_eq!(named(&far), "a DOS executable");
}

#[test]
fn device_trees_are_told_from_image_trees() {
    let tree = |node: &[u8]| [b"\xd0\x0d\xfe\xed\0\0\x01\0".as_slice(), node].concat();
    assert_eq!(
        named(&tree(b"\0\0\0\x01cpus\0\0\0\0")),
        "a device tree blob"
    );
    assert_eq!(
        named(&tree(b"\0\0\0\x01images\0\0")),
        "a flattened image tree (FIT)"
    );
}

#[test]
fn formats_with_a_magic_have_their_names() {
    for (offset, magic, name) in [
        (0, &b"IGVM"[..], "an IGVM file"),
        (0, b"070701", "a cpio archive (an initramfs)"),
        (0, b"VNDRBOOT", "an Android vendor boot image"),
        (0, b"!<arch>\ndebian-binary", "a Debian package"),
        (0, b"!<arch>\nother", "an ar archive"),
        (0, b"QFI\xfb", "a qcow2 disk image"),
        (0x101, b"ustar", "a tar archive"),
        (0x8001, b"CD001", "an ISO 9660 image"),
        (0x1fe, b"\x55\xaa", "a boot sector or disk image"),
    ] {
        assert_eq!(named(&at(offset, magic)), name);
    }
}

#[test]
fn no_cut_of_a_pe_file_is_trouble() {
    let file = pe(0x8664, &[b".linux\0\0", b".osrel\0\0"]);
    for len in 0..file.len() {
        assert!(!named(&file[..len]).is_empty());
    }
}

#[test]
fn every_kind_says_why_it_cannot_be_booted() {
    for other in [
        Other::Empty,
        Other::Text,
        Other::DeviceTree,
        Other::Cpio,
        Other::BootSector,
        Other::Unknown([0; 8]),
    ] {
        assert!(!other.why_not().is_empty());
    }
}

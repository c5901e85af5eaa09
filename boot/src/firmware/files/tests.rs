//! Firmware puts the tables together here as OVMF does, and they are what a kernel is told otherwise.

use super::*;
use crate::firmware::acpi;
use crate::platform::Flash;
use alloc::collections::BTreeMap;
use alloc::string::String;
use firstlight_base::{GIB, GpaRange, MIB, Reader};

fn platform() -> Pc {
    let flash = Pc::flash(0x37_c000).unwrap();
    let mut platform = Pc::with_flash(3 * GIB, 3, flash);
    platform.pci = Some(Pc::FIRMWARE_PCI);
    platform
}

fn files(platform: &Pc) -> BTreeMap<&'static str, Vec<u8>> {
    let files = firmware_files(platform).into_iter();
    files.map(|file| (file.name, file.bytes)).collect()
}

fn name(command: &[u8], at: usize) -> String {
    let name = command[at..at + 56].split(|&byte| byte == 0).next();
    String::from_utf8(name.unwrap().to_vec()).unwrap()
}

/// Carries the commands out with the files at these addresses.
fn link(files: &mut BTreeMap<&'static str, Vec<u8>>, at: impl Fn(&str) -> u64) {
    for command in files["etc/table-loader"].clone().chunks(128) {
        let words = Reader::new(command);
        let word = |at: u64| words.u32_le(at).unwrap() as usize;
        let file = name(command, 4);
        let file = files.get_mut(file.as_str()).unwrap();
        match word(0) {
            1 => assert_eq!(word(60), 16),
            2 => {
                let from = word(116);
                assert_eq!(command[120], 8);
                let pointer: &mut [u8; 8] = (&mut file[from..from + 8]).try_into().unwrap();
                let address = u64::from_le_bytes(*pointer) + at(&name(command, 60));
                *pointer = address.to_le_bytes();
            }
            3 => {
                let (result, start, len) = (word(60), word(64), word(68));
                let sum = file[start..start + len]
                    .iter()
                    .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
                file[result] = sum.wrapping_neg();
            }
            other => panic!("command {other}"),
        }
    }
}

#[test]
fn linked_tables_are_those_that_a_kernel_is_told_without_firmware() {
    let platform = platform();
    let mut files = files(&platform);
    let root = Gpa::new(0x9_f000);
    link(&mut files, |file| match file {
        TABLES => root.get() + 48,
        RSDP => root.get(),
        other => panic!("{other}"),
    });
    let whole = acpi::tables(&platform, root);
    assert_eq!(files[RSDP], whole[..36]);
    assert_eq!(files[TABLES], whole[48..]);
}

#[test]
fn ram_is_told_without_the_hole_for_devices() {
    let mut platform = platform();
    platform.reserved = [GpaRange::new(Gpa::new(64 * MIB), MIB).unwrap()].into();
    let lines: Vec<_> = files(&platform)["etc/e820"]
        .chunks(20)
        .map(|line| {
            let line = Reader::new(line);
            let (at, len) = (line.u64_le(0).unwrap(), line.u64_le(8).unwrap());
            (at, len, line.u32_le(16).unwrap())
        })
        .collect();
    let expected = [(0, 2 * GIB, 1), (4 * GIB, GIB, 1), (64 * MIB, MIB, 2)];
    assert_eq!(lines, expected);
}

#[test]
fn the_anchor_of_smbios_knows_how_long_its_structures_are() {
    let files = files(&platform());
    let anchor = &files["etc/smbios/smbios-anchor"];
    let structures = &files["etc/smbios/smbios-tables"];
    assert_eq!(anchor.len(), 24);
    let len = Reader::new(anchor).u32_le(12).unwrap() as usize;
    assert_eq!(structures.len(), len);
    assert_eq!((structures[0], structures[len - 5]), (0, 4));
    assert_eq!(structures[len - 6..len - 2], [127, 4, 0, 0x7f]);
}

#[test]
fn the_processor_begins_in_flash_and_variables_are_below() {
    let ends = |flash: Flash| {
        [flash.variables, flash.code].map(|bank| (bank.start().get(), bank.end().get()))
    };
    let border = 0xffc8_4000;
    assert_eq!(
        ends(Pc::flash(0x37_c000).unwrap()),
        [(0xffc0_0000, border), (border, 4 * GIB)]
    );
    // Nothing is left for variables, no whole pages, too long.
    for len in [0, 4 * MIB, 0x37_c001, 9 * MIB, u64::MAX - 0xfff] {
        assert!(Pc::flash(len).is_none(), "{len:#x}");
    }
}

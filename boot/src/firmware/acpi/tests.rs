//! The tables, and what ACPICA makes of them.

extern crate std;

use super::*;
use crate::AcpiTable;
use alloc::string::String;
use firstlight_base::{MIB, Reader};
use std::process::Command;

const AT: u64 = 0x9_f000;

fn table(blob: &[u8], address: u64) -> &[u8] {
    let offset = address - AT;
    let len = Reader::new(blob).u32_le(offset + 4).unwrap();
    Reader::new(blob).slice(offset, u64::from(len)).unwrap()
}

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

#[test]
fn the_root_leads_to_tables_with_right_checksums() {
    let blob = tables(&Pc::new(512 * MIB, 3), Gpa::new(AT));
    let root = Reader::new(&blob);
    assert_eq!(root.slice(0, 8).unwrap(), b"RSD PTR ");
    assert_eq!(sum(root.slice(0, 36).unwrap()), 0);
    let xsdt = table(&blob, root.u64_le(24).unwrap());
    assert_eq!((&xsdt[..4], sum(xsdt)), (&b"XSDT"[..], 0));
    let fadt = table(&blob, Reader::new(xsdt).u64_le(36).unwrap());
    assert_eq!((&fadt[..4], sum(fadt)), (&b"FACP"[..], 0));
    let madt = table(&blob, Reader::new(xsdt).u64_le(44).unwrap());
    assert_eq!((&madt[..4], sum(madt)), (&b"APIC"[..], 0));
    let dsdt = table(&blob, Reader::new(fadt).u64_le(140).unwrap());
    assert_eq!((&dsdt[..4], sum(dsdt)), (&b"DSDT"[..], 0));
}

#[test]
fn every_vcpu_has_a_local_apic() {
    let cpus = |count| {
        let blob = tables(&Pc::new(512 * MIB, count), Gpa::new(AT));
        blob.len()
    };
    assert_eq!(cpus(254) - cpus(2), 252 * 8);
}

#[test]
fn where_the_tables_lie_does_not_change_their_size() {
    let platform = Pc::new(512 * MIB, 1);
    assert_eq!(
        tables(&platform, Gpa::new(0)).len(),
        tables(&platform, Gpa::new(0x9_fff0)).len()
    );
}

/// A machine with all that it can have.
fn full() -> Pc {
    let mut platform = Pc::new(512 * MIB, 3);
    platform.fw_cfg = true;
    platform.battery = true;
    platform.suspend_notice = true;
    platform.virtio = Some(Pc::VIRTIO);
    platform.pci = Some(Pc::PCI);
    let bytes = given::tests::table(b"SSDT", b"\x08GIVN\x01");
    platform.firmware.acpi = Vec::from([AcpiTable::new(bytes).unwrap()]);
    platform
}

/// Every table of `platform` but the root, by its signature.
fn all(platform: &Pc) -> Vec<(String, Vec<u8>)> {
    let blob = tables(platform, Gpa::new(AT));
    let xsdt = table(&blob, Reader::new(&blob).u64_le(24).unwrap());
    let listed = xsdt[36..].as_chunks().0.iter();
    let listed: Vec<_> = listed
        .map(|address| table(&blob, u64::from_le_bytes(*address)))
        .collect();
    let fadt = listed[0];
    let dsdt = table(&blob, Reader::new(fadt).u64_le(140).unwrap());
    listed
        .into_iter()
        .chain([dsdt])
        .map(|table| (String::from_utf8_lossy(&table[..4]).into(), table.to_vec()))
        .collect()
}

#[test]
fn configuration_space_is_told_where_there_is_some() {
    let signatures = |platform| {
        let tables = all(&platform).into_iter();
        tables.map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(signatures(Pc::new(512 * MIB, 1)), ["FACP", "APIC", "DSDT"]);
    assert_eq!(signatures(full()), ["FACP", "APIC", "MCFG", "SSDT", "DSDT"]);
    let (_, mcfg) = all(&full()).swap_remove(2);
    assert_eq!(Reader::new(&mcfg).u64_le(44).unwrap(), 0xe000_0000);
    assert_eq!(mcfg[52..], [0, 0, 0, 255, 0, 0, 0, 0]);
}

#[test]
fn no_bus_is_told_of_that_is_not_there() {
    let mut platform = full();
    for (count, last) in [(1, 0), (3, 2), (256, 255), (1000, 255)] {
        platform.pci = Pc::PCI.with_buses(count);
        let windows = platform.pci.unwrap();
        assert_eq!(windows.ecam.len(), (u64::from(last) + 1) * MIB);
        let (_, mcfg) = all(&platform).swap_remove(2);
        assert_eq!(mcfg[52..], [0, 0, 0, last, 0, 0, 0, 0]);
        let (_, dsdt) = all(&platform).swap_remove(4);
        // A word address space descriptor of bus numbers that are produced, its ends fixed (ACPI 6.5,
        // section 6.4.3.5.3).
        let (last, count) = (u16::from(last), u16::from(last) + 1);
        let buses = [0_u16, 0, last, 0, count].map(u16::to_le_bytes);
        let descriptor = [&[0x88, 13, 0, 2, 0b1100, 0][..], buses.as_flattened()].concat();
        let is_there = dsdt.windows(descriptor.len()).any(|at| at == descriptor);
        assert!(is_there, "{descriptor:x?}");
    }
    assert_eq!(Pc::PCI.with_buses(0), None);
}

#[test]
fn acpica_reads_the_tables_of_a_full_machine() {
    let folder = std::env::temp_dir().join(format!("firstlight-acpi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, table) in all(&full()) {
        let file = folder.join(format!("{name}.dat"));
        std::fs::write(&file, &table).unwrap();
        let Ok(output) = Command::new("iasl").arg("-d").arg(&file).output() else {
            std::eprintln!("skipped: there is no iasl on this machine");
            break;
        };
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        for wrong in ["Error", "rror:", "AE_", "Warning"] {
            assert!(!said.contains(wrong), "{name}: {said}");
        }
        let source = std::fs::read_to_string(folder.join(format!("{name}.dsl"))).unwrap();
        if name == "DSDT" {
            for told in [
                "PNP0A08",
                "QEMU0002",
                "LNRO0005",
                "GFSH0001",
                "PNP0D80",
                "c4eb40a0-6cd2-11e2-bcfd-0800200c9a66",
                "11e00d56-ce64-47ce-837b-1f898f9aa461",
                "SLPB = One",
                "_OSC",
                "0x000000000000000F",
                "VR07",
            ] {
                assert!(
                    source.contains(told)
                        || source.contains(&told.replace("0x00000000000000", "0x")),
                    "{told} is missing:\n{source}"
                );
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn only_who_is_to_tell_of_its_sleep_is_told_that_it_can_sleep() {
    /// `LOW_POWER_S0_IDLE_CAPABLE` (ACPI 6.5, table 5.10), and where the flags are.
    const CAN_SLEEP: u32 = 1 << 21;
    const FLAGS: u64 = 112;
    let mut platform = Pc::new(512 * MIB, 1);
    for is_told in [false, true] {
        platform.suspend_notice = is_told;
        let tables = all(&platform);
        let flags = Reader::new(&tables[0].1).u32_le(FLAGS).unwrap();
        assert_eq!(flags & CAN_SLEEP != 0, is_told);
    }
}

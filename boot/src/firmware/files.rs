//! What a PC's firmware is told of the machine that it is in: files of QEMU's firmware configuration
//! device (QEMU's `docs/specs/fw_cfg.rst`, and what OVMF reads of it).

use super::acpi::{Pointing, TABLE_ALIGN, Tables};
use super::smbios;
use crate::platform::Pc;
use crate::{E820Kind, Smbios};
use alloc::vec::Vec;
use firstlight_base::Gpa;

/// A file for firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareFile {
    /// How firmware finds it.
    pub name: &'static str,
    /// What it holds.
    pub bytes: Vec<u8>,
}

const RSDP: &str = "etc/acpi/rsdp";
const TABLES: &str = "etc/acpi/tables";

/// The files that the firmware in a PC's flash needs: where there is RAM, the ACPI tables with how they
/// are put together, and the SMBIOS tables.
#[must_use]
pub fn firmware_files(platform: &Pc) -> Vec<FirmwareFile> {
    let Tables {
        mut root,
        mut rest,
        pointing,
    } = Tables::build(platform, |_root| 0);
    let loader = loader(&root, &pointing);
    // What is summed up has nothing where the sum goes.
    for table in &pointing {
        clear(&mut rest, table.table.start.saturating_add(TABLE_SUM));
    }
    clear(&mut root, RSDP_SUM);
    let (anchor, tables) = smbios_files(platform);
    [
        ("etc/e820", ram(platform)),
        (RSDP, root),
        (TABLES, rest),
        ("etc/table-loader", loader),
        ("etc/smbios/smbios-anchor", anchor),
        ("etc/smbios/smbios-tables", tables),
    ]
    .map(|(name, bytes)| FirmwareFile { name, bytes })
    .into()
}

/// The lines that say where RAM is, and what of it is nobody's.
fn ram(platform: &Pc) -> Vec<u8> {
    let ram = platform.ram.iter().map(|range| (range, E820Kind::Ram));
    let reserved = platform.reserved.iter();
    let reserved = reserved.map(|range| (range, E820Kind::Reserved));
    ram.chain(reserved)
        .flat_map(|(range, kind)| {
            let words = [range.start().get(), range.len()];
            let words = words.into_iter().flat_map(u64::to_le_bytes);
            words.chain((kind as u32).to_le_bytes())
        })
        .collect()
}

/// SMBIOS' entry point and its structures.
fn smbios_files(platform: &Pc) -> (Vec<u8>, Vec<u8>) {
    let nothing_said = Smbios::default();
    let system = platform.firmware.smbios.as_ref().unwrap_or(&nothing_said);
    // Firmware has its own place for them.
    let mut anchor = smbios::tables(system, platform, Gpa::new(0));
    let tables = anchor.split_off(smbios::STRUCTURES);
    anchor.truncate(smbios::ENTRY_LEN.into());
    (anchor, tables)
}

/// Where a table has its sum (ACPI 6.5, table 5.4), and the root pointer that of all of it (table 5.3).
const TABLE_SUM: usize = 9;
const RSDP_SUM: usize = 32;
/// Where the root pointer has the address of the list of tables.
const RSDP_LIST: usize = 24;

fn clear(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = 0;
    }
}

/// How firmware puts the tables together (QEMU's `hw/acpi/bios-linker-loader.c`): it finds a place for
/// both files, turns offsets into addresses, and sums up what has changed.
fn loader(root: &[u8], pointing: &[Pointing]) -> Vec<u8> {
    let mut loader = Loader::default();
    loader.allocate(TABLES, Zone::High);
    loader.allocate(RSDP, Zone::FirstMegabyte);
    for Pointing { table, addresses } in pointing {
        for &at in addresses {
            loader.add_address(TABLES, at);
        }
        let sum = table.start.saturating_add(TABLE_SUM);
        loader.sum_up(TABLES, sum, (table.start, table.len()));
    }
    loader.add_address(RSDP, RSDP_LIST);
    loader.sum_up(RSDP, RSDP_SUM, (0, root.len()));
    loader.0
}

/// Where firmware finds a place for a file.
#[derive(Clone, Copy)]
enum Zone {
    High = 1,
    FirstMegabyte = 2,
}

/// Commands of 128 bytes each.
#[derive(Default)]
struct Loader(Vec<u8>);

impl Loader {
    const COMMAND: usize = 128;
    /// Bytes of a name, with the NUL behind it.
    const NAME: usize = 56;

    const ALLOCATE: u32 = 1;
    const ADD_POINTER: u32 = 2;
    const ADD_CHECKSUM: u32 = 3;

    fn command(&mut self, command: u32, names: &[&str], operands: &[u8]) {
        let mut bytes = Vec::from(command.to_le_bytes());
        for name in names {
            let end = bytes.len().saturating_add(Self::NAME);
            bytes.extend(name.as_bytes());
            bytes.resize(end, 0);
        }
        bytes.extend(operands);
        bytes.resize(Self::COMMAND, 0);
        self.0.extend(bytes);
    }

    fn allocate(&mut self, name: &str, zone: Zone) {
        let [a, b, c, d] = number(TABLE_ALIGN);
        self.command(Self::ALLOCATE, &[name], &[a, b, c, d, zone as u8]);
    }

    /// Adds the address of [`TABLES`] to the eight bytes at `at`.
    fn add_address(&mut self, name: &str, at: usize) {
        let [a, b, c, d] = number(at);
        let len = 8;
        self.command(Self::ADD_POINTER, &[name, TABLES], &[a, b, c, d, len]);
    }

    fn sum_up(&mut self, name: &str, at: usize, (start, len): (usize, usize)) {
        let operands: Vec<u8> = [at, start, len].into_iter().flat_map(number).collect();
        self.command(Self::ADD_CHECKSUM, &[name], &operands);
    }
}

fn number(number: usize) -> [u8; 4] {
    let number = u32::try_from(number);
    number.expect("the tables have some KiB").to_le_bytes()
}

#[cfg(test)]
mod tests;

//! The MP table: what a PC's kernel is told of processors and interrupts where it does without ACPI
//! (Intel MultiProcessor Specification 1.4, chapter 4).

use crate::platform::{Pc, PciWindows};
use alloc::vec::Vec;
use firstlight_base::Gpa;

/// `SPEC_REV`: version 1.4.
const REVISION: u8 = 4;
/// Where in the floating pointer structure (section 4.1) and in the table's header (section 4.2) the
/// checksum is.
const POINTER_CHECKSUM: usize = 10;
const TABLE_CHECKSUM: usize = 7;
/// The floating pointer structure's size, and that of the header.
const POINTER_LEN: u64 = 16;
const HEADER_LEN: usize = 44;

/// Kinds of entries (table 4-2).
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// Kinds of interrupts (table 4-10).
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;

/// As the bus has it: active high and by edge on ISA, active low and by level on PCI.
const CONFORMS: u8 = 0;
/// Active high and by level.
const HIGH_LEVEL: u8 = 0b1101;

/// The I/O APIC's id, as the ACPI tables and its own register have it.
const IO_APIC_ID: u8 = 0;
/// To every local APIC.
const ALL: u8 = 0xff;
/// Kernels take a PCI bus's number here for its number on the machine, so that the other bus is last.
const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 0xff;
/// The timer's line, and the pin at which it ends: where line 2 would, by which the two 8259s are
/// joined.
const TIMER: u8 = 0;
const CASCADE: u8 = 2;
/// ISA has so many lines.
const ISA_LINES: u8 = 16;

/// The floating pointer structure at `at`, which is 16-byte aligned and below 4 GiB, and the table
/// behind it.
pub(crate) fn table(platform: &Pc, at: Gpa) -> Vec<u8> {
    let low = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let mut pointer = Vec::from(*b"_MP_");
    pointer.extend(low(at.get().saturating_add(POINTER_LEN)).to_le_bytes());
    // One paragraph long; there is a table, and the interrupts begin in virtual wire mode.
    pointer.extend([1, REVISION, 0, 0, 0, 0, 0, 0]);
    check(&mut pointer, POINTER_CHECKSUM);
    let entries = entries(platform);
    let mut table = Vec::from(*b"PCMP");
    let len = HEADER_LEN.saturating_add(entries.bytes.len());
    table.extend(u16::try_from(len).expect("some 7 KiB").to_le_bytes());
    table.extend([REVISION, 0]);
    table.extend(b"FLIGHT  FIRSTLIGHT  ");
    // No table of the maker's own.
    table.extend([0; 6]);
    table.extend(entries.count.to_le_bytes());
    table.extend(low(Pc::LAPIC.get()).to_le_bytes());
    table.extend([0; 4]);
    table.extend(entries.bytes);
    check(&mut table, TABLE_CHECKSUM);
    pointer.extend(table);
    pointer
}

/// Entries as they are written.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    count: u16,
}

impl Entries {
    fn put<const N: usize>(&mut self, entry: [u8; N]) {
        self.bytes.extend(entry);
        self.count = self.count.saturating_add(1);
    }

    fn interrupt(&mut self, flags: u8, (bus, line): (u8, u8), pin: u8) {
        self.put([IO_INTERRUPT, INT, flags, 0, bus, line, IO_APIC_ID, pin]);
    }
}

/// In ascending order of their kinds, as section 4.3 wants them.
fn entries(platform: &Pc) -> Entries {
    let mut entries = Entries::default();
    for id in (0..platform.cpus).filter_map(|id| u8::try_from(id).ok()) {
        entries.put(processor(id));
    }
    if platform.pci.is_some() {
        entries.put([BUS, PCI_BUS, b'P', b'C', b'I', b' ', b' ', b' ']);
    }
    entries.put([BUS, ISA_BUS, b'I', b'S', b'A', b' ', b' ', b' ']);
    let [a, b, c, d, ..] = Pc::IOAPIC.get().to_le_bytes();
    entries.put([IO_APIC, IO_APIC_ID, 0x11, 1, a, b, c, d]);
    lines(platform, &mut entries);
    let legacy = [LOCAL_INTERRUPT, EXT_INT, 0, 0, ISA_BUS, 0, 0, 0];
    entries.put(legacy);
    entries.put([LOCAL_INTERRUPT, NMI, 0, 0, ISA_BUS, 0, ALL, 1]);
    entries
}

/// Section 4.3.1. The first boots.
fn processor(id: u8) -> [u8; 20] {
    const ENABLED: u8 = 1 << 0;
    const BOOTS: u8 = 1 << 1;
    const APIC_VERSION: u8 = 0x14;
    /// Family 6; kernels ask the processor itself.
    const FAMILY: u8 = 6;
    /// It has an FPU (bit 0) and an APIC (bit 9).
    const FEATURES: [u8; 2] = [1 << 0, 1 << 1];
    let flags = if id == 0 { ENABLED | BOOTS } else { ENABLED };
    let [low, high] = FEATURES;
    [
        PROCESSOR,
        id,
        APIC_VERSION,
        flags,
        0,
        FAMILY,
        0,
        0,
        low,
        high,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
}

/// Where ISA's lines, those of PCI's pins and those of virtio transports end.
fn lines(platform: &Pc, entries: &mut Entries) {
    let pci = |line: u8| {
        let first = platform.pci.map(|windows| windows.irq.0);
        first.is_some_and(|first| u32::from(line).wrapping_sub(first) < PciWindows::LINES)
    };
    for line in (0..ISA_LINES).filter(|line| *line != CASCADE && !pci(*line)) {
        let pin = if line == TIMER { CASCADE } else { line };
        entries.interrupt(CONFORMS, (ISA_BUS, line), pin);
    }
    if let Some(windows) = &platform.pci {
        for (device, pin) in (0..32_u8).flat_map(|device| (0..4_u8).map(move |pin| (device, pin))) {
            let line = windows.line(device.into(), pin.into());
            let line = u8::try_from(line.0).expect("an I/O APIC has 24 pins");
            entries.interrupt(CONFORMS, (PCI_BUS, device << 2 | pin), line);
        }
    }
    // Kernels find them by their command line, and their lines by these numbers.
    let transports = platform.virtio.iter().flat_map(|row| {
        let line = |number| row.transport(number).map(|(_, line)| line.0);
        (0..row.count).filter_map(line)
    });
    for line in transports.filter_map(|line| u8::try_from(line).ok()) {
        entries.interrupt(HIGH_LEVEL, (ISA_BUS, line), line);
    }
}

/// Makes the sum of all bytes 0 by the one at `at`, which is 0.
fn check(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = bytes.get_mut(at) {
        *checksum = sum.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::MIB;

    const AT: Gpa = Gpa::new(0xf_4000);

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    /// The table's entries, after its header and the pointer to it were found right.
    fn read(platform: &Pc) -> Vec<Vec<u8>> {
        let bytes = table(platform, AT);
        let (pointer, table) = bytes.split_at(16);
        assert_eq!((&pointer[..4], sum(pointer)), (&b"_MP_"[..], 0));
        assert_eq!(pointer[4..8], 0xf_4010_u32.to_le_bytes());
        assert_eq!((&table[..4], sum(table)), (&b"PCMP"[..], 0));
        let len = u16::from_le_bytes([table[4], table[5]]);
        assert_eq!(usize::from(len), table.len());
        assert_eq!(table[36..40], 0xfee0_0000_u32.to_le_bytes());
        let mut rest = &table[44..];
        let mut entries = Vec::new();
        while let Some(kind) = rest.first() {
            let (entry, behind) = rest.split_at(if *kind == 0 { 20 } else { 8 });
            entries.push(entry.to_vec());
            rest = behind;
        }
        let count = u16::from_le_bytes([table[34], table[35]]);
        assert_eq!(usize::from(count), entries.len());
        assert!(entries.is_sorted_by_key(|entry| entry[0]));
        entries
    }

    fn of_kind(entries: &[Vec<u8>], kind: u8) -> Vec<&[u8]> {
        let entries = entries.iter().map(Vec::as_slice);
        entries.filter(|entry| entry[0] == kind).collect()
    }

    #[test]
    fn every_vcpu_is_there_and_the_first_boots() {
        let entries = read(&Pc::new(512 * MIB, 3));
        let flags = of_kind(&entries, 0).into_iter().map(|cpu| (cpu[1], cpu[3]));
        assert_eq!(flags.collect::<Vec<_>>(), [(0, 3), (1, 1), (2, 1)]);
        assert_eq!(of_kind(&read(&Pc::new(512 * MIB, 255)), 0).len(), 255);
    }

    #[test]
    fn the_timer_ends_where_the_cascade_would() {
        let entries = read(&Pc::new(512 * MIB, 1));
        let lines = of_kind(&entries, 3);
        assert_eq!(lines[0], [3, 0, 0, 0, 0xff, 0, 0, 2]);
        assert_eq!(lines[1], [3, 0, 0, 0, 0xff, 1, 0, 1]);
        assert_eq!((lines.len(), lines[14][5]), (15, 15));
        assert!(lines.iter().all(|line| line[5] != 2));
    }

    #[test]
    fn a_full_machine_has_the_lines_of_both_buses() {
        let mut platform = Pc::new(512 * MIB, 255);
        platform.pci = Some(Pc::PCI);
        platform.virtio = Some(Pc::VIRTIO);
        let entries = read(&platform);
        assert_eq!(of_kind(&entries, 1)[0], b"\x01\0PCI   ");
        let lines = of_kind(&entries, 3);
        let isa = lines.iter().filter(|line| line[4] == 0xff);
        assert_eq!(isa.count(), 11 + 8);
        // INTB of device 3, which is where INTA of device 0 is.
        assert!(lines.contains(&&[3, 0, 0, 0, 0, 3 << 2 | 1, 0, 12][..]));
        assert!(lines.contains(&&[3, 0, 0b1101, 0, 0xff, 23, 0, 23][..]));
        assert!(table(&platform, AT).len() < 0x2000);
    }
}

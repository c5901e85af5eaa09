//! SMBIOS: what a PC's firmware says of who made the machine (DMTF DSP0134, System Management BIOS
//! Reference Specification 3.7).
//!
//! Linux looks for the entry point from 0xf0000 on (`drivers/firmware/dmi_scan.c`), and shows what it
//! leads to in `/sys/class/dmi/id`.

use crate::platform::Pc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange, KIB, MIB};

/// What a user says of the machine; what is not said is not in the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Smbios {
    /// Who made it; without it, Firstlight did.
    pub manufacturer: Option<SmbiosText>,
    /// What it is called.
    pub product: Option<SmbiosText>,
    /// Its version.
    pub version: Option<SmbiosText>,
    /// Its serial number.
    pub serial: Option<SmbiosText>,
    /// Its universal unique identifier, in the order in which people write it.
    pub uuid: Option<[u8; 16]>,
    /// The number under which it is sold.
    pub sku: Option<SmbiosText>,
    /// The family that it belongs to.
    pub family: Option<SmbiosText>,
}

/// A text in a table: 1 to [`MOST`](Self::MOST) visible ASCII characters and spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmbiosText(String);

impl SmbiosText {
    /// The most characters: what Linux hands to programs in one piece has more room.
    pub const MOST: usize = 255;

    /// `text` where it can be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        let is_short = (1..=Self::MOST).contains(&text.len());
        (is_short && text.bytes().all(is_visible)).then(|| Self(text.to_string()))
    }
}

/// The version of the specification that the structures follow.
const VERSION: [u8; 3] = [3, 7, 0];
/// Bytes of the entry point (section 5.2.2), and how far the structures are behind its start.
pub(super) const ENTRY_LEN: u8 = 24;
pub(super) const STRUCTURES: usize = 32;
/// Where its checksum is.
const CHECKSUM: usize = 5;
/// Handles of structures that others refer to.
const MEMORY_ARRAY: u16 = 0x1000;
/// A handle of an error that nobody tells of.
const NO_ERROR_INFORMATION: u16 = 0xfffe;

/// The entry point at `at`, which is 16-byte aligned, and the structures behind it.
pub(crate) fn tables(system: &Smbios, platform: &Pc, at: Gpa) -> Vec<u8> {
    let structures = structures(system, platform);
    let len = u32::try_from(structures.len()).expect("some 4 KiB");
    let mut bytes = Vec::from(*b"_SM3_");
    bytes.extend([0, ENTRY_LEN]);
    bytes.extend(VERSION);
    // The entry point's own revision.
    bytes.extend([1, 0]);
    bytes.extend(len.to_le_bytes());
    bytes.extend(at.get().saturating_add(STRUCTURES as u64).to_le_bytes());
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = bytes.get_mut(CHECKSUM) {
        *checksum = sum.wrapping_neg();
    }
    bytes.resize(STRUCTURES, 0);
    bytes.extend(structures);
    bytes
}

fn structures(system: &Smbios, platform: &Pc) -> Vec<u8> {
    let mut all = Vec::new();
    firmware().end(&mut all);
    machine(system).end(&mut all);
    enclosure(system).end(&mut all);
    memory_array(platform).end(&mut all);
    memory_device(platform).end(&mut all);
    for (range, number) in platform.ram.iter().zip(0x1300..) {
        memory_range(*range, number).end(&mut all);
    }
    Structure::new(127, 0x7f00).end(&mut all);
    all
}

/// Section 7.1. Its date is not known, so that no kernel takes it for old.
fn firmware() -> Structure {
    /// "Characteristics are not supported", and "describes a virtual machine".
    const UNSUPPORTED: u64 = 1 << 3;
    const VIRTUAL: u8 = 1 << 4;
    const ROM_SEGMENT: u16 = 0xf000;
    let mut structure = Structure::new(0, 0);
    structure.text(Some("Firstlight"));
    structure.text(Some(env!("CARGO_PKG_VERSION")));
    structure.put(ROM_SEGMENT.to_le_bytes());
    structure.text(None);
    // 64 KiB.
    structure.put([0]);
    structure.put(UNSUPPORTED.to_le_bytes());
    structure.put([0, VIRTUAL]);
    // No numbers of a release, and no embedded controller.
    structure.put([0xff; 4]);
    structure.put([0, 0]);
    structure
}

/// Section 7.2.
fn machine(system: &Smbios) -> Structure {
    /// Somebody pressed the power button.
    const WOKEN_BY_SWITCH: u8 = 6;
    let mut structure = Structure::new(1, 0x100);
    structure.text(Some(manufacturer(system)));
    let words = [&system.product, &system.version, &system.serial];
    for word in words {
        structure.text(text(word));
    }
    structure.put(encoded(system.uuid));
    structure.put([WOKEN_BY_SWITCH]);
    structure.text(text(&system.sku));
    structure.text(text(&system.family));
    structure
}

/// The first three fields are little-endian (section 7.2.1); 0 is none.
fn encoded(uuid: Option<[u8; 16]>) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = uuid.unwrap_or_default();
    let mut encoded = [0; 16];
    let bytes = [d, c, b, a, f, e, h, g].into_iter().chain(rest);
    for (to, byte) in encoded.iter_mut().zip(bytes) {
        *to = byte;
    }
    encoded
}

/// Section 7.4.
fn enclosure(system: &Smbios) -> Structure {
    const OTHER: u8 = 1;
    const SAFE: u8 = 3;
    const UNKNOWN: u8 = 2;
    let mut structure = Structure::new(3, 0x300);
    structure.text(Some(manufacturer(system)));
    structure.put([OTHER]);
    structure.text(text(&system.version));
    structure.text(text(&system.serial));
    structure.text(None);
    structure.put([SAFE, SAFE, SAFE, UNKNOWN]);
    // Nothing of the maker's own; height and cords unknown; nothing in it.
    structure.put([0; 8]);
    structure.text(text(&system.sku));
    structure
}

/// Section 7.17: all of the machine's memory.
fn memory_array(platform: &Pc) -> Structure {
    const OTHER: u8 = 1;
    const SYSTEM_MEMORY: u8 = 3;
    const UNPROTECTED: u8 = 3;
    /// The larger field tells.
    const ELSEWHERE: u32 = 0x8000_0000;
    let bytes = bytes_of(platform);
    let kib = u32::try_from(bytes / KIB).ok();
    let kib = kib.filter(|kib| *kib < ELSEWHERE);
    let mut structure = Structure::new(16, MEMORY_ARRAY);
    structure.put([OTHER, SYSTEM_MEMORY, UNPROTECTED]);
    structure.put(kib.unwrap_or(ELSEWHERE).to_le_bytes());
    structure.put(NO_ERROR_INFORMATION.to_le_bytes());
    structure.put(1_u16.to_le_bytes());
    let larger = if kib.is_some() { 0 } else { bytes };
    structure.put(larger.to_le_bytes());
    structure
}

/// Section 7.18: the same as one module.
fn memory_device(platform: &Pc) -> Structure {
    const UNKNOWN_WIDTH: u16 = 0xffff;
    const OTHER: u8 = 1;
    const RAM: u8 = 7;
    const OTHER_DETAIL: u16 = 1 << 1;
    /// The larger field tells.
    const ELSEWHERE: u16 = 0x7fff;
    let mib = u32::try_from(bytes_of(platform) / MIB).unwrap_or(u32::MAX);
    let small = u16::try_from(mib).ok().filter(|mib| *mib < ELSEWHERE);
    let mut structure = Structure::new(17, 0x1100);
    structure.put(MEMORY_ARRAY.to_le_bytes());
    structure.put(NO_ERROR_INFORMATION.to_le_bytes());
    structure.put(UNKNOWN_WIDTH.to_le_bytes());
    structure.put(UNKNOWN_WIDTH.to_le_bytes());
    structure.put(small.unwrap_or(ELSEWHERE).to_le_bytes());
    structure.put([OTHER, 0]);
    structure.text(Some("RAM"));
    structure.text(None);
    structure.put([RAM]);
    structure.put(OTHER_DETAIL.to_le_bytes());
    // Speed, maker, serial number, asset tag, part number and rank are not known.
    structure.put([0; 7]);
    let larger = if small.is_some() { 0 } else { mib };
    structure.put(larger.to_le_bytes());
    // Nor are its speed as it is set and its voltages.
    structure.put([0; 8]);
    structure
}

/// Section 7.20: where some of the memory is.
fn memory_range(range: GpaRange, handle: u16) -> Structure {
    /// The larger fields tell.
    const ELSEWHERE: u32 = u32::MAX;
    let (first, last) = (range.start().get(), range.last().get());
    let kib = |at: u64| u32::try_from(at / KIB).ok().filter(|at| *at < ELSEWHERE);
    let (small, large) = match (kib(first), kib(last)) {
        (Some(first), Some(last)) => ((first, last), (0, 0)),
        _ => ((ELSEWHERE, ELSEWHERE), (first, last)),
    };
    let mut structure = Structure::new(19, handle);
    structure.put(small.0.to_le_bytes());
    structure.put(small.1.to_le_bytes());
    structure.put(MEMORY_ARRAY.to_le_bytes());
    structure.put([1]);
    structure.put(large.0.to_le_bytes());
    structure.put(large.1.to_le_bytes());
    structure
}

fn manufacturer(system: &Smbios) -> &str {
    text(&system.manufacturer).unwrap_or("Firstlight")
}

fn text(text: &Option<SmbiosText>) -> Option<&str> {
    text.as_ref().map(|text| text.0.as_str())
}

fn bytes_of(platform: &Pc) -> u64 {
    let lens = platform.ram.iter().map(|range| range.len());
    lens.fold(0, u64::saturating_add)
}

/// A structure as it is written: its formatted part, and its texts behind that (section 6.1).
struct Structure {
    formatted: Vec<u8>,
    texts: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self {
            formatted: Vec::from([kind, 0, low, high]),
            texts: Vec::new(),
            count: 0,
        }
    }

    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.formatted.extend(field);
    }

    /// A field that refers to a text by its number; 0 is none.
    fn text(&mut self, text: Option<&str>) {
        let number = text.map_or(0, |text| {
            self.texts.extend(text.bytes().chain([0]));
            self.count = self.count.saturating_add(1);
            self.count
        });
        self.formatted.push(number);
    }

    /// Ends it, behind the last of `all`.
    fn end(mut self, all: &mut Vec<u8>) {
        let len = u8::try_from(self.formatted.len()).expect("the largest has 40 bytes");
        if let Some(told) = self.formatted.get_mut(1) {
            *told = len;
        }
        all.extend(self.formatted);
        if self.texts.is_empty() {
            all.push(0);
        }
        all.extend(self.texts);
        all.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;

    use alloc::vec;
    use firstlight_base::GIB;
    use std::process::Command;

    const AT: Gpa = Gpa::new(0xf_5000);

    /// Type, formatted part and texts of each structure, read as Linux does (`dmi_decode_table`).
    fn read(system: &Smbios, platform: &Pc) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let bytes = tables(system, platform, AT);
        let entry = &bytes[..24];
        assert_eq!(&entry[..5], b"_SM3_");
        assert_eq!(
            entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
            0
        );
        assert_eq!((entry[6], &entry[7..11]), (24, &[3, 7, 0, 1][..]));
        assert_eq!(entry[16..24], 0xf_5020_u64.to_le_bytes());
        let mut rest = &bytes[32..];
        assert_eq!(
            entry[12..16],
            u32::try_from(rest.len()).unwrap().to_le_bytes()
        );
        let mut found = vec![];
        while !rest.is_empty() {
            let (formatted, behind) = rest.split_at(rest[1].into());
            let end = behind.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let texts = behind[..end].split(|byte| *byte == 0);
            let texts = texts.filter(|text| !text.is_empty());
            let texts = texts.map(|text| String::from_utf8(text.to_vec()).unwrap());
            found.push((formatted[0], formatted.to_vec(), texts.collect()));
            rest = &behind[end + 2..];
        }
        found
    }

    fn full() -> Smbios {
        let text = SmbiosText::new;
        Smbios {
            manufacturer: text("Maker"),
            product: text("Product 1"),
            version: text("v2"),
            serial: text("S3"),
            uuid: Some(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"),
            sku: text("sku 4"),
            family: text("Family"),
        }
    }

    #[test]
    fn what_a_user_says_is_in_the_system_structure() {
        let found = read(&full(), &Pc::new(512 * MIB, 1));
        let kinds: Vec<_> = found.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [0, 1, 3, 16, 17, 19, 127]);
        let (_, formatted, texts) = &found[1];
        assert_eq!(formatted.len(), 27);
        assert_eq!(formatted[4..8], [1, 2, 3, 4]);
        assert_eq!(
            formatted[8..16],
            [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]
        );
        assert_eq!(
            formatted[16..24],
            [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]
        );
        assert_eq!(formatted[24..], [6, 5, 6]);
        assert_eq!(
            *texts,
            ["Maker", "Product 1", "v2", "S3", "sku 4", "Family"]
        );
    }

    #[test]
    fn what_is_not_said_is_not_there() {
        let found = read(&Smbios::default(), &Pc::new(512 * MIB, 1));
        let (_, formatted, texts) = &found[1];
        assert_eq!(formatted[4..8], [1, 0, 0, 0]);
        assert_eq!(formatted[8..24], [0; 16]);
        assert_eq!(*texts, ["Firstlight"]);
    }

    #[test]
    fn structures_have_the_lengths_of_the_specification() {
        let found = read(&full(), &Pc::new(5 * GIB, 1));
        let lens: Vec<_> = found
            .iter()
            .map(|(kind, text, _)| (*kind, text.len()))
            .collect();
        let expected = [
            (0, 26),
            (1, 27),
            (3, 22),
            (16, 23),
            (17, 40),
            (19, 31),
            (19, 31),
            (127, 4),
        ];
        assert_eq!(lens, expected);
    }

    #[test]
    fn memory_of_every_size_is_told() {
        let told = |memory| {
            let found = read(&Smbios::default(), &Pc::new(memory, 1));
            let (array, device) = (found[3].1.clone(), found[4].1.clone());
            (
                array[7..11].to_vec(),
                device[12..14].to_vec(),
                device[28..32].to_vec(),
            )
        };
        let (array, device, larger) = told(512 * MIB);
        assert_eq!(array, (512_u32 << 10).to_le_bytes());
        assert_eq!((device, larger), ([0, 2].to_vec(), [0; 4].to_vec()));
        let (array, device, larger) = told(1 << 45);
        assert_eq!(array, [0, 0, 0, 0x80]);
        assert_eq!(
            (device, larger),
            ([0xff, 0x7f].to_vec(), [0, 0, 0, 2].to_vec())
        );
    }

    /// What dmidecode writes of a machine into a file has the entry point at 0 and the structures at 32.
    #[test]
    fn dmidecode_reads_what_a_user_says() {
        let file = std::env::temp_dir().join(std::format!("firstlight-dmi-{}", std::process::id()));
        let bytes = tables(&full(), &Pc::new(5 * GIB, 1), Gpa::new(0));
        std::fs::write(&file, bytes).unwrap();
        let output = Command::new("dmidecode")
            .arg("--from-dump")
            .arg(&file)
            .output();
        std::fs::remove_file(&file).unwrap();
        let Ok(output) = output else {
            std::eprintln!("skipped: there is no dmidecode on this machine");
            return;
        };
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        for told in [
            "SMBIOS 3.7.0 present",
            "Manufacturer: Maker",
            "Product Name: Product 1",
            "Serial Number: S3",
            "UUID: 00112233-4455-6677-8899-aabbccddeeff",
            "SKU Number: sku 4",
            "Maximum Capacity: 5 GB",
            "Range Size: 3 GB",
            "System is a virtual machine",
            "End Of Table",
        ] {
            assert!(said.contains(told), "{told} is missing:\n{said}");
        }
        for wrong in ["Wrong", "Invalid", "truncated", "<BAD", "<OUT OF SPEC>"] {
            assert!(!said.contains(wrong), "{said}");
        }
    }

    #[test]
    fn a_text_has_no_end_in_it() {
        for wrong in ["", "a\0b", "tab\t", "\u{e4}", &"x".repeat(256)] {
            assert_eq!(SmbiosText::new(wrong), None, "{wrong}");
        }
        assert!(SmbiosText::new(&"x".repeat(255)).is_some());
    }
}

//! The zero page, `struct boot_params`: what a Linux/x86 kernel is told
//! (`Documentation/arch/x86/boot.rst` and `zero-page.rst`).

use crate::loader::bootparam::{
    E820_MAX_ENTRIES_ZEROPAGE, KASLR_FLAG, LOADED_HIGH, boot_e820_entry, boot_params,
};
use crate::{E820Entry, Subarch};
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;
use firstlight_base::{Gpa, GpaRange};

/// `sizeof(struct boot_params)`.
pub(crate) const LEN: u64 = size_of::<boot_params>() as u64;

/// Where the setup header begins, in the file as in the zero page.
const SETUP_HEADER: usize = offset_of!(boot_params, hdr);
/// The most bytes a setup header may have before it would run into `edd_mbr_sig_buffer`.
const SETUP_HEADER_MAX: usize = SETUP_HEADER_END - SETUP_HEADER;
/// Where `edd_mbr_sig_buffer` begins.
const SETUP_HEADER_END: usize = offset_of!(boot_params, edd_mbr_sig_buffer);

pub(crate) const ACPI_RSDP_ADDR: usize = offset_of!(boot_params, acpi_rsdp_addr);
pub(crate) const EXT_RAMDISK_IMAGE: usize = offset_of!(boot_params, ext_ramdisk_image);
pub(crate) const EXT_RAMDISK_SIZE: usize = offset_of!(boot_params, ext_ramdisk_size);
const EXT_CMD_LINE_PTR: usize = offset_of!(boot_params, ext_cmd_line_ptr);
pub(crate) const E820_ENTRIES: usize = offset_of!(boot_params, e820_entries);
const BOOT_FLAG: usize = offset_of!(boot_params, hdr.boot_flag);
const HEADER: usize = offset_of!(boot_params, hdr.header);
const VERSION: usize = offset_of!(boot_params, hdr.version);
const TYPE_OF_LOADER: usize = offset_of!(boot_params, hdr.type_of_loader);
pub(crate) const LOADFLAGS: usize = offset_of!(boot_params, hdr.loadflags);
pub(crate) const CODE32_START: usize = offset_of!(boot_params, hdr.code32_start);
pub(crate) const RAMDISK_IMAGE: usize = offset_of!(boot_params, hdr.ramdisk_image);
pub(crate) const RAMDISK_SIZE: usize = offset_of!(boot_params, hdr.ramdisk_size);
const EXT_LOADER_VER: usize = offset_of!(boot_params, hdr.ext_loader_ver);
pub(crate) const CMD_LINE_PTR: usize = offset_of!(boot_params, hdr.cmd_line_ptr);
const KERNEL_ALIGNMENT: usize = offset_of!(boot_params, hdr.kernel_alignment);
const CMDLINE_SIZE: usize = offset_of!(boot_params, hdr.cmdline_size);
const HARDWARE_SUBARCH: usize = offset_of!(boot_params, hdr.hardware_subarch);
const HARDWARE_SUBARCH_DATA: usize = offset_of!(boot_params, hdr.hardware_subarch_data);
const SETUP_DATA: usize = offset_of!(boot_params, hdr.setup_data);
pub(crate) const E820_TABLE: usize = offset_of!(boot_params, e820_table);
/// How many entries the table in the zero page has room for.
pub(crate) const E820_MAX: usize = E820_MAX_ENTRIES_ZEROPAGE;
/// `sizeof(struct boot_e820_entry)`.
pub(crate) const E820_ENTRY: usize = size_of::<boot_e820_entry>();

/// A loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// What the kernel is told, beside what its own header says.
#[derive(Debug)]
pub(crate) struct ZeroPage<'a> {
    /// The image's setup header, from offset 0x1f1 to its end; empty for a kernel without one.
    pub(crate) setup_header: &'a [u8],
    /// What the loader writes into the header.
    pub(crate) fields: Fields,
    /// The ACPI root pointer.
    pub(crate) rsdp: Gpa,
    /// The memory map.
    pub(crate) e820: &'a [E820Entry],
}

/// What the loader writes into the setup header, wherever that lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    /// Where the kernel has been loaded.
    pub(crate) load: Gpa,
    /// What the kernel aligns itself to, where that is not what its header says.
    pub(crate) alignment: Option<u32>,
    /// Whether the kernel's addresses have been chosen at random.
    pub(crate) randomised: bool,
    /// The command line, NUL-terminated.
    pub(crate) cmdline: Gpa,
    /// The initial ramdisk.
    pub(crate) initrd: Option<GpaRange>,
    /// The first `setup_data` node.
    pub(crate) setup_data: Gpa,
    /// What the kernel runs on that is no PC.
    pub(crate) subarch: Option<Subarch>,
}

impl ZeroPage<'_> {
    /// The 4096 bytes. What is not written is 0: no screen (`screen_info`), no EFI, and a
    /// `sentinel` that keeps the kernel from wiping what it has been told.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = Page(vec![0; 4096]);
        if self.setup_header.is_empty() {
            page.made_up_header();
        } else {
            let len = self.setup_header.len().min(SETUP_HEADER_MAX);
            page.put(
                SETUP_HEADER,
                self.setup_header.get(..len).unwrap_or_default(),
            );
        }
        self.fields.write(&mut page.0, SETUP_HEADER_END);
        page.high(EXT_CMD_LINE_PTR, self.fields.cmdline.get());
        if let Some(initrd) = self.fields.initrd {
            page.high(EXT_RAMDISK_IMAGE, initrd.start().get());
            page.high(EXT_RAMDISK_SIZE, initrd.len());
        }
        page.put(ACPI_RSDP_ADDR, &self.rsdp.get().to_le_bytes());
        page.e820(self.e820);
        page.0
    }
}

impl Fields {
    /// Writes the fields of `bytes`, which begin 0x1f1 before the header, as files and the zero
    /// page do; none that reaches behind `end`, where an older header ends.
    pub(crate) fn write(&self, bytes: &mut [u8], end: usize) {
        let mut header = Header { bytes, end };
        header.put(TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
        // They say which loader, where its type has no number for it.
        header.put(EXT_LOADER_VER, &[0, 0]);
        header.low(CODE32_START, self.load.get());
        header.low(CMD_LINE_PTR, self.cmdline.get());
        if let Some(initrd) = self.initrd {
            header.low(RAMDISK_IMAGE, initrd.start().get());
            header.low(RAMDISK_SIZE, initrd.len());
        }
        // The unpacking code tells the kernel by a flag whether it may place other memory at
        // random too; a kernel that the host has unpacked is told so here.
        let flags = header
            .bytes
            .get(LOADFLAGS)
            .map_or(0, |flags| flags & !KASLR_FLAG);
        let randomised = if self.randomised { KASLR_FLAG } else { 0 };
        header.put(LOADFLAGS, &[flags | randomised]);
        if let Some(alignment) = self.alignment {
            header.low(KERNEL_ALIGNMENT, alignment.into());
        }
        if let Some(subarch) = self.subarch {
            header.low(HARDWARE_SUBARCH, subarch.number.into());
            header.put(HARDWARE_SUBARCH_DATA, &subarch.data.to_le_bytes());
        }
        header.put(SETUP_DATA, &self.setup_data.get().to_le_bytes());
    }
}

/// A setup header inside of what it lies in.
struct Header<'a> {
    bytes: &'a mut [u8],
    end: usize,
}

impl Header<'_> {
    fn put(&mut self, at: usize, field: &[u8]) {
        let end = at.saturating_add(field.len());
        if end <= self.end
            && let Some(place) = self.bytes.get_mut(at..end)
        {
            place.copy_from_slice(field);
        }
    }

    fn low(&mut self, at: usize, value: u64) {
        self.put(at, &low(value));
    }
}

/// The low half of `value`, little-endian.
fn low(value: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = value.to_le_bytes();
    [a, b, c, d]
}

struct Page(Vec<u8>);

impl Page {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn high(&mut self, at: usize, value: u64) {
        self.put(at, &low(value >> 32));
    }

    /// A vmlinux has no setup header, but the kernel reads a few of its fields.
    fn made_up_header(&mut self) {
        const PROTOCOL_2_15: u16 = 0x020f;
        const COMMAND_LINE_MAX: u32 = 2047;
        const ALIGNMENT: u32 = 0x20_0000;
        self.put(BOOT_FLAG, &0xaa55_u16.to_le_bytes());
        self.put(HEADER, b"HdrS");
        self.put(VERSION, &PROTOCOL_2_15.to_le_bytes());
        self.put(LOADFLAGS, &[LOADED_HIGH]);
        self.put(KERNEL_ALIGNMENT, &ALIGNMENT.to_le_bytes());
        self.put(CMDLINE_SIZE, &COMMAND_LINE_MAX.to_le_bytes());
    }

    fn e820(&mut self, entries: &[E820Entry]) {
        let entries = entries.get(..E820_MAX).unwrap_or(entries);
        let count = u8::try_from(entries.len()).expect("128 fits a byte");
        self.put(E820_ENTRIES, &[count]);
        self.put(E820_TABLE, &encode_e820(entries));
    }
}

/// `struct boot_e820_entry`, packed, for each of `entries`.
pub(crate) fn encode_e820(entries: &[E820Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len().saturating_mul(E820_ENTRY));
    for entry in entries {
        bytes.extend(entry.range.start().get().to_le_bytes());
        bytes.extend(entry.range.len().to_le_bytes());
        bytes.extend((entry.kind as u32).to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::E820Kind;
    use crate::draft::range;
    use firstlight_base::Reader;

    fn page(setup_header: &[u8]) -> Vec<u8> {
        ZeroPage {
            setup_header,
            fields: Fields {
                load: Gpa::new(0x100_0000),
                alignment: None,
                randomised: false,
                cmdline: Gpa::new(0x9000),
                initrd: GpaRange::new(Gpa::new(0x1_2345_6000), 0x1_0000_0001),
                setup_data: Gpa::new(0xa000),
                subarch: None,
            },
            rsdp: Gpa::new(0x9_f000),
            e820: &[E820Entry {
                range: range(0x1000, 0x3000),
                kind: E820Kind::Ram,
            }],
        }
        .encode()
    }

    #[test]
    fn the_header_is_copied_and_nothing_beyond_its_room() {
        let page = page(&[0xee; 0x200]);
        assert_eq!(page.len(), 4096);
        assert_eq!(page[0x1f0], 0);
        assert_eq!(page[0x1f1], 0xee);
        assert_eq!(page[0x28f], 0xee);
        assert_eq!(page[0x290], 0);
    }

    #[test]
    fn the_sentinel_stays_zero_so_that_no_field_is_wiped() {
        assert_eq!(page(&[0xff; 0x7b])[0x1ef], 0);
    }

    #[test]
    fn a_ramdisk_above_4_gib_has_its_high_halves_written() {
        let page = page(&[0; 0x7b]);
        let read = Reader::new(&page);
        assert_eq!(read.u32_le(0x218), Ok(0x2345_6000));
        assert_eq!(read.u32_le(0x0c0), Ok(1));
        assert_eq!(read.u32_le(0x21c), Ok(1));
        assert_eq!(read.u32_le(0x0c4), Ok(1));
    }

    #[test]
    fn the_loader_has_a_number_or_linux_ignores_the_ramdisk() {
        assert_eq!(page(&[0; 0x7b])[0x210], 0xff);
    }

    #[test]
    fn memory_map_entries_are_packed_in_20_bytes() {
        let page = page(&[]);
        let read = Reader::new(&page);
        assert_eq!(page[0x1e8], 1);
        assert_eq!(read.u64_le(0x2d0), Ok(0x1000));
        assert_eq!(read.u64_le(0x2d8), Ok(0x2000));
        assert_eq!(read.u32_le(0x2e0), Ok(1));
        assert_eq!(read.u64_le(0x2e4), Ok(0));
    }

    #[test]
    fn a_kernel_without_a_header_gets_one_that_it_accepts() {
        let page = page(&[]);
        let read = Reader::new(&page);
        assert_eq!(read.u16_le(0x1fe), Ok(0xaa55));
        assert_eq!(read.slice(0x202, 4).unwrap(), b"HdrS");
        assert_eq!(read.u16_le(0x206), Ok(0x20f));
    }
}

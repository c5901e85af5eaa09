//! What a PVH guest is told (Xen's `include/public/arch-x86/hvm/start_info.h`), under the names of
//! that file.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What `hvm_start_info.magic` holds: `xEn3` with the top bit of the first byte set.
pub const XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;

/// RAM that the guest may use.
pub const XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
/// Not to be used.
pub const XEN_HVM_MEMMAP_TYPE_RESERVED: u32 = 2;
/// ACPI tables: RAM once they have been read.
pub const XEN_HVM_MEMMAP_TYPE_ACPI: u32 = 3;
/// ACPI non-volatile storage.
pub const XEN_HVM_MEMMAP_TYPE_NVS: u32 = 4;
/// Memory with errors.
pub const XEN_HVM_MEMMAP_TYPE_UNUSABLE: u32 = 5;
/// Memory that is not enabled.
pub const XEN_HVM_MEMMAP_TYPE_DISABLED: u32 = 6;
/// Persistent memory.
pub const XEN_HVM_MEMMAP_TYPE_PMEM: u32 = 7;

/// What the guest finds at the address in EBX. An address of 0 means that there is no such thing.
///
/// Version 0 ends behind `rsdp_paddr`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct hvm_start_info {
    /// [`XEN_HVM_START_MAGIC_VALUE`].
    pub magic: u32,
    /// 0 or 1: whether the memory map is told.
    pub version: u32,
    /// Bit 0: a privileged domain (`SIF_PRIVILEGED`); bit 1: the first (`SIF_INITDOMAIN`).
    pub flags: u32,
    /// How many [`hvm_modlist_entry`] there are.
    pub nr_modules: u32,
    /// Where they are.
    pub modlist_paddr: u64,
    /// Where the command line is, which ends with a NUL.
    pub cmdline_paddr: u64,
    /// Where ACPI's root pointer is.
    pub rsdp_paddr: u64,
    /// Where the [`hvm_memmap_table_entry`] are (version 1).
    pub memmap_paddr: u64,
    /// How many of them there are (version 1); with 0, no map is told.
    pub memmap_entries: u32,
    /// Zero (version 1).
    pub reserved: u32,
}

/// A file that the guest is handed; for Linux, the first is its initial ramdisk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct hvm_modlist_entry {
    /// Where it is.
    pub paddr: u64,
    /// How many bytes it has.
    pub size: u64,
    /// Where its own command line is.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}

/// A line of the memory map.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct hvm_memmap_table_entry {
    /// The first address that it speaks of.
    pub addr: u64,
    /// How many bytes.
    pub size: u64,
    /// What they are: one of the `XEN_HVM_MEMMAP_TYPE_` values, which are those of e820.
    pub type_: u32,
    /// Zero.
    pub reserved: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn every_field_lies_where_xens_header_has_it() {
        assert_eq!(size_of::<hvm_start_info>(), 56);
        assert_eq!(offset_of!(hvm_start_info, magic), 0);
        assert_eq!(offset_of!(hvm_start_info, version), 4);
        assert_eq!(offset_of!(hvm_start_info, flags), 8);
        assert_eq!(offset_of!(hvm_start_info, nr_modules), 12);
        assert_eq!(offset_of!(hvm_start_info, modlist_paddr), 16);
        assert_eq!(offset_of!(hvm_start_info, cmdline_paddr), 24);
        assert_eq!(offset_of!(hvm_start_info, rsdp_paddr), 32);
        assert_eq!(offset_of!(hvm_start_info, memmap_paddr), 40);
        assert_eq!(offset_of!(hvm_start_info, memmap_entries), 48);
        assert_eq!(offset_of!(hvm_start_info, reserved), 52);

        assert_eq!(size_of::<hvm_modlist_entry>(), 32);
        assert_eq!(offset_of!(hvm_modlist_entry, paddr), 0);
        assert_eq!(offset_of!(hvm_modlist_entry, size), 8);
        assert_eq!(offset_of!(hvm_modlist_entry, cmdline_paddr), 16);
        assert_eq!(offset_of!(hvm_modlist_entry, reserved), 24);

        assert_eq!(size_of::<hvm_memmap_table_entry>(), 24);
        assert_eq!(offset_of!(hvm_memmap_table_entry, addr), 0);
        assert_eq!(offset_of!(hvm_memmap_table_entry, size), 8);
        assert_eq!(offset_of!(hvm_memmap_table_entry, type_), 16);
        assert_eq!(offset_of!(hvm_memmap_table_entry, reserved), 20);
    }

    #[test]
    fn values_are_written_lowest_byte_first() {
        let info = hvm_start_info {
            magic: XEN_HVM_START_MAGIC_VALUE,
            memmap_entries: 3,
            ..hvm_start_info::default()
        };
        let bytes = info.as_bytes();
        assert_eq!(&bytes[..4], b"\x78\xc5\x6e\x33");
        assert_eq!(bytes[48], 3);
        assert_eq!(hvm_start_info::read_from_bytes(bytes), Ok(info));
    }
}

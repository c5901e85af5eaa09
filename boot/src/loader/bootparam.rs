//! The zero page (`struct boot_params`) and what it is made of, under the names of the kernel's
//! `arch/x86/include/uapi/asm/bootparam.h`; what the fields mean is told in
//! `Documentation/arch/x86/boot.rst` and `zero-page.rst`.
//!
//! The values are packed: a field is read and written by value, as in `params.hdr.version`, and a
//! reference to one exists only where it needs no alignment.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// No node's type.
pub const SETUP_NONE: u32 = 0;
/// Lines of the memory map that the zero page has no room for.
pub const SETUP_E820_EXT: u32 = 1;
/// A device tree.
pub const SETUP_DTB: u32 = 2;
/// A PCI device's ROM.
pub const SETUP_PCI: u32 = 3;
/// What a kernel handed on of EFI to the next (kexec).
pub const SETUP_EFI: u32 = 4;
/// Properties of devices, of Apple's firmware.
pub const SETUP_APPLE_PROPERTIES: u32 = 5;
/// What the Jailhouse hypervisor tells its guests.
pub const SETUP_JAILHOUSE: u32 = 6;
/// Where confidential computing's secrets and CPUID tables are.
pub const SETUP_CC_BLOB: u32 = 7;
/// A log of integrity measurements (kexec).
pub const SETUP_IMA: u32 = 8;
/// Random bytes, wiped when they have been read.
pub const SETUP_RNG_SEED: u32 = 9;
/// What a kernel hands on to the next (kexec handover).
pub const SETUP_KEXEC_KHO: u32 = 10;
/// The highest type.
pub const SETUP_ENUM_MAX: u32 = SETUP_KEXEC_KHO;
/// The node says where its data is, instead of having it.
pub const SETUP_INDIRECT: u32 = 1 << 31;
/// The highest type, told indirectly.
pub const SETUP_TYPE_MAX: u32 = SETUP_ENUM_MAX | SETUP_INDIRECT;

/// The kernel is loaded at 1 MiB or above.
pub const LOADED_HIGH: u8 = 1 << 0;
/// The kernel's own: whether its addresses are random.
pub const KASLR_FLAG: u8 = 1 << 1;
/// The kernel's early code is to print nothing.
pub const QUIET_FLAG: u8 = 1 << 5;
/// Obsolete.
pub const KEEP_SEGMENTS: u8 = 1 << 6;
/// `heap_end_ptr` is valid.
pub const CAN_USE_HEAP: u8 = 1 << 7;

/// There is a 64-bit entry at 0x200.
pub const XLF_KERNEL_64: u16 = 1 << 0;
/// Kernel, command line and ramdisk may lie above 4 GiB.
pub const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// There is a 32-bit EFI handover entry.
pub const XLF_EFI_HANDOVER_32: u16 = 1 << 2;
/// There is a 64-bit EFI handover entry.
pub const XLF_EFI_HANDOVER_64: u16 = 1 << 3;
/// A kernel started by kexec can use EFI's runtime services.
pub const XLF_EFI_KEXEC: u16 = 1 << 4;
/// The kernel can be entered with five levels of page tables.
pub const XLF_5LEVEL: u16 = 1 << 5;
/// The kernel uses five levels of page tables.
pub const XLF_5LEVEL_ENABLED: u16 = 1 << 6;
/// The kernel is built for encrypted memory.
pub const XLF_MEM_ENCRYPTION: u16 = 1 << 7;

/// Where on its device a ramdisk begins.
pub const RAMDISK_IMAGE_START_MASK: u16 = 0x07ff;
/// Ask for the ramdisk's disk.
pub const RAMDISK_PROMPT_FLAG: u16 = 0x8000;
/// Load a ramdisk.
pub const RAMDISK_LOAD_FLAG: u16 = 0x4000;

/// How many lines of the memory map the zero page has room for.
pub const E820_MAX_ENTRIES_ZEROPAGE: usize = 128;
/// How many disks' signatures it has room for.
pub const EDD_MBR_SIG_MAX: usize = 16;
/// How many disks' parameters it has room for.
pub const EDDMAXNR: usize = 6;
/// How many kinds of platform [`x86_hardware_subarch`] has.
pub const X86_NR_SUBARCHS: u32 = 5;

/// What `setup_header.hardware_subarch` says the platform is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
#[expect(non_camel_case_types, reason = "the names of the kernel's header")]
pub enum x86_hardware_subarch {
    /// A PC.
    #[default]
    X86_SUBARCH_PC = 0,
    /// The lguest hypervisor, which is no more.
    X86_SUBARCH_LGUEST = 1,
    /// Xen.
    X86_SUBARCH_XEN = 2,
    /// Intel's Moorestown and its successors.
    X86_SUBARCH_INTEL_MID = 3,
    /// Intel's CE4100.
    X86_SUBARCH_CE4100 = 4,
}

/// The screen as firmware or boot loader left it (`include/uapi/linux/screen_info.h`).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
#[expect(non_snake_case, reason = "a name of the kernel's header")]
pub struct screen_info {
    /// The cursor's column.
    pub orig_x: u8,
    /// The cursor's row.
    pub orig_y: u8,
    /// KiB above 1 MiB, as a BIOS counts.
    pub ext_mem_k: u16,
    /// The page of text memory that is shown.
    pub orig_video_page: u16,
    /// The BIOS's video mode.
    pub orig_video_mode: u8,
    /// Columns of text.
    pub orig_video_cols: u8,
    /// Bit 0: the cursor is not to be shown.
    pub flags: u8,
    /// Not used.
    pub unused2: u8,
    /// What the BIOS says about an EGA.
    pub orig_video_ega_bx: u16,
    /// Not used.
    pub unused3: u16,
    /// Rows of text.
    pub orig_video_lines: u8,
    /// What kind of screen: 1 a VGA, 0x23 a VESA frame buffer, 0x70 EFI's.
    pub orig_video_isVGA: u8,
    /// Scan lines of a character.
    pub orig_video_points: u16,
    /// The frame buffer's pixels across.
    pub lfb_width: u16,
    /// And down.
    pub lfb_height: u16,
    /// Bits of a pixel.
    pub lfb_depth: u16,
    /// Where the frame buffer is, low half.
    pub lfb_base: u32,
    /// How large it is.
    pub lfb_size: u32,
    /// 0xa33f where `cl_offset` is valid (protocols before 2.02).
    pub cl_magic: u16,
    /// Where in its segment the command line is (protocols before 2.02).
    pub cl_offset: u16,
    /// Bytes from one line of the frame buffer to the next.
    pub lfb_linelength: u16,
    /// Bits of red.
    pub red_size: u8,
    /// The lowest of them.
    pub red_pos: u8,
    /// Bits of green.
    pub green_size: u8,
    /// The lowest of them.
    pub green_pos: u8,
    /// Bits of blue.
    pub blue_size: u8,
    /// The lowest of them.
    pub blue_pos: u8,
    /// Bits of nothing.
    pub rsvd_size: u8,
    /// The lowest of them.
    pub rsvd_pos: u8,
    /// The segment of VESA's protected-mode interface.
    pub vesapm_seg: u16,
    /// The offset of it.
    pub vesapm_off: u16,
    /// How many pages the frame buffer has.
    pub pages: u16,
    /// What VESA says of the mode.
    pub vesa_attributes: u16,
    /// Bit 1: `ext_lfb_base` is valid.
    pub capabilities: u32,
    /// Where the frame buffer is, high half.
    pub ext_lfb_base: u32,
    /// Zero.
    pub _reserved: [u8; 2],
}

/// The BIOS's power management (`include/uapi/linux/apm_bios.h`).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct apm_bios_info {
    /// Its version; 0 where there is none.
    pub version: u16,
    /// The 32-bit code segment.
    pub cseg: u16,
    /// The entry in it.
    pub offset: u32,
    /// The 16-bit code segment.
    pub cseg_16: u16,
    /// The data segment.
    pub dseg: u16,
    /// What it can do.
    pub flags: u16,
    /// Bytes of the 32-bit code segment.
    pub cseg_len: u16,
    /// Bytes of the 16-bit one.
    pub cseg_16_len: u16,
    /// Bytes of the data segment.
    pub dseg_len: u16,
}

/// Intel's SpeedStep, as the BIOS tells of it (`asm/ist.h`).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct ist_info {
    /// What the BIOS answers with; 0 where it knows no SpeedStep.
    pub signature: u32,
    /// The command and its port.
    pub command: u32,
    /// The event's port.
    pub event: u32,
    /// The level of performance.
    pub perf_level: u32,
}

/// The BIOS's system description, of the days of the MCA bus.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct sys_desc_table {
    /// Bytes that follow.
    pub length: u16,
    /// The description.
    pub table: [u8; 14],
}

/// The Open Firmware of the One Laptop per Child.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct olpc_ofw_header {
    /// `OFW `.
    pub ofw_magic: u32,
    /// Its version.
    pub ofw_version: u32,
    /// Its entry.
    pub cif_handler: u32,
    /// Its table of interrupts.
    pub irq_desc_table: u32,
}

/// What the monitor says of itself (`include/uapi/video/edid.h`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C, packed)]
pub struct edid_info {
    /// Its EDID block.
    pub dummy: [u8; 128],
}

impl Default for edid_info {
    /// No monitor: all zero.
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// EFI's system table and memory map.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct efi_info {
    /// `EL32` or `EL64`; 0 where there is no EFI.
    pub efi_loader_signature: u32,
    /// Where the system table is, low half.
    pub efi_systab: u32,
    /// Bytes of a memory descriptor.
    pub efi_memdesc_size: u32,
    /// Its version.
    pub efi_memdesc_version: u32,
    /// Where the memory map is, low half.
    pub efi_memmap: u32,
    /// Bytes of it.
    pub efi_memmap_size: u32,
    /// Where the system table is, high half.
    pub efi_systab_hi: u32,
    /// Where the memory map is, high half.
    pub efi_memmap_hi: u32,
}

/// A line of the memory map.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct boot_e820_entry {
    /// The first address that it speaks of.
    pub addr: u64,
    /// How many bytes.
    pub size: u64,
    /// What they are: 1 RAM, 2 reserved, 3 ACPI tables, 4 ACPI storage, 5 unusable, 7 persistent.
    pub r#type: u32,
}

/// A disk, as the BIOS tells of it (`include/uapi/linux/edd.h`). What are unions there are bytes
/// here.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct edd_device_params {
    /// Bytes that the BIOS has filled in.
    pub length: u16,
    /// What is valid.
    pub info_flags: u16,
    /// Cylinders.
    pub num_default_cylinders: u32,
    /// Heads.
    pub num_default_heads: u32,
    /// Sectors of a track.
    pub sectors_per_track: u32,
    /// Sectors of the disk.
    pub number_of_sectors: u64,
    /// Bytes of a sector.
    pub bytes_per_sector: u16,
    /// Where the device's parameter table is, segment and offset.
    pub dpte_ptr: u32,
    /// 0xbedd where the rest is valid.
    pub key: u16,
    /// Bytes of the rest.
    pub device_path_info_length: u8,
    /// Zero.
    pub reserved2: u8,
    /// Zero.
    pub reserved3: u16,
    /// `PCI ` or `ISA `.
    pub host_bus_type: [u8; 4],
    /// `ATA`, `SCSI`, `USB`, ...
    pub interface_type: [u8; 8],
    /// Which controller.
    pub interface_path: [u8; 8],
    /// Which device of it.
    pub device_path: [u8; 16],
    /// Zero.
    pub reserved4: u8,
    /// Makes the sum of the rest 0.
    pub checksum: u8,
}

/// A disk that the BIOS knows.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct edd_info {
    /// Its number: 0x80 for the first.
    pub device: u8,
    /// The BIOS interface's version.
    pub version: u8,
    /// What the interface can do.
    pub interface_support: u16,
    /// The last cylinder.
    pub legacy_max_cylinder: u16,
    /// The last head.
    pub legacy_max_head: u8,
    /// Sectors of a track.
    pub legacy_sectors_per_track: u8,
    /// All else.
    pub params: edd_device_params,
}

/// The kernel's header: from offset 0x1f1 of the file, and of the zero page.
///
/// A file's header may be shorter: it ends at 0x202 plus the byte at 0x201, and what lies behind
/// that end is something else.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C, packed)]
pub struct setup_header {
    /// Sectors of set-up code behind the first; 0 means 4.
    pub setup_sects: u8,
    /// Whether the root is mounted read-only, of old.
    pub root_flags: u16,
    /// The protected-mode part in units of 16 bytes.
    pub syssize: u32,
    /// Not used.
    pub ram_size: u16,
    /// The video mode: 0xffff the normal one.
    pub vid_mode: u16,
    /// The root device, of old.
    pub root_dev: u16,
    /// 0xaa55.
    pub boot_flag: u16,
    /// A jump over the header: its second byte tells where the header ends.
    pub jump: u16,
    /// `HdrS`.
    pub header: u32,
    /// The protocol: major number in the high byte.
    pub version: u16,
    /// A hook of 16-bit loaders.
    pub realmode_swtch: u32,
    /// Obsolete.
    pub start_sys_seg: u16,
    /// Where in the file the version is told, less 0x200.
    pub kernel_version: u16,
    /// Who loads; 0xff is nobody in particular. With 0, Linux takes no ramdisk.
    pub type_of_loader: u8,
    /// [`LOADED_HIGH`] and its like.
    pub loadflags: u8,
    /// For protocols before 2.02.
    pub setup_move_size: u16,
    /// Where the kernel is loaded: whoever moves it writes it.
    pub code32_start: u32,
    /// Where the ramdisk is, low half.
    pub ramdisk_image: u32,
    /// How large it is, low half.
    pub ramdisk_size: u32,
    /// Not used.
    pub bootsect_kludge: u32,
    /// The end of the 16-bit code's heap, less 0x200.
    pub heap_end_ptr: u16,
    /// More of who loads.
    pub ext_loader_ver: u8,
    /// And more.
    pub ext_loader_type: u8,
    /// Where the command line is, low half.
    pub cmd_line_ptr: u32,
    /// The highest address that the ramdisk's last byte may have.
    pub initrd_addr_max: u32,
    /// What the kernel's address has to be a multiple of.
    pub kernel_alignment: u32,
    /// Whether the kernel may be loaded elsewhere than it prefers.
    pub relocatable_kernel: u8,
    /// The least alignment that it can do with, as a power of two.
    pub min_alignment: u8,
    /// [`XLF_KERNEL_64`] and its like.
    pub xloadflags: u16,
    /// The longest command line, without its NUL.
    pub cmdline_size: u32,
    /// What the platform is: an [`x86_hardware_subarch`].
    pub hardware_subarch: u32,
    /// What that platform wants to be told.
    pub hardware_subarch_data: u64,
    /// Where in the protected-mode part the compressed kernel is.
    pub payload_offset: u32,
    /// How long it is.
    pub payload_length: u32,
    /// Where the first `setup_data` node is.
    pub setup_data: u64,
    /// Where the kernel prefers to run.
    pub pref_address: u64,
    /// How much memory it needs there while it starts.
    pub init_size: u32,
    /// Where EFI's handover entry is.
    pub handover_offset: u32,
    /// Where in the protected-mode part its `kernel_info` is.
    pub kernel_info_offset: u32,
}

/// The zero page.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C, packed)]
pub struct boot_params {
    /// The screen.
    pub screen_info: screen_info,
    /// The BIOS's power management.
    pub apm_bios_info: apm_bios_info,
    /// Zero.
    pub _pad2: [u8; 4],
    /// Where Intel's tboot left its page.
    pub tboot_addr: u64,
    /// SpeedStep.
    pub ist_info: ist_info,
    /// Where ACPI's root pointer is; with 0, the kernel searches the BIOS's area.
    pub acpi_rsdp_addr: u64,
    /// Zero.
    pub _pad3: [u8; 8],
    /// Obsolete.
    pub hd0_info: [u8; 16],
    /// Obsolete.
    pub hd1_info: [u8; 16],
    /// Obsolete.
    pub sys_desc_table: sys_desc_table,
    /// Open Firmware.
    pub olpc_ofw_header: olpc_ofw_header,
    /// Where the ramdisk is, high half.
    pub ext_ramdisk_image: u32,
    /// How large it is, high half.
    pub ext_ramdisk_size: u32,
    /// Where the command line is, high half.
    pub ext_cmd_line_ptr: u32,
    /// Zero.
    pub _pad4: [u8; 112],
    /// Where confidential computing's blob is.
    pub cc_blob_address: u32,
    /// The monitor.
    pub edid_info: edid_info,
    /// EFI.
    pub efi_info: efi_info,
    /// KiB above 1 MiB, for a kernel that finds fewer than two lines in `e820_table`.
    pub alt_mem_k: u32,
    /// The stack of the 32-bit entry's first instructions: the zero page has to be writable.
    pub scratch: u32,
    /// How many lines of `e820_table` are filled in.
    pub e820_entries: u8,
    /// How many entries of `eddbuf`.
    pub eddbuf_entries: u8,
    /// How many entries of `edd_mbr_sig_buffer`.
    pub edd_mbr_sig_buf_entries: u8,
    /// The keyboard's lights.
    pub kbd_status: u8,
    /// Secure boot: 0 not told, 1 not known, 2 off, 3 on.
    pub secure_boot: u8,
    /// Zero.
    pub _pad5: [u8; 2],
    /// Zero. Where it is not, the kernel clears most fields, because a loader has copied a whole
    /// sector instead of the header.
    pub sentinel: u8,
    /// Zero.
    pub _pad6: [u8; 1],
    /// The kernel's header.
    pub hdr: setup_header,
    /// Room for the header to grow.
    pub _pad7: [u8; 36],
    /// The disks' signatures.
    pub edd_mbr_sig_buffer: [u32; EDD_MBR_SIG_MAX],
    /// The memory map.
    pub e820_table: [boot_e820_entry; E820_MAX_ENTRIES_ZEROPAGE],
    /// Zero.
    pub _pad8: [u8; 48],
    /// The disks.
    pub eddbuf: [edd_info; EDDMAXNR],
    /// Zero.
    pub _pad9: [u8; 276],
}

impl Default for boot_params {
    /// All zero, as boot loaders begin with.
    fn default() -> Self {
        Self::new_zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn every_field_of_the_zero_page_lies_where_the_kernel_has_it() {
        assert_eq!(size_of::<boot_params>(), 4096);
        assert_eq!(offset_of!(boot_params, screen_info), 0x000);
        assert_eq!(offset_of!(boot_params, apm_bios_info), 0x040);
        assert_eq!(offset_of!(boot_params, _pad2), 0x054);
        assert_eq!(offset_of!(boot_params, tboot_addr), 0x058);
        assert_eq!(offset_of!(boot_params, ist_info), 0x060);
        assert_eq!(offset_of!(boot_params, acpi_rsdp_addr), 0x070);
        assert_eq!(offset_of!(boot_params, _pad3), 0x078);
        assert_eq!(offset_of!(boot_params, hd0_info), 0x080);
        assert_eq!(offset_of!(boot_params, hd1_info), 0x090);
        assert_eq!(offset_of!(boot_params, sys_desc_table), 0x0a0);
        assert_eq!(offset_of!(boot_params, olpc_ofw_header), 0x0b0);
        assert_eq!(offset_of!(boot_params, ext_ramdisk_image), 0x0c0);
        assert_eq!(offset_of!(boot_params, ext_ramdisk_size), 0x0c4);
        assert_eq!(offset_of!(boot_params, ext_cmd_line_ptr), 0x0c8);
        assert_eq!(offset_of!(boot_params, _pad4), 0x0cc);
        assert_eq!(offset_of!(boot_params, cc_blob_address), 0x13c);
        assert_eq!(offset_of!(boot_params, edid_info), 0x140);
        assert_eq!(offset_of!(boot_params, efi_info), 0x1c0);
        assert_eq!(offset_of!(boot_params, alt_mem_k), 0x1e0);
        assert_eq!(offset_of!(boot_params, scratch), 0x1e4);
        assert_eq!(offset_of!(boot_params, e820_entries), 0x1e8);
        assert_eq!(offset_of!(boot_params, eddbuf_entries), 0x1e9);
        assert_eq!(offset_of!(boot_params, edd_mbr_sig_buf_entries), 0x1ea);
        assert_eq!(offset_of!(boot_params, kbd_status), 0x1eb);
        assert_eq!(offset_of!(boot_params, secure_boot), 0x1ec);
        assert_eq!(offset_of!(boot_params, _pad5), 0x1ed);
        assert_eq!(offset_of!(boot_params, sentinel), 0x1ef);
        assert_eq!(offset_of!(boot_params, _pad6), 0x1f0);
        assert_eq!(offset_of!(boot_params, hdr), 0x1f1);
        assert_eq!(offset_of!(boot_params, _pad7), 0x26c);
        assert_eq!(offset_of!(boot_params, edd_mbr_sig_buffer), 0x290);
        assert_eq!(offset_of!(boot_params, e820_table), 0x2d0);
        assert_eq!(offset_of!(boot_params, _pad8), 0xcd0);
        assert_eq!(offset_of!(boot_params, eddbuf), 0xd00);
        assert_eq!(offset_of!(boot_params, _pad9), 0xeec);
    }

    #[test]
    fn every_field_of_the_header_lies_where_boot_rst_has_it() {
        const START: usize = offset_of!(boot_params, hdr);
        assert_eq!(START + size_of::<setup_header>(), 0x26c);
        let fields = [
            (0x1f1, offset_of!(setup_header, setup_sects)),
            (0x1f2, offset_of!(setup_header, root_flags)),
            (0x1f4, offset_of!(setup_header, syssize)),
            (0x1f8, offset_of!(setup_header, ram_size)),
            (0x1fa, offset_of!(setup_header, vid_mode)),
            (0x1fc, offset_of!(setup_header, root_dev)),
            (0x1fe, offset_of!(setup_header, boot_flag)),
            (0x200, offset_of!(setup_header, jump)),
            (0x202, offset_of!(setup_header, header)),
            (0x206, offset_of!(setup_header, version)),
            (0x208, offset_of!(setup_header, realmode_swtch)),
            (0x20c, offset_of!(setup_header, start_sys_seg)),
            (0x20e, offset_of!(setup_header, kernel_version)),
            (0x210, offset_of!(setup_header, type_of_loader)),
            (0x211, offset_of!(setup_header, loadflags)),
            (0x212, offset_of!(setup_header, setup_move_size)),
            (0x214, offset_of!(setup_header, code32_start)),
            (0x218, offset_of!(setup_header, ramdisk_image)),
            (0x21c, offset_of!(setup_header, ramdisk_size)),
            (0x220, offset_of!(setup_header, bootsect_kludge)),
            (0x224, offset_of!(setup_header, heap_end_ptr)),
            (0x226, offset_of!(setup_header, ext_loader_ver)),
            (0x227, offset_of!(setup_header, ext_loader_type)),
            (0x228, offset_of!(setup_header, cmd_line_ptr)),
            (0x22c, offset_of!(setup_header, initrd_addr_max)),
            (0x230, offset_of!(setup_header, kernel_alignment)),
            (0x234, offset_of!(setup_header, relocatable_kernel)),
            (0x235, offset_of!(setup_header, min_alignment)),
            (0x236, offset_of!(setup_header, xloadflags)),
            (0x238, offset_of!(setup_header, cmdline_size)),
            (0x23c, offset_of!(setup_header, hardware_subarch)),
            (0x240, offset_of!(setup_header, hardware_subarch_data)),
            (0x248, offset_of!(setup_header, payload_offset)),
            (0x24c, offset_of!(setup_header, payload_length)),
            (0x250, offset_of!(setup_header, setup_data)),
            (0x258, offset_of!(setup_header, pref_address)),
            (0x260, offset_of!(setup_header, init_size)),
            (0x264, offset_of!(setup_header, handover_offset)),
            (0x268, offset_of!(setup_header, kernel_info_offset)),
        ];
        for (number, (documented, ours)) in fields.into_iter().enumerate() {
            assert_eq!(START + ours, documented, "field {number}");
        }
    }

    #[test]
    fn what_the_zero_page_is_made_of_has_the_sizes_of_the_kernels_headers() {
        assert_eq!(size_of::<screen_info>(), 0x40);
        assert_eq!(offset_of!(screen_info, lfb_base), 0x18);
        assert_eq!(offset_of!(screen_info, cl_magic), 0x20);
        assert_eq!(offset_of!(screen_info, ext_lfb_base), 0x3a);
        assert_eq!(size_of::<apm_bios_info>(), 20);
        assert_eq!(size_of::<ist_info>(), 16);
        assert_eq!(size_of::<sys_desc_table>(), 16);
        assert_eq!(size_of::<olpc_ofw_header>(), 16);
        assert_eq!(size_of::<edid_info>(), 128);
        assert_eq!(size_of::<efi_info>(), 32);
        assert_eq!(size_of::<boot_e820_entry>(), 20);
        assert_eq!(size_of::<edd_device_params>(), 74);
        assert_eq!(size_of::<edd_info>(), 82);
    }

    #[test]
    fn a_field_deep_inside_is_found_in_the_bytes() {
        let mut params = boot_params::default();
        params.hdr.kernel_alignment = 0x20_0000;
        params.e820_table[1] = boot_e820_entry {
            addr: 0x10_0000,
            size: 0x700_0000,
            r#type: 2,
        };
        let bytes = params.as_bytes();
        assert_eq!(bytes[0x230..0x234], 0x20_0000_u32.to_le_bytes());
        assert_eq!(bytes[0x2d0 + 20..][..8], 0x10_0000_u64.to_le_bytes());
        assert_eq!(bytes[0x2d0 + 20 + 16], 2);
        assert_eq!(boot_params::read_from_bytes(bytes), Ok(params));
    }
}

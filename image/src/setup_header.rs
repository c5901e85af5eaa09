//! The setup header of a Linux/x86 kernel (`Documentation/arch/x86/boot.rst`, "The Real-Mode
//! Kernel Header").
//!
//! Offsets are those of the document: they count from the start of the file, which are also those
//! of `struct boot_params`.

use bitflags::bitflags;
use core::fmt;
use firstlight_base::Reader;

bitflags! {
    /// `loadflags` (offset 0x211).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct LoadFlags: u8 {
        /// The protected-mode part is loaded at 1 MiB, not at 64 KiB.
        const LOADED_HIGH = 1 << 0;
        /// Kernel internal: addresses were randomised.
        const KASLR = 1 << 1;
        /// Be quiet early.
        const QUIET = 1 << 5;
        /// Obsolete: keep the segment registers.
        const KEEP_SEGMENTS = 1 << 6;
        /// `heap_end_ptr` is valid.
        const CAN_USE_HEAP = 1 << 7;
        const _ = !0;
    }

    /// `xloadflags` (offset 0x236, protocol 2.12).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct XLoadFlags: u16 {
        /// There is a 64-bit entry point at 0x200.
        const KERNEL_64 = 1 << 0;
        /// Kernel, ramdisk, command line and boot parameters may lie above 4 GiB.
        const CAN_BE_LOADED_ABOVE_4G = 1 << 1;
        /// There is a 32-bit EFI handover entry.
        const EFI_HANDOVER_32 = 1 << 2;
        /// There is a 64-bit EFI handover entry.
        const EFI_HANDOVER_64 = 1 << 3;
        /// Kexec with EFI runtime services is possible.
        const EFI_KEXEC = 1 << 4;
        /// The kernel knows five-level paging.
        const FIVE_LEVEL = 1 << 5;
        /// Five-level paging may be on at the entry.
        const FIVE_LEVEL_ENABLED = 1 << 6;
        /// The kernel can run in encrypted memory.
        const MEM_ENCRYPTION = 1 << 7;
        const _ = !0;
    }
}

/// A version of the boot protocol: major in the high byte, minor in the low one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 >> 8, self.0 & 0xff)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The setup header as it stands in the file, with a getter for every field.
///
/// A field that the header's protocol version does not have reads as what the boot document says
/// to assume, or as `None` where it says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SetupHeader {
    bytes: [u8; Self::MAX_LEN],
    len: usize,
}

impl SetupHeader {
    /// Where the header begins, in the file and in the boot parameters.
    pub const START: u64 = 0x1f1;
    /// The magic at 0x202: "HdrS".
    pub const MAGIC: u32 = 0x5372_6448;
    /// The header ends at most here: its end is 0x202 plus one byte's value.
    const MAX_LEN: usize = 0x202 + 0xff - 0x1f1;
    /// The highest address of an initial ramdisk for a kernel that does not say one.
    pub const DEFAULT_INITRD_ADDR_MAX: u32 = 0x37ff_ffff;
    /// The longest command line for a kernel that does not say one.
    pub const DEFAULT_CMDLINE_SIZE: u32 = 255;

    /// The header of `file`, which carries the boot sector's signature and "HdrS".
    ///
    /// `None` where the file ends inside it.
    pub(crate) fn read(file: Reader<'_>) -> Option<Self> {
        let jump_distance = file.u8(0x201).ok()?;
        let end = 0x202_u64.checked_add(u64::from(jump_distance))?;
        let raw = file
            .slice(Self::START, end.checked_sub(Self::START)?)
            .ok()?;
        let mut bytes = [0; Self::MAX_LEN];
        bytes.get_mut(..raw.len())?.copy_from_slice(raw);
        Some(Self {
            bytes,
            len: raw.len(),
        })
    }

    /// The header as it stands in the file, from [`START`](Self::START) to its end: what a loader
    /// copies into the boot parameters, no byte more.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The offset of the first byte behind the header.
    #[must_use]
    pub fn end(&self) -> u64 {
        Self::START.saturating_add(self.len as u64)
    }

    /// Where the fields of this header's protocol version end.
    #[must_use]
    pub(crate) fn fields_end(&self) -> u64 {
        Self::fields_end_of(self.version().0)
    }

    /// Where the fields of a protocol version end.
    pub(crate) const fn fields_end_of(version: u16) -> u64 {
        match version {
            ..=0x200 => 0x224,
            0x201 => 0x226,
            0x202 => 0x22c,
            0x203..=0x204 => 0x230,
            0x205 => 0x235,
            0x206 => 0x23c,
            0x207 => 0x248,
            0x208 => 0x250,
            0x209 => 0x258,
            0x20a => 0x264,
            0x20b..=0x20e => 0x268,
            0x20f.. => 0x26c,
        }
    }

    fn field<const N: usize>(&self, offset: u64, since: u16) -> Option<[u8; N]> {
        if self.version().0 < since {
            return None;
        }
        self.raw(offset)
    }

    fn raw<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        Reader::new(self.bytes())
            .array(offset.checked_sub(Self::START)?)
            .ok()
    }

    fn u8(&self, offset: u64, since: u16) -> Option<u8> {
        self.field(offset, since).map(u8::from_le_bytes)
    }

    fn u16(&self, offset: u64, since: u16) -> Option<u16> {
        self.field(offset, since).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: u64, since: u16) -> Option<u32> {
        self.field(offset, since).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: u64, since: u16) -> Option<u64> {
        self.field(offset, since).map(u64::from_le_bytes)
    }

    /// `version` (0x206).
    #[must_use]
    pub fn version(&self) -> Version {
        Version(self.raw(0x206).map_or(0, u16::from_le_bytes))
    }

    /// `setup_sects` (0x1f1): sectors of real-mode code behind the boot sector; 0 means 4.
    #[must_use]
    pub fn setup_sects(&self) -> u8 {
        match self.u8(0x1f1, 0) {
            None | Some(0) => 4,
            Some(sectors) => sectors,
        }
    }

    /// Bytes of real-mode code, boot sector included: where the protected-mode part begins.
    #[must_use]
    pub fn setup_len(&self) -> u64 {
        u64::from(self.setup_sects())
            .saturating_add(1)
            .saturating_mul(512)
    }

    /// `syssize` (0x1f4): 16-byte units of protected-mode code. Before protocol 2.04 only 16 bits
    /// of it are there, too few for a kernel of 1 MiB.
    #[must_use]
    pub fn syssize(&self) -> u32 {
        match self.u32(0x1f4, 0x204) {
            Some(units) => units,
            None => u32::from(self.u16(0x1f4, 0).unwrap_or(0)),
        }
    }

    /// `kernel_version` (0x20e): 0, or 0x200 less than the offset of the version string.
    #[must_use]
    pub fn kernel_version(&self) -> u16 {
        self.u16(0x20e, 0x200).unwrap_or(0)
    }

    /// `loadflags` (0x211).
    #[must_use]
    pub fn loadflags(&self) -> LoadFlags {
        LoadFlags::from_bits_retain(self.u8(0x211, 0x200).unwrap_or(0))
    }

    /// `code32_start` (0x214): where the 16-bit code jumps to.
    #[must_use]
    pub fn code32_start(&self) -> u32 {
        self.u32(0x214, 0x200).unwrap_or(0)
    }

    /// `initrd_addr_max` (0x22c): the highest address that the ramdisk's last byte may have.
    #[must_use]
    pub fn initrd_addr_max(&self) -> u32 {
        self.u32(0x22c, 0x203)
            .unwrap_or(Self::DEFAULT_INITRD_ADDR_MAX)
    }

    /// `kernel_alignment` (0x230): what the kernel aligns itself to, in bytes.
    #[must_use]
    pub fn kernel_alignment(&self) -> Option<u32> {
        self.u32(0x230, 0x205)
    }

    /// `relocatable_kernel` (0x234): whether the protected-mode part may be loaded anywhere.
    #[must_use]
    pub fn relocatable_kernel(&self) -> bool {
        self.u8(0x234, 0x205).is_some_and(|byte| byte != 0)
    }

    /// `min_alignment` (0x235) in bytes: the least alignment that works; the header has its
    /// logarithm.
    #[must_use]
    pub fn min_alignment(&self) -> Option<u32> {
        1_u32.checked_shl(u32::from(self.min_alignment_log2()?))
    }

    pub(crate) fn min_alignment_log2(&self) -> Option<u8> {
        self.u8(0x235, 0x20a)
    }

    /// `xloadflags` (0x236).
    #[must_use]
    pub fn xloadflags(&self) -> XLoadFlags {
        XLoadFlags::from_bits_retain(self.u16(0x236, 0x20c).unwrap_or(0))
    }

    /// `cmdline_size` (0x238): the longest command line, without its NUL.
    #[must_use]
    pub fn cmdline_size(&self) -> u32 {
        self.u32(0x238, 0x206).unwrap_or(Self::DEFAULT_CMDLINE_SIZE)
    }

    /// `hardware_subarch` (0x23c); 0 is a PC.
    #[must_use]
    pub fn hardware_subarch(&self) -> u32 {
        self.u32(0x23c, 0x207).unwrap_or(0)
    }

    /// `payload_offset` (0x248), from the start of the protected-mode part.
    #[must_use]
    pub fn payload_offset(&self) -> Option<u32> {
        self.u32(0x248, 0x208)
    }

    /// `payload_length` (0x24c), in bytes.
    #[must_use]
    pub fn payload_length(&self) -> Option<u32> {
        self.u32(0x24c, 0x208)
    }

    /// `setup_data` (0x250): the address of the first node; 0 where there is none.
    #[must_use]
    pub fn setup_data(&self) -> u64 {
        self.u64(0x250, 0x209).unwrap_or(0)
    }

    /// `pref_address` (0x258): where the kernel runs best, and never below.
    #[must_use]
    pub fn pref_address(&self) -> Option<u64> {
        self.u64(0x258, 0x20a)
    }

    /// `init_size` (0x260): bytes of RAM it needs from where it runs, while it starts.
    #[must_use]
    pub fn init_size(&self) -> Option<u32> {
        self.u32(0x260, 0x20a)
    }

    /// `handover_offset` (0x264): the EFI handover entry, where there is one.
    #[must_use]
    pub fn handover_offset(&self) -> Option<u32> {
        self.u32(0x264, 0x20b).filter(|&offset| offset != 0)
    }

    /// `kernel_info_offset` (0x268), from the start of the protected-mode part, where there is one.
    #[must_use]
    pub fn kernel_info_offset(&self) -> Option<u32> {
        self.u32(0x268, 0x20f).filter(|&offset| offset != 0)
    }
}

impl fmt::Debug for SetupHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SetupHeader {} from {:#x} to {:#x}",
            self.version(),
            Self::START,
            self.end()
        )
    }
}

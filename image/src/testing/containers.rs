//! Builders of the `Image` formats, and of formats that a kernel is wrapped in.

use super::{low_u16, low_u32, pack, put};
use crate::Codec;
use alloc::vec;
use alloc::vec::Vec;

/// An arm64 `Image` of 4 KiB that takes 64 KiB of memory and may lie anywhere.
#[must_use]
pub fn arm64_image() -> LinuxImageBuilder {
    LinuxImageBuilder {
        header: vec![
            (0x08, 0_u64.to_le_bytes().to_vec()),
            (0x10, 0x1_0000_u64.to_le_bytes().to_vec()),
            (0x18, 0xa_u64.to_le_bytes().to_vec()),
            (0x38, b"ARM\x64".to_vec()),
        ],
        len: 4096,
    }
}

/// A riscv `Image` of 4 KiB that takes 64 KiB of memory, with a header of version 0.2.
#[must_use]
pub fn riscv_image() -> LinuxImageBuilder {
    LinuxImageBuilder {
        header: vec![
            (0x08, 0x20_0000_u64.to_le_bytes().to_vec()),
            (0x10, 0x1_0000_u64.to_le_bytes().to_vec()),
            (0x20, 2_u32.to_le_bytes().to_vec()),
            (0x30, b"RISCV\0\0\0".to_vec()),
            (0x38, b"RSC\x05".to_vec()),
        ],
        len: 4096,
    }
}

/// An arm64 or riscv `Image` in the making.
#[derive(Clone, Debug)]
pub struct LinuxImageBuilder {
    header: Vec<(usize, Vec<u8>)>,
    len: usize,
}

impl LinuxImageBuilder {
    /// `text_offset`.
    #[must_use]
    pub fn text_offset(self, offset: u64) -> Self {
        self.patch(0x08, &offset.to_le_bytes())
    }

    /// `image_size`.
    #[must_use]
    pub fn image_size(self, size: u64) -> Self {
        self.patch(0x10, &size.to_le_bytes())
    }

    /// `flags`.
    #[must_use]
    pub fn flags(self, flags: u64) -> Self {
        self.patch(0x18, &flags.to_le_bytes())
    }

    /// Bytes in the file.
    #[must_use]
    pub fn len(mut self, len: usize) -> Self {
        self.len = len;
        self
    }

    /// Any bytes at any offset of the file.
    #[must_use]
    pub fn patch(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.header.push((offset, bytes.to_vec()));
        self
    }

    /// Makes it an EFI application as well: one section, which is all of it behind the headers.
    #[must_use]
    pub fn efi_stub(self, machine: u16) -> Self {
        const SECTIONS_AT: usize = 0x200;
        let mut headers = vec![0; 0x40];
        let len = self.len.saturating_sub(SECTIONS_AT);
        PeBuilder {
            machine,
            sections: vec![PeSection {
                name: *b".text\0\0\0",
                virtual_size: len,
                raw_size: len,
                raw_offset: SECTIONS_AT,
            }],
        }
        .put_headers(&mut headers);
        let behind = headers.get(0x40..).unwrap_or_default();
        self.patch(0, b"MZ")
            .patch(0x3c, &[0x40, 0, 0, 0])
            .patch(0x40, behind)
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut file = vec![0x13; self.len];
        put(&mut file, 0, &[0; 64]);
        for (offset, bytes) in &self.header {
            put(&mut file, *offset, bytes);
        }
        file
    }
}

/// An EFI zboot image of `kernel`, packed as `codec` and called `name`, for a PE machine. The
/// unpacked length is appended as the build does.
#[must_use]
pub fn zboot(machine: u16, name: &str, codec: Codec, kernel: &[u8]) -> Vec<u8> {
    const PAYLOAD: usize = 0x200;
    let payload = pack(codec, kernel);
    let mut file = vec![0; 0x40];
    PeBuilder {
        machine,
        sections: Vec::new(),
    }
    .put_headers(&mut file);
    put(&mut file, 4, b"zimg");
    put(&mut file, 8, &low_u32(PAYLOAD));
    put(&mut file, 12, &low_u32(payload.len()));
    put(&mut file, 0x18, name.as_bytes());
    put(&mut file, 0x38, &0x8182_23cd_u32.to_le_bytes());
    put(&mut file, PAYLOAD, &payload);
    if codec != Codec::Gzip {
        file.extend_from_slice(&low_u32(kernel.len()));
    }
    file
}

/// A unified kernel image for x86-64 without a section.
#[must_use]
pub fn uki() -> UkiBuilder {
    UkiBuilder {
        machine: 0x8664,
        sections: Vec::new(),
        behind: Vec::new(),
    }
}

/// A unified kernel image in the making; any PE file, really.
#[derive(Clone, Debug)]
pub struct UkiBuilder {
    machine: u16,
    sections: Vec<(Vec<u8>, Vec<u8>)>,
    behind: Vec<u8>,
}

impl UkiBuilder {
    /// Bytes that sections are padded to in the file.
    const PADDING: usize = 512;

    /// The machine, as PE numbers them.
    #[must_use]
    pub fn machine(mut self, machine: u16) -> Self {
        self.machine = machine;
        self
    }

    /// A section; of its name eight bytes count.
    #[must_use]
    pub fn section(mut self, name: &str, bytes: &[u8]) -> Self {
        self.sections
            .push((name.as_bytes().to_vec(), bytes.to_vec()));
        self
    }

    /// Bytes behind all sections, such as a certificate table.
    #[must_use]
    pub fn behind(mut self, bytes: &[u8]) -> Self {
        self.behind = bytes.to_vec();
        self
    }

    /// The file: headers, then the sections in turn.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let headers = self.sections.len().saturating_mul(40).saturating_add(0x80);
        let mut raw_offset = headers.next_multiple_of(Self::PADDING);
        let mut pe = PeBuilder {
            machine: self.machine,
            sections: Vec::new(),
        };
        let mut file = Vec::new();
        for (name, bytes) in &self.sections {
            let raw_size = bytes.len().next_multiple_of(Self::PADDING);
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(name) {
                *to = *from;
            }
            pe.sections.push(PeSection {
                name: padded,
                virtual_size: bytes.len(),
                raw_size,
                raw_offset,
            });
            put(&mut file, raw_offset, bytes);
            raw_offset = raw_offset.saturating_add(raw_size);
            file.resize(raw_offset, 0);
        }
        pe.put_headers(&mut file);
        file.extend_from_slice(&self.behind);
        file
    }
}

/// The headers of a PE file.
struct PeBuilder {
    machine: u16,
    sections: Vec<PeSection>,
}

struct PeSection {
    name: [u8; 8],
    virtual_size: usize,
    raw_size: usize,
    raw_offset: usize,
}

impl PeBuilder {
    /// Bytes of the optional header: no field of it counts here.
    const OPTIONAL: u16 = 16;

    /// Puts the headers at the beginning of `file`.
    fn put_headers(&self, file: &mut Vec<u8>) {
        const COFF: usize = 0x44;
        put(file, 0, b"MZ");
        put(file, 0x3c, &[0x40, 0, 0, 0]);
        put(file, 0x40, b"PE\0\0");
        let mut coff = self.machine.to_le_bytes().to_vec();
        coff.extend_from_slice(&low_u16(self.sections.len()));
        coff.extend_from_slice(&[0; 12]);
        coff.extend_from_slice(&Self::OPTIONAL.to_le_bytes());
        coff.extend_from_slice(&[0; 2]);
        coff.resize(coff.len().saturating_add(Self::OPTIONAL.into()), 0);
        for section in &self.sections {
            coff.extend_from_slice(&section.name);
            coff.extend_from_slice(&low_u32(section.virtual_size));
            coff.extend_from_slice(&low_u32(section.raw_offset));
            coff.extend_from_slice(&low_u32(section.raw_size));
            coff.extend_from_slice(&low_u32(section.raw_offset));
            coff.extend_from_slice(&[0; 16]);
        }
        put(file, COFF, &coff);
    }
}

/// A uImage of an arm64 Linux kernel that is `data`, not compressed.
#[must_use]
pub fn uimage(data: &[u8]) -> UImageBuilder {
    UImageBuilder {
        kind: 2,
        architecture: 22,
        compression: 0,
        data: data.to_vec(),
    }
}

/// A uImage of several images: kernel, ramdisk, device tree.
#[must_use]
pub fn uimage_of_several(images: &[&[u8]]) -> UImageBuilder {
    let mut data: Vec<u8> = images
        .iter()
        .flat_map(|image| big_u32(image.len()))
        .collect();
    data.extend_from_slice(&[0; 4]);
    for image in images {
        data.resize(data.len().next_multiple_of(4), 0);
        data.extend_from_slice(image);
    }
    uimage(&data).kind(4)
}

/// A uImage in the making.
#[derive(Clone, Debug)]
pub struct UImageBuilder {
    kind: u8,
    architecture: u8,
    compression: u8,
    data: Vec<u8>,
}

impl UImageBuilder {
    /// `ih_type`.
    #[must_use]
    pub fn kind(mut self, kind: u8) -> Self {
        self.kind = kind;
        self
    }

    /// `ih_arch`.
    #[must_use]
    pub fn architecture(mut self, architecture: u8) -> Self {
        self.architecture = architecture;
        self
    }

    /// `ih_comp`; the data are as they were given.
    #[must_use]
    pub fn compression(mut self, compression: u8) -> Self {
        self.compression = compression;
        self
    }

    /// The file, with right checksums.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut header = vec![0; 64];
        put(&mut header, 0, &0x2705_1956_u32.to_be_bytes());
        put(&mut header, 12, &big_u32(self.data.len()));
        put(&mut header, 16, &0x8_0000_u32.to_be_bytes());
        put(&mut header, 20, &0x8_0000_u32.to_be_bytes());
        let data_crc = crate::crc32::crc32(&self.data);
        put(&mut header, 24, &data_crc.to_be_bytes());
        let kinds = [5, self.architecture, self.kind, self.compression];
        put(&mut header, 28, &kinds);
        put(&mut header, 32, b"Linux");
        let header_crc = crate::crc32::crc32(&header);
        put(&mut header, 4, &header_crc.to_be_bytes());
        header.extend_from_slice(&self.data);
        header
    }
}

fn big_u32(len: usize) -> [u8; 4] {
    let mut bytes = low_u32(len);
    bytes.reverse();
    bytes
}

/// An Android boot image of `kernel` with a header of `version`.
#[must_use]
pub fn android_boot(version: u32, kernel: &[u8]) -> AndroidBootBuilder {
    AndroidBootBuilder {
        version,
        page_size: if version < 3 { 2048 } else { 4096 },
        kernel: kernel.to_vec(),
        ramdisk: Vec::new(),
        dtb: Vec::new(),
        cmdline: Vec::new(),
    }
}

/// An Android boot image in the making.
#[derive(Clone, Debug)]
pub struct AndroidBootBuilder {
    version: u32,
    page_size: u32,
    kernel: Vec<u8>,
    ramdisk: Vec<u8>,
    dtb: Vec<u8>,
    cmdline: Vec<u8>,
}

impl AndroidBootBuilder {
    /// The initial ramdisk.
    #[must_use]
    pub fn ramdisk(mut self, bytes: &[u8]) -> Self {
        self.ramdisk = bytes.to_vec();
        self
    }

    /// The device tree, which counts in version 2.
    #[must_use]
    pub fn dtb(mut self, bytes: &[u8]) -> Self {
        self.dtb = bytes.to_vec();
        self
    }

    /// The command line; what does not fit the first field goes into the second.
    #[must_use]
    pub fn cmdline(mut self, line: &str) -> Self {
        self.cmdline = line.as_bytes().to_vec();
        self
    }

    /// `page_size`, in the header; before version 3.
    #[must_use]
    pub fn page_size(mut self, size: u32) -> Self {
        self.page_size = size;
        self
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut file = b"ANDROID!".to_vec();
        put(&mut file, 40, &self.version.to_le_bytes());
        put(&mut file, 8, &low_u32(self.kernel.len()));
        if self.version < 3 {
            put(&mut file, 16, &low_u32(self.ramdisk.len()));
            put(&mut file, 36, &self.page_size.to_le_bytes());
            put(&mut file, 48, b"board");
            let (first, rest) = self
                .cmdline
                .split_at_checked(512)
                .unwrap_or((&self.cmdline, &[]));
            put(&mut file, 64, first);
            put(&mut file, 608, rest);
            put(&mut file, 1659, &[0]);
            if self.version == 2 {
                put(&mut file, 1648, &low_u32(self.dtb.len()));
            }
        } else {
            put(&mut file, 12, &low_u32(self.ramdisk.len()));
            put(&mut file, 44, &self.cmdline);
            put(&mut file, 1583, &[0]);
        }
        let page = usize::try_from(self.page_size).unwrap_or(4096).max(1);
        for part in [&self.kernel, &self.ramdisk, &self.dtb] {
            file.resize(file.len().next_multiple_of(page), 0);
            file.extend_from_slice(part);
        }
        file
    }
}

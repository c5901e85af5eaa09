//! Golden values of Debian's kernels, read from the files themselves.
//!
//! The files are looked for in the folder that `FIRSTLIGHT_KERNELS` names; without it the test says
//! that it was skipped.

use firstlight_image::{
    Architecture, Arm64Image, Codec, Elf, Image, Limits, PvhEntry, PvhRelocation, Relocations,
    XLoadFlags,
};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The `vmlinuz-*` files there are.
fn kernels() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("FIRSTLIGHT_KERNELS") else {
        eprintln!("skipped: FIRSTLIGHT_KERNELS names no folder with vmlinuz-* files");
        return Vec::new();
    };
    let mut kernels: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("FIRSTLIGHT_KERNELS names a folder")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| name(path).starts_with("vmlinuz-") && name(path).ends_with("-amd64"))
        .collect();
    kernels.sort();
    kernels
}

/// A file by its name, where it is there.
fn other(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(std::env::var_os("FIRSTLIGHT_KERNELS")?).join(name);
    if !path.exists() {
        eprintln!("skipped: there is no {name}");
        return None;
    }
    Some(read(&path))
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("the kernel can be read")
}

#[test]
fn every_kernel_is_unpacked_to_an_elf_with_a_pvh_entry_and_a_relocation_table() {
    for path in kernels() {
        let file = read(&path);
        let image = Image::open(&file, &Limits::default()).expect("a kernel");
        let (_, bzimage) = image.bzimage().expect("a bzImage");
        let (layer, elf) = image.elf().expect("an ELF");
        println!("{}: {image}", name(&path));

        let release = name(&path).trim_start_matches("vmlinuz-");
        let version = image.kernel_version().expect("a version string");
        assert!(version.starts_with(release), "{version}");
        assert_eq!(
            bzimage.setup.pref_address(),
            elf.span().map(|(low, _)| low),
            "a kernel is linked where it runs best"
        );
        assert!(elf.pvh.is_some());
        let unpacked = image.layers()[layer].bytes();
        let relocations = image.relocations().expect("a relocation table");
        assert_eq!(relocations.r32.end, unpacked.len() as u64);
        check_places(unpacked, elf, &relocations);
    }
}

/// What a 64-bit or 32-bit place holds is nearly always an address of the kernel, and what an
/// inverse one holds never is, but a distance to per-CPU data: the runs are told apart rightly.
fn check_places(unpacked: &[u8], elf: &Elf, relocations: &Relocations) {
    let kernel_addresses = |run: &Range<u64>, len: u64| {
        let mut held = 0_u64;
        for entry in run.clone().step_by(4) {
            let place = signed(bytes(unpacked, entry, 4)).cast_unsigned();
            let segment = elf
                .segments
                .iter()
                .find(|segment| (segment.vaddr..segment.vaddr + segment.filesz).contains(&place));
            // Some places of the early kernel are its physical addresses.
            if let Some(segment) = segment {
                let value = bytes(unpacked, segment.offset + (place - segment.vaddr), len);
                held += u64::from(signed(value) < 0);
            }
        }
        held
    };
    let (r64, _, r32) = relocations.counts();
    assert!(kernel_addresses(&relocations.r64, 8) * 100 > r64 * 99);
    assert!(kernel_addresses(&relocations.r32, 4) * 100 > r32 * 99);
    assert_eq!(kernel_addresses(&relocations.inverse32, 4), 0);
}

fn bytes(unpacked: &[u8], offset: u64, len: u64) -> &[u8] {
    let start = usize::try_from(offset).expect("an offset in memory");
    let len = usize::try_from(len).expect("a length in memory");
    &unpacked[start..start + len]
}

/// The number in four or eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    match bytes.len() {
        4 => i32::from_le_bytes(bytes.try_into().expect("four bytes")).into(),
        _ => i64::from_le_bytes(bytes.try_into().expect("eight bytes")),
    }
}

#[test]
fn debian_6_12_107_has_the_golden_values() {
    let Some(path) = kernels()
        .into_iter()
        .find(|path| name(path) == "vmlinuz-6.12.107+deb13-amd64")
    else {
        eprintln!("skipped: there is no vmlinuz-6.12.107+deb13-amd64");
        return;
    };
    let file = read(&path);
    let image = Image::open(&file, &Limits::default()).expect("a kernel");
    assert_eq!(file.len(), 12_142_528);
    assert_eq!(image.to_string(), "bzImage 2.15 → zstd → ELF64 x86-64");

    let (_, bzimage) = image.bzimage().expect("a bzImage");
    let setup = &bzimage.setup;
    assert_eq!(setup.setup_sects(), 0x27);
    assert_eq!(setup.syssize(), 0xb_8f20);
    assert_eq!(setup.end(), 0x26c);
    assert_eq!(setup.version().0, 0x20f);
    assert_eq!(setup.kernel_version(), 0x4300);
    assert_eq!(setup.loadflags().bits(), 1);
    assert_eq!(setup.code32_start(), 0x10_0000);
    assert_eq!(setup.initrd_addr_max(), 0x7fff_ffff);
    assert_eq!(setup.kernel_alignment(), Some(0x20_0000));
    assert_eq!(setup.min_alignment(), Some(1 << 0x15));
    assert!(setup.relocatable_kernel());
    assert_eq!(setup.xloadflags(), XLoadFlags::from_bits_retain(0x7f));
    assert_eq!(setup.cmdline_size(), 0x7ff);
    assert_eq!(setup.payload_offset(), Some(0x2cc));
    assert_eq!(setup.payload_length(), Some(0xb5_75e2));
    assert_eq!(setup.pref_address(), Some(0x100_0000));
    assert_eq!(setup.init_size(), Some(0x37e_f000));
    assert_eq!(setup.handover_offset(), Some(0xb7_bbe0));
    assert_eq!(setup.kernel_info_offset(), Some(0xb8_bd1c));
    let info = bzimage.kernel_info.expect("kernel_info");
    assert_eq!(info.setup_type_max, 0x8000_0009);
    let payload = bzimage.payload.as_ref().expect("a payload");
    assert_eq!(payload.codec, Codec::Zstd);
    assert_eq!(payload.unpacked_len, Some(0x36f_96f8));

    let (_, elf) = image.elf().expect("an ELF");
    assert_eq!(elf.entry, 0x100_0c43);
    let segments: Vec<_> = elf
        .segments
        .iter()
        .map(|segment| (segment.paddr, segment.filesz, segment.memsz))
        .collect();
    assert_eq!(
        segments,
        [
            (0x100_0000, 0x1b8_c510, 0x1b8_c510),
            (0x2c0_0000, 0x71_a000, 0x71_a000),
            (0x331_a000, 0x3_9000, 0x3_9000),
            (0x335_3000, 0xea_d000, 0xea_d000),
        ]
    );
    assert_eq!(
        elf.pvh,
        Some(PvhEntry {
            entry: 0x100_0b20,
            relocation: Some(PvhRelocation {
                align: 0x20_0000,
                min: 0x100_0000,
                max: 0x3fff_ffff
            })
        })
    );
    assert_eq!(elf.end, 56_626_536);
    let relocations = image.relocations().expect("a relocation table");
    assert_eq!(relocations.counts(), (158_369, 12_827, 83_365));
}

#[test]
fn debian_6_12_107_for_arm64_has_the_golden_values() {
    let Some(file) = other("vmlinuz-6.12.107+deb13-arm64") else {
        return;
    };
    let image = Image::open(&file, &Limits::default()).expect("a kernel");
    assert_eq!(image.to_string(), "arm64 Image");
    assert_eq!(file.len(), 37_660_608);
    let (_, header) = image.arm64().expect("an Image");
    assert_eq!(
        *header,
        Arm64Image {
            text_offset: 0,
            image_size: Some(0x24f_0000),
            is_big_endian: false,
            page_size: Some(4096),
            may_lie_anywhere: true,
            has_efi_stub: true,
        }
    );
}

#[test]
fn debian_6_12_107_for_riscv64_has_the_golden_values() {
    let Some(file) = other("vmlinux-6.12.107+deb13-riscv64") else {
        return;
    };
    let image = Image::open(&file, &Limits::default()).expect("a kernel");
    assert_eq!(image.to_string(), "riscv64 Image");
    let (_, header) = image.riscv().expect("an Image");
    assert_eq!(header.version, 2);
    assert_eq!(
        (header.text_offset, header.image_size),
        (0x20_0000, 0x1e6_b000)
    );
    assert_eq!(header.architecture, Architecture::Riscv64);
}

/// A zboot image of a build, its length behind the payload and all.
#[test]
fn debian_7_2_12_for_loong64_is_unpacked() {
    let Some(file) = other("vmlinuz-7.2.12+deb14-loong64") else {
        return;
    };
    let error = Image::open(&file, &Limits::default()).expect_err("no kernel for a guest");
    assert_eq!(
        error.to_string(),
        "it is EFI zboot loongarch64 → zstd → loongarch64 Image: kernels for this machine cannot \
         be booted"
    );
}

#[test]
fn xen_4_17_has_both_multiboot_headers() {
    let Some(file) = other("xen-4.17-amd64.gz") else {
        return;
    };
    let image = Image::open(&file, &Limits::default()).expect("a kernel");
    assert_eq!(image.to_string(), "gzip → ELF32 i386");
    let (layer, headers) = image.multiboot().expect("whole headers").expect("headers");
    assert_eq!(layer, 1);
    let one = headers.one.expect("a header of version 1");
    assert_eq!(
        (one.offset, one.flags.bits(), one.addresses),
        (0x88, 3, None)
    );
    let two = headers.two.expect("a header of version 2");
    assert_eq!((two.offset, two.addresses), (0x98, None));
    assert!(two.relocation.is_some() && two.unknown.is_empty());
}

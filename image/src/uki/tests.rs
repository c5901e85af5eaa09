use super::*;
use crate::testing::{UkiBuilder, arm64_image, bzimage, elf64, pack, uki};
use crate::{Image, ImageError, Limits};
use alloc::format;
use alloc::vec;

fn kernel() -> Vec<u8> {
    let elf = elf64().segment(0x100_0000, b"code", 4).build();
    bzimage()
        .kernel_version("6.12 (bzImage)")
        .payload(Codec::Zstd, &elf)
        .build()
}

fn whole() -> UkiBuilder {
    uki()
        .section(".sbat", b"sbat,1")
        .section(".osrel", b"NAME=x\nPRETTY_NAME=\"Debian 13\"\nID=debian\n")
        .section(".uname", b"6.12.1-amd64\0")
        .section(".cmdline", b" root=/dev/vda quiet\n")
        .section(".ucode", b"microcode")
        .section(".initrd", b"070701 ramdisk")
        .section(".linux", &kernel())
}

fn parse(bytes: &[u8]) -> Result<Uki, UkiError> {
    let pe = Pe::read(bytes).expect("a PE file");
    assert!(Uki::is(pe));
    Uki::parse(pe, bytes)
}

fn open(file: &[u8]) -> Result<Image<'_>, ImageError> {
    Image::open(file, &Limits::default())
}

#[test]
fn everything_in_it_comes_out() {
    let file = whole().build();
    let image = open(&file).unwrap();
    assert_eq!(
        image.to_string(),
        "UKI x86-64 → bzImage 2.15 → zstd → ELF64 x86-64"
    );
    assert_eq!(image.kernel_version(), Some("6.12 (bzImage)"));
    let (layer, uki) = image.uki().unwrap();
    assert_eq!(layer, 0);
    assert_eq!(uki.architecture, Architecture::X86_64);
    assert_eq!(uki.os_name.as_deref(), Some("Debian 13"));
    assert_eq!(uki.kernel_release.as_deref(), Some("6.12.1-amd64"));

    let parts = image.parts();
    assert_eq!(parts.cmdline.as_deref(), Some("root=/dev/vda quiet"));
    let initrds: Vec<_> = parts
        .initrds
        .iter()
        .map(|part| (part.name, part.layer, image.part(part)))
        .collect();
    assert_eq!(
        initrds,
        [
            (".ucode", 0, &b"microcode"[..]),
            (".initrd", 0, b"070701 ramdisk")
        ],
        "without padding, microcode first"
    );
    assert_eq!(parts.device_tree, None);
}

#[test]
fn the_guest_may_be_left_to_unpack() {
    let file = whole().build();
    let image = Image::open_outer(&file, &Limits::default()).unwrap();
    assert_eq!(image.to_string(), "UKI x86-64 → bzImage 2.15");
    assert_eq!(image.parts().initrds.len(), 2);
    // The kernel is not copied, only looked at.
    let inside = file.as_ptr_range();
    assert!(inside.contains(&image.kernel().bytes().as_ptr()));
}

#[test]
fn what_lies_behind_the_sections_does_not_matter() {
    let signed = whole().behind(&[0x30; 1000]).build();
    assert!(open(&signed).is_ok());
}

#[test]
fn one_that_is_packed_itself_is_unpacked_too() {
    let file = pack(Codec::Gzip, &whole().build());
    let image = open(&file).unwrap();
    assert!(image.to_string().starts_with("gzip → UKI x86-64 → bzImage"));
    let parts = image.parts();
    assert_eq!(parts.initrds[0].layer, 1);
    assert_eq!(image.part(&parts.initrds[1]), b"070701 ramdisk");
}

#[test]
fn arm64_has_it_with_a_device_tree() {
    let file = uki()
        .machine(0xaa64)
        .section(".cmdline", b"")
        .section(".dtbauto", b"\xd0\x0d\xfe\xed for some")
        .section(".dtb", b"\xd0\x0d\xfe\xed")
        .section(".linux", &arm64_image().build())
        .build();
    let image = open(&file).unwrap();
    assert_eq!(image.to_string(), "UKI arm64 → arm64 Image");
    let parts = image.parts();
    let tree = parts.device_tree.unwrap();
    assert_eq!(
        (tree.name, image.part(&tree)),
        (".dtb", b"\xd0\x0d\xfe\xed".as_slice())
    );
    assert_eq!(parts.cmdline, None, "an empty section is none");
    let automatic = image.uki().unwrap().1.section(UkiSectionKind::DtbAuto, 0);
    assert_eq!(automatic.unwrap().kind.name(), ".dtbauto");
}

/// UAPI's specification: what comes before the first `.profile` is in all of them.
#[test]
fn profiles_have_sections_of_their_own_over_those_that_all_share() {
    let file = whole()
        .section(".profile", b"ID=main\nTITLE=\"Debian\"\n")
        .section(".profile", b"ID=debug\nTITLE='Debian, loud'\n")
        .section(".cmdline", b"debug")
        .section(".profile", b"ID=factory-reset\n")
        .section(".initrd", b"070701 reset")
        .build();
    let open = |profile| Image::open_profile(&file, &Limits::default(), profile);
    let initrd = |image: &Image<'_>| {
        let parts = image.parts();
        image.part(parts.initrds.last().unwrap()).to_vec()
    };
    let first = open(0).unwrap();
    let titles: Vec<_> = first
        .profiles()
        .iter()
        .map(|profile| (profile.id.as_deref(), profile.title.as_deref()))
        .collect();
    assert_eq!(
        titles,
        [
            (Some("main"), Some("Debian")),
            (Some("debug"), Some("Debian, loud")),
            (Some("factory-reset"), None)
        ]
    );
    assert_eq!(first.profile(), 0);
    assert_eq!(first.parts().cmdline.unwrap(), "root=/dev/vda quiet");
    let second = open(1).unwrap();
    assert_eq!(second.parts().cmdline.unwrap(), "debug");
    assert_eq!(initrd(&second), b"070701 ramdisk");
    let third = open(2).unwrap();
    assert_eq!(third.parts().cmdline.unwrap(), "root=/dev/vda quiet");
    assert_eq!(initrd(&third), b"070701 reset");
    assert_eq!(
        open(3).unwrap_err().to_string(),
        format!("there is no profile 3 in {first}: 2 is the highest number")
    );
    let outer = Image::open_outer_profile(&file, &Limits::default(), 1).unwrap();
    assert_eq!(outer.parts().cmdline.unwrap(), "debug");
    let layers = second.layers().iter().map(|layer| layer.bytes().into());
    let again = Image::reopen_profile(layers.collect(), 1).unwrap();
    assert_eq!(again.parts(), second.parts());
}

#[test]
fn other_images_have_one_profile() {
    let file = kernel();
    assert!(Image::open_profile(&file, &Limits::default(), 0).is_ok());
    let error = Image::open_profile(&file, &Limits::default(), 1).unwrap_err();
    assert!(matches!(error, ImageError::NoProfile { count: 1, .. }));
}

#[test]
fn it_is_told_by_its_sections() {
    let is = |names: &[&str]| {
        let mut builder = uki();
        for name in names {
            builder = builder.section(name, b"x");
        }
        Uki::is(Pe::read(&builder.build()).unwrap())
    };
    assert!(is(&[".text", ".linux", ".osrel"]));
    assert!(is(&[".linux", ".cmdline"]));
    assert!(is(&[".linux", ".uname"]));
    assert!(!is(&[".linux"]));
    assert!(!is(&[".osrel", ".cmdline"]));
    assert!(!is(&[".linuxes", ".osrel"]), "eight letters without a NUL");
}

#[test]
fn the_first_of_two_equal_sections_counts() {
    let file = whole().section(".cmdline", b"second").build();
    let image = open(&file).unwrap();
    assert_eq!(image.parts().cmdline.unwrap(), "root=/dev/vda quiet");
}

#[test]
fn sections_are_as_long_as_in_memory_but_not_longer_than_in_the_file() {
    let file = whole().build();
    let at = file
        .windows(8)
        .position(|name| name == b".initrd\0")
        .unwrap();
    let with = |virtual_size: u32| {
        let mut file = file.clone();
        file[at + 8..at + 12].copy_from_slice(&virtual_size.to_le_bytes());
        parse(&file)
            .unwrap()
            .section(UkiSectionKind::Initrd, 0)
            .map(|section| section.range.end - section.range.start)
    };
    assert_eq!(with(3), Some(3));
    assert_eq!(with(512), Some(512));
    assert_eq!(with(513), Some(512), "the rest is zeros in memory only");
    assert_eq!(with(u32::MAX), Some(512));
    assert_eq!(with(0), None);
}

#[test]
fn a_kernel_without_bytes_is_none() {
    let file = uki().section(".linux", b"").section(".uname", b"6").build();
    assert_eq!(parse(&file), Err(UkiError::NoKernel));
    let later = uki()
        .section(".uname", b"6")
        .section(".profile", b"ID=a")
        .section(".profile", b"ID=b")
        .section(".linux", &kernel())
        .build();
    assert_eq!(parse(&later), Err(UkiError::NoKernel));
}

#[test]
fn a_command_line_is_short_text() {
    let with = |line: &[u8]| {
        parse(
            &uki()
                .section(".cmdline", line)
                .section(".linux", b"x")
                .build(),
        )
    };
    assert!(with(&[b'a'; 65_536]).is_ok());
    assert_eq!(
        with(&[b'a'; 65_537]),
        Err(UkiError::CmdlineLong { len: 65_537 })
    );
    assert!(matches!(
        with(b"root=\xff"),
        Err(UkiError::CmdlineNotText { .. })
    ));
}

/// A `.linux` that is a unified kernel image again, and so on.
#[test]
fn one_in_another_ends_at_the_limit() {
    let mut file = whole().build();
    for _ in 0..6 {
        file = uki()
            .section(".uname", b"x")
            .section(".linux", &file)
            .build();
    }
    let error = open(&file).unwrap_err();
    assert!(matches!(&error, ImageError::TooDeep { depth: 5, .. }));
    assert!(error.to_string().starts_with("UKI x86-64 → UKI x86-64"));
}

#[test]
fn what_is_in_it_must_be_a_kernel() {
    let with = |linux: &[u8]| {
        let file = uki().section(".uname", b"6").section(".linux", linux);
        open(&file.build()).unwrap_err().to_string()
    };
    assert_eq!(
        with(b"just words"),
        "it is UKI x86-64 → a text file: that is no kernel"
    );
    assert_eq!(
        with(&uki().section(".text", b"x").build()),
        "it is UKI x86-64 → a PE/COFF application, x86-64: it needs EFI firmware to run, and is \
         no Linux kernel"
    );
}

#[test]
fn section_counts_that_lie_are_told() {
    let file = whole().build();
    for count in [0x60_u16, 0xffff] {
        let mut file = file.clone();
        file[0x46..0x48].copy_from_slice(&count.to_le_bytes());
        assert!(matches!(parse(&file), Err(UkiError::Truncated { .. })));
    }
    let mut none = file;
    none[0x46..0x48].copy_from_slice(&[0, 0]);
    assert!(!Uki::is(Pe::read(&none).unwrap()));
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    let file = whole().build();
    for len in 0..file.len() {
        assert!(open(&file[..len]).is_err(), "cut at {len:#x}");
    }
}

#[test]
fn texts_are_made_fit_to_be_shown() {
    let file = uki()
        .section(".osrel", b"PRETTY_NAME=\"\x1b[2J\xff\"")
        .section(".uname", &[b'6'; 1000])
        .section(".linux", b"x")
        .build();
    let uki = parse(&file).unwrap();
    assert_eq!(uki.os_name.as_deref(), Some("\\u{1b}[2J\u{fffd}"));
    assert_eq!(uki.kernel_release.map(|release| release.len()), Some(256));
}

/// Thousands of sections may all be the same bytes of a small file.
#[test]
fn sections_over_each_other_take_no_more_than_one() {
    let mut builder = uki();
    for _ in 0..2040 {
        builder = builder.section(".profile", b"x").section(".cmdline", b"x");
    }
    let many = builder.clone().section(".linux", b"x").build();
    assert_eq!(parse(&many), Err(UkiError::TooManySections));

    let mut file = uki()
        .section(".linux", b"x")
        .section(".uname", b"6")
        .build();
    let (count, end) = (1024, file.len());
    file.extend([b"ID=".to_vec(), vec![b'i'; 65_000]].concat());
    let table = 0x44 + 20 + 16;
    let mut entry = [0; 40];
    entry[..8].copy_from_slice(b".profile");
    entry[8..12].copy_from_slice(&65_003_u32.to_le_bytes());
    entry[16..20].copy_from_slice(&65_003_u32.to_le_bytes());
    entry[20..24].copy_from_slice(&u32::try_from(end + 40 * 1022).unwrap().to_le_bytes());
    // The table grows over what was there, which goes behind it.
    let tail = file.split_off(table + 80);
    file.extend(entry.repeat(count - 2));
    for at in [table + 20, table + 60] {
        let offset = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let offset = offset + 40 * 1022;
        file[at..at + 4].copy_from_slice(&offset.to_le_bytes());
    }
    file.extend(tail);
    file[0x46..0x48].copy_from_slice(&u16::try_from(count).unwrap().to_le_bytes());
    let profiles = parse(&file).unwrap().profiles;
    assert_eq!(profiles.len(), 1022);
    let id = profiles[0].id.as_deref().unwrap();
    assert_eq!(id.len(), 256);
}

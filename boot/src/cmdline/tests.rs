use super::*;
use crate::cmdline::ProblemKind;
use alloc::string::String;
use alloc::vec::Vec;
use firstlight_base::Gpa;
use firstlight_image::Limits;
use firstlight_image::testing::{bzimage, elf64};

fn text(line: &Cmdline) -> String {
    line.as_cstring().unwrap().into_string().unwrap()
}

#[test]
fn the_capacity_counts_the_nul() {
    assert_eq!(Cmdline::new(0), Err(Error::InvalidCapacity));
    let mut line = Cmdline::new(6).unwrap();
    assert_eq!(line.insert_str("quiet!"), Err(Error::TooLarge));
    assert_eq!(line.insert_str("quiet"), Ok(()));
    assert_eq!(line.insert_str("x"), Err(Error::TooLarge));
    assert_eq!(text(&line), "quiet");
    assert_eq!(Cmdline::try_from("quiet", 5), Err(Error::InvalidCapacity));
    assert!(Cmdline::try_from("quiet", 6).is_ok());
}

#[test]
fn what_is_refused_leaves_the_line_as_it_was() {
    let mut line = Cmdline::new(40).unwrap();
    line.insert_str("ro").unwrap();
    assert_eq!(line.insert("a b", "c"), Err(Error::HasSpace));
    assert_eq!(line.insert("a=b", "c"), Err(Error::HasEquals));
    assert_eq!(line.insert("a", "b c"), Err(Error::NoQuoteSpace));
    assert_eq!(line.insert("a", "\"b\"c\""), Err(Error::InvalidQuote));
    assert_eq!(line.insert("a", "b\n"), Err(Error::InvalidAscii));
    assert_eq!(line.insert("ä", "b"), Err(Error::InvalidAscii));
    assert_eq!(
        line.insert_multiple::<&str>("a", &[]),
        Err(Error::MissingVal("a".into()))
    );
    assert_eq!(
        line.add_virtio_mmio_device(0, Gpa::new(0), 1, None),
        Err(Error::MmioSize)
    );
    assert_eq!(text(&line), "ro");
    line.insert("a", "\"b c\"").unwrap();
    assert_eq!(text(&line), "ro a=\"b c\"");
}

#[test]
fn something_for_init_alone_is_no_command_line() {
    let mut line = Cmdline::new(40).unwrap();
    line.insert_init_args("-v").unwrap();
    assert_eq!(line.as_cstring(), Err(Error::NoBootArgsInserted));
    line.insert_str("ro").unwrap();
    line.insert_init_args("-x").unwrap();
    assert_eq!(Vec::try_from(line).unwrap(), b"ro -- -v -x\0");
}

#[test]
fn the_first_arguments_of_init_cost_the_separator_too() {
    let mut line = Cmdline::new(9).unwrap();
    line.insert_str("ro").unwrap();
    assert_eq!(line.insert_init_args("-vv"), Err(Error::TooLarge));
    assert_eq!(line.insert_init_args("-v"), Ok(()));
}

#[test]
fn a_separator_between_quotes_is_none() {
    let line = Cmdline::try_from(" a=\"b -- c\" d -- e -- f ", 64).unwrap();
    assert_eq!(
        (line.boot_args.as_str(), line.init_args.as_str()),
        ("a=\"b -- c\" d", "e -- f")
    );
}

#[test]
fn a_nul_is_found_at_the_latest_when_the_line_is_read() {
    let line = Cmdline::try_from("a\0b", 64).unwrap();
    assert_eq!(line.as_cstring(), Err(Error::NullTerminator));
    assert_eq!(line.problems()[0].kind, ProblemKind::Nul);
}

#[test]
fn sizes_are_told_in_the_largest_unit_that_is_exact() {
    let told = |size| {
        let mut line = Cmdline::new(64).unwrap();
        line.add_virtio_mmio_device(size, Gpa::new(0xd000_0000), 5, Some(2))
            .unwrap();
        text(&line)
    };
    assert_eq!(told(1), "virtio_mmio.device=1@0xd0000000:5:2");
    assert_eq!(told(1536), "virtio_mmio.device=1536@0xd0000000:5:2");
    assert_eq!(told(3 << 10), "virtio_mmio.device=3K@0xd0000000:5:2");
    assert_eq!(told(1 << 20), "virtio_mmio.device=1M@0xd0000000:5:2");
    assert_eq!(told(4 << 30), "virtio_mmio.device=4G@0xd0000000:5:2");
}

#[test]
fn the_kernel_says_how_long_its_command_line_may_be() {
    let vmlinux = elf64()
        .entry(0x100_0000)
        .segment(0x100_0000, b"code", 4)
        .build();
    let max = |file: &[u8]| {
        let image = Image::open(file, &Limits::default()).unwrap();
        let mut line = Cmdline::for_image(&image);
        let mut len = 0;
        while line.insert_init_args("x").is_ok() || line.insert_str("x").is_ok() {
            len = line.text().len();
        }
        len
    };
    let packed = bzimage()
        .cmdline_size(100)
        .payload(firstlight_image::Codec::Lz4Legacy, &vmlinux)
        .build();
    assert!((99..=100).contains(&max(&packed)));
    assert!((2046..=2047).contains(&max(&vmlinux)));
}

#[test]
fn all_that_is_wrong_is_listed_by_its_place() {
    let line = b"a=1\tb\xc3\xa4 =2 \"c =3\" c=\"d =4";
    let found: Vec<_> = problems(line, 20)
        .into_iter()
        .map(|Problem { at, len, kind }| (at, len, kind))
        .collect();
    assert_eq!(
        found,
        [
            (3, 1, ProblemKind::Control),
            (5, 2, ProblemKind::NotAscii),
            (8, 1, ProblemKind::NoName),
            (20, 5, ProblemKind::OpenQuote),
            (20, 5, ProblemKind::PastLimit { limit: 20 }),
        ]
    );
}

#[test]
fn nothing_is_wrong_with_what_kernels_are_told_every_day() {
    for line in [
        "",
        "console=ttyS0,115200n8 root=UUID=1234 ro quiet -- --verbose",
        "dyndbg=\"file drivers/* +p\" a.b= init=\"/bin/sh\"",
        "memmap=64K$0x18690000 \"quoted=with blanks\"",
    ] {
        assert_eq!(problems(line.as_bytes(), 2047), [], "{line}");
    }
}

use super::*;
use crate::draft::range;
use crate::protocol::start_info::PlacedModule;
use crate::{BootPlan, Content, E820Entry, E820Kind, Module, Piece, ProtocolChoice, plan};
use firstlight_base::{GpaRange, MIB, Reader};
use firstlight_image::Limits;
use firstlight_image::testing::{elf32, elf64, multiboot1, multiboot2};
use proptest::prelude::*;

const ALIGN: u32 = 1;
const MEMORY: u32 = 2;

fn request(protocol: Protocol) -> Request {
    Request {
        memory: 64 * MIB,
        cmdline: "console=com1".into(),
        protocol: ProtocolChoice::Only(protocol),
        ..Request::default()
    }
}

fn planned(file: &[u8], request: &Request) -> Result<BootPlan, PlanError> {
    let image = Image::open(file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

/// An ELF file that begins with `header` at 2 MiB; its bytes are at a multiple of 8 in the file.
fn elf(header: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.resize(0x1000, 0x90);
    elf64()
        .entry(0x20_0800)
        .segment(0x20_0000, &bytes, 0x3000)
        .build()
}

/// A flat file of a page that begins with `header`.
fn flat(header: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.resize(0x1000, 0x90);
    bytes
}

fn registers(plan: &BootPlan) -> Registers {
    let registers = plan.boot_vcpu().x86().expect("an x86 guest");
    *registers
}

fn piece<'a>(plan: &'a BootPlan, name: &str) -> &'a Piece {
    let found = plan.pieces().iter().find(|piece| piece.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:#?}", plan.pieces()))
}

fn information(plan: &BootPlan) -> (u64, &[u8]) {
    let piece = piece(plan, "multiboot information");
    match &piece.content {
        Content::Bytes(bytes) => (piece.range.start().get(), bytes),
        other => panic!("no bytes of its own: {other:?}"),
    }
}

fn text(bytes: &[u8], at: u64) -> &str {
    let tail = Reader::new(bytes).tail(at).unwrap();
    let end = tail.iter().position(|&byte| byte == 0).unwrap();
    core::str::from_utf8(&tail[..end]).unwrap()
}

fn refused(file: &[u8], protocol: Protocol) -> String {
    match planned(file, &request(protocol)) {
        Err(PlanError::NoEntry { why, .. }) => why,
        other => panic!("not refused for what it lacks: {other:?}"),
    }
}

#[test]
fn the_magic_number_is_in_eax_and_the_information_in_ebx() {
    let one = elf(&multiboot1(ALIGN | MEMORY).build());
    let two = elf(&multiboot2().build());
    for (file, protocol, magic) in [
        (one, Protocol::Multiboot, 0x2bad_b002),
        (two, Protocol::Multiboot2, 0x36d7_6289),
    ] {
        let plan = planned(&file, &request(protocol)).unwrap();
        let registers = registers(&plan);
        assert_eq!(registers.gprs.rax, magic);
        assert_eq!(registers.gprs.rbx, information(&plan).0);
        assert_eq!(registers.gprs.rip, 0x20_0800);
        assert_eq!(registers.gprs.rflags, 2, "interrupts are off");
        assert_eq!(registers.cr0.bits(), 0x11, "paging is off");
        assert_eq!(registers.cs.limit, u32::MAX);
    }
}

fn modules() -> Vec<Module> {
    ["dom0 quiet", ""]
        .map(|cmdline| Module {
            len: 0x1234,
            cmdline: cmdline.into(),
        })
        .into()
}

#[test]
fn version_1_tells_memory_modules_command_line_and_name_at_their_offsets() {
    let wanted = Request {
        modules: modules(),
        initrd: Some(0x10),
        ..request(Protocol::Multiboot)
    };
    let plan = planned(&elf(&multiboot1(ALIGN | MEMORY).build()), &wanted).unwrap();
    let (at, bytes) = information(&plan);
    let info = Reader::new(bytes);
    let word = |offset| info.u32_le(offset).unwrap();
    let pointer = |offset| u64::from(word(offset)) - at;
    assert_eq!(word(0), 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    assert_eq!(word(4), 0x9_f000 / 1024);
    assert_eq!(word(8), 63 * 1024);
    let cmdline = piece(&plan, "command line");
    assert_eq!(u64::from(word(16)), cmdline.range.start().get());
    let Content::Bytes(line) = &cmdline.content else {
        panic!("{cmdline:?}");
    };
    assert_eq!(text(line, 0), "firstlight console=com1");
    assert_eq!(word(20), 3, "the ramdisk and two modules");
    let list = pointer(24);
    let second = piece(&plan, "module 0").range;
    assert_eq!(u64::from(word(list + 16)), second.start().get());
    assert_eq!(u64::from(word(list + 20)), second.end().get());
    assert_eq!(text(bytes, pointer(list + 24)), "firstlight dom0 quiet");
    assert_eq!(text(bytes, pointer(list + 40)), "firstlight ");
    assert_eq!(text(bytes, pointer(64)), "Firstlight");
    let map = pointer(48);
    assert_eq!(word(44) as usize, plan.e820().len() * 24);
    for (number, entry) in (0..).zip(plan.e820()) {
        let line = map + number * 24;
        assert_eq!(word(line), 20);
        assert_eq!(info.u64_le(line + 4), Ok(entry.range.start().get()));
        assert_eq!(info.u64_le(line + 12), Ok(entry.range.len()));
        assert_eq!(word(line + 20), entry.kind as u32);
    }
}

/// The tags of version 2: their types and bodies.
fn tags(bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let info = Reader::new(bytes);
    assert_eq!(info.u32_le(0).map(|len| len as usize), Ok(bytes.len()));
    assert_eq!(info.u32_le(4), Ok(0));
    let (mut tags, mut at) = (Vec::new(), 8);
    while at < bytes.len() as u64 {
        let len = u64::from(info.u32_le(at + 4).unwrap());
        let kind = info.u32_le(at).unwrap();
        tags.push((kind, info.slice(at + 8, len - 8).unwrap()));
        at = (at + len).next_multiple_of(8);
    }
    tags
}

#[test]
fn version_2_tells_the_same_in_tags_and_ends_with_the_empty_one() {
    let wanted = Request {
        modules: modules(),
        ..request(Protocol::Multiboot2)
    };
    let plan = planned(&elf(&multiboot2().build()), &wanted).unwrap();
    let tags = tags(information(&plan).1);
    let kinds: Vec<u32> = tags.iter().map(|tag| tag.0).collect();
    assert_eq!(kinds, [1, 2, 3, 3, 4, 6, 15, 0]);
    assert_eq!(tags[0].1, b"firstlight console=com1\0");
    assert_eq!(tags[1].1, b"Firstlight\0");
    let first = piece(&plan, "module 0").range;
    let module = Reader::new(tags[2].1);
    assert_eq!(module.u32_le(0).map(u64::from), Ok(first.start().get()));
    assert_eq!(module.u32_le(4).map(u64::from), Ok(first.end().get()));
    assert_eq!(text(tags[2].1, 8), "firstlight dom0 quiet");
    let map = Reader::new(tags[5].1);
    assert_eq!((map.u32_le(0), map.u32_le(4)), (Ok(24), Ok(0)));
    assert_eq!(tags[5].1.len(), 8 + 24 * plan.e820().len());
    assert_eq!(&tags[6].1[..8], b"RSD PTR ");
    assert_eq!(tags[6].1.len(), 36);
    assert_eq!(tags.last(), Some(&(0, [].as_slice())));
}

#[test]
fn a_flat_file_goes_where_its_header_says_and_its_zeros_with_it() {
    let one = multiboot1(0)
        .addresses(0x40_0000, 0x40_0000, 0x40_0800, 0x40_3000)
        .entry(0x40_0040)
        .build();
    let two = multiboot2()
        .tag(2, &[0x40_0000, 0x40_0000, 0x40_0800, 0x40_3000])
        .tag(3, &[0x40_0040])
        .build();
    for (header, protocol) in [(one, Protocol::Multiboot), (two, Protocol::Multiboot2)] {
        let plan = planned(&flat(&header), &request(protocol)).unwrap();
        let kernel = piece(&plan, "kernel segment 0");
        assert_eq!(kernel.range, range(0x40_0000, 0x40_3000));
        let Content::Image {
            offset: 0,
            len: 0x800,
            ..
        } = kernel.content
        else {
            panic!("{kernel:?}");
        };
        assert_eq!(registers(&plan).gprs.rip, 0x40_0040);
    }
}

#[test]
fn the_newest_version_that_a_file_has_is_taken_where_none_is_asked_for() {
    let header = [multiboot1(0).build(), multiboot2().build()].concat();
    let auto = Request {
        protocol: ProtocolChoice::Auto,
        ..request(Protocol::Pvh)
    };
    let plan = planned(&elf(&header), &auto).unwrap();
    assert_eq!(plan.protocol(), Protocol::Multiboot2);
    let plan = planned(&elf(&multiboot1(0).build()), &auto).unwrap();
    assert_eq!(plan.protocol(), Protocol::Multiboot);
}

#[test]
fn what_a_header_requires_and_nobody_gives_is_refused_by_name() {
    let one = |flags| refused(&elf(&multiboot1(flags).build()), Protocol::Multiboot);
    assert!(one(1 << 5).contains("flag 5"));
    assert!(one(1 << 2).contains("video mode"));
    let two = |kind, words: &[u32]| {
        let header = multiboot2().tag(kind, words).build();
        refused(&elf(&header), Protocol::Multiboot2)
    };
    assert!(two(77, &[]).contains("tag 77"));
    assert!(two(4, &[1]).contains("console"));
    assert!(two(1, &[6, 8]).contains("type 8"));
    let optional = multiboot2()
        .optional_tag(77, &[])
        .optional_tag(1, &[8])
        .build();
    assert!(planned(&elf(&optional), &request(Protocol::Multiboot2)).is_ok());
}

#[test]
fn a_kernel_without_the_header_is_told_so() {
    let none = elf32()
        .entry(0x20_0000)
        .segment(0x20_0000, &[0x90; 64], 0x1000)
        .build();
    assert_eq!(
        refused(&none, Protocol::Multiboot),
        "it has no multiboot 1 header"
    );
    let one = elf(&multiboot1(0).build());
    assert_eq!(
        refused(&one, Protocol::Multiboot2),
        "it has no multiboot 2 header"
    );
}

#[test]
fn a_relocatable_kernel_goes_where_it_was_asked_for_and_is_told() {
    let header = multiboot2()
        .tag(10, &[0x20_0000, 0x3ff_ffff, 0x20_0000, 0])
        .build();
    let wanted = Request {
        load_address: Some(Gpa::new(0x100_0000)),
        ..request(Protocol::Multiboot2)
    };
    let plan = planned(&elf(&header), &wanted).unwrap();
    assert_eq!(registers(&plan).gprs.rip, 0x100_0800);
    let tags = tags(information(&plan).1);
    assert_eq!(tags[0], (21, 0x100_0000_u32.to_le_bytes().as_slice()));
    let misplaced = Request {
        load_address: Some(Gpa::new(0x110_0000)),
        ..wanted
    };
    let refused = planned(&elf(&header), &misplaced);
    assert!(
        matches!(refused, Err(PlanError::Misplaced { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_module_without_a_byte_or_for_an_entry_without_modules_is_refused() {
    let file = elf(&multiboot1(0).build());
    let empty = Request {
        modules: [Module {
            len: 0,
            cmdline: String::new(),
        }]
        .into(),
        ..request(Protocol::Multiboot)
    };
    assert_eq!(
        planned(&file, &empty).map(|_| ()),
        Err(PlanError::EmptyModule { number: 0 })
    );
}

fn interesting() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0_u32),
        Just(u32::MAX),
        Just(0x10_0000),
        Just(0x10_0040),
        Just(0x10_1000),
        0x0f_f000..0x10_3000_u32,
        any::<u32>(),
    ]
}

proptest! {
    /// QEMU's CVE-2017-14167 and CVE-2018-7550 were numbers of this header that contradict each
    /// other.
    #[test]
    fn whatever_the_five_addresses_say_there_is_an_error_or_a_sound_plan(
        header in interesting(),
        load in interesting(),
        load_end in interesting(),
        bss_end in interesting(),
        entry in interesting(),
    ) {
        let one = multiboot1(0).addresses(header, load, load_end, bss_end).entry(entry).build();
        let two = multiboot2()
            .tag(2, &[header, load, load_end, bss_end])
            .tag(3, &[entry])
            .build();
        for (file, protocol) in [(one, Protocol::Multiboot), (two, Protocol::Multiboot2)] {
            let file = flat(&file);
            let Ok(image) = Image::open(&file, &Limits::default()) else { continue };
            let Ok(plan) = plan(&image, &request(protocol)) else { continue };
            let kernel = piece(&plan, "kernel segment 0");
            let Content::Image { offset, len, .. } = kernel.content else { panic!("{kernel:?}") };
            prop_assert!(offset + len <= file.len() as u64);
            prop_assert!(len <= kernel.range.len());
            let entry = GpaRange::new(Gpa::new(registers(&plan).gprs.rip), 1).unwrap();
            prop_assert!(kernel.range.contains(entry));
        }
    }
}

#[test]
fn memory_sizes_end_where_ram_does() {
    let memory = [
        E820Entry {
            range: range(0, 0x8_0000),
            kind: E820Kind::Ram,
        },
        E820Entry {
            range: range(MIB, 3 * MIB),
            kind: E820Kind::Ram,
        },
    ];
    let modules: [PlacedModule<'_>; 0] = [];
    let information = Information {
        cmdline: String::new(),
        cmdline_at: Gpa::new(0),
        modules: &modules,
        first_word: "",
        memory: &memory,
        rsdp: &[],
        load_base: None,
    };
    assert_eq!(information.memory_sizes(), (512, 2048));
}
